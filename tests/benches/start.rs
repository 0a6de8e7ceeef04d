//! How long a scheduler takes from its start to its first answer, with a million ended runs and 100,000 live ones: right behind
//! a snapshot, and with as many frames behind it as there are before the next is taken.
//!
//! `just bench-start` prints it and writes `target/bench/start.json`. The journal is made by hand: its leader has gone in
//! good order, and its one snapshot holds a state that the engine has decided.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a benchmark is a program of its own"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use laneway_bus::{Bus, ensure_streams};
use laneway_contract::*;
use laneway_engine::*;
use laneway_journal::node::Settings;
use laneway_journal::snapshot::{SnapshotHead, SnapshotWriter};
use laneway_journal::{Follower, Formats, Journal, JournalConfig, Position, Progress, Snapshots};
use laneway_tests::stack::Stack;
use tokio::sync::mpsc;
use uuid::Uuid;

const ENDED: usize = 1_000_000;
const LIVE: usize = 100_000;
/// Runs that come and go behind the snapshot, until the frames there have twice its bytes.
const BATCH: usize = 100;

type Log = Journal<Event, ()>;

#[tokio::main]
async fn main() {
    let mut figures = BTreeMap::new();
    for (name, times_snapshot) in [("", 0), ("_with_frames", 2)] {
        let mut stack = Stack::bare("").await;
        ensure_streams(&stack.bus).await.unwrap();
        let (state, sessions) = tokio::task::spawn_blocking(state).await.unwrap();
        let made = journal_with_snapshot(&stack.bus, state, &sessions, times_snapshot).await;
        let began = Instant::now();
        stack.start_part(ServiceName::Scheduler, "scheduler", &[]);
        let status = loop {
            match stack.ask(Endpoint::Status, serde_json::json!({})).await {
                Ok(status) => break status,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(status["ended_runs"], ENDED + made.further_runs, "{status}\n{}", stack.logs());
        assert_eq!(status["sessions"], LIVE, "{status}");
        println!("{}", stack.logs());
        println!(
            "a snapshot of {ENDED} ended and {LIVE} live runs: {:.1} MB, stored in {:.2} s; {:.1} MB of frames behind it; from \
             start to first answer {seconds:.2} s",
            made.bytes as f64 / 1e6,
            made.seconds,
            made.bytes_behind as f64 / 1e6
        );
        figures.insert(format!("snapshot_bytes{name}"), made.bytes as f64);
        figures.insert(format!("stored{name}_s"), made.seconds);
        figures.insert(format!("bytes_behind{name}"), made.bytes_behind as f64);
        figures.insert(format!("start{name}_s"), seconds);
        stack.kill9_all().await;
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap();
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("start.json"), serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
}

/// What a start finds.
struct Made {
    /// Of the snapshot.
    bytes: u64,
    /// That storing it took.
    seconds: f64,
    /// Of the frames behind it.
    bytes_behind: u64,
    /// Runs in these frames.
    further_runs: usize,
}

/// A journal whose leader has journaled a snapshot of this state, has gone on for some time, and stopped.
async fn journal_with_snapshot(bus: &Bus, mut state: State, sessions: &[SessionId], times_snapshot: u64) -> Made {
    let prefix = bus.prefix();
    let settings = Settings {
        instance: "bench".to_owned(),
        process: Uuid::now_v7(),
        new_journal: Some(Uuid::now_v7()),
        lease_ms: LEADER_LEASE_MS,
        margin_ms: 1_000,
        formats: Formats::default(),
    };
    let (stream, subject) = (prefix.stream(Stream::Journal), prefix.subject(&Subject::Journal));
    let mut log = Log::new(bus.client().clone(), JournalConfig { stream: stream.clone(), subject, settings });
    while !matches!(log.next().await, Progress::Leading { .. }) {}
    let mut follower = Follower::<Event>::new(bus.client().clone(), &stream, Position::START);
    let first = follower.next_batch(1).await.unwrap().remove(0);
    let (journal_id, position) = (first.frame.journal_id, first.position);

    let began = Instant::now();
    let (sender, receiver) = mpsc::channel(4);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = SnapshotWriter::new(sender);
        SnapshotHead { journal_id, position }.write(&mut writer).unwrap();
        let records = state.write_snapshot(&mut writer).unwrap().total();
        let (hash, bytes) = writer.finish().unwrap();
        (hash, bytes, records, state)
    });
    let object = SnapshotName { number: position.number, nonce: 1 };
    let snapshots = Snapshots::new(bus.client().clone(), prefix);
    // The journal is kept alive meanwhile.
    let storing = async {
        let mut storing = std::pin::pin!(snapshots.write(object, receiver));
        loop {
            tokio::select! {
                chunks = &mut storing => return chunks.unwrap(),
                _ = log.next() => {}
            }
        }
    };
    let chunks = storing.await;
    let (hash, bytes, records);
    (hash, bytes, records, state) = writing.await.unwrap();
    let seconds = began.elapsed().as_secs_f64();

    let taken = SnapshotTaken { sequence: position.number, hash, object, bytes, chunks, records };
    let mut turn = log.begin().unwrap();
    turn.add(&[Event::SnapshotTaken(taken)]).unwrap();
    turn.mark_snapshot();
    log.push(turn, ()).unwrap();
    let (before, mut further_runs) = (stored(bus).await, 0);
    while stored(bus).await < before + times_snapshot * bytes {
        for _ in 0..BATCH {
            let submit = submit(sessions[further_runs % LIVE]);
            let target = CancelTarget::Run(submit.run_id);
            for command in [Command::Submit(Box::new(submit)), cancel(target)] {
                let mut turn = log.begin().unwrap();
                turn.add(&state.turn(&command, &Hints::default(), turn.at()).unwrap().events).unwrap();
                log.push(turn, ()).unwrap();
            }
            further_runs += 1;
        }
        while !matches!(log.next().await, Progress::Released(_)) {}
    }
    log.stop();
    while !matches!(log.next().await, Progress::Stopped) {}
    Made { bytes, seconds, bytes_behind: stored(bus).await - before, further_runs }
}

/// Bytes in the journal's stream.
async fn stored(bus: &Bus) -> u64 {
    let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Journal)).await.unwrap();
    stream.cached_info().state.bytes
}

fn cancel(target: CancelTarget) -> Command {
    Command::Cancel(Cancel { target, submitted_before: None, actor: Actor::runtime(), reason: String::new() })
}

/// Each live run in a session of its own; the ended ones were theirs, too. And the sessions.
fn state() -> (State, Vec<SessionId>) {
    let (mut state, hints, now) = (State::default(), Hints::default(), laneway_journal::clock::wall_now());
    let mut run = |command: Command| drop(state.turn(&command, &hints, now).unwrap());
    run(Command::CreateHashKey(HashKey::from_bytes([7; 32])));
    let sessions: Vec<SessionId> = (0..LIVE).map(|_| SessionId::generate()).collect();
    for session_id in &sessions {
        let session = NewSession { session_id: *session_id, fields: fields(), messages: Vec::new() };
        run(Command::Create(Box::new(Create { session, artifacts: Vec::new(), fingerprint: Fingerprint(1) })));
    }
    for n in 0..ENDED + LIVE {
        let submit = submit(sessions[n % LIVE]);
        let target = CancelTarget::Run(submit.run_id);
        run(Command::Submit(Box::new(submit)));
        if n < ENDED {
            run(cancel(target));
        }
    }
    (state, sessions)
}

fn fields() -> SessionFields {
    SessionFields::of_model(ModelId::parse("echo/default").unwrap())
}

fn submit(session: SessionId) -> Submit {
    Submit::of(RunId::generate(), Some(session), Fingerprint(2))
}
