//! Messages that the server does not deliver any more. Our consumer delivers without end, so this takes somebody who has
//! given it a limit; what reaches that stays in the stream, and nobody else would take it out.

use std::collections::BTreeSet;

use laneway_bus::PullConsumer;
use laneway_bus::async_nats::jetstream::stream::{RawMessageErrorKind, Stream as Handle};
use laneway_contract::{ApiError, ErrorCode, Incident, RunId, Stream, Subject, Timestamp};
use laneway_engine::Command;
use tokio::time::sleep;

use super::letter::Message;
use super::{CONSUMER, Intake, PAUSE};
use crate::advisories::undelivered;
use crate::desk::Answered;
use crate::replica;

/// How far the clock of the server may be from that of the journal, in milliseconds.
const CLOCKS_APART_MS: i64 = 120_000;

impl Intake {
    /// Makes a dead letter of such a message, unless its run was accepted, and takes it out of the stream: the run. None when the
    /// message is not there: it was acknowledged after all.
    pub(crate) async fn give_up(&self, stream_seq: u64) -> Result<Option<RunId>, String> {
        // What is decided meanwhile may be accepted.
        if self.memory.is_in_hand(stream_seq) {
            return Err("it is still being decided".to_owned());
        }
        let stream = self.stream().await?;
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
        let run_id = message.run();
        // Its acknowledgement was lost.
        let accepted = self.was_accepted(run_id, &message).await?;
        if !accepted {
            let reason = "delivered as often as its consumer may, and not decided: see max_deliver of the consumer";
            self.keep(message, &ApiError::new(ErrorCode::Internal, reason)).await?;
        }
        stream.delete_message(stream_seq).await.map_err(|error| error.to_string())?;
        self.memory.forget(stream_seq);
        Ok(Some(run_id))
    }

    /// Whether a run is known by this id: live, ended, or in the history of a store replica.
    async fn was_accepted(&self, run_id: RunId, message: &Message<'_>) -> Result<bool, String> {
        let published = Timestamp::from_millis((message.published_nanos / 1_000_000) as i64);
        let look = self.desk.look(move |scene| {
            let known = scene.state.run(run_id).is_some() || scene.state.ended_run(run_id).is_some();
            // What has ended since it was published is remembered, unless ended runs are forgotten up to then.
            let is_sure = known
                || scene.state.forgotten_until().is_none_or(|until| until.plus_millis(CLOCKS_APART_MS) < published);
            Ok((known, is_sure))
        });
        let Ok(Answered { body: (known, is_sure), journal_seq }) = look.await else {
            return Err("the leadership ended".to_owned());
        };
        if is_sure {
            return Ok(known);
        }
        match replica::ended_run(&self.bus, run_id, false, journal_seq).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives up, again and again, what reached a limit while nobody listened. Never ends.
    pub(super) async fn sweep(&self, consumer: &PullConsumer) {
        let config = &consumer.cached_info().config;
        if config.max_deliver <= 0 {
            return std::future::pending().await;
        }
        let limit = config.max_deliver;
        tracing::warn!(limit, "the consumer of the intake has a limit of deliveries: see laneway provision --print");
        loop {
            if let Err(reason) = self.give_up_all().await {
                tracing::warn!(reason, "what the intake's consumer does not deliver any more is looked for again");
            }
            // By then all that somebody else had in hand, or that was put off, has come again.
            sleep(config.ack_wait.max(self.memory.longest_wait()) + PAUSE).await;
        }
    }

    /// Gives up what the server has delivered and does not count as waiting for an acknowledgement.
    async fn give_up_all(&self) -> Result<(), String> {
        let stream = self.stream().await?;
        // IMPORTANT: counted before the messages are: one that is acknowledged in between is then missing and not too many.
        let info = stream.consumer_info(CONSUMER).await.map_err(|error| error.to_string())?;
        let there = self.delivered(&stream, info.delivered.stream_sequence).await?;
        let given_up = there.len().saturating_sub(info.num_ack_pending);
        let unseen: Vec<u64> = there.difference(&self.memory.seen()).copied().collect();
        // Else some of them are in the hand of somebody, or wait to be delivered again, and nobody knows which.
        if unseen.len() > given_up {
            return Ok(());
        }
        for seq in unseen {
            let run_id = self.give_up(seq).await?;
            let incident = Incident { run_id, ..undelivered(&self.bus, Stream::Intake, CONSUMER, seq) };
            if self.desk.decide(Command::Note(incident), |_| Ok(())).await.is_err() {
                return Err("the leadership ended".to_owned());
            }
        }
        Ok(())
    }

    /// The messages that are there, up to this one.
    async fn delivered(&self, stream: &Handle<()>, last: u64) -> Result<BTreeSet<u64>, String> {
        let subject = self.bus.prefix().subject(&Subject::Intake);
        let mut there = BTreeSet::new();
        let mut next = 1;
        loop {
            match stream.get_first_raw_message_by_subject(&subject, next).await {
                Ok(found) if found.sequence <= last => there.insert(found.sequence),
                Ok(_) => return Ok(there),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(there),
                Err(error) => return Err(error.to_string()),
            };
            next = there.last().map_or(1, |last| last + 1);
        }
    }

    async fn stream(&self) -> Result<Handle<()>, String> {
        let name = self.bus.prefix().stream(Stream::Intake);
        self.bus.jetstream().get_stream_no_info(name).await.map_err(|error| error.to_string())
    }
}
