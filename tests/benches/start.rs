//! How long a scheduler takes from its start to its first answer, with a million ended runs and 100,000 live ones.
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

type Log = Journal<Event, ()>;

#[tokio::main]
async fn main() {
    let mut stack = Stack::bare("").await;
    ensure_streams(&stack.bus).await.unwrap();
    let (bytes, written) = journal_with_snapshot(&stack.bus, tokio::task::spawn_blocking(state).await.unwrap()).await;
    let began = Instant::now();
    stack.start_part(ServiceName::Scheduler, "scheduler", &[]);
    let status = loop {
        match stack.ask(Endpoint::Status, serde_json::json!({})).await {
            Ok(status) => break status,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(status["ended_runs"], ENDED, "{status}\n{}", stack.logs());
    assert_eq!(status["sessions"], LIVE, "{status}");
    println!("{}", stack.logs());
    println!(
        "a snapshot of {ENDED} ended and {LIVE} live runs: {:.1} MB, stored in {written:.2} s; from start to first answer \
         {seconds:.2} s",
        bytes as f64 / 1e6
    );
    let figures = BTreeMap::from([("snapshot_bytes", bytes as f64), ("stored_s", written), ("start_s", seconds)]);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap();
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("start.json"), serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
    stack.kill9_all().await;
}

/// A journal whose leader has journaled a snapshot of this state and stopped; its bytes, and the seconds that storing took.
async fn journal_with_snapshot(bus: &Bus, state: State) -> (u64, f64) {
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
        (hash, bytes, records)
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
    let (hash, bytes, records) = writing.await.unwrap();
    let written = began.elapsed().as_secs_f64();

    let taken = SnapshotTaken { sequence: position.number, hash, object, bytes, chunks, records };
    let mut turn = log.begin().unwrap();
    turn.add(&[Event::SnapshotTaken(taken)]).unwrap();
    turn.mark_snapshot();
    log.push(turn, ()).unwrap();
    log.stop();
    while !matches!(log.next().await, Progress::Stopped) {}
    (bytes, written)
}

/// Each live run in a session of its own; the ended ones were theirs, too.
fn state() -> State {
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
            run(Command::Cancel(Cancel {
                target,
                submitted_before: None,
                actor: Actor::runtime(),
                reason: String::new(),
            }));
        }
    }
    state
}

fn fields() -> SessionFields {
    SessionFields::of_model(ModelId::parse("echo/default").unwrap())
}

fn submit(session: SessionId) -> Submit {
    Submit::of(RunId::generate(), Some(session), Fingerprint(2))
}
