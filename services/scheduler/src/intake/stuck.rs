//! Messages that the server does not deliver any more. Our consumer delivers without end, so this takes somebody who has
//! given it a limit; what reaches that stays in the stream, and nobody else would take it out.

use laneway_bus::async_nats::jetstream::stream::{RawMessageErrorKind, Stream as Handle};
use laneway_bus::{Bus, PullConsumer};
use laneway_contract::{ApiError, ErrorCode, Incident, RunId, Stream, Subject};
use laneway_engine::Command;
use tokio::time::sleep;

use super::letter::{self, Message};
use super::{CONSUMER, PAUSE};
use crate::advisories::undelivered;
use crate::desk::Desk;

/// Makes a dead letter of such a message, and takes it out of the stream: its run. None when it is not there: it was
/// acknowledged after all.
pub(crate) async fn give_up(bus: &Bus, desk: &Desk, stream_seq: u64) -> Result<Option<RunId>, String> {
    let stream = stream(bus).await?;
    let found = match stream.get_raw_message(stream_seq).await {
        Ok(found) => found,
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let message = Message {
        subject: &found.subject,
        headers: Some(&found.headers),
        body: &found.payload,
        stream_seq,
        published_nanos: found.time.unix_timestamp_nanos(),
    };
    let reason = "delivered as often as its consumer may, and not decided: see max_deliver of the consumer";
    let run_id = letter::store(bus, desk, message, &ApiError::new(ErrorCode::Internal, reason)).await?;
    stream.delete_message(stream_seq).await.map_err(|error| error.to_string())?;
    Ok(Some(run_id))
}

/// Gives up all that reached the limit while nobody listened. Waits for what the leader before has in hand, so that nothing is
/// given up that may still be acknowledged.
pub(super) async fn give_up_all(bus: &Bus, desk: &Desk, consumer: &PullConsumer) -> Result<(), String> {
    let limit = consumer.cached_info().config.max_deliver;
    if limit <= 0 {
        return Ok(());
    }
    tracing::warn!(limit, "the consumer of the intake has a limit of deliveries: see laneway provision --print");
    let stream = stream(bus).await?;
    let delivered = loop {
        let info = stream.consumer_info(CONSUMER).await.map_err(|error| error.to_string())?;
        if info.num_ack_pending == 0 {
            break info.delivered.stream_sequence;
        }
        sleep(PAUSE).await;
    };
    let subject = bus.prefix().subject(&Subject::Intake);
    let mut next = 1;
    loop {
        let seq = match stream.get_first_raw_message_by_subject(&subject, next).await {
            Ok(found) if found.sequence <= delivered => found.sequence,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let run_id = give_up(bus, desk, seq).await?;
        let incident = Incident { run_id, ..undelivered(bus, Stream::Intake, CONSUMER, seq) };
        if desk.decide(Command::Note(incident), |_| Ok(())).await.is_err() {
            return Err("the leadership ended".to_owned());
        }
        next = seq + 1;
    }
}

async fn stream(bus: &Bus) -> Result<Handle<()>, String> {
    let name = bus.prefix().stream(Stream::Intake);
    bus.jetstream().get_stream_no_info(name).await.map_err(|error| error.to_string())
}
