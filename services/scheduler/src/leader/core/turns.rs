//! Turns: decided, applied and handed over to the journal in one go.
//!
//! Invariant: what a turn would not fit into a frame, or panics over, is refused while nothing has changed.

use std::collections::BTreeSet;

use laneway_contract::{ApiError, ErrorCode, Event, SnapshotTaken, StoreSaid, Timestamp};
use laneway_engine::{Command, Decided};
use laneway_journal::{TurnDraft, TurnTooLarge};

use super::effects::Effects;
use super::{Core, Log};
use crate::SchedulerError;
use crate::desk::{Check, Order, Release, Scene, fault, guarded};

/// A second turn that breaks within this time ends the process, in milliseconds of journal time.
const BREAKS_WITHIN_MS: u64 = 60_000;

/// Turns that broke in the middle: by a panic, or because what followed from a command did not fit a frame.
#[derive(Default)]
pub(super) struct Breaks {
    last: Option<Timestamp>,
    twice: bool,
    /// Commands that are refused undecided: each broke a turn once.
    refused: BTreeSet<String>,
}

impl Breaks {
    fn count(&mut self, command: Option<&Command>, now: Timestamp) {
        self.twice |= self.last.is_some_and(|last| now.millis_since(last) < BREAKS_WITHIN_MS);
        self.last = Some(now);
        self.refused.extend(command.map(key_of));
    }

    fn refuses(&self, command: &Command) -> bool {
        !self.refused.is_empty() && self.refused.contains(&key_of(command))
    }

    /// Ends the process after the second break.
    pub(super) fn check(&self) -> Result<(), SchedulerError> {
        if self.twice { Err(SchedulerError::Panicked) } else { Ok(()) }
    }
}

/// What a command came to.
#[derive(Default)]
struct Taken {
    events: Vec<Event>,
    repeated: bool,
    more: bool,
}

/// Why a command came to nothing.
enum Failure {
    /// Nothing has changed.
    Refused(ApiError),
    /// The state is not to be trusted any more.
    Broken,
}

impl<J: Log> Core<J> {
    /// Carries out the orders that were taken, as long as this process may act.
    pub(super) fn carry_out_orders(&mut self) {
        loop {
            let Some(leadership) = &mut self.leadership else { return };
            if leadership.inbox.is_empty() {
                return;
            }
            let Some(draft) = self.journal.begin() else { return };
            if let Some(order) = leadership.inbox.pop_front() {
                self.carry_out(draft, order);
            }
        }
    }

    /// One order, one turn.
    pub(super) fn carry_out(&mut self, mut draft: TurnDraft<Event>, order: Order) {
        if let Some(question) = order.needs_read(&self.state) {
            return self.hand_over(draft, Effects::default().with_reply(order.put_aside(question)));
        }
        let Order { check, mut command, finish, read } = order;
        let now = draft.at();
        let taken = match &mut command {
            None => Ok(Taken::default()),
            Some(command) => self.decide(&mut draft, check, command, &read.said, now),
        };
        match taken {
            Ok(Taken { events, repeated, more }) => {
                let mut none = crate::waiters::Waiters::default();
                let waiters = match &mut self.leadership {
                    Some(leadership) => {
                        leadership.more |= more;
                        &mut leadership.waiters
                    }
                    // The leader's own commands come before anybody can wait.
                    None => &mut none,
                };
                let effects = Effects::of(&events, &self.state, waiters);
                let (state, hints) = (&self.state, &mut self.hints);
                let mut scene = Scene { state, hints, waiters, now, events: &events, repeated, said: &read.said };
                match guarded(|| finish(Ok(&mut scene))) {
                    Some(release) => self.hand_over(draft, effects.with_reply(release)),
                    None => self.broke(command.as_ref()),
                }
            }
            Err(Failure::Refused(error)) => {
                self.hand_over(draft, Effects::default().with_reply(finish(Err(error))));
            }
            Err(Failure::Broken) => {
                // The caller learns at once that this command comes to nothing here; of the state it learns nothing.
                finish(Err(fault()))(self.journal.position().number);
                self.broke(command.as_ref());
            }
        }
    }

    /// Decides first, which changes nothing, then applies: what cannot be journaled is refused in between.
    fn decide(
        &mut self,
        draft: &mut TurnDraft<Event>,
        check: Option<Check>,
        command: &mut Command,
        said: &[StoreSaid],
        now: Timestamp,
    ) -> Result<Taken, Failure> {
        if self.breaks.refuses(command) {
            return Err(Failure::Refused(fault()));
        }
        let state = &self.state;
        let decided = guarded(|| {
            check.map_or(Ok(()), |check| check(state, command))?;
            state.decide_with(command, said, now)
        });
        let first = decided.ok_or_else(|| Failure::Refused(fault()))?.map_err(Failure::Refused)?;
        draft.add(&first).map_err(|error| Failure::Refused(too_large(&error)))?;
        let (state, hints, count) = (&mut self.state, &self.hints, first.len());
        let Some(Decided { events, more }) = guarded(|| state.carry_out(first, hints, now)) else {
            return Err(Failure::Broken);
        };
        if let Err(error) = draft.add(events.get(count..).unwrap_or_default()) {
            tracing::error!(%error, "what follows from a command does not fit a frame");
            return Err(Failure::Broken);
        }
        self.observe(&events, now);
        self.scheduled_at = now;
        Ok(Taken { events, repeated: count == 0, more })
    }

    /// What time, announcements and freed limits make due.
    pub(super) fn tick_if_due(&mut self) {
        let Some(leadership) = &mut self.leadership else { return };
        let now = self.journal.now();
        let due = self.state.next_deadline(&self.hints, self.scheduled_at).is_some_and(|at| at <= now);
        if !std::mem::take(&mut leadership.more) && !due {
            return;
        }
        let Some(mut draft) = self.journal.begin() else {
            leadership.more = true;
            return;
        };
        let now = draft.at();
        let (state, hints) = (&mut self.state, &self.hints);
        let Some(Decided { events, more }) = guarded(|| state.tick(hints, now)) else { return self.broke(None) };
        self.scheduled_at = now;
        if events.is_empty() {
            return;
        }
        if let Err(error) = draft.add(&events) {
            tracing::error!(%error, "what is due does not fit a frame");
            return self.broke(None);
        }
        leadership.more = more;
        let effects = Effects::of(&events, &self.state, &mut leadership.waiters);
        self.observe(&events, now);
        self.hand_over(draft, effects);
    }

    /// Journals what a fold up to here has to look like.
    pub(super) fn digest_if_due(&mut self) {
        let Some(leadership) = &mut self.leadership else { return };
        let number = self.journal.position().number;
        let every = self.settings.digest_every_frames;
        if number / every == leadership.digested_at / every {
            return;
        }
        let Some(mut draft) = self.journal.begin() else { return };
        leadership.digested_at = number;
        match draft.add(&[Event::StateDigest { digest: self.state.digest() }]) {
            Ok(()) => self.hand_over(draft, Effects::default()),
            Err(error) => tracing::error!(%error, "a digest does not fit a frame"),
        }
    }

    /// Journals that a snapshot was taken, if this process may act now. `durable` makes what is to be done once that is in the
    /// journal, of the time of its turn.
    pub(crate) fn journal_snapshot(&mut self, taken: SnapshotTaken, durable: impl FnOnce(Timestamp) -> Release) {
        let Some(mut draft) = self.journal.begin() else { return };
        if let Err(error) = draft.add(&[Event::SnapshotTaken(taken)]) {
            tracing::error!(%error, "a snapshot does not fit a frame");
            return;
        }
        draft.mark_snapshot();
        let durable = durable(draft.at());
        self.hand_over(draft, Effects::default().with_reply(durable));
    }

    fn observe(&mut self, events: &[Event], now: Timestamp) {
        for event in events {
            self.hints.observe(event, now);
        }
    }

    pub(super) fn hand_over(&mut self, draft: TurnDraft<Event>, effects: Effects) {
        let changed = !draft.is_empty();
        if self.journal.push(draft, effects).is_err() && changed {
            // The state holds what the journal will never hold.
            self.journal.abandon();
        }
    }

    /// A turn broke in the middle: nothing of this memory leaves any more, and the state is made again from the journal.
    fn broke(&mut self, command: Option<&Command>) {
        tracing::error!(command = command.map(key_of), "a turn broke: the state is made again from the journal");
        let now = self.journal.now();
        self.breaks.count(command, now);
        self.journal.abandon();
    }
}

fn too_large(error: &TurnTooLarge) -> ApiError {
    match error {
        TurnTooLarge::Bytes { bytes } => ApiError::new(
            ErrorCode::PayloadTooLarge,
            format!("the request comes to {bytes} bytes of events: send fewer messages at a time"),
        ),
        TurnTooLarge::Unencodable(_) => fault(),
    }
}

/// What a command is known by, so that one that broke a turn is not decided again. Never holds content.
fn key_of(command: &Command) -> String {
    match command {
        Command::CreateHashKey(_) => "create_hash_key".to_owned(),
        Command::SetLimits(_) => "set_limits".to_owned(),
        Command::SetBudget(command) => format!("set_budget {}", command.owner),
        Command::Decide(command) => format!("decide {} {}", command.run_id, command.decision),
        Command::Note(incident) => format!("note {} {}", incident.found, incident.place),
        Command::Put(artifact) => format!("put {}", artifact.id),
        Command::Create(command) => format!("create {}", command.session.session_id),
        Command::Append(command) => format!("append {} {}", command.session_id, command.key),
        Command::Submit(command) => format!("submit {}", command.run_id),
        Command::Cancel(command) => format!("cancel {:?}", command.target),
        Command::Pause(command) => format!("pause {} {}", command.session_id, command.paused),
        Command::End(command) => format!("end {} {}", command.session_id, command.end),
        Command::Claim(command) => format!("claim {} {}", command.run_id, command.dispatch_no),
        Command::Load(command) => format!("load {}", command.session.record.session_id),
        Command::Report(command) => format!("report {} {} {}", command.run_id, command.epoch, command.report_no),
    }
}

#[cfg(test)]
mod tests;
