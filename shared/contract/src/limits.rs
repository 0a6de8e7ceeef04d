//! Limits, and the numbers that bind services to each other.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, ModelId};
use crate::vocabulary::Lane;

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
/// A snapshot is taken when so many bytes of frames were written since the last, unless configured.
pub const SNAPSHOT_EVERY_BYTES: u64 = 64 * 1024 * 1024;
/// A snapshot is taken after this time, when enough was written meanwhile, unless configured: an hour.
pub const SNAPSHOT_EVERY_MS: u64 = 3_600_000;
/// Bytes of a snapshot in one message.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 * 1024;
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

/// The most limits that can be set: all of them fit into one event.
pub const MAX_LIMITS: usize = 1_000;
/// The largest number that a limit can have.
pub const MAX_LIMIT: u64 = 1_000_000_000_000;
/// The largest amount of tokens, or of millionths of a US dollar: far beyond any use, so that sums never overflow.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000;
/// The largest weight of a lane.
pub const MAX_WEIGHT: u64 = 1_000;
/// A budget warns when this part of it is used, in percent.
pub const BUDGET_WARNS_AT_PERCENT: u64 = 80;
/// Server errors of a provider in a row before its runs cool down.
pub const COOL_DOWN_AFTER: u32 = 5;
/// The longest cool-down after server errors.
pub const MAX_COOL_DOWN_MS: u64 = 60_000;

/// What runs may take: how many at a time, how many and how much in a minute, and how the lanes share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Runs that hold a slot, in all.
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
    /// Provider calls in a minute; without an entry there is no limit.
    pub requests_per_minute: PerScope,
    /// Calls that may come at once after a pause; without an entry as many as in a minute.
    pub requests_burst: PerScope,
    /// Input and output tokens in a minute; without an entry there is no limit.
    pub tokens_per_minute: PerScope,
    /// Tokens that may be used at once after a pause; without an entry as many as in a minute.
    pub tokens_burst: PerScope,
    /// Shares of the lanes relative to each other; without an entry [`Lane::weight`].
    pub lane_weights: BTreeMap<Lane, u32>,
}

/// Numbers for providers and for models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerScope {
    /// By provider.
    pub providers: BTreeMap<String, u64>,
    /// By model.
    pub models: BTreeMap<ModelId, u64>,
}

impl PerScope {
    /// The number of a provider or model, where it has one.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Option<u64> {
        match scope {
            Scope::Provider(name) => self.providers.get(name).copied(),
            Scope::Model(id) => self.models.get(id).copied(),
        }
    }

    fn put(&mut self, scope: Scope, value: Option<u64>) {
        match scope {
            Scope::Provider(name) => put(&mut self.providers, name, value),
            Scope::Model(id) => put(&mut self.models, id, value),
        }
    }

    /// Everything that has a number.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        let providers = self.providers.keys().cloned().map(Scope::Provider);
        providers.chain(self.models.keys().cloned().map(Scope::Model))
    }

    fn is_empty(&self) -> bool {
        self.providers.is_empty() && self.models.is_empty()
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// A provider, or one of its models.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// All models of a provider.
    Provider(String),
    /// One model.
    Model(ModelId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Model(id) => write!(f, "model:{id}"),
        }
    }
}

impl Scope {
    /// Whether the runs of a model are among those that it is about.
    #[must_use]
    pub fn covers(&self, model: &ModelId) -> bool {
        match self {
            Self::Provider(name) => model.provider() == name,
            Self::Model(id) => id == model,
        }
    }

    /// Parses `provider:NAME` or `model:PROVIDER/MODEL`.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { what: "scope", expected: "must be provider:NAME or model:PROVIDER/MODEL" };
        match raw.split_once(':') {
            Some(("provider", name)) if is_provider(name) => Ok(Self::Provider(name.to_owned())),
            Some(("model", id)) => ModelId::parse(id).map(Self::Model),
            _ => Err(invalid),
        }
    }
}

fn is_provider(name: &str) -> bool {
    ModelId::parse(&format!("{name}/x")).is_ok()
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
            requests_per_minute: PerScope::default(),
            requests_burst: PerScope::default(),
            tokens_per_minute: PerScope::default(),
            tokens_burst: PerScope::default(),
            lane_weights: BTreeMap::new(),
        }
    }
}

/// Makes the name of a limit of a provider or model.
type Named = fn(Scope) -> LimitName;

/// How much may be taken in a minute, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What comes back in a minute.
    pub per_minute: u64,
    /// What a bucket holds when it is full.
    pub capacity: u64,
}

/// What a token bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RateKind {
    /// Provider calls.
    Requests,
    /// Input and output tokens.
    Tokens,
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

    /// The share of a lane.
    #[must_use]
    pub fn weight(&self, lane: Lane) -> u64 {
        self.lane_weights.get(&lane).map_or(lane.weight(), |weight| u64::from(*weight).max(1))
    }

    /// The rate of a provider or model, where it has one.
    #[must_use]
    pub fn rate(&self, kind: RateKind, scope: &Scope) -> Option<Rate> {
        let (per_minute, burst) = match kind {
            RateKind::Requests => (&self.requests_per_minute, &self.requests_burst),
            RateKind::Tokens => (&self.tokens_per_minute, &self.tokens_burst),
        };
        let per_minute = per_minute.of(scope)?;
        Some(Rate { per_minute, capacity: burst.of(scope).unwrap_or(per_minute).max(1) })
    }

    /// Whether anything has a rate.
    #[must_use]
    pub fn has_rates(&self) -> bool {
        !self.requests_per_minute.is_empty() || !self.tokens_per_minute.is_empty()
    }

    /// Everything that has a rate.
    pub fn rates(&self) -> impl Iterator<Item = (RateKind, Scope)> {
        let requests = self.requests_per_minute.scopes().map(|scope| (RateKind::Requests, scope));
        requests.chain(self.tokens_per_minute.scopes().map(|scope| (RateKind::Tokens, scope)))
    }

    /// Changes one limit. None takes it away, which brings back the default.
    pub fn set(&mut self, name: LimitName, value: Option<u64>) {
        let small = value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        let default = Self::default();
        match name {
            LimitName::Global => self.global = small.unwrap_or(default.global),
            LimitName::PerProvider => self.per_provider = small.unwrap_or(default.per_provider),
            LimitName::PerModel => self.per_model = small.unwrap_or(default.per_model),
            LimitName::Scope(Scope::Provider(name)) => put(&mut self.providers, name, small),
            LimitName::Scope(Scope::Model(id)) => put(&mut self.models, id, small),
            LimitName::Group(name) => put(&mut self.groups, name, small),
            LimitName::RequestsPerMinute(scope) => self.requests_per_minute.put(scope, value),
            LimitName::RequestsBurst(scope) => self.requests_burst.put(scope, value),
            LimitName::TokensPerMinute(scope) => self.tokens_per_minute.put(scope, value),
            LimitName::TokensBurst(scope) => self.tokens_burst.put(scope, value),
            LimitName::Weight(lane) => put(&mut self.lane_weights, lane, small),
        }
    }

    /// Each limit that is set, by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<LimitName, u64> {
        let small = |limit: &u32| u64::from(*limit);
        let mut all = BTreeMap::from([
            (LimitName::Global, small(&self.global)),
            (LimitName::PerProvider, small(&self.per_provider)),
            (LimitName::PerModel, small(&self.per_model)),
        ]);
        let scoped = |name: &String| LimitName::Scope(Scope::Provider(name.clone()));
        all.extend(self.providers.iter().map(|(name, limit)| (scoped(name), small(limit))));
        let scoped = |id: &ModelId| LimitName::Scope(Scope::Model(id.clone()));
        all.extend(self.models.iter().map(|(id, limit)| (scoped(id), small(limit))));
        all.extend(self.groups.iter().map(|(name, limit)| (LimitName::Group(name.clone()), small(limit))));
        let rates: [(&PerScope, Named); 4] = [
            (&self.requests_per_minute, LimitName::RequestsPerMinute),
            (&self.requests_burst, LimitName::RequestsBurst),
            (&self.tokens_per_minute, LimitName::TokensPerMinute),
            (&self.tokens_burst, LimitName::TokensBurst),
        ];
        for (numbers, name) in rates {
            all.extend(numbers.scopes().filter_map(|scope| Some((name(scope.clone()), numbers.of(&scope)?))));
        }
        all.extend(self.lane_weights.iter().map(|(lane, weight)| (LimitName::Weight(*lane), small(weight))));
        all
    }

    /// What is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let all = self.by_name();
        if all.len() > MAX_LIMITS {
            return Err(format!("{} limits are set, and {MAX_LIMITS} is the most: take some away", all.len()));
        }
        all.iter().try_for_each(|(name, value)| {
            // IMPORTANT: events hold the name, and one that cannot be read again would make the journal unreadable.
            if LimitName::parse(&name.to_string()).as_ref() != Ok(name) {
                return Err(format!("{name:?} is no name of a limit"));
            }
            name.check(*value)
        })
    }
}

/// The name of one limit, as `global`, `provider:openai`, `model:openai/gpt-5`, `group:nightly`,
/// `tokens_per_minute:model:openai/gpt-5` or `weight:PRIMARY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LimitName {
    /// Runs that hold a slot, in all.
    Global,
    /// Of each provider without a limit of its own.
    PerProvider,
    /// Of each model without a limit of its own.
    PerModel,
    /// Of one provider or model.
    Scope(Scope),
    /// Of one concurrency group.
    Group(String),
    /// Provider calls in a minute.
    RequestsPerMinute(Scope),
    /// Provider calls at once.
    RequestsBurst(Scope),
    /// Tokens in a minute.
    TokensPerMinute(Scope),
    /// Tokens at once.
    TokensBurst(Scope),
    /// The share of a lane.
    Weight(Lane),
}

/// A limit that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitChange {
    /// Which.
    pub name: LimitName,
    /// What it was; null when it was not set.
    pub from: Option<u64>,
    /// What it is; null when it is no longer set.
    pub to: Option<u64>,
}

impl TryFrom<String> for LimitName {
    type Error = InvalidId;

    fn try_from(raw: String) -> Result<Self, InvalidId> {
        Self::parse(&raw)
    }
}

impl From<LimitName> for String {
    fn from(name: LimitName) -> Self {
        name.to_string()
    }
}

impl LimitName {
    /// Parses a name.
    pub fn parse(raw: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId {
            what: "limit",
            expected: "must be global, per_provider, per_model, provider:NAME, model:PROVIDER/MODEL, group:NAME, \
                       requests_per_minute:SCOPE, requests_burst:SCOPE, tokens_per_minute:SCOPE, tokens_burst:SCOPE \
                       (SCOPE: provider:NAME or model:PROVIDER/MODEL) or weight:LANE",
        };
        match raw {
            "global" => return Ok(Self::Global),
            "per_provider" => return Ok(Self::PerProvider),
            "per_model" => return Ok(Self::PerModel),
            _ => {}
        }
        let (kind, rest) = raw.split_once(':').ok_or_else(|| invalid.clone())?;
        let scope = || Scope::parse(rest).map_err(|_| invalid.clone());
        match kind {
            "provider" | "model" => Scope::parse(raw).map(Self::Scope).map_err(|_| invalid),
            "group" if (1..=128).contains(&rest.len()) && !rest.chars().any(char::is_control) => {
                Ok(Self::Group(rest.to_owned()))
            }
            "requests_per_minute" => scope().map(Self::RequestsPerMinute),
            "requests_burst" => scope().map(Self::RequestsBurst),
            "tokens_per_minute" => scope().map(Self::TokensPerMinute),
            "tokens_burst" => scope().map(Self::TokensBurst),
            "weight" => rest.parse().map(Self::Weight).map_err(|_| invalid),
            _ => Err(invalid),
        }
    }

    /// Whether the limit can have this number, and if not, why.
    pub fn check(&self, value: u64) -> Result<(), String> {
        let most = match self {
            Self::Weight(_) => MAX_WEIGHT,
            Self::Global | Self::PerProvider | Self::PerModel | Self::Scope(_) | Self::Group(_) => 1_000_000,
            Self::RequestsPerMinute(_) | Self::RequestsBurst(_) | Self::TokensPerMinute(_) | Self::TokensBurst(_) => {
                MAX_LIMIT
            }
        };
        // A concurrency limit of 0 holds everything back, which an operator may want; a rate or weight of 0 would never end.
        let least = u64::from(!matches!(
            self,
            Self::Global | Self::PerProvider | Self::PerModel | Self::Scope(_) | Self::Group(_)
        ));
        if (least..=most).contains(&value) { Ok(()) } else { Err(format!("{self} must be {least} to {most}")) }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::PerProvider => f.write_str("per_provider"),
            Self::PerModel => f.write_str("per_model"),
            Self::Scope(scope) => scope.fmt(f),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::RequestsPerMinute(scope) => write!(f, "requests_per_minute:{scope}"),
            Self::RequestsBurst(scope) => write!(f, "requests_burst:{scope}"),
            Self::TokensPerMinute(scope) => write!(f, "tokens_per_minute:{scope}"),
            Self::TokensBurst(scope) => write!(f, "tokens_burst:{scope}"),
            Self::Weight(lane) => write!(f, "weight:{lane}"),
        }
    }
}
