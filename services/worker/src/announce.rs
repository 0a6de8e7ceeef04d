//! Tells the scheduler every second what this worker serves.

use std::time::Duration;

use laneway_bus::Bus;
use laneway_contract::{ANNOUNCE_MS, Announcement, Format, Subject};
use laneway_runtime::Shutdown;
use tokio::time::MissedTickBehavior;

/// Announces until dropped; once a stop is requested, with no slots.
pub(crate) async fn announce(bus: &Bus, mut announcement: Announcement, shutdown: &Shutdown) {
    let subject = Subject::Worker(announcement.worker_id.clone());
    let mut beat = tokio::time::interval(Duration::from_millis(ANNOUNCE_MS));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested(), if announcement.slots > 0 => announcement.slots = 0,
            _ = beat.tick() => {}
        }
        let sent = match Format::MessagePack.encode(&announcement) {
            Ok(body) => bus.publish(&subject, body.into()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::warn!(error, "not announced");
        }
    }
}
