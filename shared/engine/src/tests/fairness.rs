//! How far from its fair share anybody gets, over long times with bursts, long calls and thousands of keys.
//!
//! `just fairness` prints the figures of `docs/scheduling.md`. A share is counted in dispatches.
#![allow(clippy::print_stdout, reason = "figures")]

use std::collections::{BTreeMap, BTreeSet};

use laneway_contract::*;

use super::draw::Draw;
use super::world::*;
use crate::*;

/// A deployment where calls last as long as they are drawn to, and every session asks again at once.
struct Shop {
    world: World,
    draw: Draw,
    /// Calls under way, by their ends.
    calls: BTreeSet<(Timestamp, RunId, Epoch)>,
    /// What the next run of a session is submitted with.
    customers: BTreeMap<SessionId, (Lane, String)>,
    served_lanes: BTreeMap<Lane, u64>,
    served_keys: BTreeMap<String, u64>,
    dispatches: u64,
}

impl Shop {
    fn new(seed: u64, slots: u32) -> Self {
        let mut world = World::new();
        world.announce("w1", "pool", 10_000);
        world.set_limits(Limits { global: slots, per_provider: slots, per_model: slots, ..Limits::default() });
        Self {
            world,
            draw: Draw(seed),
            calls: BTreeSet::new(),
            customers: BTreeMap::new(),
            served_lanes: BTreeMap::new(),
            served_keys: BTreeMap::new(),
            dispatches: 0,
        }
    }

    fn customer(&mut self, lane: Lane, key: &str) -> SessionId {
        let session = self.world.create("echo/a");
        self.customers.insert(session, (lane, key.to_owned()));
        session
    }

    fn ask(&mut self, session: SessionId) {
        let (lane, key) = self.customers[&session].clone();
        let mut command = self.world.submit_command(Some(session));
        command.lane = lane;
        command.fairness_key = Some(key);
        command.timeout_ms = MAX_TIMEOUT_MS;
        let events = self.world.run(&Command::Submit(Box::new(command))).unwrap();
        self.begin(&events);
    }

    /// Claims what was dispatched and counts whose it was.
    fn begin(&mut self, events: &[Event]) {
        let dispatched = events.iter().filter_map(|event| match event {
            Event::RunDispatched { run_id, lane, .. } => Some((*run_id, *lane)),
            _ => None,
        });
        for (run, lane) in dispatched.collect::<Vec<_>>() {
            let key = self.world.state.run(run).unwrap().record.fields.fairness_key.clone();
            *self.served_keys.entry(key).or_default() += 1;
            *self.served_lanes.entry(lane).or_default() += 1;
            self.dispatches += 1;
            let epoch = self.world.claim(run);
            let millis = 1 + self.draw.heavy_tailed(20_000) as i64;
            self.calls.insert((self.world.now.plus_millis(millis), run, epoch));
        }
    }

    /// Lets the next call end; its session asks again if it has nothing queued.
    fn end_one(&mut self) -> SessionId {
        let (at, run, epoch) = self.calls.pop_first().expect("a call under way");
        self.world.now = self.world.now.max(at);
        for (_, run, epoch) in &self.calls {
            self.world.hints.give_lease(*run, *epoch, self.world.now);
        }
        let session = self.world.state.run(run).unwrap().record.session_id;
        let result = AttemptResult::Completed { finish: Finish::Stop };
        let events = self.world.report(run, epoch, result).unwrap();
        self.begin(&events);
        session
    }
}

#[test]
fn lanes_share_by_their_weights() {
    let mut shop = Shop::new(1, 64);
    for lane in Lane::ALL {
        for n in 0..100 {
            let session = shop.customer(*lane, &format!("k{n}"));
            (0..3).for_each(|_| shop.ask(session));
        }
    }
    (shop.served_lanes, shop.dispatches) = (BTreeMap::new(), 0);
    let weights: u64 = Lane::ALL.iter().map(|lane| lane.weight()).sum();
    let mut worst: f64 = 0.0;
    while shop.dispatches < 20_000 {
        let session = shop.end_one();
        shop.ask(session);
        for lane in Lane::ALL {
            let fair = shop.dispatches as f64 * lane.weight() as f64 / weights as f64;
            worst = worst.max((shop.served_lanes.get(lane).copied().unwrap_or(0) as f64 - fair).abs());
        }
    }
    println!("lanes: {} dispatches at 64 slots, at most {worst:.1} from the share of the weights", shop.dispatches);
    for lane in Lane::ALL {
        println!("  {lane}: {} of {}", shop.served_lanes[lane], shop.dispatches);
    }
    assert!(worst <= 2.0, "{worst} dispatches from the fair share");
}

#[test]
fn thousands_of_keys_take_turns() {
    const KEYS: usize = 3_000;
    let mut shop = Shop::new(2, 16);
    // One session a key, two, or eight: how many there are makes no difference while there is always one that waits.
    for n in 0..KEYS {
        for _ in 0..[1, 2, 8][n % 3] {
            let session = shop.customer(Lane::Primary, &format!("k{n}"));
            (0..2).for_each(|_| shop.ask(session));
        }
    }
    shop.served_keys.clear();
    let (begun, mut worst, mut looks) = (shop.dispatches, 0, 0);
    while shop.dispatches < begun + 5 * KEYS as u64 {
        let session = shop.end_one();
        // Bursts: now and then a session asks for much more at once.
        let times = if shop.draw.one_in(20) { 20 } else { 1 };
        (0..times).for_each(|_| shop.ask(session));
        if shop.dispatches.is_multiple_of(100) && shop.served_keys.len() == KEYS {
            let (most, least) = (shop.served_keys.values().max(), shop.served_keys.values().min());
            worst = worst.max(most.unwrap() - least.unwrap());
            looks += 1;
        }
    }
    assert_eq!(shop.served_keys.len(), KEYS, "a key was never served");
    assert!(looks > 100, "looked {looks} times");
    println!("keys: {KEYS} keys, {} dispatches at 16 slots, no two more than {worst} apart", shop.dispatches - begun);
    assert!(worst <= 1, "{worst} turns apart");
}

/// Dispatches of an owner with `sessions` sessions in `keys` keys, and of one with one session, at one slot.
fn against_one(keys: usize, sessions: usize) -> (u64, u64) {
    let mut shop = Shop::new(3, 1);
    for key in 0..keys {
        for _ in 0..sessions {
            let session = shop.customer(Lane::Primary, &format!("many/k{key}"));
            shop.ask(session);
        }
    }
    let single = shop.customer(Lane::Primary, "one/k");
    (0..50).for_each(|_| shop.ask(single));
    shop.served_keys.clear();
    for _ in 0..1_000 {
        let session = shop.end_one();
        shop.ask(session);
    }
    let of = |owner: &str| shop.served_keys.iter().filter(|(key, _)| key.starts_with(owner)).map(|(_, n)| n).sum();
    (of("many"), of("one"))
}

#[test]
fn an_owner_gains_nothing_by_having_more_keys_or_sessions() {
    for (what, keys, sessions) in [("1,000 keys", 1_000, 1), ("1,000 sessions in one key", 1, 1_000)] {
        let (many, one) = against_one(keys, sessions);
        println!("owners: one with {what} got {many}, one with a single session {one}");
        assert!(many.abs_diff(one) <= 1, "{many} and {one}");
    }
}
