//! The right to call a provider.

use laneway_contract::{ClaimReply, ModelId};

/// One claimed attempt. Every provider call takes one, and only the scheduler's answer to a claim makes one: there is
/// no other way to a provider.
#[derive(Debug)]
pub struct Attempt {
    lease: ClaimReply,
}

impl Attempt {
    /// The attempt that the scheduler's answer to a claim gives the right to.
    #[must_use]
    pub fn claimed(lease: ClaimReply) -> Self {
        Self { lease }
    }

    /// The scheduler's answer.
    #[must_use]
    pub fn lease(&self) -> &ClaimReply {
        &self.lease
    }

    /// The attempt's number, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.lease.attempt
    }

    /// The model to call.
    #[must_use]
    pub fn model_id(&self) -> &ModelId {
        &self.lease.model_id
    }
}
