//! `store.record`: what the leader asks for its own answers.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{AskStore, StoreAnswer};

use super::Store;

pub(super) async fn answer(store: Store, incoming: Incoming<AskStore>) -> Result<StoreAnswer, Refusal> {
    let Incoming { body, format, .. } = incoming;
    Ok(store.view.read_at(Some(body.min_seq), move |reading| reading.ask(&body, format)).await?)
}
