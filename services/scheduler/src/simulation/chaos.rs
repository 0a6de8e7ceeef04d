//! What befalls processes and workers: death, frost, stops, broken turns, clocks that are set.

use super::process::Life;
use super::world::{Actor, What, World};
use crate::desk::Order;
use crate::reader::Read;

impl World {
    /// Something may happen to an actor.
    pub(super) fn chaos(&mut self, actor: Actor) {
        if self.calm() {
            return self.calm_down(actor);
        }
        let next = self.now + self.rng.range(300, 6_000);
        self.at(next.min(self.weather.calm_at), actor, What::Chaos);
        if self.weather.cuts && self.rng.per_mille(120) {
            self.cuts(actor);
        }
        match actor {
            Actor::Process(index) => self.befalls_process(index),
            Actor::Worker(index) => self.befalls_worker(index),
            Actor::Client | Actor::Server | Actor::Store(_) => {}
        }
    }

    fn befalls_process(&mut self, index: usize) {
        if self.weather.outages && self.rng.per_mille(100) {
            self.down_until = self.now + self.rng.range(100, 9_000);
        }
        if self.weather.clock_steps && self.rng.per_mille(300) {
            let span = [2_000, 30_000, 30_000, 600_000][self.rng.range(0, 4) as usize];
            self.processes[index].clocks.wall_offset_ms = self.rng.signed(span);
        }
        if !self.processes[index].is_running() {
            return;
        }
        if self.weather.snapshots && self.rng.per_mille(300) {
            self.takes_snapshot(index);
            if self.weather.rot && self.rng.per_mille(200) {
                self.objects.damage(&mut self.rng);
            }
        }
        let me = Actor::Process(index);
        if self.weather.pauses && self.rng.per_mille(200) {
            self.freezes(me);
        } else if self.weather.kills && self.rng.per_mille(150) {
            self.falls(me);
        } else if self.weather.stops && self.rng.per_mille(120) {
            let process = &mut self.processes[index];
            process.core.send_waiters_away();
            if let Some(reception) = &mut process.reception {
                reception.open = false;
            }
            process.stopping = true;
            self.at(self.now, me, What::Wake);
        } else if self.weather.breaks && self.rng.per_mille(100) && self.processes[index].core.leads() {
            self.seen.broken += 1;
            let panics = |_: Result<&mut crate::desk::Scene<'_>, _>| -> crate::desk::Release {
                // Without the hook, which would fill the log.
                std::panic::resume_unwind(Box::new("broken on purpose"))
            };
            let order = Order { check: None, command: None, finish: Box::new(panics), read: Read::default() };
            self.processes[index].core.take([order]);
            self.at(self.now, me, What::Wake);
        } else if self.rng.per_mille(100) {
            self.at(self.now, me, What::Reconnect);
        }
    }

    fn befalls_worker(&mut self, index: usize) {
        let me = Actor::Worker(index);
        if !matches!(self.workers[index].life, Life::Running) {
            return;
        }
        if self.weather.worker_pauses && self.rng.per_mille(150) {
            self.freezes(me);
        } else if self.weather.worker_kills && self.rng.per_mille(150) {
            self.falls(me);
        } else if self.rng.per_mille(60) {
            self.worker_leaves(index);
        }
    }

    pub(super) fn freezes(&mut self, actor: Actor) {
        match actor {
            Actor::Process(index) => self.processes[index].life = Life::Frozen(Vec::new()),
            Actor::Worker(index) => self.workers[index].life = Life::Frozen(Vec::new()),
            Actor::Client | Actor::Server | Actor::Store(_) => return,
        }
        // Long enough, at times, for a lease of an attempt to end and another to begin.
        let (longest, end) = match actor {
            Actor::Worker(_) => (60_000, u64::MAX),
            _ => (12_000, self.weather.calm_at),
        };
        let frozen = self.rng.range(100, longest);
        self.at((self.now + frozen).min(end), actor, What::Thaw);
    }

    /// The cable of an actor is out for a while: of a worker, at times, for longer than its leases.
    fn cuts(&mut self, actor: Actor) {
        let (cut_until, longest) = match actor {
            Actor::Process(index) => (&mut self.processes[index].cut_until, 12_000),
            Actor::Worker(index) => (&mut self.workers[index].cut_until, 60_000),
            Actor::Client | Actor::Server | Actor::Store(_) => return,
        };
        let end = (self.now + self.rng.range(100, longest)).min(self.weather.calm_at).max(*cut_until);
        *cut_until = end;
        if matches!(actor, Actor::Process(_)) {
            self.at(end, actor, What::Reconnect);
        }
    }

    /// An actor dies, and starts again after a while.
    pub(super) fn falls(&mut self, actor: Actor) {
        match actor {
            Actor::Process(index) => self.processes[index].die(),
            Actor::Worker(index) => self.worker_dies(index),
            Actor::Client | Actor::Server | Actor::Store(_) => return,
        }
        let dead = self.rng.range(1, 8_000);
        self.at((self.now + dead).min(self.weather.calm_at.max(self.now + 1)), actor, What::Start);
    }

    pub(super) fn start(&mut self, actor: Actor) {
        match actor {
            // It reads nothing before its cable is in.
            Actor::Process(index) if self.now < self.processes[index].cut_until => {
                self.at(self.processes[index].cut_until, actor, What::Start);
            }
            Actor::Process(index) if matches!(self.processes[index].life, Life::Dead) => {
                let now = self.now;
                self.processes[index].start(index, &mut self.rng, now);
                self.begin_reading(index);
                self.go_on(index);
            }
            Actor::Worker(index) if matches!(self.workers[index].life, Life::Dead) => self.worker_starts(index),
            Actor::Process(_) | Actor::Worker(_) | Actor::Client | Actor::Server | Actor::Store(_) => {}
        }
    }

    fn calm_down(&mut self, actor: Actor) {
        // A worker stays frozen as long as it does: what it says when it comes back may be late.
        if let Actor::Process(index) = actor {
            self.processes[index].clocks.wall_offset_ms = self.rng.signed(2_000);
            self.thaw(actor);
        }
    }

    /// A frozen actor goes on. What came meanwhile reaches it in any order: timers may be seen before sockets.
    pub(super) fn thaw(&mut self, actor: Actor) {
        let life = match actor {
            Actor::Process(index) => &mut self.processes[index].life,
            Actor::Worker(index) => &mut self.workers[index].life,
            Actor::Client | Actor::Server | Actor::Store(_) => return,
        };
        if !matches!(life, Life::Frozen(_)) {
            return;
        }
        let Life::Frozen(mut inbox) = std::mem::replace(life, Life::Running) else { return };
        if let Actor::Worker(index) = actor {
            // Whatever it was doing is over as soon as it looks at a clock.
            self.worker_looks(index);
        }
        let lives = self.life_of(actor);
        while !inbox.is_empty() {
            let what = inbox.swap_remove(self.rng.range(0, inbox.len() as u64) as usize);
            let life = match actor {
                Actor::Process(index) => &mut self.processes[index].life,
                Actor::Worker(index) => &mut self.workers[index].life,
                Actor::Client | Actor::Server | Actor::Store(_) => return,
            };
            match life {
                Life::Running => self.receive(actor, what),
                Life::Frozen(again) => again.push(what),
                Life::Dead => {}
            }
            if self.life_of(actor) != lives {
                return;
            }
        }
        match actor {
            Actor::Process(index) => {
                self.processes[index].wake_at = None;
                self.go_on(index);
            }
            Actor::Worker(index) => self.worker_looks(index),
            Actor::Client | Actor::Server | Actor::Store(_) => {}
        }
    }
}
