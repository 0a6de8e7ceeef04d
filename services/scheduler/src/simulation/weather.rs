//! What goes wrong in a seed, and how much of it: each seed has some kinds of trouble and not others.

use laneway_contract::{LimitName, Limits, MemoryLimits, Scope};
use laneway_journal::testing::Rng;

/// The trouble of a seed. Chances are per mille.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) late: u64,
    /// The longest delay of a late message, in milliseconds.
    pub(super) latest_ms: u64,
    pub(super) outages: bool,
    /// Store replicas are away at times.
    pub(super) stores_away: bool,
    pub(super) kills: bool,
    pub(super) pauses: bool,
    pub(super) stops: bool,
    pub(super) breaks: bool,
    pub(super) clock_steps: bool,
    pub(super) worker_kills: bool,
    pub(super) worker_pauses: bool,
    /// Cables of processes and workers are out at times.
    pub(super) cuts: bool,
    /// Leaders take snapshots, and processes begin with them.
    pub(super) snapshots: bool,
    /// What is stored of snapshots is damaged at times.
    pub(super) rot: bool,
    /// Some runs kill their workers.
    pub(super) poison: bool,
    /// Deaths and pauses between two steps of a process, in a hundred thousand.
    pub(super) trips: u64,
    /// How much a scheduler holds in memory.
    pub(super) memory: MemoryLimits,
    /// The limits of the configuration.
    pub(super) limits: Limits,
    /// Providers and models have rates.
    pub(super) rates: bool,
    /// Sessions and work packets have budgets.
    pub(super) budgets: bool,
    /// When nothing goes wrong any more, in true milliseconds.
    pub(super) calm_at: u64,
}

impl Weather {
    pub(super) fn of(rng: &mut Rng) -> Self {
        let mut chance = |per_mille| rng.per_mille(per_mille);
        let bad_network = chance(700);
        let (outages, kills, pauses, stops) = (chance(300), chance(500), chance(500), chance(300));
        let (breaks, clock_steps) = (chance(200), chance(300));
        let (worker_kills, worker_pauses) = (chance(500), chance(500));
        let (poison, cuts) = (chance(80), chance(300));
        let trips = if chance(500) { 60 } else { 0 };
        let (stores_away, little_memory) = (chance(500), chance(500));
        let network = if bad_network { rng.range(5, 80) } else { 0 };
        let memory = MemoryLimits::default();
        let memory = if little_memory {
            MemoryLimits { sessions: rng.range(0, 11) as usize, keys: rng.range(0, 21) as usize, ..memory }
        } else {
            memory
        };
        let (snapshots, rot) = (rng.per_mille(500), rng.per_mille(300));
        let (rates, budgets) = (rng.per_mille(400), rng.per_mille(400));
        Self {
            lost: network,
            repeated: network,
            late: network,
            latest_ms: [500, 8_000][rng.range(0, 2) as usize],
            outages,
            stores_away,
            kills,
            pauses,
            stops,
            breaks,
            clock_steps,
            worker_kills,
            worker_pauses,
            cuts,
            snapshots,
            rot,
            poison,
            trips,
            memory,
            limits: limits(rng, rates),
            rates,
            budgets,
            calm_at: rng.range(15_000, 75_000),
        }
    }
}

fn limits(rng: &mut Rng, rates: bool) -> Limits {
    let mut limits = Limits { global: 4, per_provider: 3, per_model: 2, ..Limits::default() };
    for _ in 0..if rates { rng.range(1, 5) } else { 0 } {
        let (name, value) = rate(rng);
        limits.set(name, Some(value));
    }
    limits
}

/// A rate or burst: small enough that runs wait for it, and large enough that all come to their end.
pub(super) fn rate(rng: &mut Rng) -> (LimitName, u64) {
    let scope = ["provider:echo", "model:echo/a", "model:echo/b", "provider:ollama"][rng.range(0, 4) as usize];
    let scope = Scope::parse(scope).unwrap();
    match rng.range(0, 4) {
        0 => (LimitName::RequestsPerMinute(scope), rng.range(30, 200)),
        1 => (LimitName::RequestsBurst(scope), rng.range(1, 6)),
        2 => (LimitName::TokensPerMinute(scope), rng.range(5_000, 30_000)),
        _ => (LimitName::TokensBurst(scope), rng.range(200, 3_000)),
    }
}
