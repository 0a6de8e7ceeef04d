//! The recorder against a real nats-server: ended in the middle and started again, none missing, none twice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use laneway_bus::Bus;
use laneway_bus::async_nats::HeaderMap;
use laneway_contract::{
    Event, MicroUsd, RateCause, RunId, SessionId, SessionState, SessionStatus, Stream, Subject, Timestamp,
};
use laneway_flight_recorder::{EventHash, Recorder, RecorderError, public_events, verify};
use laneway_journal::{Fault, Frame, Loss};
use laneway_runtime::Shutdown;
use support::{Journal, NatsServer};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Everything here happens within this time, or the test fails.
const BOUND: Duration = Duration::from_secs(30);

/// A running recorder.
struct Running {
    recorder: JoinHandle<Result<(), RecorderError>>,
    lag: tokio::sync::watch::Receiver<laneway_flight_recorder::Lag>,
    shutdown: Shutdown,
}

impl Running {
    fn start(bus: &Bus) -> Self {
        let (recorder, shutdown) = (Recorder::new(bus.clone()), Shutdown::new());
        let lag = recorder.lag();
        let recorder = laneway_runtime::spawn("recorder", recorder.run(shutdown.clone()));
        Self { recorder, lag, shutdown }
    }

    async fn recorded(&mut self, frame: u64) {
        timeout(BOUND, self.lag.wait_for(|lag| lag.recorded.number >= frame)).await.unwrap().unwrap();
    }

    async fn stop(self) {
        self.shutdown.request();
        timeout(BOUND, self.recorder).await.unwrap().unwrap().unwrap();
    }

    /// Ends it where it stands, with whatever is in flight.
    async fn kill(self) {
        self.recorder.abort();
        assert!(self.recorder.await.unwrap_err().is_cancelled());
    }
}

fn session() -> SessionId {
    SessionId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap()
}

fn limited(attempt: u32) -> Event {
    let run_id = RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f").unwrap();
    let (session_id, provider, cause) = (session(), "echo".to_owned(), RateCause::Provider);
    Event::RunRateLimited { run_id, session_id, provider, attempt, backoff_ms: 5, cause, bucket: None }
}

fn completed() -> Event {
    let status = SessionStatus {
        state: SessionState::Completed,
        since: Timestamp::ZERO,
        current_run_id: None,
        paused: false,
        total_tokens: 0,
        total_cost_usd: MicroUsd(0),
        messages_count: 0,
        context_window_used: None,
    };
    let (session_id, reason) = (session(), "asked".to_owned());
    Event::SessionStateChanged { session_id, from: SessionState::Idle, reason, status, duration_ms: 1 }
}

/// Frames with none, one, two and many public events.
async fn write(journal: &mut Journal, frames: u32) {
    for n in 0..frames {
        let events = match n % 4 {
            0 => Vec::new(),
            1 => vec![limited(n), completed()],
            2 => vec![Event::StateDigest { digest: 1 }],
            _ => (0..40).map(limited).collect(),
        };
        journal.turn(events).await;
    }
}

/// What the stream must hold, byte for byte.
fn expected(frames: &[Frame<Event>]) -> Vec<Vec<u8>> {
    let mut hash = EventHash::ZERO;
    let mut encode = |event: laneway_flight_recorder::PublicEvent<'_>| {
        let bytes = event.encode(hash).unwrap();
        hash = EventHash::of(&bytes);
        bytes
    };
    frames.iter().flat_map(public_events).map(&mut encode).collect()
}

async fn stored(bus: &Bus) -> Vec<Vec<u8>> {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Flight)).await.unwrap();
    let mut events = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        events.push(stream.get_raw_message(sequence).await.unwrap().payload.to_vec());
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_killed_leaves_none_out_and_writes_none_twice() {
    let server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    write(&mut journal, 1_000).await;
    let mut in_the_middle = 0;
    for round in 1..=5 {
        let mut running = Running::start(&server.connect().await);
        running.recorded(60 * round).await;
        running.kill().await;
        in_the_middle += usize::from(stored(&bus).await.len() < expected(&journal.frames).len());
    }
    assert!(in_the_middle > 0, "it was never killed in the middle");
    let mut running = Running::start(&bus);
    running.recorded(journal.last()).await;
    running.stop().await;
    assert!(stored(&bus).await == expected(&journal.frames), "FLIGHT is not what the journal says");
    let report = verify(&bus, None).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.events, expected(&journal.frames).len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recorders_write_each_event_once() {
    let server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    let (mut one, mut other) = (Running::start(&bus), Running::start(&server.connect().await));
    write(&mut journal, 100).await;
    one.recorded(journal.last()).await;
    other.recorded(journal.last()).await;
    one.stop().await;
    other.stop().await;
    assert!(stored(&bus).await == expected(&journal.frames), "FLIGHT is not what the journal says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_lost_is_written_again_with_the_same_bytes() {
    let server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    write(&mut journal, 20).await;
    let mut running = Running::start(&bus);
    running.recorded(journal.last()).await;
    let before = stored(&bus).await;
    bus.jetstream().delete_stream(bus.prefix().stream(Stream::Flight)).await.unwrap();
    write(&mut journal, 20).await;
    running.recorded(journal.last()).await;
    running.stop().await;
    let after = stored(&bus).await;
    assert!(after.starts_with(&before), "the second writing differs from the first");
    assert!(after == expected(&journal.frames), "FLIGHT is not what the journal says");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_has_lost_is_written_again_at_once() {
    let mut server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    let mut running = Running::start(&server.connect().await);
    // What of the acknowledged events is in its files when it is killed differs from time to time.
    for round in 1..=5 {
        write(&mut journal, 40).await;
        running.recorded(journal.last()).await;
        server.kill_and_restart();
        let expected = expected(&journal.frames);
        let written = async {
            while stored(&bus).await.len() < expected.len() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(BOUND, written).await.unwrap_or_else(|_| panic!("lost in round {round}"));
        assert!(stored(&bus).await == expected, "FLIGHT is not what the journal says in round {round}");
    }
    running.recorded(journal.last()).await;
    running.stop().await;
}

/// Records a journal, puts another in its place that has the first `kept` frames of it and then others, and records again.
async fn check_replaced(kept: usize) {
    let server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    write(&mut journal, 20).await;
    let mut running = Running::start(&bus);
    running.recorded(journal.last()).await;
    running.stop().await;
    bus.jetstream().delete_stream(bus.prefix().stream(Stream::Journal)).await.unwrap();
    let frames = &journal.frames[..kept];
    let mut journal = match frames.first() {
        Some(first) => Journal::restored(&bus, first.journal_id, frames).await,
        None => Journal::begin(&bus).await,
    };
    for n in 100..120 {
        journal.turn(vec![limited(n)]).await;
    }
    let before = stored(&bus).await;
    let end = timeout(BOUND, Running::start(&bus).recorder).await.unwrap().unwrap();
    let Err(RecorderError::Journal(Fault::DataLoss { loss: Loss::Replaced, .. })) = end else { panic!("{end:?}") };
    assert!(stored(&bus).await == before, "something was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_journal_stops_the_recorder() {
    check_replaced(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_its_last_recorded_frame_stops_the_recorder() {
    // Frame 1, then twenty: the last has public events and is the one that is replaced.
    check_replaced(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_somebody_else_stops_the_recorder() {
    let server = NatsServer::start();
    let bus = server.connect().await;
    let mut journal = Journal::begin(&bus).await;
    write(&mut journal, 4).await;
    let mut running = Running::start(&bus);
    running.recorded(journal.last()).await;
    running.stop().await;
    let [event] = public_events(&journal.frames[0]).try_into().unwrap_or_else(|_| panic!("one event"));
    let subject: Subject = event.subject();
    let sequence = bus.publish_stored(&subject, HeaderMap::new(), "{}".into()).await.unwrap();
    let end = timeout(BOUND, Running::start(&bus).recorder).await.unwrap().unwrap();
    assert!(matches!(end, Err(RecorderError::Foreign { sequence: found, .. }) if found == sequence), "{end:?}");
    let report = verify(&bus, None).await.unwrap();
    assert!(report.breaks.iter().any(|found| found.sequence == sequence), "{report:?}");
}
