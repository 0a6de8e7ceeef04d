//! Subjects and stream names. A subject is a type that writes and parses itself; no other code splits subjects.

use crate::endpoint::Endpoint;
use crate::flight::FlightKind;
use crate::ids::{InvalidId, PoolId, RunId, SessionId, Token, WorkerId};
use crate::snapshot::SnapshotName;

/// The first token of every subject and, in upper case, of every stream: `laneway` unless configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Token);

impl Default for Prefix {
    fn default() -> Self {
        Self(Token::parse("laneway").unwrap_or_else(|_| unreachable!("a plain word is a token")))
    }
}

impl Prefix {
    /// Parses a prefix: one subject token.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        Token::parse(raw).map(Self)
    }

    /// The prefix as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Writes a subject.
    #[must_use]
    pub fn subject(&self, subject: &Subject) -> String {
        let prefix = self.as_str();
        match subject {
            Subject::Endpoint(endpoint) => format!("{prefix}.{endpoint}"),
            Subject::Journal => format!("{prefix}.journal"),
            Subject::Snapshot { object, chunk } => format!("{prefix}.snapshots.{object}.{chunk}"),
            Subject::Leading => format!("{prefix}.leading"),
            Subject::Intake => format!("{prefix}.intake.runs"),
            Subject::Rejects => format!("{prefix}.rejects.runs"),
            Subject::Tokens(run) => format!("{prefix}.tokens.{run}"),
            Subject::Control(run) => format!("{prefix}.control.{run}"),
            Subject::Dispatch(pool) => format!("{prefix}.dispatch.{pool}"),
            Subject::Worker(worker) => format!("{prefix}.workers.{worker}"),
            Subject::Flight { session, kind } => match session {
                Some(session) => format!("{prefix}.flight.{session}.{kind}"),
                None => format!("{prefix}.flight.system.{kind}"),
            },
        }
    }

    /// Reads a subject back.
    pub fn parse_subject(&self, raw: &str) -> Result<Subject, InvalidId> {
        let unknown = InvalidId { what: "subject", expected: "must be one of the subjects in docs/protocol.md" };
        let rest =
            raw.strip_prefix(self.as_str()).and_then(|rest| rest.strip_prefix('.')).ok_or_else(|| unknown.clone())?;
        if let Some(endpoint) = Endpoint::ALL.iter().find(|endpoint| endpoint.as_str() == rest) {
            return Ok(Subject::Endpoint(*endpoint));
        }
        match rest.split_once('.') {
            None if rest == "journal" => Ok(Subject::Journal),
            None if rest == "leading" => Ok(Subject::Leading),
            Some(("intake", "runs")) => Ok(Subject::Intake),
            Some(("rejects", "runs")) => Ok(Subject::Rejects),
            Some(("snapshots", rest)) => {
                let (object, chunk) = rest.split_once('.').ok_or_else(|| unknown.clone())?;
                let number: u32 = chunk.parse().map_err(|_| unknown.clone())?;
                if number.to_string() != chunk {
                    return Err(unknown);
                }
                SnapshotName::parse(object).map(|object| Subject::Snapshot { object, chunk: number })
            }
            Some(("tokens", run)) => RunId::parse(run).map(Subject::Tokens),
            Some(("control", run)) => RunId::parse(run).map(Subject::Control),
            Some(("dispatch", pool)) => PoolId::parse(pool).map(Subject::Dispatch),
            Some(("workers", worker)) => WorkerId::parse(worker).map(Subject::Worker),
            Some(("flight", rest)) => {
                let (session, kind) = rest.split_once('.').ok_or_else(|| unknown.clone())?;
                let session = if session == "system" { None } else { Some(SessionId::parse(session)?) };
                let kind = FlightKind::ALL.iter().copied().find(|k| k.as_str() == kind).ok_or(unknown)?;
                Ok(Subject::Flight { session, kind })
            }
            _ => Err(unknown),
        }
    }

    /// The subject filter that matches a whole family.
    #[must_use]
    pub fn all(&self, family: Family) -> String {
        let name = match family {
            Family::Snapshots => "snapshots",
            Family::Tokens => "tokens",
            Family::Control => "control",
            Family::Dispatch => "dispatch",
            Family::Workers => "workers",
            Family::Flight => "flight",
        };
        format!("{}.{name}.>", self.as_str())
    }

    /// The subject filter that matches all chunks of one snapshot.
    #[must_use]
    pub fn snapshot(&self, object: SnapshotName) -> String {
        format!("{}.snapshots.{object}.*", self.as_str())
    }

    /// The name of a stream, as `LANEWAY_JOURNAL`.
    #[must_use]
    pub fn stream(&self, stream: Stream) -> String {
        let name = match stream {
            Stream::Journal => "JOURNAL",
            Stream::Snapshots => "SNAPSHOTS",
            Stream::Dispatch => "DISPATCH",
            Stream::Control => "CONTROL",
            Stream::Intake => "INTAKE",
            Stream::Rejects => "REJECTS",
            Stream::Tokens => "TOKENS",
            Stream::Flight => "FLIGHT",
        };
        format!("{}_{name}", self.as_str().to_ascii_uppercase())
    }
}

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A request to a service.
    Endpoint(Endpoint),
    /// Frames of the journal.
    Journal,
    /// A part of a snapshot of the state.
    Snapshot {
        /// The snapshot.
        object: SnapshotName,
        /// Which part, from 0.
        chunk: u32,
    },
    /// The word of a new leader that it answers: its epoch, as text. Lost when nobody listens.
    Leading,
    /// Submits that wait in a stream.
    Intake,
    /// Submits from the intake that were refused.
    Rejects,
    /// The token stream of a run.
    Tokens(RunId),
    /// Cancel signals of a run.
    Control(RunId),
    /// Dispatched runs of a pool.
    Dispatch(PoolId),
    /// Announcements of a worker.
    Worker(WorkerId),
    /// A public event; of the deployment itself where there is no session.
    Flight {
        /// The session it concerns.
        session: Option<SessionId>,
        /// Its type.
        kind: FlightKind,
    },
}

/// A family of subjects with a filter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Snapshots of the state.
    Snapshots,
    /// Token streams.
    Tokens,
    /// Cancel signals.
    Control,
    /// Dispatched runs.
    Dispatch,
    /// Announcements of workers.
    Workers,
    /// Public events.
    Flight,
}

/// A JetStream stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The ordered log that all state is folded from.
    Journal,
    /// Snapshots of that state, from which a start begins.
    Snapshots,
    /// Dispatched runs, a work queue.
    Dispatch,
    /// Cancel signals, last value per run.
    Control,
    /// Submits that wait for a leader.
    Intake,
    /// Refused submits of the intake.
    Rejects,
    /// Token streams of the last minutes.
    Tokens,
    /// Public events.
    Flight,
}

impl Stream {
    /// Every stream.
    pub const ALL: &'static [Self] = &[
        Self::Journal,
        Self::Snapshots,
        Self::Dispatch,
        Self::Control,
        Self::Intake,
        Self::Rejects,
        Self::Tokens,
        Self::Flight,
    ];
}
