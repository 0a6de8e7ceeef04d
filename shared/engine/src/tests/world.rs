//! A small world around the engine: virtual time, workers that always announce themselves, and a journal kept by hand.

use bytes::Bytes;
use laneway_contract::*;
use uuid::Uuid;

use super::replica;
use crate::*;

#[derive(Clone)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) hints: Hints,
    pub(super) now: Timestamp,
    pub(super) journal: Vec<(Timestamp, Event)>,
    /// Where in the journal a new leader began, and after what gap.
    gaps: Vec<(usize, u64)>,
    next_id: u128,
}

pub(super) fn model(raw: &str) -> ModelId {
    ModelId::parse(raw).unwrap()
}

pub(super) fn actor() -> Actor {
    Actor { id: "tester".to_owned(), kind: ActorKind::Person }
}

pub(super) fn key() -> HashKey {
    HashKey::from_bytes([7; 32])
}

pub(super) fn artifact(text: &str) -> Artifact {
    Artifact {
        id: key().artifact_id(text.as_bytes()),
        content_type: "text/plain; charset=utf-8".to_owned(),
        enc: "none".to_owned(),
        key_id: None,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

pub(super) fn fields(mode: Mode, model_id: &str) -> SessionFields {
    SessionFields { mode, ..SessionFields::of_model(model(model_id)) }
}

impl World {
    /// A world with one worker of 64 slots that serves every model of `echo`, `other` and `third`.
    pub(super) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            hints: Hints::default(),
            now: Timestamp::from_millis(1_000_000),
            journal: Vec::new(),
            gaps: Vec::new(),
            next_id: 0,
        };
        world.announce("w1", "pool", 64);
        world.run(&Command::CreateHashKey(key())).unwrap();
        world
    }

    pub(super) fn announce(&mut self, worker: &str, pool: &str, slots: u32) {
        let hint = WorkerHint {
            pool: Token::parse(pool).unwrap(),
            models: ["echo/*", "other/*", "third/*"].map(str::to_owned).to_vec(),
            slots,
            valid_until: Timestamp::from_millis(i64::MAX),
        };
        self.hints.workers.insert(Token::parse(worker).unwrap(), hint);
    }

    fn uuid(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    /// Has a command decided, with what a store replica says of what memory lacks.
    pub(super) fn run(&mut self, command: &Command) -> Result<Vec<Event>, ApiError> {
        let mut said = Vec::new();
        while let Some(question) = self.state.needs_read(command, &said) {
            self.bring(&mut said, replica::said(&self.journal, &question));
        }
        self.run_with(command, &said)
    }

    /// Takes in what a replica says: a session that was given up is loaded, unless it was read too early.
    pub(super) fn bring(&mut self, said: &mut Vec<StoreSaid>, answer: StoreSaid) {
        if let SessionSaid::Evicted(session) = &answer.session {
            let load = Load { session: (**session).clone(), read_at: answer.read_at };
            drop(self.run_with(&Command::Load(Box::new(load)), &[]));
        }
        said.retain(|other: &StoreSaid| other.session_id != answer.session_id);
        said.push(answer);
    }

    /// Has a command decided with what was said, and no more.
    pub(super) fn run_with(&mut self, command: &Command, said: &[StoreSaid]) -> Result<Vec<Event>, ApiError> {
        let before = self.state.digest();
        let result = self.state.decide_with(command, said, self.now);
        if result.is_err() {
            assert_eq!(self.state.digest(), before, "a refusal changed the state");
        }
        let decided = result?;
        let outcome = self.state.carry_out(decided, &self.hints, self.now);
        Ok(self.keep(outcome))
    }

    /// Gives up all that can be.
    pub(super) fn give_up_all(&mut self) {
        let limits = MemoryLimits { sessions: 0, keys: 0, ..self.hints.memory };
        let before = std::mem::replace(&mut self.hints.memory, limits);
        self.tick();
        self.hints.memory = before;
    }

    /// Puts limits into force as a configuration does.
    pub(super) fn set_limits(&mut self, limits: Limits) -> Vec<Event> {
        let change = LimitsChange::Configured(Box::new(limits));
        self.run(&Command::SetLimits(Box::new(SetLimits { change, actor: actor() }))).unwrap()
    }

    pub(super) fn tick(&mut self) -> Vec<Event> {
        let outcome = self.state.tick(&self.hints, self.now);
        self.keep(outcome)
    }

    fn keep(&mut self, outcome: Decided) -> Vec<Event> {
        let Decided { mut events, more } = outcome;
        for event in &events {
            self.hints.observe(event, self.now);
            self.journal.push((self.now, event.clone()));
        }
        if more {
            events.extend(self.tick());
        }
        events
    }

    /// No leader could write for so long, up to now.
    pub(super) fn stood_still(&mut self, gap_ms: u64) {
        self.state.stood_still(gap_ms);
        self.gaps.push((self.journal.len(), gap_ms));
    }

    pub(super) fn advance(&mut self, millis: i64) -> Vec<Event> {
        self.now = self.now.plus_millis(millis);
        self.tick()
    }

    pub(super) fn draft(&mut self, role: MessageRole, text: &str) -> MessageDraft {
        MessageDraft {
            message_id: MessageId::from_uuid(self.uuid()),
            role,
            content: key().artifact_id(text.as_bytes()),
            content_type: "text/plain; charset=utf-8".to_owned(),
            size: text.len() as u64,
            token_count: None,
            tool_call_id: None,
            attachments: Vec::new(),
            source: Source::Caller,
            finish: None,
        }
    }

    pub(super) fn create_command(&mut self, mode: Mode, model_id: &str) -> Create {
        let session_id = SessionId::from_uuid(self.uuid());
        let session = NewSession { session_id, fields: fields(mode, model_id), messages: Vec::new() };
        Create { session, artifacts: Vec::new(), fingerprint: Fingerprint(1) }
    }

    pub(super) fn create(&mut self, model_id: &str) -> SessionId {
        let command = self.create_command(Mode::SessionPersistent, model_id);
        let id = command.session.session_id;
        self.run(&Command::Create(Box::new(command))).unwrap();
        id
    }

    pub(super) fn submit_command(&mut self, session: Option<SessionId>) -> Submit {
        let new_session = session.is_none().then(|| {
            let session_id = SessionId::from_uuid(self.uuid());
            NewSession { session_id, fields: fields(Mode::OneShot, "echo/a"), messages: Vec::new() }
        });
        let run_id = RunId::from_uuid(self.uuid());
        Submit {
            new_session,
            input: vec![self.draft(MessageRole::User, "question")],
            artifacts: vec![artifact("question")],
            estimate: Estimate { output_tokens: 100, ..Estimate::default() },
            ..Submit::of(run_id, session, Fingerprint(2))
        }
    }

    pub(super) fn submit(&mut self, session: SessionId) -> RunId {
        let command = self.submit_command(Some(session));
        self.submit_with(command)
    }

    pub(super) fn submit_with(&mut self, command: Submit) -> RunId {
        let id = command.run_id;
        self.run(&Command::Submit(Box::new(command))).unwrap();
        id
    }

    pub(super) fn claim_command(&self, run: RunId) -> Claim {
        let dispatch_no = self.state.run(run).map_or(0, |run| run.dispatch_no);
        Claim { run_id: run, dispatch_no, worker_id: Token::parse("w1").unwrap(), claim_id: 1 }
    }

    /// Claims a dispatched run; the epoch.
    pub(super) fn claim(&mut self, run: RunId) -> Epoch {
        let command = self.claim_command(run);
        self.run(&Command::Claim(command)).unwrap();
        self.state.run(run).unwrap().record.status.epoch
    }

    pub(super) fn report_command(&mut self, run: RunId, epoch: Epoch, result: AttemptResult) -> Report {
        let mut message = self.draft(MessageRole::Assistant, "answer");
        message.finish = Some(match &result {
            AttemptResult::Completed { finish } => *finish,
            AttemptResult::Failed { .. } | AttemptResult::HandedBack => Finish::Error,
            AttemptResult::AwaitingApproval { .. } => Finish::ToolUse,
            AttemptResult::Stopped { .. } => Finish::Cancelled,
        });
        let usage = Usage { input_tokens: 3, output_tokens: 4, cached_tokens: 0, reasoning_tokens: 0 };
        let outcome = laneway_contract::Outcome {
            result,
            usage,
            cost_usd: Some(MicroUsd(5)),
            first_token_after_ms: Some(1),
            told_after_ms: None,
            closed_after_ms: None,
            issues: Vec::new(),
        };
        Report {
            run_id: run,
            epoch,
            report_no: 0,
            messages: vec![message],
            artifacts: vec![artifact("answer")],
            outcome: Some(outcome),
        }
    }

    pub(super) fn report(&mut self, run: RunId, epoch: Epoch, result: AttemptResult) -> Result<Vec<Event>, ApiError> {
        let command = self.report_command(run, epoch, result);
        self.run(&Command::Report(Box::new(command)))
    }

    pub(super) fn complete(&mut self, run: RunId, epoch: Epoch) {
        self.report(run, epoch, AttemptResult::Completed { finish: Finish::Stop }).unwrap();
    }

    pub(super) fn cancel(&mut self, target: CancelTarget) -> Vec<Event> {
        let command = Cancel { target, submitted_before: None, actor: actor(), reason: "test".to_owned() };
        self.run(&Command::Cancel(command)).unwrap()
    }

    pub(super) fn job_state(&self, run: RunId) -> JobState {
        let live = self.state.run(run).map(|run| run.record.status.state);
        live.or_else(|| self.state.ended_run(run).map(|run| run.state)).expect("a known run")
    }

    pub(super) fn session_state(&self, id: SessionId) -> SessionState {
        self.state.session(id).unwrap().status.state
    }

    /// The record of an ended run, from its settlement.
    pub(super) fn settled(&self, id: RunId) -> RunRecord {
        let mut settled = self.journal.iter().filter_map(|(_, event)| match event {
            Event::RunSettled { run, .. } if run.run_id == id => Some((**run).clone()),
            _ => None,
        });
        let record = settled.next().expect("a settled run");
        assert!(settled.next().is_none(), "run {id} ended twice");
        record
    }

    pub(super) fn thread(&self, session: SessionId) -> Vec<MessageRecord> {
        let messages = self.journal.iter().filter_map(|(_, event)| match event {
            Event::MessageAppended(message) if message.session_id == session => Some((**message).clone()),
            _ => None,
        });
        messages.collect()
    }

    /// Folds the journal from nothing.
    pub(super) fn replayed(&self) -> State {
        let mut state = State::default();
        let mut gaps = self.gaps.iter().peekable();
        for (index, (at, event)) in self.journal.iter().enumerate() {
            while let Some((_, gap_ms)) = gaps.next_if(|(place, _)| *place == index) {
                state.stood_still(*gap_ms);
            }
            state.apply(event, *at);
        }
        gaps.for_each(|(_, gap_ms)| state.stood_still(*gap_ms));
        state
    }
}

/// The bytes of a state.
pub(super) fn snapshot(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write_snapshot(&mut bytes).unwrap();
    bytes
}

pub(super) fn failed(class: ErrorClass, retryable: bool, retry_after_ms: Option<u64>) -> AttemptResult {
    let error = RunError {
        code: "provider_error".to_owned(),
        message: "it failed".to_owned(),
        class,
        retryable,
        retry_after_ms,
    };
    AttemptResult::Failed { error }
}
