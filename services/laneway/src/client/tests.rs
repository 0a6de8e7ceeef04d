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

/// The cancels that a scheduler has got. The answer to the first is lost; then its run is stopped, and ends when it is
/// waited for.
async fn scheduler(bus: &Bus, run_id: RunId) -> (Service, Arc<Mutex<Vec<CancelRuns>>>) {
    let cancels = Arc::new(Mutex::new(Vec::new()));
    let noted = cancels.clone();
    let cancel = move |incoming: Incoming<CancelRuns>| {
        let mut noted = noted.lock().unwrap();
        noted.push(incoming.body);
        let is_lost = noted.len() == 1;
        async move {
            if is_lost {
                return Err(Refusal::Error(ApiError::new(ErrorCode::Unavailable, "as the test says")));
            }
            let row = CancelledRun { run_id, state: JobState::Running, receipt: None };
            Ok(CancelReply { runs: vec![row], done: false, journal_seq: 7 })
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

/// Runs that are submitted between the two sendings are left alone, and those that the first has ended are not missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waits_is_sent_again_without_waiting_and_for_the_same_runs() {
    let data = tempfile::tempdir().unwrap();
    let server = NatsChild::start(data.path(), free_port().await.unwrap()).await.unwrap();
    let bus = Bus::connect(ConnectOptions::new(server.url(), Prefix::default(), "test")).await.unwrap();
    let run_id = RunId::generate();
    let (_service, cancels) = scheduler(&bus, run_id).await;

    let of_run = CancelRuns { wait: true, ..CancelRuns::of_run(run_id, Actor::runtime(), "enough".to_owned()) };
    let of_session = CancelRuns { run_id: None, session_id: Some(SessionId::generate()), ..of_run.clone() };
    let reply = Client::new(bus.clone()).cancel(&of_session).await.unwrap();
    let [row] = &reply.runs[..] else { panic!("{reply:?}") };
    assert_eq!((row.run_id, row.state, reply.done), (run_id, JobState::Cancelled, true));
    let sent = CancelRuns { wait: false, submitted_before: Some(TIME.plus_millis(1)), ..of_session };
    assert_eq!(*cancels.lock().unwrap(), [sent.clone(), sent]);

    // An id is always the same run.
    Client::new(bus).cancel(&of_run).await.unwrap();
    assert_eq!(cancels.lock().unwrap()[2], CancelRuns { wait: false, ..of_run });
}
