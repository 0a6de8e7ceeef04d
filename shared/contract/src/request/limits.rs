//! Requests about limits and budgets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;
use crate::money::MicroUsd;
use crate::session::Actor;

/// `limits.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetLimits {
    /// Rows, at most 1,000. Default 100.
    pub limit: Option<u32>,
    /// The last name of the page before.
    pub cursor: Option<String>,
}

/// `limits.set`: all changes or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeLimits {
    /// By name, as `provider:openai`; null takes the limit away, which brings back the default.
    pub changes: BTreeMap<String, Option<u64>>,
    /// Who asks.
    pub actor: Actor,
}

/// Reply of `limits.get`, and of `limits.set` with the limits that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitsReply {
    /// Each limit that is set or in use, by name.
    pub limits: Vec<LimitRow>,
    /// Where the next page begins; null at the end.
    pub cursor: Option<String>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Its name in `limits.set`.
    pub name: String,
    /// Its number; null for a concurrency group that is in use and has none.
    pub value: Option<u64>,
    /// Runs that hold a slot of it.
    pub used: Option<u64>,
    /// Of it, slots that only PRIMARY may take.
    pub reserve: Option<u64>,
    /// What its bucket holds now; below zero after a call that used more than it had reserved.
    pub level: Option<i64>,
}

/// `budgets.get`: one of `session_id` and `wp_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetBudget {
    /// A session's budget.
    pub session_id: Option<SessionId>,
    /// A work packet's, over all its sessions.
    pub wp_id: Option<String>,
}

/// `budgets.set`: one of `session_id` and `wp_id`. Sets both amounts; what is left out is not bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// A session's budget.
    pub session_id: Option<SessionId>,
    /// A work packet's, over all its sessions.
    pub wp_id: Option<String>,
    /// Input and output tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<MicroUsd>,
    /// Who asks.
    pub actor: Actor,
}

/// Reply of `budgets.get` and `budgets.set`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetReply {
    /// Whose, as `session:<id>` or `wp:<id>`.
    pub owner: String,
    /// Input and output tokens.
    pub tokens: BudgetLine<u64>,
    /// US dollars.
    pub usd: BudgetLine<MicroUsd>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// One amount of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLine<T> {
    /// The most that may be used; null when it is not bounded.
    pub limit: Option<T>,
    /// What was used. A call whose worker was lost counts with its estimate.
    pub used: T,
    /// What dispatched and executing runs have reserved.
    pub reserved: T,
}
