//! The indexes: whoever changes a run or a session does it here, so that every index stays in step.

use laneway_contract::{Lane, OnBusy, RunId, SessionId, Timestamp};

use crate::digest::Key;
use crate::queue::{Head, Place};
use crate::run::{Phase, Run, Taken};
use crate::session::{Seat, Session, Spot};
use crate::state::State;
use crate::turns::KeyId;

impl State {
    /// Changes a run, keeping every index in step.
    pub(crate) fn change_run(&mut self, id: RunId, change: impl FnOnce(&mut Run)) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let before = Footprint::of(run);
        let class = self.queues.class(run.class);
        self.slots.count(run, class, false);
        change(run);
        run.record.status.state = run.state();
        self.slots.count(run, class, true);
        let (session, after) = (run.record.session_id, Footprint::of(run));
        // Also a claim: a worker that executes more than its slots takes a dispatch off its pool and no slot.
        self.quiet &= !before.holds;
        self.digests.touch(&mut run.hashed, || Key::Run(id));
        self.move_run(id, session, Some(before), Some(after));
    }

    pub(crate) fn index_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        self.slots.count(run, self.queues.class(run.class), true);
        self.digests.touch(&mut run.hashed, || Key::Run(id));
        let (session, after) = (run.record.session_id, Footprint::of(run));
        self.move_run(id, session, None, Some(after));
    }

    pub(crate) fn unindex_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        self.slots.count(run, self.queues.class(run.class), false);
        self.quiet = false;
        self.move_run(id, run.record.session_id, Some(Footprint::of(run)), None);
    }

    /// Moves a run in the indexes from where it was to where it is.
    fn move_run(&mut self, id: RunId, session: SessionId, before: Option<Footprint>, after: Option<Footprint>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            if before.holds {
                self.holding.remove(&id);
            }
            if let Some(due) = before.due {
                self.due.remove(&(due, id));
            }
            if before.spot != Spot::Current {
                self.queues.count(before.lane, false);
            }
            if let Spot::Queue(..) = before.spot {
                self.turns.wait(before.turn, before.place, false);
            }
        }
        if let Some(after) = &after {
            self.enter(id, after);
        }
        let spots = (before.map(|before| before.spot), after.map(|after| after.spot));
        if spots.0 != spots.1 {
            self.change_session(session, |session| session.move_run(id, spots.0, spots.1));
        }
    }

    /// Puts a run into the indexes where it is.
    fn enter(&mut self, id: RunId, after: &Footprint) {
        if after.holds {
            self.holding.insert(id);
        }
        if let Some(due) = after.due {
            self.due.insert((due, id));
        }
        if after.spot != Spot::Current {
            self.queues.count(after.lane, true);
        }
        if let Spot::Queue(..) = after.spot {
            self.turns.wait(after.turn, after.place, true);
        }
    }

    /// Indexes a run of a snapshot. Its session, which comes from there too, knows it already.
    pub(crate) fn restore_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        self.slots.count(run, self.queues.class(run.class), true);
        self.digests.touch(&mut run.hashed, || Key::Run(id));
        self.turns.touch(run.turn, &mut self.digests);
        let after = Footprint::of(run);
        self.live_runs.insert(id);
        if let Some(token) = &run.record.fields.cancellation_token {
            self.by_token.entry(token.clone()).or_default().insert(id);
        }
        if run.unknown != Taken::default() {
            self.charged.insert(id);
        }
        self.enter(id, &after);
    }

    /// Indexes a session of a snapshot, whose runs and work packet are there.
    pub(crate) fn restore_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.digests.touch(&mut session.hashed, || Key::Session(id));
        self.givable.sessions.extend(session.idle_since().map(|at| (at, id)));
        self.givable.keys.extend(session.keys.iter().map(|(key, taken)| (taken.number, (id, key.clone()))));
        if session.status.state.is_terminal() {
            return;
        }
        if let Some(parent) = session.creation.fields.parent_session_id {
            self.children.entry(parent).or_default().insert(id);
        }
        if session.ending.is_some() && session.has_runs() {
            self.ending_sessions.insert(id);
        }
        if session.replaced_below > 0 {
            self.replacing_sessions.insert(id);
        }
        self.live_sessions.insert(id);
        self.reseat(id);
    }

    /// Changes a session, keeping its head in the queues in step.
    pub(crate) fn change_session(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.idle_since();
        change(session);
        session.touched_at = self.at;
        let after = session.idle_since();
        self.digests.touch(&mut session.hashed, || Key::Session(id));
        if before != after {
            if let Some(before) = before {
                self.givable.sessions.remove(&(before, id));
            }
            if let Some(after) = after {
                self.givable.sessions.insert((after, id));
            }
        }
        self.reseat(id);
    }

    /// Puts the head of a session where it belongs: into its class, when the budgets have room for it.
    pub(crate) fn reseat(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let head = session.head();
        let bounded = session.creation.fields.wp_id.is_some() || session.budget.is_bounded();
        if !bounded && head == session.seated.map(|(_, run)| run) {
            return;
        }
        let head = head.and_then(|run| self.runs.get(&run));
        let head = head.map(|run| {
            let place =
                Head { class: run.class, priority: run.record.fields.priority, key: run.turn, place: run.place() };
            (place, run.record.run_id, self.estimate(run, session))
        });
        let seated = head.filter(|(.., estimate)| self.affords(session, *estimate));
        let seated = seated.map(|(place, run, _)| (place, run));
        let indexed = head.map(|(.., estimate)| estimate).filter(|_| session.creation.fields.wp_id.is_some());
        if seated.map(|(_, run)| run) == session.seated.map(|(_, run)| run) && indexed == session.indexed {
            return;
        }
        let packet = session.creation.fields.wp_id.clone();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = std::mem::replace(&mut session.seated, seated);
        let indexed_before = std::mem::replace(&mut session.indexed, indexed);
        if let Some((head, _)) = before {
            self.queues.remove(head, &mut self.turns);
        }
        if let Some((head, run)) = seated {
            self.queues.insert(head, run, &mut self.turns);
            self.quiet = false;
        }
        if let Some(packet) = packet {
            let packet = self.work_packets.entry(packet).or_default();
            if let Some(estimate) = indexed_before {
                packet.remove(estimate, id);
            }
            if let Some(estimate) = indexed {
                packet.insert(estimate, id);
            }
        }
    }
}

/// Where a run is in the indexes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Footprint {
    holds: bool,
    due: Option<Timestamp>,
    lane: Lane,
    turn: KeyId,
    place: Place,
    spot: Spot,
}

impl Footprint {
    fn of(run: &Run) -> Self {
        let spot = match run.phase {
            Phase::Queued => Spot::Queue(run.seat()),
            Phase::Delayed { .. } => Spot::Delayed(run.order),
            Phase::Dispatched { .. }
            | Phase::Running { .. }
            | Phase::Backoff { .. }
            | Phase::Stalled
            | Phase::AwaitingUser => Spot::Current,
        };
        let lane = run.record.fields.lane;
        Self { holds: run.holds_slot(), due: run.due(), lane, turn: run.turn, place: run.place(), spot }
    }
}

impl Run {
    /// Its place in the queue of its session.
    fn seat(&self) -> Seat {
        if self.decided.is_some() {
            Seat::Decided(self.order)
        } else if self.record.fields.on_busy == OnBusy::Interrupt {
            Seat::Front(u64::MAX - self.order)
        } else {
            Seat::Behind(self.order)
        }
    }
}
