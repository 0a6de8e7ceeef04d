//! A yesterday to replay: the engine driven in virtual time by workers of the test's own, its turns kept as frames.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::collections::{BTreeMap, HashMap, VecDeque};

use laneway_contract::*;
use laneway_engine::*;
use laneway_journal::frame::FORMAT;
use laneway_journal::{Body, Committed, Frame, FrameHash, Position, Turn};

pub(crate) const START: i64 = 1_700_000_000_000;
/// From a dispatch to its claim.
const CLAIM_MS: u64 = 2;

/// What happens to one dispatch of a run.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Completes(u64),
    Fails(u64),
    Refused429(u64),
    /// Calls a tool after half of the time.
    CallsTool(u64),
    AsksPerson(u64),
    HandedBack(u64),
    Lost,
    Ignored,
}

enum Act {
    Command(Command),
    Claim(RunId, u32),
    Report(Box<Report>),
    Silence(u64),
    Approve(Vec<RunId>),
}

pub(crate) struct Yesterday {
    pub(crate) state: State,
    hints: Hints,
    now: Timestamp,
    pub(crate) frames: Vec<Committed<Event>>,
    /// The frames as they would be stored.
    pub(crate) stored: Vec<Vec<u8>>,
    epoch: u64,
    agenda: BTreeMap<(Timestamp, u64), Act>,
    fates: HashMap<RunId, VecDeque<Fate>>,
    /// Nobody leads before this time.
    silent_until: Timestamp,
    next_id: u32,
}

fn id(n: u32) -> String {
    format!("00000000-0000-7000-8000-{n:012x}")
}

pub(crate) fn actor() -> Actor {
    Actor { id: "tester".to_owned(), kind: ActorKind::Person }
}

impl Yesterday {
    pub(crate) fn new(limits: &Limits, slots: u32) -> Self {
        let mut world = Self {
            state: State::default(),
            hints: Hints::default(),
            now: Timestamp::from_millis(START),
            frames: Vec::new(),
            stored: Vec::new(),
            epoch: 0,
            agenda: BTreeMap::new(),
            fates: HashMap::new(),
            silent_until: Timestamp::ZERO,
            next_id: 0,
        };
        let models = vec!["echo/*".to_owned(), "other/*".to_owned()];
        let pool = Token::parse("pool").unwrap();
        let worker = WorkerHint { pool, models, slots, valid_until: Timestamp::from_millis(i64::MAX) };
        world.hints.workers.insert(Token::parse("w1").unwrap(), worker);
        world.leader_begins();
        let change = LimitsChange::Configured(Box::new(limits.clone()));
        world.command(&Command::SetLimits(Box::new(SetLimits { change, actor: actor() })));
        world
    }

    fn frame(&mut self, body: Body<Event>) {
        let last = self.frames.last();
        let (number, prev) = last.map_or((1, FrameHash::ZERO), |last| (last.position.number + 1, last.position.hash));
        let gap_ms = last.map_or(0, |last| self.now.millis_since(last.frame.time));
        let journal_id = serde_json::from_value(serde_json::json!(id(1))).unwrap();
        let frame =
            Frame { format: FORMAT, journal_id, epoch: self.epoch, number, prev, time: self.now, snapshot: 0, body };
        let bytes = rmp_serde::to_vec(&frame).unwrap();
        let position = Position { number, hash: FrameHash::of(&bytes) };
        self.stored.push(bytes);
        self.frames.push(Committed { position, gap_ms, frame });
    }

    fn leader_begins(&mut self) {
        self.epoch += 1;
        let process = serde_json::from_value(serde_json::json!(id(2))).unwrap();
        self.frame(Body::Started { instance: format!("scheduler-{}", self.epoch), process, attempt: 1 });
    }

    fn command(&mut self, command: &Command) {
        match self.state.turn(command, &self.hints, self.now) {
            Ok(decided) => self.keep(decided),
            // What comes too late: a worker whose run was cancelled, a run for a session that has ended.
            Err(error) => assert!(!matches!(command, Command::SetLimits(_) | Command::Create(_)), "{error}"),
        }
    }

    fn keep(&mut self, decided: Decided) {
        let Decided { mut events, more } = decided;
        for event in &events {
            self.hints.observe(event, self.now);
            match event {
                Event::RunDispatched { run_id, dispatch_no, .. } => {
                    let fate = self.fates.get(run_id).and_then(|fates| fates.front());
                    if !matches!(fate, Some(Fate::Ignored)) {
                        self.later(CLAIM_MS, Act::Claim(*run_id, *dispatch_no));
                    }
                }
                Event::RunReturned { run_id, .. } => {
                    if let Some(fates) = self.fates.get_mut(run_id)
                        && matches!(fates.front(), Some(Fate::Ignored))
                    {
                        fates.pop_front();
                    }
                }
                Event::RunClaimed { run_id, epoch, .. } => self.claimed(*run_id, *epoch),
                Event::RunStopRequested { run_id, cause: StopCause::Cancel { .. }, .. } => {
                    let epoch = self.state.run(*run_id).unwrap().record.status.epoch;
                    let report = report(*run_id, epoch, 0, AttemptResult::Stopped { stop: Stop::Cancel });
                    self.later(7, Act::Report(Box::new(report)));
                }
                _ => {}
            }
        }
        if events.is_empty() {
            return;
        }
        if self.frames.len().is_multiple_of(10) {
            events.push(Event::StateDigest { digest: self.state.digest() });
        }
        self.frame(Body::Turns(vec![Turn { at: self.now, events }]));
        if more {
            self.tick();
        }
    }

    fn tick(&mut self) {
        let decided = self.state.tick(&self.hints, self.now);
        self.keep(decided);
    }

    fn claimed(&mut self, run_id: RunId, epoch: u64) {
        let fate = self.fates.get_mut(&run_id).and_then(VecDeque::pop_front).unwrap_or(Fate::Completes(100));
        if matches!(fate, Fate::Lost) {
            return;
        }
        self.hints.give_lease(run_id, epoch, Timestamp::from_millis(i64::MAX / 4));
        let (after_ms, result) = match fate {
            Fate::Completes(ms) | Fate::CallsTool(ms) => (ms, AttemptResult::Completed { finish: Finish::Stop }),
            Fate::Fails(ms) => (ms, failed(ErrorClass::Server, None)),
            Fate::Refused429(ms) => (ms, failed(ErrorClass::RateLimit, Some(400))),
            Fate::AsksPerson(ms) => (ms, AttemptResult::AwaitingApproval { approval_id: "a1".to_owned() }),
            Fate::HandedBack(ms) => (ms, AttemptResult::HandedBack),
            Fate::Lost | Fate::Ignored => unreachable!(),
        };
        let mut report_no = 0;
        if matches!(fate, Fate::CallsTool(_)) {
            let mut part = report(run_id, epoch, 0, result.clone());
            part.outcome = None;
            part.messages[0].role = MessageRole::ToolCall;
            part.messages[0].tool_call_id = Some("c1".to_owned());
            self.later(after_ms / 2, Act::Report(Box::new(part)));
            report_no = 1;
        }
        self.later(after_ms, Act::Report(Box::new(report(run_id, epoch, report_no, result))));
    }

    fn later(&mut self, after_ms: u64, act: Act) {
        let at = self.now.plus_millis(after_ms as i64);
        self.next_id += 1;
        self.agenda.insert((at, u64::from(self.next_id)), act);
    }

    fn at(&mut self, after_ms: i64, act: Act) {
        self.next_id += 1;
        self.agenda.insert((Timestamp::from_millis(START + after_ms), u64::from(self.next_id)), act);
    }

    /// A session that is there from the beginning.
    pub(crate) fn session(&mut self, model: &str, wp_id: Option<&str>) -> SessionId {
        self.next_id += 1;
        let session_id = SessionId::parse(&id(self.next_id)).unwrap();
        let fields = SessionFields { wp_id: wp_id.map(str::to_owned), ..fields(model) };
        let session = NewSession { session_id, fields, messages: Vec::new() };
        let create = Create { session, artifacts: Vec::new(), fingerprint: Fingerprint(u128::from(self.next_id)) };
        self.at(0, Act::Command(Command::Create(Box::new(create))));
        session_id
    }

    /// A run that is submitted so many milliseconds after the start. Without fates it completes after 100 ms.
    pub(crate) fn submit(
        &mut self,
        after_ms: i64,
        session_id: SessionId,
        fates: &[Fate],
        change: impl FnOnce(&mut Submit),
    ) -> RunId {
        self.next_id += 1;
        let mut submit = submit(RunId::parse(&id(self.next_id)).unwrap(), session_id);
        change(&mut submit);
        self.fates.insert(submit.run_id, fates.iter().cloned().collect());
        let run_id = submit.run_id;
        self.at(after_ms, Act::Command(Command::Submit(Box::new(submit))));
        run_id
    }

    /// Something that somebody asks for.
    pub(crate) fn ask(&mut self, after_ms: i64, command: Command) {
        self.at(after_ms, Act::Command(command));
    }

    pub(crate) fn cancel(&mut self, after_ms: i64, run: RunId) {
        let target = CancelTarget::Run(run);
        self.ask(
            after_ms,
            Command::Cancel(Cancel { target, submitted_before: None, actor: actor(), reason: "enough".to_owned() }),
        );
    }

    /// Somebody comes by in this rhythm and approves what waits for it.
    pub(crate) fn approve_every(&mut self, every_ms: i64, runs: &[RunId]) {
        for n in 1..40 {
            self.at(n * every_ms + 17, Act::Approve(runs.to_vec()));
        }
    }

    /// Nobody leads for so long.
    pub(crate) fn silence(&mut self, after_ms: i64, for_ms: u64) {
        self.at(after_ms, Act::Silence(for_ms));
    }

    /// Until nothing is left to happen.
    pub(crate) fn pass(&mut self) {
        loop {
            let act = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let due = self.state.next_deadline(&self.hints, self.now).filter(|at| at.millis() < i64::MAX / 8);
            let Some(at) = [act, due].into_iter().flatten().min() else { return };
            if self.silent_until > self.now && at >= self.now {
                self.now = self.silent_until;
                self.state.stood_still(self.now.millis_since(self.frames.last().unwrap().frame.time));
                self.leader_begins();
                self.tick();
                continue;
            }
            self.now = self.now.max(at);
            match self.agenda.first_entry().filter(|first| first.key().0 <= self.now) {
                None => self.tick(),
                Some(first) => match first.remove() {
                    Act::Command(command) => self.command(&command),
                    Act::Report(report) => self.command(&Command::Report(report)),
                    Act::Claim(run_id, dispatch_no) => {
                        let worker_id = Token::parse("w1").unwrap();
                        let claim = Claim { run_id, dispatch_no, worker_id, claim_id: 1 };
                        self.command(&Command::Claim(claim));
                    }
                    Act::Approve(runs) => {
                        let asks =
                            |id: &RunId| self.state.run(*id).is_some_and(|run| run.state() == JobState::AwaitingUser);
                        for run_id in runs.into_iter().filter(asks).collect::<Vec<_>>() {
                            let (decision, reason) = (Decision::Approve, "fine".to_owned());
                            let decide = Decide { run_id, decision, approval_id: None, actor: actor(), reason };
                            self.command(&Command::Decide(decide));
                        }
                    }
                    Act::Silence(for_ms) => {
                        self.frame(Body::Turns(Vec::new()));
                        self.silent_until = self.now.plus_millis(for_ms as i64);
                    }
                },
            }
        }
    }
}

fn failed(class: ErrorClass, retry_after_ms: Option<u64>) -> AttemptResult {
    let error = RunError {
        code: "provider_error".to_owned(),
        message: "no".to_owned(),
        class,
        retryable: true,
        retry_after_ms,
    };
    AttemptResult::Failed { error }
}

fn report(run_id: RunId, epoch: u64, report_no: u32, result: AttemptResult) -> Report {
    let usage = Usage { input_tokens: 40, output_tokens: 30, ..Usage::default() };
    let outcome = Outcome {
        result,
        usage,
        cost_usd: None,
        first_token_after_ms: Some(1),
        told_after_ms: None,
        closed_after_ms: None,
        issues: Vec::new(),
    };
    let messages = vec![draft(MessageRole::Assistant)];
    Report { run_id, epoch, report_no, messages, artifacts: Vec::new(), outcome: Some(outcome) }
}

fn draft(role: MessageRole) -> MessageDraft {
    MessageDraft {
        message_id: serde_json::from_value(serde_json::json!(id(3))).unwrap(),
        role,
        content: HashKey::from_bytes([7; 32]).artifact_id(b"text"),
        content_type: "text/plain".to_owned(),
        size: 400,
        token_count: None,
        tool_call_id: None,
        attachments: Vec::new(),
        source: Source::Caller,
        finish: None,
    }
}

fn fields(model: &str) -> SessionFields {
    SessionFields::of_model(ModelId::parse(model).unwrap())
}

/// A submit of which a rule sees this much.
pub(crate) fn submit_of(lane: Lane, fairness_key: &str, model: &str, group: Option<&str>) -> Submit {
    Submit {
        lane,
        fairness_key: Some(fairness_key.to_owned()),
        model_id: Some(ModelId::parse(model).unwrap()),
        concurrency_group: group.map(str::to_owned),
        ..submit(RunId::parse(&id(8)).unwrap(), SessionId::parse(&id(9)).unwrap())
    }
}

fn submit(run_id: RunId, session_id: SessionId) -> Submit {
    Submit {
        input: vec![draft(MessageRole::User)],
        estimate: Estimate { output_tokens: 100, ..Estimate::default() },
        ..Submit::of(run_id, Some(session_id), Fingerprint(5))
    }
}
