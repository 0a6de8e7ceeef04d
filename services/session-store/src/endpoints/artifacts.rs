//! `artifacts.put` and `get`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ArtifactReply, CommittedReply, Endpoint, GetArtifact, PreparedArtifact, PutArtifact, PutReply};

use super::Store;
use crate::edge;

pub(super) async fn put(store: Store, incoming: Incoming<PutArtifact>) -> Result<PutReply, Refusal> {
    let request = incoming.body;
    let (new, mut reply) = store.view.prepare(move |reading| edge::put(reading, request.clone())).await?;
    if let Some(artifact) = new {
        let committed: CommittedReply = store.bus.request(Endpoint::LeaderPut, &PreparedArtifact { artifact }).await?;
        reply.journal_seq = committed.journal_seq;
        store.see(reply.journal_seq).await;
    }
    Ok(reply)
}

pub(super) async fn get(store: Store, incoming: Incoming<GetArtifact>) -> Result<ArtifactReply, Refusal> {
    let Incoming { body: GetArtifact { artifact_id, min_seq }, format, .. } = incoming;
    Ok(store.view.read_at(min_seq, move |reading| reading.get_artifact(artifact_id, format)).await?)
}
