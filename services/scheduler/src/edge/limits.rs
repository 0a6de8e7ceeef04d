//! Limits and budgets, by name.

use laneway_contract::{
    ApiError, BudgetOwner, ChangeLimits, ErrorCode, LimitName, SessionId, SetBudget as BudgetRequest,
};
use laneway_engine::{LimitsChange, SetBudget, SetLimits};
use serde_json::json;

use super::check::{self, bad};

/// The most limits of one change.
const MAX_CHANGES: usize = 100;

/// `limits.set`: all changes or none.
pub(crate) fn change_limits(request: ChangeLimits) -> Result<SetLimits, ApiError> {
    let ChangeLimits { changes, actor } = request;
    check::actor(&actor, "")?;
    check::count("changes", changes.len(), 1, MAX_CHANGES)?;
    let changes = changes.into_iter().map(|(raw, value)| change(&raw, value)).collect::<Result<Vec<_>, _>>()?;
    Ok(SetLimits { change: LimitsChange::Single(changes), actor })
}

fn change(raw: &str, value: Option<u64>) -> Result<(LimitName, Option<u64>), ApiError> {
    // What is no name of a limit may be anything, so that it is not said again.
    let name = LimitName::parse(raw).map_err(|error| {
        bad("changes", format_args!("has an entry that names no limit: its name {}", error.expected))
    })?;
    if let Some(value) = value {
        name.check(value).map_err(|reason| {
            let path = format!("changes.{name}");
            ApiError::new(ErrorCode::BadRequest, format!("changes.{reason}")).with_details(json!({"path": path}))
        })?;
    }
    Ok((name, value))
}

/// `budgets.set`. Sets both amounts.
pub(crate) fn set_budget(request: BudgetRequest) -> Result<SetBudget, ApiError> {
    let BudgetRequest { session_id, wp_id, tokens, usd, actor } = request;
    check::actor(&actor, "")?;
    check::amounts(("tokens", tokens), ("usd", usd))?;
    Ok(SetBudget { owner: budget_owner(session_id, wp_id)?, tokens, usd, actor })
}

/// Whose budget is meant: exactly one.
pub(crate) fn budget_owner(session_id: Option<SessionId>, wp_id: Option<String>) -> Result<BudgetOwner, ApiError> {
    match (session_id, wp_id) {
        (Some(session_id), None) => Ok(BudgetOwner::Session(session_id)),
        (None, Some(wp_id)) => {
            check::name("wp_id", &wp_id)?;
            Ok(BudgetOwner::WorkPacket(wp_id))
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(ApiError::new(ErrorCode::BadRequest, "send exactly one of session_id and wp_id"))
        }
    }
}
