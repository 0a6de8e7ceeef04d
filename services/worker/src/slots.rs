//! Slots are guards: one is free again when its guard is dropped, however the attempt ended.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    all: u32,
}

/// A slot that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new(all: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Takes every slot that is free now, waiting for the first. Empty only when the slots were closed.
    pub(crate) async fn take_free(&self) -> Vec<Slot> {
        let Ok(first) = self.free.clone().acquire_owned().await else {
            return Vec::new();
        };
        let more = std::iter::from_fn(|| self.free.clone().try_acquire_owned().ok());
        std::iter::once(first).chain(more).map(|permit| Slot { _permit: permit }).collect()
    }

    /// Waits until no slot is taken.
    pub(crate) async fn all_free(&self) {
        // An error would say that the slots were closed, which nobody does.
        self.free.acquire_many(self.all).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[tokio::test]
    async fn a_dropped_guard_frees_its_slot() {
        let slots = Slots::new(3);
        let mut taken = slots.take_free().await;
        assert_eq!(taken.len(), 3);
        taken.pop();
        assert_eq!(slots.take_free().await.len(), 1);
        drop(taken);
        slots.all_free().await;
    }
}
