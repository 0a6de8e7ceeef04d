//! What the journal says, read by an observer frame by frame, with the rules that hold at each.
//!
//! Counted once more from the events, not from the engine's own indexes.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;
use laneway_engine::{Phase, State};
use laneway_journal::testing::Reader;
use laneway_journal::{Body, Committed};
use uuid::Uuid;

use super::ledger::Ledger;
use super::tools::Tools;
use super::world::World;
use crate::fold;
use crate::publisher::Outgoing;

/// Between the end of a lease and the turn that says so lies at most a leader that was frozen and still led.
const LATE_MS: u64 = 6_000;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Waiting,
    Backoff,
    Dispatched,
    Running,
    Parked,
}

/// A run that has not ended.
#[derive(Debug)]
pub(super) struct RunFact {
    pub(super) session: SessionId,
    pub(super) fields: RunFields,
    pub(super) place: Place,
    pub(super) dispatch_no: u32,
    pub(super) pool: Option<PoolId>,
    pub(super) epoch: Epoch,
    pub(super) worker: Option<WorkerId>,
    claimed_at: Timestamp,
    /// When it was asked to stop, and whether by a cancel.
    pub(super) stop: Option<(Timestamp, bool)>,
}

/// A session.
#[derive(Debug, Default)]
pub(super) struct SessionFact {
    pub(super) thread: Vec<MessageId>,
    pub(super) executing: BTreeSet<RunId>,
    pub(super) paused: bool,
    pub(super) closed: bool,
    /// What it says, and whether a run of it was ever claimed.
    pub(super) state: Option<SessionState>,
    pub(super) ever_claimed: bool,
}

/// A claim that was granted.
#[derive(Debug)]
pub(super) struct ClaimFact {
    pub(super) worker: WorkerId,
    pub(super) claim_id: u64,
    pub(super) dispatch_no: u32,
    /// Reports that were taken of it.
    pub(super) reports: u32,
}

/// All that is in the journal.
#[derive(Default)]
pub(super) struct Facts {
    reader: Reader,
    state: State,
    /// The digest of the state after each frame.
    digests: Vec<u128>,
    leader: Option<Uuid>,
    /// When the newest leadership began, in journal time.
    began: Timestamp,
    pub(super) runs: BTreeMap<RunId, RunFact>,
    pub(super) ended: BTreeMap<RunId, RunRecord>,
    pub(super) sessions: BTreeMap<SessionId, SessionFact>,
    pub(super) claims: BTreeMap<(RunId, Epoch), ClaimFact>,
    pub(super) keys: BTreeMap<(SessionId, String), (u64, u64)>,
    /// Sessions that memory has given up, as they were.
    evicted: BTreeMap<SessionId, EvictedSession>,
    pub(super) cool_downs: BTreeMap<Scope, CoolDown>,
    messages: BTreeSet<MessageId>,
    last_epoch: Epoch,
    pub(super) ledger: Ledger,
    tools: Tools,
}

impl World {
    /// A frame was stored.
    pub(super) fn committed(&mut self, bytes: &bytes::Bytes) {
        self.seen.frames += 1;
        let committed: Committed<Event> = self.facts.reader.read(bytes).unwrap();
        let facts = &mut self.facts;
        if let Body::Started { process, .. } = &committed.frame.body {
            facts.leader = Some(*process);
            facts.began = committed.frame.time;
        }
        facts.ledger.frame(committed.frame.time, matches!(committed.frame.body, Body::Started { .. }));
        // SCHED-7: the leader's digests are those of a fold.
        assert!(fold(&mut facts.state, &committed), "SCHED-7: a digest in the journal is not that of its fold");
        facts.digests.push(facts.state.digest());
        let Body::Turns(turns) = &committed.frame.body else { return };
        for turn in turns {
            for event in &turn.events {
                self.happened(event, turn.at);
            }
            self.facts.states_hold(turn.events.iter().filter_map(Event::session_id));
        }
        self.facts.ledger.agrees(&self.facts.state);
    }

    fn happened(&mut self, event: &Event, at: Timestamp) {
        let (facts, seen) = (&mut self.facts, &mut self.seen);
        match event {
            Event::StateDigest { .. } => seen.digests += 1,
            Event::SessionLoaded { .. } => seen.loaded += 1,
            Event::KeysEvicted { .. } => seen.keys_evicted += 1,
            Event::RunClaimed { .. } => seen.claims += 1,
            Event::LeaseExpired { .. } => seen.expired += 1,
            Event::RunStalled { .. } => seen.stalled += 1,
            Event::RunParked { .. } => seen.parked += 1,
            Event::RunStopRequested { cause: StopCause::Cancel { .. }, .. } => seen.stops += 1,
            Event::RunRateLimited { bucket: Some((_, level)), .. } => {
                seen.rate_waits += 1;
                seen.overdrawn += u64::from(*level < 0);
            }
            Event::BudgetWarned { .. } => seen.warnings += 1,
            Event::SnapshotTaken(taken) => self.objects.journaled(taken),
            Event::RunSettled { run, .. } => {
                let executing = facts.runs.get(&run.run_id).is_some_and(|known| known.place == Place::Running);
                match run.status.state {
                    JobState::Completed | JobState::CompletedWithIssues => {
                        seen.completed += 1;
                        seen.late_answers += u64::from(!executing);
                    }
                    JobState::Failed => seen.failed += 1,
                    JobState::Cancelled => seen.cancelled += 1,
                    _ => seen.poisoned += 1,
                }
            }
            _ => {}
        }
        facts.happened(event, at);
    }
}

impl Facts {
    /// Only the newest leader acts, and none that has said it is gone.
    pub(super) fn acts(&self, epoch: Epoch, process: Uuid) {
        // Its own new epoch may be stored before it knows.
        let newest = epoch == self.reader.epoch() || self.leader == Some(process);
        assert!(newest, "epoch {epoch} acts while epoch {} leads", self.reader.epoch());
        assert!(!self.reader.is_stopped(), "a leader acts after it said that it has gone");
    }

    /// Nothing is said before its frame.
    pub(super) fn is_stored(&self, number: u64) {
        assert!(number <= self.reader.last(), "frame {number} is spoken of and not stored");
    }

    /// SCHED-7: a process that has applied a frame holds what everybody holds.
    pub(super) fn is_equal(&self, number: u64, digest: u128) {
        let expected = self.digests[number as usize - 1];
        assert_eq!(digest, expected, "SCHED-7: the state of a process differs at frame {number}");
    }

    /// The digest of the whole journal.
    pub(super) fn last_digest(&self) -> (u64, u128) {
        (self.reader.last(), self.digests.last().copied().unwrap_or_default())
    }

    /// SCHED-1: this attempt of the run executes, and no newer one.
    pub(super) fn executes(&self, run: RunId, epoch: Epoch, worker: &WorkerId) {
        let Some(fact) = self.runs.get(&run) else { panic!("SCHED-4: a call of {run}, which has ended") };
        assert_eq!(fact.place, Place::Running, "SCHED-1: a call of {run}, which does not execute");
        assert_eq!((fact.epoch, fact.worker.as_ref()), (epoch, Some(worker)), "SCHED-1: a call of an older attempt");
    }

    fn happened(&mut self, event: &Event, at: Timestamp) {
        self.tools.happened(event);
        self.changes_state(event);
        match event {
            Event::SessionCreated { session, .. } => {
                let new = self.sessions.insert(session.session_id, SessionFact::default()).is_none();
                assert!(new, "{} was made twice", session.session_id);
            }
            Event::SessionsEvicted { sessions, .. } => sessions.iter().for_each(|session| self.given_up(session)),
            Event::SessionLoaded { session, record, .. } => {
                let kept = self.evicted.remove(&session.session_id);
                assert_eq!(kept.as_ref(), Some(&**record), "{} comes back as another, or twice", session.session_id);
            }
            Event::SessionPauseSet { session_id, paused, .. } => {
                self.sessions.get_mut(session_id).unwrap().paused = *paused;
            }
            Event::SessionEndRequested { session_id, .. } => self.sessions.get_mut(session_id).unwrap().closed = true,
            Event::SessionStateChanged { session_id, status, .. } if status.state.is_terminal() => {
                self.sessions.get_mut(session_id).unwrap().closed = true;
            }
            Event::MessageAppended(message) => self.appended(message),
            Event::AppendKeyTaken { session_id, key, first_seq, last_seq, .. } => {
                let new = self.keys.insert((*session_id, key.clone()), (*first_seq, *last_seq)).is_none();
                assert!(new, "SESS-6: the key {key} was taken twice");
            }
            Event::CoolDownChanged { scope, cool_down } => match cool_down {
                Some(cool_down) => drop(self.cool_downs.insert(scope.clone(), *cool_down)),
                None => drop(self.cool_downs.remove(scope)),
            },
            Event::RunQueued { run, .. } => self.queued(run, at),
            Event::RunDispatched { run_id, dispatch_no, pool, .. } => {
                let run = self.moved(*run_id, &[Place::Waiting], Place::Dispatched);
                (run.dispatch_no, run.pool) = (*dispatch_no, Some(pool.clone()));
                self.limits_hold(*run_id);
            }
            Event::RunClaimed { .. } => self.claimed(event, at),
            Event::RunStopRequested { run_id, cause, .. } => {
                let run = self.moved(*run_id, &[Place::Running], Place::Running);
                run.stop = Some((at, matches!(cause, StopCause::Cancel { .. })));
            }
            Event::ReportTaken { run_id, epoch, report_no, .. } => {
                let of = self.moved(*run_id, &[Place::Running], Place::Running).epoch;
                assert_eq!(of, *epoch, "a report of a stale epoch was taken");
                self.claims.get_mut(&(*run_id, *epoch)).unwrap().reports = report_no + 1;
            }
            Event::LeaseExpired { run_id, epoch, .. } => self.expired(*run_id, *epoch, at),
            Event::RunReturned { run_id, reports, .. } => {
                let from = [Place::Dispatched, Place::Running, Place::Backoff, Place::Waiting];
                self.leaves(*run_id, &from, Place::Waiting, Some(*reports));
            }
            Event::RunRetryScheduled { run_id, reports, .. } => {
                self.leaves(*run_id, &[Place::Running], Place::Backoff, Some(*reports));
            }
            Event::RunStalled { run_id, reports, .. } | Event::RunParked { run_id, reports, .. } => {
                self.leaves(*run_id, &[Place::Running], Place::Parked, Some(*reports));
            }
            Event::RunDecided { run_id, decision: Decision::Approve | Decision::Retry, .. } => {
                self.leaves(*run_id, &[Place::Parked], Place::Waiting, None);
            }
            Event::RunSettled { run, reports, .. } => self.settled(run, *reports, at),
            _ => {}
        }
        // The last, since it finds what others find as well, and says less of it.
        self.ledger.happened(event, at, self.leader.unwrap());
    }

    /// A session leaves memory as it is, and only where nothing goes on.
    fn given_up(&mut self, record: &EvictedSession) {
        let id = record.session_id;
        let fact = &self.sessions[&id];
        let (ending, state) = (record.ending.is_some(), record.status.state.is_terminal());
        let kept = (record.tail, record.paused.is_some(), ending || state);
        assert_eq!(kept, (fact.thread.len() as u64, fact.paused, fact.closed), "{id} is given up as another");
        assert!(self.runs.values().all(|run| run.session != id), "{id} is given up with a live run");
        assert!(self.evicted.insert(id, record.clone()).is_none(), "{id} is given up twice");
    }

    /// SESS-6: threads have no holes, and nothing is in one twice.
    fn appended(&mut self, message: &MessageRecord) {
        let thread = &mut self.sessions.get_mut(&message.session_id).unwrap().thread;
        thread.push(message.message_id);
        assert_eq!(message.seq, thread.len() as u64, "SESS-6: a hole in a thread");
        assert!(self.messages.insert(message.message_id), "SESS-6: message {} is there twice", message.message_id);
    }

    fn queued(&mut self, run: &RunRecord, at: Timestamp) {
        let new = !self.runs.contains_key(&run.run_id) && !self.ended.contains_key(&run.run_id);
        assert!(new, "{} was queued twice", run.run_id);
        let fact = RunFact {
            session: run.session_id,
            fields: run.fields.clone(),
            place: Place::Waiting,
            dispatch_no: 0,
            pool: None,
            epoch: 0,
            worker: None,
            claimed_at: at,
            stop: None,
        };
        self.runs.insert(run.run_id, fact);
    }

    fn moved(&mut self, id: RunId, from: &[Place], to: Place) -> &mut RunFact {
        let Some(run) = self.runs.get_mut(&id) else { panic!("{id} has ended or never was, and goes on") };
        assert!(from.contains(&run.place), "{id} goes from {:?} to {to:?}", run.place);
        run.place = to;
        run
    }

    fn leaves(&mut self, id: RunId, from: &[Place], to: Place, reports: Option<u32>) {
        let run = self.moved(id, from, to);
        let (session, epoch) = (run.session, run.epoch);
        run.stop = None;
        self.sessions.get_mut(&session).unwrap().executing.remove(&id);
        self.reported(id, epoch, reports);
    }

    fn reported(&mut self, id: RunId, epoch: Epoch, reports: Option<u32>) {
        if let (Some(claim), Some(reports)) = (self.claims.get_mut(&(id, epoch)), reports) {
            claim.reports = claim.reports.max(reports);
        }
    }

    fn claimed(&mut self, event: &Event, at: Timestamp) {
        let Event::RunClaimed { run_id, epoch, worker_id, claim_id, .. } = event else { return };
        assert!(*epoch > self.last_epoch, "an epoch fell");
        self.last_epoch = *epoch;
        let run = self.moved(*run_id, &[Place::Dispatched], Place::Running);
        (run.epoch, run.worker, run.claimed_at, run.stop) = (*epoch, Some(worker_id.clone()), at, None);
        let (session, dispatch_no) = (run.session, run.dispatch_no);
        let executing = &mut self.sessions.get_mut(&session).unwrap().executing;
        executing.insert(*run_id);
        assert_eq!(executing.len(), 1, "SESS-3: a session executes several runs");
        let claim = ClaimFact { worker: worker_id.clone(), claim_id: *claim_id, dispatch_no, reports: 0 };
        self.claims.insert((*run_id, *epoch), claim);
    }

    /// A lease is whole: from the claim, and once more from when a new leader began, before which nobody could renew.
    fn expired(&self, id: RunId, epoch: Epoch, at: Timestamp) {
        let run = &self.runs[&id];
        assert_eq!((run.place, run.epoch), (Place::Running, epoch), "the lease of another attempt has ended");
        let from = run.claimed_at.max(self.began);
        let had = at.millis_since(from);
        assert!(had >= ATTEMPT_LEASE_MS, "the lease of {id} ended after {had} ms");
        self.ends_in_time(run, at);
    }

    /// SCHED-4: from a stop on renewals no longer extend the lease.
    fn ends_in_time(&self, run: &RunFact, at: Timestamp) {
        let Some((asked, _)) = run.stop else { return };
        let took = at.millis_since(asked.max(self.began));
        assert!(took <= ATTEMPT_LEASE_MS + LATE_MS, "SCHED-4: a stop was answered after {took} ms");
    }

    fn settled(&mut self, run: &RunRecord, reports: u32, at: Timestamp) {
        let id = run.run_id;
        let any = [Place::Waiting, Place::Backoff, Place::Dispatched, Place::Running, Place::Parked];
        let stop = self.moved(id, &any, Place::Waiting).stop;
        if let Some((_, cancelled)) = stop {
            self.ends_in_time(&self.runs[&id], at);
            let state = run.status.state;
            assert!(!cancelled || state == JobState::Cancelled, "SCHED-4: {id} was cancelled and has {state}");
        }
        let status = &run.status;
        assert_eq!(status.state == JobState::Cancelled, status.cancel.is_some(), "SCHED-4: the receipt of {id}");
        let failed = matches!(status.state, JobState::Failed | JobState::Poisoned);
        assert_eq!(failed, status.error.is_some(), "SCHED-4: the error of {id}");
        let (session, epoch) = (run.session_id, self.runs[&id].epoch);
        self.sessions.get_mut(&session).unwrap().executing.remove(&id);
        self.reported(id, epoch, Some(reports));
        self.runs.remove(&id);
        self.ended.insert(id, run.clone());
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

/// Whatever nobody has claimed is sent again by a new leader: the stream may be a new one, or its sender may have died.
pub(super) fn dispatches_are_sent_again(state: &State, sent: &[Outgoing]) {
    for run in state.dispatched() {
        let Phase::Dispatched { pool, .. } = &run.phase else { continue };
        let (run_id, session_id, dispatch_no) = (run.record.run_id, run.record.session_id, run.dispatch_no);
        let message = DispatchMessage { run_id, session_id, dispatch_no };
        let again = Outgoing::Dispatch(pool.clone(), message);
        assert!(sent.contains(&again), "a new leader does not send dispatch {dispatch_no} of {run_id} again");
    }
}
