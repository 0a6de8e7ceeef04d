//! The server's side: storing, reading, delivering.

use laneway_contract::Timestamp;

use super::{Bytes, EPOCH_MS, PublishOutcome, ReadOutcome, ServerInfo, What, World};

impl World<'_> {
    pub(super) fn serve_publish(&mut self, process: usize, request: u64, expected_last: u64, bytes: &Bytes) {
        let outcome = if self.now < self.down_until {
            PublishOutcome::Failed
        } else if self.troubled(5) && expected_last == self.stream.last() {
            // A server between two states, that does not take what it should; one that has proposed a message to others,
            // refuses the same one for it, and is gone before they have it; or one that has lost them.
            PublishOutcome::WrongLast { last: (expected_last + self.rng.range(0, 3)).saturating_sub(1) }
        } else {
            let before = self.stream.last();
            let outcome = self.stream.publish(expected_last, bytes);
            if self.stream.last() > before {
                self.checks.stored(before + 1, bytes);
                self.deliver_to_all(before + 1);
            }
            outcome
        };
        self.send(process, || What::Published { request, outcome: outcome.clone() });
    }

    pub(super) fn serve_read(&mut self, process: usize, request: u64, number: u64) {
        let lag = self.stale_by();
        let up = self.now >= self.down_until;
        let outcome = if up { self.stream.read(number, lag) } else { ReadOutcome::Failed };
        self.send(process, || What::Found { request, outcome: outcome.clone() });
    }

    pub(super) fn serve_info(&mut self, process: usize, request: u64) {
        let time = Timestamp::from_millis(EPOCH_MS + self.now as i64);
        let last = self.stream.last().saturating_sub(self.stale_by());
        let info = (self.now >= self.down_until).then_some(ServerInfo { time, last });
        self.send(process, || What::Answered { request, info });
    }

    /// Delivers everything behind a frame to a reader that begins again.
    pub(super) fn replay(&mut self, process: usize, behind: u64) {
        let reader = self.processes[process].reader;
        for number in behind + 1..=self.stream.last() {
            self.send(process, || What::Deliver { reader, number });
        }
    }

    fn deliver_to_all(&mut self, number: u64) {
        for process in 0..self.processes.len() {
            let reader = self.processes[process].reader;
            self.send(process, || What::Deliver { reader, number });
        }
    }

    /// The last frame that a server shows: it may be behind.
    pub(super) fn last_shown(&mut self) -> u64 {
        self.stream.last().saturating_sub(self.stale_by())
    }

    fn stale_by(&mut self) -> u64 {
        if self.troubled(200) { self.rng.range(1, 4) } else { 0 }
    }

    fn troubled(&mut self, per_mille: u64) -> bool {
        self.profile.bad_network && !self.calm() && self.rng.per_mille(per_mille)
    }
}
