//! Raising the format of the journal: once all who read it read a newer one, its leader writes that.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use laneway_bus::{Bus, BusError, READS_FORMAT};
use laneway_contract::ServiceName;
use laneway_journal::Formats;
use tokio::time::{sleep, timeout};

/// Between two times that everybody is asked, and before the first.
const PAUSE: Duration = Duration::from_secs(5);
/// How long answers are collected.
const ANSWERS: Duration = Duration::from_secs(1);
/// Those who read the journal.
const READERS: [ServiceName; 3] = [ServiceName::Scheduler, ServiceName::SessionStore, ServiceName::FlightRecorder];

/// What the leader asks the others while it could write a newer format.
pub(crate) struct Raising {
    bus: Bus,
    formats: Formats,
    asking: Option<BoxFuture<'static, u16>>,
}

impl Raising {
    pub(crate) fn new(bus: Bus, formats: Formats) -> Self {
        Self { bus, formats, asking: None }
    }

    /// The newest format that this program writes and all instances that are there read, asked again and again while the
    /// journal has an older one: `in_force`. Who is not there now and does not read it stops cleanly when it comes.
    pub(crate) async fn read_by_all(&mut self, in_force: u16) -> u16 {
        let newest = self.formats.newest;
        if in_force >= newest {
            return std::future::pending().await;
        }
        let bus = &self.bus;
        let asking = self.asking.get_or_insert_with(|| Box::pin(ask_until_newer(bus.clone(), in_force, newest)));
        let format = asking.await;
        self.asking = None;
        format
    }
}

async fn ask_until_newer(bus: Bus, in_force: u16, newest: u16) -> u16 {
    loop {
        sleep(PAUSE).await;
        match least_read(&bus).await {
            Ok(Some(format)) if format > in_force => return format.min(newest),
            Ok(least) => tracing::debug!(in_force, newest, least, "the journal keeps its format"),
            Err(error) => tracing::warn!(%error, "nobody can be asked which format of the journal they read"),
        }
    }
}

/// The oldest of the newest formats that instances read; none where nobody answers.
async fn least_read(bus: &Bus) -> Result<Option<u16>, BusError> {
    let inbox = bus.client().new_inbox();
    let mut answers = bus.subscribe(inbox.clone()).await?;
    for service in READERS {
        let ping = format!("$SRV.PING.{}-{service}", bus.prefix().as_str());
        bus.client().publish_with_reply(ping, inbox.clone(), bytes::Bytes::new()).await.map_err(BusError::Publish)?;
    }
    let mut least = None;
    let collect = async {
        while let Some(answer) = answers.next().await {
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            // The endpoints of a leader answer too; its process speaks for them.
            let format = answer["metadata"][READS_FORMAT].as_str().and_then(|format| format.parse::<u16>().ok());
            least = [least, format].into_iter().flatten().min();
        }
    };
    // Nobody knows how many there are: whoever says nothing for so long is not there.
    timeout(ANSWERS, collect).await.unwrap_or_default();
    Ok(least)
}
