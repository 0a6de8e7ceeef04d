//! Concurrency limits and the numbers that bind services to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::ModelId;

/// A worker's right to an attempt lasts this long from the claim or the last renewal.
pub const ATTEMPT_LEASE_MS: u64 = 30_000;
/// A worker stops its call this long after it sent the last claim or renewal that was answered.
pub const WORKER_BOUND_MS: u64 = 27_000;
/// A worker renews this often.
pub const RENEW_MS: u64 = 5_000;
/// A dispatch that nobody has claimed returns to the queue after this time.
pub const DISPATCH_CLAIM_MS: u64 = 5_000;
/// A leader may act this long after it sent its last acknowledged frame.
pub const LEADER_LEASE_MS: u64 = 3_000;
/// The longest election of a stream leader in NATS.
pub const NATS_ELECTION_MS: u64 = 9_000;
/// Workers announce themselves this often.
pub const ANNOUNCE_MS: u64 = 1_000;
/// A worker that was not heard for this long takes no new runs.
pub const ANNOUNCE_VALID_MS: u64 = 3_000;
/// A run is poisoned after this many attempts whose worker was lost.
pub const POISON_AFTER: u32 = 3;
/// Queued runs in all.
pub const MAX_QUEUED: u64 = 1_000_000;
/// Queued runs of one session.
pub const MAX_QUEUED_PER_SESSION: u64 = 1_000;
/// Retries that a run may ask for.
pub const MAX_RETRIES: u32 = 20;
/// The longest time of one attempt: a day.
pub const MAX_TIMEOUT_MS: u64 = 86_400_000;

const _: () = assert!(3 * RENEW_MS < WORKER_BOUND_MS && WORKER_BOUND_MS < ATTEMPT_LEASE_MS);
const _: () = assert!(ATTEMPT_LEASE_MS >= 2 * (LEADER_LEASE_MS + NATS_ELECTION_MS + 1_000));
const _: () = assert!(2 * ANNOUNCE_MS < ANNOUNCE_VALID_MS);

/// The most runs that may hold a slot at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// In all.
    pub global: u32,
    /// Of each provider that is not in `providers`.
    pub per_provider: u32,
    /// Of each model that is not in `models`.
    pub per_model: u32,
    /// Of single providers.
    pub providers: BTreeMap<String, u32>,
    /// Of single models.
    pub models: BTreeMap<ModelId, u32>,
    /// Of concurrency groups; a group that is not here has no limit of its own.
    pub groups: BTreeMap<String, u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            global: 8,
            per_provider: 4,
            per_model: 2,
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// The limit of a provider.
    #[must_use]
    pub fn provider(&self, provider: &str) -> u32 {
        self.providers.get(provider).copied().unwrap_or(self.per_provider)
    }

    /// The limit of a model.
    #[must_use]
    pub fn model(&self, model: &ModelId) -> u32 {
        self.models.get(model).copied().unwrap_or(self.per_model)
    }

    /// The limit of a group, where it has one.
    #[must_use]
    pub fn group(&self, group: &str) -> Option<u32> {
        self.groups.get(group).copied()
    }

    /// Each limit by name, as `global`, `provider:openai`, `model:openai/gpt-5`, `group:nightly`.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u32> {
        let mut all = BTreeMap::from([
            ("global".to_owned(), self.global),
            ("per_provider".to_owned(), self.per_provider),
            ("per_model".to_owned(), self.per_model),
        ]);
        all.extend(self.providers.iter().map(|(name, limit)| (format!("provider:{name}"), *limit)));
        all.extend(self.models.iter().map(|(name, limit)| (format!("model:{name}"), *limit)));
        all.extend(self.groups.iter().map(|(name, limit)| (format!("group:{name}"), *limit)));
        all
    }
}
