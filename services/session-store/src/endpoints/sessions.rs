//! `sessions.create`, `get`, `list`, `append`, `messages` and `window`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{
    AppendMessages, AppendReply, CreateSession, Endpoint, GetSession, ListSessions, MessagePage, ReadMessages,
    ReadWindow, SessionPage, SessionReply, WindowPage,
};

use super::Store;
use crate::edge::{self, Append};

pub(super) async fn create(store: Store, incoming: Incoming<CreateSession>) -> Result<SessionReply, Refusal> {
    let (request, catalog) = (std::sync::Arc::new(incoming.body), store.catalog.clone());
    let mut prepared = store.view.prepare(move |reading| edge::create(reading, &catalog, &request)).await?;
    store.make_room(&mut prepared).await?;
    let reply: SessionReply = store.bus.request(Endpoint::LeaderCreate, &prepared).await?;
    store.see(reply.journal_seq).await;
    Ok(reply)
}

pub(super) async fn append(store: Store, incoming: Incoming<AppendMessages>) -> Result<AppendReply, Refusal> {
    let request = std::sync::Arc::new(incoming.body);
    let mut prepared = match store.view.prepare(move |reading| edge::append(reading, &request)).await? {
        Append::Repeated(reply) => return Ok(reply),
        Append::New(prepared) => prepared,
    };
    store.make_room(&mut prepared).await?;
    let reply: AppendReply = store.bus.request(Endpoint::LeaderAppend, &prepared).await?;
    store.see(reply.journal_seq).await;
    Ok(reply)
}

pub(super) async fn get(store: Store, incoming: Incoming<GetSession>) -> Result<SessionReply, Refusal> {
    let GetSession { session_id, min_seq } = incoming.body;
    Ok(store.view.read_at(min_seq, move |reading| reading.get_session(session_id)).await?)
}

pub(super) async fn list(store: Store, incoming: Incoming<ListSessions>) -> Result<SessionPage, Refusal> {
    let Incoming { body, format, .. } = incoming;
    Ok(store.view.read_at(body.min_seq, move |reading| reading.list_sessions(&body, format)).await?)
}

pub(super) async fn messages(store: Store, incoming: Incoming<ReadMessages>) -> Result<MessagePage, Refusal> {
    let Incoming { body, format, .. } = incoming;
    Ok(store.view.read_at(body.min_seq, move |reading| reading.read_messages(&body, format)).await?)
}

pub(super) async fn window(store: Store, incoming: Incoming<ReadWindow>) -> Result<WindowPage, Refusal> {
    let Incoming { body, format, .. } = incoming;
    Ok(store.view.read_at(Some(body.min_seq), move |reading| reading.read_window(&body, format)).await?)
}
