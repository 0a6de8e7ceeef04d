//! A journal and a view of it for tests, without a server.

use std::sync::Arc;

use bytes::Bytes;
use laneway_contract::{
    Artifact, ArtifactId, Backend, Catalog, Event, EvictedBudget, EvictedSession, Fingerprint, GenerationSettings,
    HashKey, JobKind, JobState, Lane, MessageId, MessageRecord, MessageRole, MicroUsd, ModelId, OnBusy, RetryBackoff,
    RunFields, RunId, RunRecord, RunStatus, SessionCreation, SessionFields, SessionId, SessionState, SessionStatus,
    Source, Timestamp, Token, Usage, WaitReason,
};
use laneway_journal::{Body, Committed, Frame, FrameHash, Position, Turn};
use tempfile::TempDir;
use uuid::Uuid;

use crate::view::{Reading, View, Writer};

/// The hash key of every test journal.
pub(crate) fn hash_key() -> HashKey {
    HashKey::from_bytes([7; 32])
}

pub(crate) fn session_id(n: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(0x5e55_0000 + n))
}

pub(crate) fn run_id(n: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(0x0bee_0000 + n))
}

pub(crate) fn message_id(n: u128) -> MessageId {
    MessageId::from_uuid(Uuid::from_u128(0x3e55_0000 + n))
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

pub(crate) fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::built_in().unwrap())
}

pub(crate) fn model() -> ModelId {
    ModelId::parse("echo/default").unwrap()
}

/// In memory where the system has a folder for that: tests of a view do not wait for a disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A journal in memory, and a view in a folder of its own.
pub(crate) struct World {
    pub(crate) journal: Vec<Committed<Event>>,
    pub(crate) view: View,
    pub(crate) writer: Writer,
    pub(crate) folder: TempDir,
}

impl World {
    /// A view that has read nothing, of a journal without a frame.
    pub(crate) fn empty() -> Self {
        Self::open(folder())
    }

    /// A journal that begins as every journal does.
    pub(crate) fn new() -> Self {
        let mut world = Self::empty();
        world.frame(Body::Started { instance: "test".to_owned(), process: Uuid::nil(), attempt: 1 });
        world.commit(vec![Event::HashKeyCreated { key: hash_key() }]);
        world
    }

    /// Journals one turn and applies it. Answers the frame's number.
    pub(crate) fn commit(&mut self, events: Vec<Event>) -> u64 {
        self.frame(Body::Turns(vec![Turn { at: at(0), events }]));
        self.apply();
        self.journal.len() as u64
    }

    /// Journals a frame without applying it.
    pub(crate) fn frame(&mut self, body: Body<Event>) {
        let number = self.journal.len() as u64 + 1;
        let prev = self.journal.last().map_or(FrameHash::ZERO, |last| last.position.hash);
        let frame = Frame {
            format: laneway_journal::frame::FORMAT,
            journal_id: Uuid::nil(),
            epoch: 1,
            number,
            prev,
            time: at(0),
            snapshot: 0,
            body,
        };
        let hash = FrameHash::of(format!("{number} {:?}", frame.prev).as_bytes());
        self.journal.push(Committed { position: Position { number, hash }, gap_ms: 0, frame });
    }

    /// Applies what is journaled and not yet applied, all in one call.
    pub(crate) fn apply(&mut self) {
        let applied = self.view.applied().number as usize;
        let frames = self.journal[applied..].to_vec();
        self.writer().apply(&frames).unwrap();
    }

    /// Ends the process and starts it again.
    pub(crate) fn reopened(self) -> Self {
        let Self { journal, view, writer, folder } = self;
        drop((view, writer));
        Self { journal, ..Self::open(folder) }
    }

    /// Ends the process.
    pub(crate) fn close(self) -> TempDir {
        self.folder
    }

    fn open(folder: TempDir) -> Self {
        let (view, writer) = View::open(folder.path()).unwrap();
        Self { journal: Vec::new(), view, writer, folder }
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    pub(crate) fn read(&self) -> Reading {
        self.view.read().unwrap()
    }

    pub(crate) fn dump(&self) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
        let mut entries = Vec::new();
        self.view.dump(|space, key, value| entries.push((space, key.to_vec(), value.to_vec()))).unwrap();
        entries
    }
}

pub(crate) fn artifact(content: &str) -> Artifact {
    Artifact {
        id: hash_key().artifact_id(content.as_bytes()),
        content_type: "text/plain; charset=utf-8".to_owned(),
        enc: "none".to_owned(),
        key_id: None,
        bytes: Bytes::copy_from_slice(content.as_bytes()),
    }
}

pub(crate) fn stored(content: &str) -> Event {
    Event::ArtifactStored(artifact(content))
}

pub(crate) fn session(n: u128, created: i64) -> SessionCreation {
    SessionCreation { session_id: session_id(n), fields: SessionFields::of_model(model()), created_at: at(created) }
}

pub(crate) fn created(session: SessionCreation) -> Event {
    Event::SessionCreated { session: Box::new(session), fingerprint: Fingerprint(1) }
}

fn status(state: SessionState, since: i64) -> SessionStatus {
    SessionStatus {
        state,
        since: at(since),
        current_run_id: None,
        paused: false,
        total_tokens: 5,
        total_cost_usd: MicroUsd(0),
        messages_count: 0,
        context_window_used: None,
    }
}

pub(crate) fn changed(n: u128, from: SessionState, to: SessionState, since: i64) -> Event {
    Event::SessionStateChanged {
        session_id: session_id(n),
        from,
        reason: "test".to_owned(),
        status: status(to, since),
        duration_ms: 0,
    }
}

/// Session `n` as the leader gives it up, with so many messages.
pub(crate) fn evicted(n: u128, tail: u64) -> EvictedSession {
    EvictedSession {
        session_id: session_id(n),
        fingerprint: Fingerprint(1),
        root: session_id(n),
        status: status(SessionState::Idle, 10),
        paused: None,
        ending: None,
        tail,
        last_message_at: None,
        took_keys: tail > 0,
        ever_claimed: true,
        ever_queued: true,
        total_tokens: 5,
        total_cost: MicroUsd(0),
        window_tokens: 9,
        budget: EvictedBudget { tokens: Some(100), used_tokens: 5, ..EvictedBudget::default() },
    }
}

pub(crate) fn given_up(number: u64, sessions: Vec<EvictedSession>) -> Event {
    Event::SessionsEvicted { number, sessions }
}

pub(crate) fn loaded(n: u128, tail: u64, read_at: u64) -> Event {
    let (session, record) = (Box::new(session(n, n as i64)), Box::new(evicted(n, tail)));
    Event::SessionLoaded { session, record, read_at }
}

/// New totals in the state that holds.
pub(crate) fn touched(n: u128, state: SessionState, since: i64, total_tokens: u64) -> Event {
    let status = SessionStatus { total_tokens, ..status(state, since) };
    Event::SessionTouched { session_id: session_id(n), status }
}

/// A message of a caller in session `n`.
pub(crate) fn message(n: u128, seq: u64, role: MessageRole, content: &str) -> MessageRecord {
    let hash: ArtifactId = artifact(content).id;
    MessageRecord {
        message_id: message_id(n * 1_000 + u128::from(seq)),
        session_id: session_id(n),
        seq,
        role,
        content_hash: hash,
        content_artifact_id: hash,
        content_type: "text/plain; charset=utf-8".to_owned(),
        size: content.len() as u64,
        timestamp: at(seq as i64),
        token_count: None,
        redacted: false,
        tool_call_id: None,
        attachments: Vec::new(),
        source: Source::Caller,
        run_id: None,
        attempt: None,
        finish: None,
    }
}

/// The same message as made by attempt `attempt` of run `run`.
pub(crate) fn produced(message: MessageRecord, run: u128, attempt: u32) -> MessageRecord {
    MessageRecord { source: Source::Runtime, run_id: Some(run_id(run)), attempt: Some(attempt), ..message }
}

/// The events that put a message with its content into its thread.
pub(crate) fn appended(message: MessageRecord, content: &str) -> [Event; 2] {
    [stored(content), Event::MessageAppended(Box::new(message))]
}

pub(crate) fn claimed(n: u128, run: u128, attempt: u32, epoch: u64, upto_seq: u64) -> Event {
    Event::RunClaimed {
        run_id: run_id(run),
        session_id: session_id(n),
        attempt,
        epoch,
        worker_id: Token::parse("w1").unwrap(),
        claim_id: epoch,
        model_id: model(),
        upto_seq,
        stop_at: at(120_000),
    }
}

pub(crate) fn run(n: u128, run: u128, state: JobState) -> RunRecord {
    RunRecord {
        run_id: run_id(run),
        session_id: session_id(n),
        fields: RunFields {
            job_kind: JobKind::ModelRun,
            input: Vec::new(),
            model_id: model(),
            backend: Backend::Local,
            lane: Lane::Primary,
            priority: 50,
            concurrency_group: None,
            fairness_key: "k".to_owned(),
            on_busy: OnBusy::Enqueue,
            max_retries: 3,
            retry_backoff: RetryBackoff::Exponential,
            timeout_ms: 120_000,
            cancellation_token: None,
            not_before: None,
            deadline: None,
            queue_timeout_ms: None,
            max_tokens_budget: None,
            estimated_cost_usd: None,
            estimated_tokens: None,
            generation: GenerationSettings::default(),
            traceparent: None,
        },
        status: RunStatus {
            state,
            reason: WaitReason::None,
            attempt: 1,
            epoch: 1,
            submitted_at: at(0),
            dispatched_at: None,
            started_at: None,
            first_token_at: None,
            ended_at: Some(at(9)),
            queue_wait_ms: None,
            usage: Usage::default(),
            cost_usd: None,
            finish: None,
            output_message_ids: Vec::new(),
            output_artifact_id: None,
            error: None,
            cancel: None,
            worker_id: None,
            retry_of: None,
            pending_tool_call_ids: Vec::new(),
            approval_id: None,
            issues: Vec::new(),
        },
    }
}

pub(crate) fn settled(run: RunRecord) -> Event {
    Event::RunSettled { run: Box::new(run), reports: 1, duration_ms: 9, output: None }
}
