//! What the engine alone decides in a second, on one core, with queues of growing length.
//!
//! `just bench-engine` prints a table, with what a snapshot of the state takes in bytes and seconds, and writes `target/bench/engine.json`. A decision is a command or a dispatch, decided
//! and applied: here a submit, a dispatch, a claim and a report for each run that passes through, while the queue keeps
//! its length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "a benchmark is a program of its own"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use laneway_contract::*;
use laneway_engine::*;
use uuid::Uuid;

/// Models of each of the providers; with the lanes, that makes 200 classes.
const MODELS: u128 = 10;
const PROVIDERS: u128 = 5;
const SESSIONS: usize = 100_000;
/// Runs in the snapshot.
const ENDED: usize = 1_000_000;
const LIVE: usize = 100_000;
/// Sessions that are held, as many as there may be without a live run.
const HELD: usize = 200_000;
/// Runs that pass through while the clock runs.
const CYCLES: usize = 50_000;

struct Bench {
    state: State,
    hints: Hints,
    now: Timestamp,
    next: u128,
    sessions: Vec<SessionId>,
    dispatched: std::collections::VecDeque<(RunId, u32)>,
}

fn main() {
    let mut figures = BTreeMap::new();
    let per_session = bytes_per_session();
    println!("{per_session:.0} bytes per session held");
    figures.insert("bytes_per_session_held".to_owned(), per_session);
    println!("{:>12} {:>16} {:>20}", "queued", "decisions/s", "bytes/queued run");
    for queued in [1_000, 10_000, 100_000, 1_000_000] {
        let before = resident_bytes();
        let mut bench = Bench::new(queued);
        let bytes = (resident_bytes() - before) as f64 / queued as f64;
        let per_s = bench.cycles();
        println!("{queued:>12} {per_s:>16.0} {bytes:>20.0}");
        figures.insert(format!("decisions_per_s_{queued}"), per_s);
        // Below this the allocator's own pages weigh more than the runs.
        if queued >= 100_000 {
            figures.insert(format!("bytes_per_queued_run_{queued}"), bytes);
        }
    }
    snapshot(&mut figures);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("engine.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
    println!("written to {}", file.display());
}

/// A state of a million ended runs and 100,000 live ones, each in a session of its own, as a snapshot and back.
fn snapshot(figures: &mut BTreeMap<String, f64>) {
    let mut bench = Bench::new(0);
    for n in 0..LIVE {
        bench.create(n);
    }
    for n in 0..ENDED {
        bench.submit(n);
        let target = CancelTarget::Run(RunId::from_uuid(bench.last_uuid()));
        bench.run(&Command::Cancel(Cancel {
            target,
            submitted_before: None,
            actor: Actor::runtime(),
            reason: String::new(),
        }));
    }
    for n in 0..LIVE {
        bench.submit(n);
    }
    assert_eq!((bench.state.ended_run_count(), bench.state.live_runs(None).count()), (ENDED, LIVE));
    let mut bytes = Vec::new();
    let begin = Instant::now();
    bench.state.write_snapshot(&mut bytes).unwrap();
    let written = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let read = State::read_snapshot(&bytes[..], |_, _| ()).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(read.full_digest(), bench.state.full_digest());
    println!(
        "a snapshot of {ENDED} ended and {LIVE} live runs: {:.1} MB, written in {written:.2} s, read in {seconds:.2} s",
        bytes.len() as f64 / 1e6
    );
    figures.insert("snapshot_bytes".to_owned(), bytes.len() as f64);
    figures.insert("snapshot_write_s".to_owned(), written);
    figures.insert("snapshot_read_s".to_owned(), seconds);
}

/// What a session takes that is held, without keys and runs.
fn bytes_per_session() -> f64 {
    let mut bench = Bench::new(0);
    let before = resident_bytes();
    (0..HELD).for_each(|n| bench.create(n));
    (resident_bytes() - before) as f64 / HELD as f64
}

/// Resident memory of this process.
fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 4_096
}

impl Bench {
    fn new(queued: usize) -> Self {
        let mut hints = Hints::default();
        let worker = WorkerHint {
            pool: Token::parse("pool").unwrap(),
            models: (0..PROVIDERS).map(|n| format!("p{n}/*")).collect(),
            slots: 1_000,
            valid_until: Timestamp::from_millis(i64::MAX),
        };
        hints.workers.insert(Token::parse("w").unwrap(), worker);
        let now = Timestamp::from_millis(1_000_000);
        let mut bench = Self {
            state: State::default(),
            hints,
            now,
            next: 0,
            sessions: Vec::new(),
            dispatched: std::collections::VecDeque::new(),
        };
        bench.run(&Command::CreateHashKey(HashKey::from_bytes([7; 32])));
        // The limits that bind are those of the models and providers, so that classes are blocked and freed all the time.
        let limits = Limits { global: 64, per_provider: 16, per_model: 2, ..Limits::default() };
        let change = LimitsChange::Configured(Box::new(limits));
        bench.run(&Command::SetLimits(Box::new(SetLimits { change, actor: Actor::runtime() })));
        for n in 0..SESSIONS.min(queued / 10) {
            bench.create(n);
        }
        for n in 0..queued {
            bench.submit(n);
        }
        bench
    }

    fn uuid(&mut self) -> Uuid {
        self.next += 1;
        self.last_uuid()
    }

    /// As those of version 7: rising, with a random part.
    fn last_uuid(&self) -> Uuid {
        let random = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 64;
        Uuid::from_u128((self.next << 64) | random)
    }

    fn run(&mut self, command: &Command) {
        let Decided { events, .. } = self.state.turn(command, &self.hints, self.now).unwrap();
        for event in events {
            self.hints.observe(&event, self.now);
            if let Event::RunDispatched { run_id, dispatch_no, .. } = event {
                self.dispatched.push_back((run_id, dispatch_no));
            }
        }
    }

    fn create(&mut self, n: usize) {
        let session_id = SessionId::from_uuid(self.uuid());
        let n = n as u128;
        let model_id = ModelId::parse(&format!("p{}/m{}", n % PROVIDERS, n / PROVIDERS % MODELS)).unwrap();
        let fields = SessionFields::of_model(model_id);
        let session = NewSession { session_id, fields, messages: Vec::new() };
        self.run(&Command::Create(Box::new(Create { session, artifacts: Vec::new(), fingerprint: Fingerprint(1) })));
        self.sessions.push(session_id);
    }

    fn submit(&mut self, n: usize) {
        // A walk that meets every session and is not the order in which they were made.
        let session = self.sessions[n.wrapping_mul(7_919) % self.sessions.len()];
        let submit = Submit {
            lane: Lane::ALL[n % 4],
            ..Submit::of(RunId::from_uuid(self.uuid()), Some(session), Fingerprint(2))
        };
        self.run(&Command::Submit(Box::new(submit)));
    }

    /// Runs pass through; decisions in a second.
    fn cycles(&mut self) -> f64 {
        let mut passed = 0;
        let begin = Instant::now();
        while passed < CYCLES {
            let (run_id, dispatch_no) = self.dispatched.pop_front().expect("a run that was dispatched");
            self.now = self.now.plus_millis(1);
            let worker_id = Token::parse("w").unwrap();
            self.run(&Command::Claim(Claim { run_id, dispatch_no, worker_id, claim_id: 1 }));
            let epoch = self.state.run(run_id).unwrap().record.status.epoch;
            let outcome = Outcome {
                result: AttemptResult::Completed { finish: Finish::Stop },
                usage: Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() },
                cost_usd: None,
                first_token_after_ms: Some(1),
                told_after_ms: None,
                closed_after_ms: None,
                issues: Vec::new(),
            };
            let (messages, artifacts) = (Vec::new(), Vec::new());
            let report = Report { run_id, epoch, report_no: 0, messages, artifacts, outcome: Some(outcome) };
            self.run(&Command::Report(Box::new(report)));
            self.submit(passed.wrapping_mul(31));
            passed += 1;
        }
        // Submit, dispatch, claim and report.
        (4 * passed) as f64 / begin.elapsed().as_secs_f64()
    }
}
