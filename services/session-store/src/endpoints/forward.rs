//! Commands on their way to the leader.

use std::time::Duration;

use laneway_bus::MAX_INSIDE_BYTES;
use laneway_contract::{
    ApiError, Artifact, CommittedReply, Endpoint, Format, MessageDraft, PreparedAppend, PreparedArtifact,
    PreparedSession, too_large,
};
use serde::Serialize;

use super::Store;

/// An answered change is told to its sender after this time even if the view has not got it yet.
const OWN_VIEW_PATIENCE: Duration = Duration::from_secs(1);

/// A command that carries contents.
pub(super) trait Command: Serialize {
    fn messages(&self) -> &[MessageDraft];
    fn artifacts(&mut self) -> &mut Vec<Artifact>;
}

impl Command for PreparedSession {
    fn messages(&self) -> &[MessageDraft] {
        &self.messages
    }

    fn artifacts(&mut self) -> &mut Vec<Artifact> {
        &mut self.artifacts
    }
}

impl Command for PreparedAppend {
    fn messages(&self) -> &[MessageDraft] {
        &self.messages
    }

    fn artifacts(&mut self) -> &mut Vec<Artifact> {
        &mut self.artifacts
    }
}

impl Store {
    /// Waits until what was answered can be read here, so that create, then get, works; at most a second.
    pub(super) async fn see(&self, journal_seq: u64) {
        if !self.view.reach(journal_seq, OWN_VIEW_PATIENCE).await {
            tracing::warn!(
                journal_seq,
                applied = self.view.applied().number,
                "the view lags behind an answered change"
            );
        }
    }

    /// Makes a command fit one request: its largest contents go ahead as artifacts, which changes nothing for the command.
    pub(super) async fn make_room<C: Command>(&self, command: &mut C) -> Result<(), ApiError> {
        if bound(command) <= MAX_INSIDE_BYTES {
            return Ok(());
        }
        while let Some(artifact) = overflow(command)? {
            let _: CommittedReply = self.bus.request(Endpoint::LeaderPut, &PreparedArtifact { artifact }).await?;
        }
        Ok(())
    }
}

/// More bytes than the command takes, found without writing it.
fn bound(command: &mut impl Command) -> usize {
    let messages: usize = command.messages().iter().map(|message| 1_024 + 72 * message.attachments.len()).sum();
    let artifacts: usize = command.artifacts().iter().map(|artifact| 512 + artifact.bytes.len()).sum();
    256 * 1024 + messages + artifacts
}

/// The largest content of a command that does not fit one request, taken out of it.
pub(super) fn overflow(command: &mut impl Command) -> Result<Option<Artifact>, ApiError> {
    let size = Format::MessagePack.encode(command)?.len();
    if size <= MAX_INSIDE_BYTES {
        return Ok(None);
    }
    let artifacts = command.artifacts();
    let largest = (0..artifacts.len()).max_by_key(|at| artifacts[*at].bytes.len()).ok_or_else(|| too_large(size))?;
    Ok(Some(artifacts.swap_remove(largest)))
}
