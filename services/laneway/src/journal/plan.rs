//! What a repair would keep, bring back and lose: worked out from the backup and a store's folder, before anything changes.

use std::collections::BTreeSet;
use std::path::Path;

use laneway_contract::{Event, FlightEvent, FlightKind, RunId, SessionId, Timestamp};
use laneway_engine::State;
use laneway_journal::audit::{Audit, Audited, Damage, Finding, Replay, Witness};
use laneway_journal::place::Place;
use laneway_journal::{Committed, FrameHash};
use laneway_session_store::salvage::{Held, Salvage, Salvaged};
use serde::Serialize;

use super::backup::{self, Ends, Kind};
use super::check::store_witnesses;
use super::flight::Sources;
use super::raw::Raw;
use crate::exit::CliError;

/// Frames that are folded at a time.
const BATCH: usize = 64;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ends: Ends,
    pub(super) audited: Audited,
    /// Public events that stay as they are, from the first.
    pub(super) flight_kept: u64,
    /// What a store still holds beyond the frames that are kept.
    pub(super) found: Salvaged,
    /// Where that store stands.
    held: Option<Held>,
    /// The highest epoch that a public event names; 0 without any.
    pub(super) epoch: u64,
    /// The subject of the frames; none without any.
    pub(super) subject: Option<String>,
    lost: Lost,
}

/// What the public events name, and nothing brings back.
#[derive(Debug, Default, Serialize)]
struct Lost {
    sessions: BTreeSet<SessionId>,
    runs: BTreeSet<RunId>,
    limits: BTreeSet<String>,
}

/// A plan as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    findings: Vec<String>,
    frames_kept: u64,
    /// The last frame of the journal that anything knows of.
    frames_known: u64,
    events_kept: u64,
    events_cut: u64,
    store_at: Option<u64>,
    sessions: u64,
    messages: u64,
    artifacts: u64,
    append_keys: u64,
    runs: u64,
    /// Runs that go on as if their worker had been lost.
    resumed: Vec<RunId>,
    /// Runs of which only a claim, or that they were queued, is known.
    lost_runs: BTreeSet<RunId>,
    /// Such runs whose input is in the thread that comes back.
    lost_runs_with_input: BTreeSet<RunId>,
    lost_sessions: BTreeSet<SessionId>,
    /// Limits and budgets that were set in frames that are lost.
    lost_limits: BTreeSet<String>,
    /// Threads that come back only up to before this message.
    broken_threads: Vec<(SessionId, u64)>,
    /// Sessions that the store names and does not hold, as after a power loss.
    left_out_sessions: BTreeSet<SessionId>,
    /// Ended runs of such sessions.
    left_out_runs: BTreeSet<RunId>,
    /// Keys of appends whose messages do not come back, with their sessions.
    left_out_keys: BTreeSet<(SessionId, String)>,
}

/// The first look at a backup.
#[derive(Default)]
struct Glance {
    sources: Sources,
    epoch: u64,
    subject: Option<String>,
}

/// Works a plan out. Reads the backup three times, so that it has been read back when anything changes.
pub(super) fn make(file: &Path, store: Option<&Path>, scratch: &Path, now: Timestamp) -> Result<Plan, CliError> {
    let mut glance = glance(file)?;
    let salvage = match store {
        Some(folder) => Some(Salvage::open(folder, scratch).map_err(|error| store_error(&error))?),
        None => None,
    };
    let held = salvage.as_ref().map(Salvage::held);
    let mut witnesses = std::mem::take(&mut glance.sources).witnesses();
    witnesses.extend(store.zip(held).into_iter().flat_map(|(folder, held)| store_witnesses(folder, held)));
    let audited = audit(file, witnesses)?;
    let mut fold = Fold::new(audited.right.number, salvage);
    let ends = backup::read(file, |kind, message| match kind {
        Kind::Journal => fold.frame(&message),
        Kind::Flight => {
            fold.event(&message);
            Ok(())
        }
    })?;
    let Fold { salvage, flight_kept, mut lost, state, .. } = fold.finish()?;
    let found = match salvage {
        Some(salvage) => salvage.find(now).map_err(|error| store_error(&error))?,
        None => Salvaged::default(),
    };
    rehearse(state, &found.events, now)?;
    lost.without(&found);
    let Glance { epoch, subject, .. } = glance;
    Ok(Plan { ends, audited, flight_kept, found, held, epoch, subject, lost })
}

/// Folds what was found as a scheduler will at its start, behind the frames that are kept: what it cannot take, or what its
/// fold panics on, has to show before anything is written.
pub(super) fn rehearse(mut state: State, events: &[Event], now: Timestamp) -> Result<(), CliError> {
    for event in events {
        if let Event::MessageAppended(message) = event {
            let tail = state.session(message.session_id).map(|session| session.tail);
            if tail.is_none_or(|tail| tail + 1 != message.seq) {
                let (session, seq) = (message.session_id, message.seq);
                let what =
                    format!("message {seq} of session {session} has no place in its thread: nothing was written");
                return Err(CliError::Repair(what));
            }
        }
        state.apply(event, now);
    }
    Ok(())
}

/// What has to be known before the frames are looked at.
fn glance(file: &Path) -> Result<Glance, CliError> {
    let mut glance = Glance::default();
    backup::read(file, |kind, message| {
        if kind == Kind::Journal {
            glance.subject.get_or_insert(message.subject);
        } else {
            glance.sources.take(&message);
            if let Some(epoch) = event(&message, FlightKind::LeaderChanged, "epoch").and_then(|epoch| epoch.as_u64()) {
                glance.epoch = glance.epoch.max(epoch);
            }
        }
        Ok(())
    })?;
    Ok(glance)
}

fn audit(file: &Path, witnesses: Vec<Witness>) -> Result<Audited, CliError> {
    let mut audit = Audit::<Event>::new(witnesses);
    let ends = backup::read(file, |kind, message| {
        if kind == Kind::Journal {
            audit.take(message.sequence, &message.payload);
        }
        Ok(())
    })?;
    Ok(audit.finish(ends.journal))
}

/// The value under a key of a public event's payload, when it is of this type.
fn event(message: &Raw, kind: FlightKind, key: &str) -> Option<serde_json::Value> {
    let event: FlightEvent = serde_json::from_slice(&message.payload).ok()?;
    (event.event_type == kind).then(|| event.payload.get(key).cloned()).flatten()
}

/// Goes through a backup: the frames that are kept, then the public events that come from them.
struct Fold {
    last: u64,
    replay: Replay<Event>,
    state: State,
    hashes: Vec<FrameHash>,
    batch: Vec<Committed<Event>>,
    salvage: Option<Salvage>,
    flight_kept: u64,
    is_cut: bool,
    lost: Lost,
}

impl Fold {
    fn new(last: u64, salvage: Option<Salvage>) -> Self {
        Self {
            last,
            replay: Replay::default(),
            state: State::default(),
            hashes: Vec::new(),
            batch: Vec::new(),
            salvage,
            flight_kept: 0,
            is_cut: false,
            lost: Lost::default(),
        }
    }

    fn frame(&mut self, message: &Raw) -> Result<(), CliError> {
        if message.sequence > self.last {
            return Ok(());
        }
        let committed = self.replay.take(message.sequence, &message.payload);
        let committed = committed.map_err(|fault| CliError::Repair(fault.to_string()))?;
        if !laneway_scheduler::fold(&mut self.state, &committed) {
            let number = committed.position.number;
            let what =
                format!("the state at frame {number} is not the one that its leader had: no scheduler would start");
            return Err(CliError::Repair(what));
        }
        self.hashes.push(committed.position.hash);
        self.batch.push(committed);
        if self.batch.len() >= BATCH { self.fold() } else { Ok(()) }
    }

    fn fold(&mut self) -> Result<(), CliError> {
        let frames = std::mem::take(&mut self.batch);
        match &mut self.salvage {
            Some(salvage) => salvage.keep(&frames).map_err(|error| store_error(&error)),
            None => Ok(()),
        }
    }

    fn event(&mut self, message: &Raw) {
        let place = Place::from_headers(&message.headers);
        let hash = place.and_then(|place| self.hashes.get(usize::try_from(place.frame.number.checked_sub(1)?).ok()?));
        let is_kept = place.is_some_and(|place| hash == Some(&place.frame.hash));
        if is_kept && !self.is_cut && message.sequence == self.flight_kept + 1 {
            self.flight_kept += 1;
            return;
        }
        self.is_cut = true;
        if let Ok(event) = serde_json::from_slice::<FlightEvent>(&message.payload)
            && !is_kept
        {
            self.lost.name(&event);
        }
    }

    fn finish(mut self) -> Result<Self, CliError> {
        self.fold()?;
        Ok(self)
    }
}

impl Lost {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what the other events say comes back with these, or is history"
    )]
    fn name(&mut self, event: &FlightEvent) {
        match event.event_type {
            FlightKind::SessionCreated => self.sessions.extend(event.session_id),
            FlightKind::SchedulerEnqueue => self.runs.extend(event.run_id),
            FlightKind::LimitsChanged => {
                self.limits.extend(event.payload.get("name").and_then(|name| name.as_str()).map(str::to_owned));
            }
            _ => {}
        }
    }

    /// Leaves out what comes back.
    fn without(&mut self, found: &Salvaged) {
        for event in &found.events {
            if let Event::SessionCreated { session, .. } = event {
                self.sessions.remove(&session.session_id);
            } else if let Event::RunSettled { run, .. } = event {
                self.runs.remove(&run.run_id);
            }
        }
        self.runs.extend(found.lost.difference(&found.with_input));
        self.runs.retain(|run| !found.with_input.contains(run));
    }
}

impl Plan {
    /// Whether the frames are all right.
    pub(super) fn is_whole(&self) -> bool {
        self.audited.findings.is_empty()
    }

    /// Frames that another version wrote: they would be cut off by one that cannot read them.
    pub(super) fn of_other_version(&self) -> Option<&Finding> {
        self.audited.findings.iter().find(|finding| matches!(finding.damage, Damage::OtherFormat { .. }))
    }

    pub(super) fn shown(&self) -> Shown {
        let Self { audited, found, .. } = self;
        let known = audited.findings.iter().map(|finding| finding.last).max().unwrap_or(0).max(audited.last);
        Shown {
            findings: audited.findings.iter().map(Finding::to_string).collect(),
            frames_kept: audited.right.number,
            frames_known: known,
            events_kept: self.flight_kept,
            events_cut: self.ends.flight.saturating_sub(self.flight_kept),
            store_at: self.held.map(|held| held.applied.number),
            sessions: found.sessions,
            messages: found.messages,
            artifacts: found.artifacts,
            append_keys: found.append_keys,
            runs: found.runs,
            resumed: found.resumed.clone(),
            lost_runs: self.lost.runs.clone(),
            lost_runs_with_input: found.with_input.clone(),
            lost_sessions: self.lost.sessions.clone(),
            lost_limits: self.lost.limits.clone(),
            broken_threads: found.broken.clone(),
            left_out_sessions: found.without_session.clone(),
            left_out_runs: found.left_runs.clone(),
            left_out_keys: found.left_keys.clone(),
        }
    }
}

impl Shown {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut lines = self.findings.clone();
        let (kept, known) = (self.frames_kept, self.frames_known);
        lines.push(format!("kept: frames 1 to {kept} of {known}, public events 1 to {}", self.events_kept));
        match self.store_at {
            None => lines.push("brought back: nothing, since no store was named with --store".to_owned()),
            Some(at) => lines.push(format!(
                "brought back from the store, which is at frame {at}: {} sessions, {} messages, {} artifacts, {} append keys, \
                 {} ended runs",
                self.sessions, self.messages, self.artifacts, self.append_keys, self.runs
            )),
        }
        let mut list = |what: &str, items: Vec<String>| {
            if !items.is_empty() {
                lines.push(format!("{what}: {}", items.join(" ")));
            }
        };
        list("go on as if their worker had been lost, runs", texts(&self.resumed));
        list("lost, runs to be submitted again", texts(&self.lost_runs));
        list(
            "lost, runs to be submitted again in their sessions without input, which is in the thread",
            texts(&self.lost_runs_with_input),
        );
        list("lost, sessions", texts(&self.lost_sessions));
        list("lost, to be set again if they still differ", texts(&self.lost_limits));
        let threads = self.broken_threads.iter().map(|(session, seq)| format!("{session} from message {seq}"));
        list("lost, the rest of threads", threads.collect());
        list("left out, sessions that the store names and does not hold", texts(&self.left_out_sessions));
        list("left out, ended runs of such sessions", texts(&self.left_out_runs));
        let keys = self.left_out_keys.iter().map(|(session, key)| format!("{session} {key}"));
        list("left out, keys of appends whose messages do not come back", keys.collect());
        lines.push(format!(
            "lost without a trace here: pauses and ends that were asked for, cancels of runs that had not ended, and limits \
             and budgets that no public event names, in frames {} to {known}",
            kept + 1
        ));
        lines.join("\n")
    }
}

fn texts<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    items.into_iter().map(ToString::to_string).collect()
}

fn store_error(error: &impl ToString) -> CliError {
    CliError::Store(error.to_string())
}
