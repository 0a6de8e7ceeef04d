//! The endpoints of the store. Reads are answered from the view; changes go to the leader, and are answered when the
//! view has them too.

mod artifacts;
mod forward;
mod record;
mod sessions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use laneway_bus::{Bus, Incoming, Refusal, Route};
use laneway_contract::{Catalog, Endpoint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::view::View;

/// What every endpoint works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) view: View,
    pub(crate) bus: Bus,
    pub(crate) catalog: Arc<Catalog>,
}

/// Every endpoint of [`laneway_contract::ServiceName::SessionStore`].
pub(crate) fn routes(store: &Store) -> Vec<Route> {
    vec![
        route(store, Endpoint::SessionsCreate, sessions::create),
        route(store, Endpoint::SessionsGet, sessions::get),
        route(store, Endpoint::SessionsList, sessions::list),
        route(store, Endpoint::SessionsAppend, sessions::append),
        route(store, Endpoint::SessionsMessages, sessions::messages),
        route(store, Endpoint::SessionsWindow, sessions::window),
        route(store, Endpoint::ArtifactsPut, artifacts::put),
        route(store, Endpoint::ArtifactsGet, artifacts::get),
        route(store, Endpoint::StoreRecord, record::answer),
    ]
}

fn route<Q, R, F, Fut>(store: &Store, endpoint: Endpoint, handler: F) -> Route
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Store, Incoming<Q>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Refusal>> + Send + 'static,
{
    let store = store.clone();
    Route::new(endpoint, move |incoming| handler(store.clone(), incoming))
}
