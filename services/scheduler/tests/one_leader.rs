//! One scheduler on a real nats-server: from submit to the answer, cancel, lists, the intake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, actor, submit, within};
use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_contract::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_submit_to_its_answer() {
    let world = World::start().await;
    let scheduler = world.scheduler("one").await;
    let request = SubmitRun { wait: true, wait_ms: Some(100), ..submit("hello") };
    let run_id = request.run_id.unwrap();
    // Nobody serves the model: it waits, and says why.
    let waiting = world.submit(&request).await;
    assert!(!waiting.done && !waiting.repeated, "{waiting:?}");
    assert_eq!(waiting.run.status.reason, WaitReason::NoWorker);
    let repeated = world.submit(&request).await;
    assert!(repeated.repeated && repeated.run.session_id == waiting.run.session_id);
    let other = SubmitRun { input: Some(Input::Text("other".to_owned())), ..request.clone() };
    let conflict = world.ask::<_, RunReply>(Endpoint::RunsSubmit, &other).await.unwrap_err();
    assert_eq!(conflict.code, ErrorCode::IdempotencyConflict);

    let mut worker = world.worker("w1", 4).await;
    let dispatch = worker.dispatch().await;
    assert_eq!((dispatch.run_id, dispatch.dispatch_no), (run_id, 1));
    let claim = worker.claim(&dispatch).await.unwrap();
    assert_eq!((claim.attempt, claim.epoch), (1, 1));
    assert_eq!(worker.claim(&dispatch).await.unwrap().epoch, 1, "a repeated claim has the same epoch");
    assert_eq!(worker.renew(&claim).await.unwrap().stop, None);
    assert_eq!(world.get(run_id).await.run.status.state, JobState::Running);
    let (ended, report) = tokio::join!(
        world.ended(run_id),
        worker.report(&claim, "hi there", AttemptResult::Completed { finish: Finish::Stop })
    );
    assert_eq!(report.unwrap().state, JobState::Completed);
    assert_eq!((ended.run.status.state, ended.output.as_deref()), (JobState::Completed, Some("hi there")));
    assert_eq!(worker.renew(&claim).await.unwrap_err().code, ErrorCode::RunTerminal);
    // Whatever is asked later comes from a replica, and is the same.
    let late = world.ended(run_id).await;
    assert_eq!((late.run, late.output), (ended.run, ended.output));
    let again = world.submit(&request).await;
    assert!(again.repeated && again.done && again.output.as_deref() == Some("hi there"), "{again:?}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_is_sent_again_leaves_alone_what_came_later() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let with_token = |text| SubmitRun { cancellation_token: Some("t".to_owned()), ..submit(text) };
    let (early, late) = (with_token("early"), with_token("late"));
    world.submit(&early).await;
    let (early, before) = (early.run_id.unwrap(), world.status().await.time.plus_millis(1));
    let request = CancelRuns {
        run_id: None,
        cancellation_token: Some("t".to_owned()),
        submitted_before: Some(before),
        ..CancelRuns::of_run(early, actor(), "enough".to_owned())
    };
    let reply: CancelReply = world.ask(Endpoint::RunsCancel, &request).await.unwrap();
    let states: Vec<_> = reply.runs.iter().map(|run| (run.run_id, run.state)).collect();
    assert_eq!((states, reply.done), (vec![(early, JobState::Cancelled)], true));
    while world.status().await.time < before {}
    world.submit(&late).await;
    let again: CancelReply = world.ask(Endpoint::RunsCancel, &request).await.unwrap();
    assert_eq!((again.runs, again.done), (vec![], true));
    assert_eq!(world.get(late.run_id.unwrap()).await.run.status.state, JobState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_runs_wherever_they_are() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let with_token = |text| SubmitRun { cancellation_token: Some("t".to_owned()), ..submit(text) };
    let (running, queued) = (with_token("running"), with_token("queued"));
    let mut worker = world.worker("w1", 1).await;
    let mut signals = world.bus.subscribe(world.bus.prefix().all(Family::Control)).await.unwrap();
    world.submit(&running).await;
    let dispatch = worker.dispatch().await;
    let claim = worker.claim(&dispatch).await.unwrap();
    world.submit(&queued).await;
    let (running, queued) = (running.run_id.unwrap(), queued.run_id.unwrap());
    world.until(queued, |run| run.status.reason == WaitReason::WorkersBusy).await;

    let request = CancelRuns {
        run_id: None,
        cancellation_token: Some("t".to_owned()),
        ..CancelRuns::of_run(running, actor(), "enough".to_owned())
    };
    let reply: CancelReply = world.ask(Endpoint::RunsCancel, &request).await.unwrap();
    let states: Vec<_> = reply.runs.iter().map(|run| (run.run_id, run.state, run.receipt.is_some())).collect();
    assert_eq!(states, [(running, JobState::Running, true), (queued, JobState::Cancelled, true)]);
    let signal = within(signals.next()).await.unwrap();
    let signal: ControlMessage = Format::MessagePack.decode(&signal.payload).unwrap();
    assert_eq!((signal.run_id, signal.epoch, signal.stop), (running, claim.epoch, Stop::Cancel));
    assert_eq!(worker.renew(&claim).await.unwrap().stop, Some(Stop::Cancel));
    assert!(!reply.done);
    // One that waits is answered at the end, or when its time is over.
    let soon = CancelRuns { wait: true, wait_ms: Some(1), ..request.clone() };
    let reply: CancelReply = world.ask(Endpoint::RunsCancel, &soon).await.unwrap();
    assert_eq!((reply.done, reply.runs[0].state), (false, JobState::Running));
    let patient = CancelRuns { wait: true, ..request.clone() };
    let waiting = world.ask::<_, CancelReply>(Endpoint::RunsCancel, &patient);
    let reporting = worker.report(&claim, "par", AttemptResult::Stopped { stop: Stop::Cancel });
    let (reply, reported) = futures::join!(waiting, reporting);
    reported.unwrap();
    let reply = reply.unwrap();
    assert!(reply.done);
    let settled = |run: &CancelledRun| run.receipt.as_ref().is_some_and(|receipt| receipt.settled_at.is_some());
    assert!(reply.runs.iter().all(|run| run.state == JobState::Cancelled && settled(run)), "{reply:?}");
    let ended = world.ended(running).await;
    assert_eq!(ended.run.status.state, JobState::Cancelled);
    // A cancel of an ended run answers its receipt.
    let request = CancelRuns { run_id: Some(running), cancellation_token: None, ..request };
    let reply: CancelReply = world.ask(Endpoint::RunsCancel, &request).await.unwrap();
    let receipt = reply.runs[0].receipt.as_ref().unwrap();
    assert_eq!((receipt.reason.as_str(), receipt.too_late), ("enough", false));
    // So does one that comes after the end: it was too late.
    let done = submit("done");
    world.submit(&done).await;
    let run_id = worker.answer_one("done").await;
    assert_eq!(Some(run_id), done.run_id);
    let request = CancelRuns { run_id: Some(run_id), reason: "late".to_owned(), ..request };
    let reply: CancelReply = world.ask(Endpoint::RunsCancel, &request).await.unwrap();
    let [row] = &reply.runs[..] else { panic!("{reply:?}") };
    let receipt = row.receipt.as_ref().unwrap();
    assert_eq!((row.state, receipt.too_late, &receipt.by), (JobState::Completed, true, &actor()));
    assert_eq!(receipt.reason, "late");
    assert_eq!(receipt.settled_at, world.get(run_id).await.run.status.ended_at);
    assert!(receipt.settled_at.unwrap() <= receipt.requested_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_and_ended_runs_are_one_list() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 1).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(world.submit(&submit(&format!("run {n}"))).await.run.run_id);
    }
    for _ in 0..3 {
        worker.answer_one("done").await;
    }
    ids.reverse();
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let request = ListRuns { limit: Some(2), cursor, ..ListRuns::default() };
        let page: RunPage = world.ask(Endpoint::RunsList, &request).await.unwrap();
        assert!(page.runs.len() <= 2);
        listed.extend(page.runs.iter().map(|run| run.run_id));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ids);
    let ended = ListRuns { state: Some(JobState::Completed), ..ListRuns::default() };
    let page: RunPage = world.ask(Endpoint::RunsList, &ended).await.unwrap();
    assert_eq!(page.runs.len(), 3);
    let registry: RegistryReply = world.ask(Endpoint::SessionsRegistry, &ListRegistry::default()).await.unwrap();
    assert_eq!((registry.sessions.len(), registry.cursor), (3, None));
    let status = world.status().await;
    assert_eq!((status.leader.as_str(), status.sessions, status.ended_runs), ("one", 3, 3));
    assert_eq!(status.workers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_made_paused_and_ended() {
    let world = World::start().await;
    let limits = Limits { global: 3, ..Limits::default() };
    let _scheduler = world.scheduler_with("one", Some(limits.clone())).await;
    assert_eq!(world.status().await.limits, limits);
    let request = submit("hello");
    let session_id = world.submit(&request).await.run.session_id;
    let change =
        ChangeSession { session_id, actor: actor(), reason: "r".to_owned(), cancel_runs: false, interrupt: false };
    let paused: SessionReply = world.ask(Endpoint::SessionsPause, &change).await.unwrap();
    assert!(paused.session.status.state == SessionState::Paused && !paused.repeated);
    let again: SessionReply = world.ask(Endpoint::SessionsPause, &change).await.unwrap();
    assert!(again.repeated);
    let run = world.get(request.run_id.unwrap()).await.run;
    assert_eq!(run.status.reason, WaitReason::Paused);
    let refused = world.ask::<_, SessionReply>(Endpoint::SessionsComplete, &change).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    let ended: SessionReply = world.ask(Endpoint::SessionsCancel, &change).await.unwrap();
    assert_eq!(ended.session.status.state, SessionState::Cancelled);
    assert_eq!(world.ended(run.run_id).await.run.status.state, JobState::Cancelled);
    let more = SubmitRun { session_id: Some(session_id), model_id: None, ..submit("more") };
    let refused = world.ask::<_, RunReply>(Endpoint::RunsSubmit, &more).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionTerminal);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_intake_is_taken_in_when_a_leader_comes() {
    let world = World::start().await;
    laneway_bus::ensure_streams(&world.bus).await.unwrap();
    let named = submit("named");
    let unnamed = SubmitRun { run_id: None, ..submit("unnamed") };
    let waits = SubmitRun { wait: true, ..submit("secret words") };
    for request in [&named, &unnamed, &waits] {
        let body = Format::Json.encode(request).unwrap();
        world.bus.publish_stored(&Subject::Intake, HeaderMap::new(), body.into()).await.unwrap();
    }
    let mut rejects = world.bus.subscribe(world.bus.prefix().subject(&Subject::Rejects)).await.unwrap();
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 2).await;
    let taken = [worker.answer_one("a").await, worker.answer_one("b").await];
    assert!(taken.contains(&named.run_id.unwrap()));
    let letter = within(rejects.next()).await.unwrap();
    let text = String::from_utf8(letter.payload.to_vec()).unwrap();
    assert!(!text.contains("secret words"), "{text}");
    let letter: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((letter["code"].as_str(), letter["stream_seq"].as_u64()), (Some("bad_request"), Some(3)));
    let artifact_id = ArtifactId::parse(letter["artifact_id"].as_str().unwrap()).unwrap();
    // The letter left after its frame, which the replica may not have applied yet.
    let min_seq = Some(world.status().await.journal_seq);
    let kept: ArtifactReply = world.ask(Endpoint::ArtifactsGet, &GetArtifact { artifact_id, min_seq }).await.unwrap();
    assert!(String::from_utf8(kept.bytes.unwrap().to_vec()).unwrap().contains("secret words"));
    let intake = world.bus.prefix().stream(Stream::Intake);
    within(async {
        loop {
            let mut stream = world.bus.jetstream().get_stream(&intake).await.unwrap();
            if stream.info().await.unwrap().state.messages == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
