//! What the leader answers.

pub(crate) mod attempts;
mod budgets;
pub(crate) mod inside;
mod limits;
mod registry;
pub(crate) mod runs;
pub(crate) mod sessions;
mod status;

use std::sync::Arc;

use laneway_bus::{Bus, Incoming, Refusal, Route};
use laneway_contract::{Endpoint, Epoch, SnapshotView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::desk::Desk;
use crate::edge::Change;

/// What every endpoint works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    /// For what a store replica knows.
    pub(crate) bus: Bus,
    /// The way to the task that leads.
    pub(crate) desk: Desk,
    /// The name of this process.
    pub(crate) instance: Arc<str>,
    /// The epoch in which it leads.
    pub(crate) epoch: Epoch,
    /// The newest snapshot.
    pub(crate) snapshot: watch::Receiver<Option<SnapshotView>>,
}

/// Every endpoint of [`laneway_contract::ServiceName::Scheduler`].
pub(crate) fn routes(context: &Context) -> Vec<Route> {
    let change =
        |endpoint, change: Change| asked(context, endpoint, move |desk, body| sessions::change(desk, body, change));
    vec![
        route(context, Endpoint::RunsSubmit, runs::submit),
        route(context, Endpoint::RunsGet, runs::get),
        route(context, Endpoint::RunsList, runs::list),
        route(context, Endpoint::RunsWait, runs::wait),
        route(context, Endpoint::RunsCancel, runs::cancel),
        route(context, Endpoint::RunsExplain, runs::explain),
        route(context, Endpoint::RunsDecide, runs::decide),
        route(context, Endpoint::RunsRetry, runs::retry),
        change(Endpoint::SessionsPause, Change::Pause),
        change(Endpoint::SessionsResume, Change::Resume),
        change(Endpoint::SessionsComplete, Change::Complete),
        change(Endpoint::SessionsFail, Change::Fail),
        change(Endpoint::SessionsCancel, Change::Cancel),
        route(context, Endpoint::SessionsRegistry, registry::list),
        route(context, Endpoint::LimitsGet, limits::get),
        route(context, Endpoint::LimitsSet, limits::set),
        route(context, Endpoint::BudgetsGet, budgets::get),
        route(context, Endpoint::BudgetsSet, budgets::set),
        route(context, Endpoint::Status, status::get),
        asked(context, Endpoint::AttemptsClaim, attempts::claim),
        asked(context, Endpoint::AttemptsRenew, attempts::renew),
        asked(context, Endpoint::AttemptsReport, attempts::report),
        asked(context, Endpoint::LeaderCreate, inside::create),
        asked(context, Endpoint::LeaderAppend, inside::append),
        asked(context, Endpoint::LeaderPut, inside::put),
    ]
}

fn route<Q, R, F, Fut>(context: &Context, endpoint: Endpoint, handler: F) -> Route
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Context, Incoming<Q>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Refusal>> + Send + 'static,
{
    let context = context.clone();
    Route::new(endpoint, move |incoming| handler(context.clone(), incoming))
}

/// A route whose handler needs nothing but the task that leads.
fn asked<Q, R, F, Fut>(context: &Context, endpoint: Endpoint, handler: F) -> Route
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Desk, Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Refusal>> + Send + 'static,
{
    route(context, endpoint, move |context, incoming| handler(context.desk, incoming.body))
}

/// The rows of a page: the request's, or the default.
fn rows(limit: Option<u32>) -> Result<usize, laneway_contract::ApiError> {
    use laneway_contract::{DEFAULT_PAGE, MAX_PAGE};
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit as usize);
    }
    let message = format!("limit is {limit}: it must be 1 to {MAX_PAGE}");
    let error = laneway_contract::ApiError::new(laneway_contract::ErrorCode::BadRequest, message);
    Err(error.with_details(serde_json::json!({"path": "limit"})))
}

/// A submit that nobody waits for.
pub(crate) async fn intake_submit(
    bus: &Bus,
    desk: &Desk,
    request: laneway_contract::SubmitRun,
    traceparent: Option<String>,
) -> Result<(), Refusal> {
    let known = runs::known(bus, desk, &request).await?;
    let prepared = desk.edge().submit(request, &known, traceparent)?;
    // Nobody hears how the run waits, so that is not worked out.
    runs::hand_in(desk, prepared, |_| Ok(())).await.map(drop)
}
