//! The client against a scheduler that does what a test says, on a nats-server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};

use laneway_bus::{ConnectOptions, Incoming, Refusal, Route, Service};
use laneway_contract::{
    Actor, CancelledRun, ErrorCode, GetStatus, JobState, Prefix, RunView, ServiceName, SessionId, StatusReply,
};
use serde_json::json;

use super::*;
use crate::nats_child::{NatsChild, free_port};

/// Journal time, which is not that of this machine.
const TIME: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn status() -> StatusReply {
    let reply = json!({
        "leader": "one", "epoch": 1, "journal_seq": 1, "time": TIME, "limits": {}, "in_use": {}, "queued": {},
        "sessions": 0, "ended_runs": 0, "workers": [],
    });
    serde_json::from_value(reply).unwrap()
}

fn run(run_id: RunId, state: JobState) -> RunView {
    let mut run: RunView = serde_json::from_str(include_str!("../top/model/run.json")).unwrap();
    (run.run_id, run.status.state) = (run_id, state);
    run
}

/// The cancels that a scheduler has got. The answer to the first is lost; then the runs are stopped, one in each reply, and each
/// ends when it is waited for.
async fn scheduler(bus: &Bus, runs: [RunId; 2]) -> (Service, Arc<Mutex<Vec<CancelRuns>>>) {
    let cancels = Arc::new(Mutex::new(Vec::new()));
    let noted = cancels.clone();
    let cancel = move |incoming: Incoming<CancelRuns>| {
        let mut noted = noted.lock().unwrap();
        noted.push(incoming.body);
        let sending = noted.len();
        async move {
            let Some(before) = sending.checked_sub(2) else {
                return Err(Refusal::Error(ApiError::new(ErrorCode::Unavailable, "as the test says")));
            };
            let row = |run_id: &RunId| CancelledRun { run_id: *run_id, state: JobState::Running, receipt: None };
            let rows: Vec<_> = runs.get(before).map(row).into_iter().collect();
            Ok(CancelReply { done: rows.is_empty(), runs: rows, journal_seq: 7 })
        }
    };
    let wait = |incoming: Incoming<WaitRun>| async move {
        let run = run(incoming.body.run_id, JobState::Cancelled);
        Ok(RunReply { run, output: None, done: true, repeated: false, journal_seq: 8 })
    };
    let status = |_: Incoming<GetStatus>| async { Ok(status()) };
    let routes = vec![
        Route::new(Endpoint::RunsCancel, cancel),
        Route::new(Endpoint::RunsWait, wait),
        Route::new(Endpoint::Status, status),
    ];
    (Service::start(bus, ServiceName::Scheduler, "leader-1", routes).await.unwrap(), cancels)
}

/// Runs that are submitted between the sendings are left alone, those that the first has ended are not missed, and those that a
/// reply had no room for are waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waits_is_sent_again_without_waiting_and_for_the_same_runs() {
    let data = tempfile::tempdir().unwrap();
    let server = NatsChild::start(data.path(), free_port().await.unwrap()).await.unwrap();
    let bus = Bus::connect(ConnectOptions::new(server.url(), Prefix::default(), "test")).await.unwrap();
    let runs = [RunId::generate(), RunId::generate()];
    let (_service, cancels) = scheduler(&bus, runs).await;

    let of_run = CancelRuns { wait: true, ..CancelRuns::of_run(runs[0], Actor::runtime(), "enough".to_owned()) };
    let of_session = CancelRuns { run_id: None, session_id: Some(SessionId::generate()), ..of_run.clone() };
    let reply = Client::new(bus.clone()).cancel(&of_session).await.unwrap();
    let rows: Vec<_> = reply.runs.iter().map(|row| (row.run_id, row.state)).collect();
    assert_eq!((rows, reply.done), (runs.map(|run_id| (run_id, JobState::Cancelled)).to_vec(), true));
    let sent = CancelRuns { wait: false, submitted_before: Some(TIME.plus_millis(1)), ..of_session };
    assert_eq!(*cancels.lock().unwrap(), [sent.clone(), sent.clone(), sent.clone(), sent]);

    // An id is always the same run.
    Client::new(bus).cancel(&of_run).await.unwrap();
    assert_eq!(cancels.lock().unwrap()[4], CancelRuns { wait: false, ..of_run });
}
