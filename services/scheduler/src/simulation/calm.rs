//! The calm: nothing goes wrong any more, so everything has to come to its end.

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;

use super::api::Request;
use super::facts::{Place, RunFact};
use super::ops::{budgeted, changed, decided};
use super::process::{Life, Process};
use super::seen::Seen;
use super::world::{Actor, What, World};
use crate::edge::Change;

/// How often somebody looks after what waits for a person.
const CARE_MS: u64 = 1_000;
/// A run that could have started stays queued at most this often somebody looks.
const IDLE_LOOKS: u32 = 6;
/// Journal time is at most so far behind a wall clock that differs a little from others.
const BEHIND_MS: i64 = 12_500;
/// What has come to its end stays there for this long.
const QUIET_MS: u64 = 4_000;

impl World {
    /// Pauses are lifted, what is parked is decided, and slots are looked at.
    pub(super) fn care(&mut self) {
        self.at(self.now + CARE_MS, Actor::Client, What::Care);
        // A submit may wait for a run that waits for this.
        if !self.client.ops.values().any(|op| !op.is_done() && !matches!(op.request, Request::Submit(..))) {
            let paused: Vec<SessionId> =
                self.facts.sessions.iter().filter(|(_, s)| s.paused && !s.closed).map(|(id, _)| *id).collect();
            for session in paused {
                self.client_wants(changed(session, Change::Resume, false, false));
            }
            let parked: Vec<RunId> =
                self.facts.runs.iter().filter(|(_, run)| run.place == Place::Parked).map(|(id, _)| *id).collect();
            for run in parked {
                let decision = [Decision::Retry, Decision::Fail, Decision::Cancel][self.rng.range(0, 3) as usize];
                self.client_wants(decided(run, decision));
            }
            self.raise_budgets();
        }
        self.look_at_slots();
    }

    /// What has no room in its budget waits until somebody raises that, or takes it away.
    fn raise_budgets(&mut self) {
        let waiting = self.facts.runs.iter().filter(|(_, run)| run.place == Place::Waiting);
        let held: BTreeSet<BudgetOwner> =
            waiting.filter_map(|(id, _)| self.facts.ledger.model.unaffordable(*id)).collect();
        for owner in held {
            self.seen.raised += 1;
            let tokens = self.rng.per_mille(300).then(|| self.rng.range(10_000, 100_000));
            self.client_wants(budgeted(owner, tokens, None));
        }
    }

    /// SCHED-8: what could start has started, a moment later at the latest, once somebody leads and may act.
    fn look_at_slots(&mut self) {
        let acts = |process: &Process| {
            let until = process.core.journal.node.answers_until();
            process.is_open() && until.is_some_and(|until| process.clocks.read(self.now).boot < until)
        };
        let led = self.processes.iter().any(acts);
        let cooling = self.facts.cool_downs.values().any(|cool_down| cool_down.allowed.is_some());
        let startable = if led && !cooling { self.startable() } else { Vec::new() };
        let before = std::mem::take(&mut self.idle);
        for run in startable {
            let looks = before.get(&run).copied().unwrap_or(0) + 1;
            assert!(
                looks <= IDLE_LOOKS,
                "SCHED-8: {run} could start or say for what it waits, and does not: {}",
                self.as_the_leader_sees(run)
            );
            self.idle.insert(run, looks);
        }
    }

    fn as_the_leader_sees(&self, run: RunId) -> String {
        let run = &self.facts.runs[&run];
        let leader = self.processes.iter().find(|process| process.is_open());
        let session = leader.and_then(|leader| leader.core.state().session(run.session));
        format!("{run:?} in {session:?}")
    }

    /// Runs of sessions in which nothing holds any run back.
    fn startable(&self) -> Vec<RunId> {
        let mut by_session: BTreeMap<SessionId, Vec<(RunId, &RunFact)>> = BTreeMap::new();
        for (id, run) in &self.facts.runs {
            by_session.entry(run.session).or_default().push((*id, run));
        }
        let wall = laneway_journal::testing::EPOCH_MS + self.now as i64;
        let (dry, facts) = (self.dry_providers(), &self.facts);
        by_session.retain(|session, runs| {
            let session = &facts.sessions[session];
            let waits = |id: RunId, run: &RunFact| {
                let come = run.fields.not_before.is_none_or(|at| at.millis() + BEHIND_MS < wall);
                let affords =
                    facts.ledger.model.unaffordable(id).is_none() && !dry.contains(run.fields.model_id.provider());
                run.place == Place::Waiting && come && affords && self.has_room(run)
            };
            !session.paused && !session.closed && runs.iter().all(|(id, run)| waits(*id, run))
        });
        by_session.into_values().filter_map(|runs| runs.first().map(|(id, _)| *id)).collect()
    }

    /// Providers that a run waits for whose bucket lacks what it needs, and of which a run has said so (SCHED-3): nothing
    /// passes what waits for a bucket.
    fn dry_providers(&self) -> BTreeSet<&str> {
        let facts = &self.facts;
        let waiting = facts.runs.iter().filter(|(_, run)| run.place == Place::Waiting);
        let lacks = waiting.filter(|(id, _)| facts.ledger.is_lacking(**id));
        let said = facts.runs.iter().filter(|(id, _)| facts.ledger.is_recorded(**id));
        let said: BTreeSet<&str> = said.map(|(_, run)| run.fields.model_id.provider()).collect();
        lacks.map(|(_, run)| run.fields.model_id.provider()).filter(|provider| said.contains(provider)).collect()
    }

    fn has_room(&self, run: &RunFact) -> bool {
        let (limits, fields) = (&self.facts.ledger.model.limits, &run.fields);
        let room = |limit: u32, same: &dyn Fn(&RunFields) -> bool| {
            let used: Vec<_> = self.facts.holding().filter(|run| same(&run.fields)).collect();
            let others = used.iter().filter(|run| run.fields.lane != Lane::Primary).count() as u32;
            (used.len() as u32) < limit && (fields.lane == Lane::Primary || others < limit - limit / 4)
        };
        let (provider, model) = (fields.model_id.provider(), &fields.model_id);
        let group = fields.concurrency_group.as_ref();
        room(limits.global, &|_| true)
            && room(limits.provider(provider), &|other| other.model_id.provider() == provider)
            && room(limits.model(model), &|other| other.model_id == *model)
            && group
                .and_then(|group| limits.group(group))
                .is_none_or(|limit| room(limit, &|other| other.concurrency_group.as_ref() == group))
            && self.is_served(model)
    }

    /// Whether a worker has a slot free for a model.
    fn is_served(&self, model: &ModelId) -> bool {
        self.workers.iter().any(|worker| {
            let of_pool = |run: &&RunFact| run.place == Place::Dispatched && run.pool.as_ref() == Some(&worker.pool);
            let its = |run: &&RunFact| run.place == Place::Running && run.worker.as_ref() == Some(&worker.id);
            let taken = self.facts.holding().filter(|run| of_pool(run) || its(run)).count();
            let wildcard = format!("{}/*", model.provider());
            let serves = worker.models.iter().any(|served| *served == wildcard || served == model.as_str());
            matches!(worker.life, Life::Running) && serves && taken < worker.slots as usize
        })
    }

    /// Whether all has come to its end, and stayed there for a while.
    pub(super) fn is_over(&mut self) -> bool {
        let quiet = self.calm() && self.facts.runs.is_empty() && !self.client.waits() && self.calls.is_empty();
        if !quiet || self.workers.iter().any(|worker| !worker.attempts.is_empty()) {
            self.quiet_since = None;
            return false;
        }
        self.now - *self.quiet_since.get_or_insert(self.now) >= QUIET_MS
    }

    /// What keeps it from being quiet.
    pub(super) fn restless(&self) -> String {
        let runs: Vec<_> = self.facts.runs.iter().map(|(id, run)| (id, run.place, &run.fields.model_id)).collect();
        let ops: Vec<_> = self.client.ops.values().filter(|op| !op.is_done()).map(|op| &op.request).collect();
        let leads: Vec<bool> = self.processes.iter().map(Process::is_open).collect();
        format!("runs {runs:?}, requests {ops:?}, who leads {leads:?}")
    }

    /// The end: exactly one leads, all have read everything, and a fold from nothing gives the same state.
    pub(super) fn finish(mut self) -> Seen {
        let leading = self.processes.iter().filter(|process| process.is_open()).count();
        assert_eq!(leading, 1, "so many lead in the calm");
        let (last, digest) = self.facts.last_digest();
        for process in &mut self.processes {
            let at = process.core.journal.node.position().number;
            assert!(at + 2 >= last, "a process is at frame {at} of {last}");
            self.facts.is_equal(at, process.core.digest());
            if at == last {
                let [theirs, ours] = [process.core.state(), self.facts.state()].map(super::folds::bytes_of);
                assert!(theirs == ours, "SCHED-7: the bytes of a process are others");
            }
        }
        assert!(self.facts.state().slots().is_idle(), "slots leak");
        self.facts.ledger.is_closed(self.facts.state());
        self.seen.contested = self.facts.ledger.contested;
        super::folds::folds_to(&self.stream, digest, self.facts.state());
        self.seen.history = digest as u64 ^ last;
        self.seen
    }
}
