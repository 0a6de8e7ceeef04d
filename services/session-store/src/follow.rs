//! The journal into the view.

use std::path::PathBuf;
use std::time::Duration;

use laneway_contract::Event;
use laneway_journal::{Committed, Fault, Follower};
use laneway_runtime::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use crate::service::StoreError;
use crate::view::{ViewError, Writer};

/// Frames that are applied at a time.
const BATCH: usize = 64;
/// How often what is applied is made to survive a power loss.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Applies frames until it is asked to stop; then everything applied is on disk.
pub(crate) async fn follow(
    mut follower: Follower<Event>,
    mut writer: Writer,
    path: PathBuf,
    stop: Shutdown,
) -> Result<(), StoreError> {
    let mut syncs = interval(SYNC_EVERY);
    syncs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let task = tokio::select! {
            biased;
            () = stop.requested() => break,
            _ = syncs.tick() => Task::Sync,
            batch = follower.next_batch(BATCH) => Task::Apply(batch.map_err(|fault| stopped(fault, &path))?),
        };
        writer = work(writer, task).await?;
    }
    work(writer, Task::Sync).await?;
    Ok(())
}

enum Task {
    Apply(Vec<Committed<Event>>),
    Sync,
}

/// The database may block on its disk, so it works on a thread of its own.
async fn work(mut writer: Writer, task: Task) -> Result<Writer, StoreError> {
    let work = move || -> Result<Writer, ViewError> {
        match task {
            Task::Apply(frames) => writer.apply(&frames)?,
            Task::Sync => {
                writer.sync()?;
            }
        }
        Ok(writer)
    };
    let worked = tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Panicked)?;
    Ok(worked?)
}

fn stopped(fault: Fault, path: &std::path::Path) -> StoreError {
    StoreError::Journal { fault, path: path.to_owned() }
}
