//! What a reconnect sends, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use laneway_contract::{
    Announcement, Catalog, Event, Format, HashKey, LEADER_LEASE_MS, MemoryLimits, PoolId, RunId, WorkerId,
};
use laneway_journal::clock::{BootMillis, Now};
use laneway_journal::node::{self, Action, Node, ServerInfo};
use laneway_journal::testing::Stream;
use laneway_journal::{Formats, NotLeading, Position, TurnDraft};
use uuid::Uuid;

use super::*;
use crate::edge::{Edge, KnownArtifacts};
use crate::leader::core::{Effects, Settings};

const KEY: [u8; 32] = [7; 32];
const START: u64 = 1_000_000;

/// A node alone on its stream.
struct Alone {
    node: Node<Event, Effects>,
    now: Now,
}

impl Log for Alone {
    fn begin(&mut self) -> Option<TurnDraft<Event>> {
        self.node.begin(self.now)
    }

    fn push(&mut self, turn: TurnDraft<Event>, effects: Effects) -> Result<(), NotLeading> {
        self.node.push(turn, effects)
    }

    fn now(&mut self) -> Timestamp {
        self.node.time(self.now)
    }

    fn may_answer(&mut self) -> bool {
        self.node.may_answer(self.now)
    }

    fn position(&self) -> Position {
        self.node.position()
    }

    fn backlog(&self) -> usize {
        self.node.backlog()
    }

    fn abandon(&mut self) {
        self.node.abandon(self.now);
    }
}

struct Process {
    core: Core<Alone>,
    stream: Stream,
    /// Frames that are on their way.
    published: Option<(u64, Bytes)>,
    sent: Vec<Outgoing>,
}

impl Process {
    fn new() -> Self {
        let of_node = node::Settings {
            instance: "one".to_owned(),
            process: Uuid::from_u128(1),
            new_journal: Some(Uuid::from_u128(2)),
            lease_ms: LEADER_LEASE_MS,
            margin_ms: 500,
            formats: Formats::default(),
        };
        let settings = Settings {
            limits: None,
            memory: MemoryLimits::default(),
            new_hash_key: HashKey::from_bytes(KEY),
            digest_every_frames: 1_000,
        };
        let now = at(START);
        let core = Core::new(Alone { node: Node::new(of_node, now), now }, settings);
        Self { core, stream: Stream::new(false), published: None, sent: Vec::new() }
    }

    /// Goes on until there is nothing to do but to wait for the server, or for a time to come.
    fn go_on(&mut self) {
        loop {
            let now = self.core.journal.now;
            if self.core.journal.may_answer() {
                self.core.take_office(|message| self.sent.push(message));
                self.core.act().unwrap();
            }
            match self.core.journal.node.poll(now) {
                Some(Action::Publish { bytes, expected_last }) => self.published = Some((expected_last, bytes)),
                Some(Action::Read { number }) => {
                    let outcome = self.stream.read(number, 0);
                    self.core.journal.node.on_read(now, outcome);
                }
                Some(Action::CheckClock) => {
                    let info = ServerInfo { time: now.wall, last: self.stream.last() };
                    self.core.journal.node.on_server_info(now, Some(info));
                }
                Some(Action::Apply(committed)) => self.core.follow(&committed).unwrap(),
                Some(Action::Lead { epoch, .. }) => self.core.elected(epoch),
                Some(Action::Release(released)) => {
                    for effects in released.effects {
                        effects.release(released.number, |message| self.sent.push(message));
                    }
                }
                Some(Action::Deposed | Action::Stopped | Action::ClockOff { .. } | Action::Fault(_)) => {
                    panic!("does not lead any more")
                }
                None => return,
            }
        }
    }

    /// The server stores what is on its way; false when nothing is.
    fn store(&mut self) -> bool {
        let Some((expected_last, bytes)) = self.published.take() else { return false };
        let outcome = self.stream.publish(expected_last, &bytes);
        self.core.journal.node.on_published(self.core.journal.now, &outcome);
        self.go_on();
        true
    }

    fn lead(&mut self) {
        for passed in (0..60_000).step_by(100) {
            self.core.journal.now = at(START + passed);
            self.go_on();
            while self.store() {}
            if self.core.leads() {
                return;
            }
        }
        panic!("does not lead");
    }
}

fn at(millis: u64) -> Now {
    Now { boot: BootMillis::from_millis(millis), wall: Timestamp::from_millis(1_700_000_000_000 + millis as i64) }
}

fn submit() -> Order {
    let edge = Edge::new(HashKey::from_bytes(KEY), Arc::new(Catalog::built_in().unwrap()));
    let body = serde_json::json!({"run_id": RunId::generate(), "model_id": "echo/default", "input": "hello"});
    let request = Format::Json.decode(body.to_string().as_bytes()).unwrap();
    let prepared = edge.submit(request, &KnownArtifacts::new(), None).unwrap();
    Order::alone(Command::Submit(prepared.submit), Box::new(|_| Box::new(|_| {})))
}

#[test]
fn a_reconnect_sends_no_dispatch_that_is_not_in_the_journal() {
    let mut process = Process::new();
    process.lead();
    process.core.heard(Announcement {
        worker_id: WorkerId::parse("w1").unwrap(),
        pool: PoolId::parse("hands").unwrap(),
        models: vec!["echo/*".to_owned()],
        slots: 1,
    });
    process.core.take([submit()]);
    process.go_on();
    assert_eq!(process.core.state().dispatched().count(), 1, "decided, and on its way into the journal");
    let mut mended = Vec::new();
    process.core.reconnected(|message| mended.push(message));
    process.go_on();
    assert_eq!((mended, &process.sent[..]), (vec![Outgoing::Mend], &[][..]));
    while process.store() {}
    // With its turn, and again.
    let [Outgoing::Dispatch(_, first), Outgoing::Dispatch(_, again)] = &process.sent[..] else {
        panic!("{:?}", process.sent)
    };
    assert_eq!(first, again);
}
