//! Typed requests that are sent again, with the same bytes, until somebody answers.

use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message};
use backon::BackoffBuilder;
use bytes::Bytes;
use laneway_contract::{ApiError, Endpoint, Epoch, ErrorBody, ErrorCode, Format, ServiceName, Subject};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Bus;
use crate::headers::{CONTENT_TYPE, LEADER_EPOCH, TRACEPARENT, header, one_line};
use crate::service::max_bytes;

/// A frozen leader still holds its subscription: no reply in this time counts as nobody there.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// A change of leader is over in this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause before a request is sent again. Chance adds up to as much again, to this and to each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Each pause is so much longer than the one before. Near 1, so that a request comes soon after the service does, also where
/// the word of a new leader is lost: one that stops in good order is replaced within 200 ms, as a client sees it.
const PAUSE_GROWS: f32 = 1.3;
/// The longest pause, without what chance adds. Nobody there is told at once, so this is all the load of a waiting client.
const LONGEST_PAUSE: Duration = Duration::from_millis(150);

/// How long a request is tried, and what it carries.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    /// The request is sent again only within this time from the first sending; later only when another leader begins.
    pub patience: Duration,
    /// One sending is given up after this time.
    pub reply_timeout: Duration,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

impl Default for RequestOptions {
    /// 10 s and 2 s, no trace.
    fn default() -> Self {
        Self { patience: PATIENCE, reply_timeout: REPLY_TIMEOUT, traceparent: None }
    }
}

/// What came of one sending.
enum Sent<R> {
    Answered(R),
    Refused(ApiError),
    Again(ApiError),
}

/// Waits until another leader says that it answers; for ever where no leader is asked.
async fn another(leaders: &mut Option<watch::Receiver<Epoch>>) {
    let heard = match leaders {
        Some(leaders) => leaders.changed().await.is_ok(),
        None => false,
    };
    if !heard {
        std::future::pending().await
    }
}

impl Bus {
    /// Asks an endpoint, in MessagePack. Nobody there, no reply in 2 s, `unavailable` and the reply of a deposed leader are
    /// tried again with the same bytes for 10 s; then the answer is `unavailable`. What was asked of a leader is asked again
    /// at once when another begins.
    pub async fn request<Q: Serialize, R: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: &Q,
    ) -> Result<R, ApiError> {
        self.request_with(endpoint, request, &RequestOptions::default()).await
    }

    /// As [`Bus::request`], with other times.
    pub async fn request_within<Q: Serialize, R: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: &Q,
        patience: Duration,
        reply_timeout: Duration,
    ) -> Result<R, ApiError> {
        let options = RequestOptions { patience, reply_timeout, traceparent: None };
        self.request_with(endpoint, request, &options).await
    }

    /// As [`Bus::request`], with other times and a trace.
    pub async fn request_with<Q: Serialize, R: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: &Q,
        options: &RequestOptions,
    ) -> Result<R, ApiError> {
        let body = Bytes::from(Format::MessagePack.encode(request)?);
        if body.len() > max_bytes(endpoint) {
            return Err(laneway_contract::too_large(body.len()));
        }
        let mut pauses = backon::ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(FIRST_PAUSE)
            .with_factor(PAUSE_GROWS)
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .build();
        let last_sending = Instant::now() + options.patience;
        // Listened to before the first sending, so that no word is missed.
        let mut leaders = (endpoint.service() == ServiceName::Scheduler).then(|| self.leaders());
        loop {
            let sent = tokio::select! {
                biased;
                sent = self.send(endpoint, body.clone(), options) => sent,
                // Whom it was sent to is gone, and will not answer.
                () = another(&mut leaders) => continue,
            };
            let why = match sent {
                Sent::Answered(reply) => return Ok(reply),
                Sent::Refused(error) => return Err(error),
                Sent::Again(error) => error,
            };
            let pause = pauses.next().unwrap_or_default();
            if Instant::now() + pause >= last_sending {
                return Err(why);
            }
            tracing::debug!(%endpoint, %why, "sending again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = another(&mut leaders) => {}
            }
        }
    }

    async fn send<R: DeserializeOwned>(&self, endpoint: Endpoint, body: Bytes, options: &RequestOptions) -> Sent<R> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, Format::MessagePack.content_type());
        if let Some(traceparent) = &options.traceparent {
            headers.insert(TRACEPARENT, one_line(traceparent).as_str());
        }
        let subject = self.prefix().subject(&Subject::Endpoint(endpoint));
        let request = Request::new().payload(body).headers(headers).timeout(None);
        let unavailable = |what: &str| {
            let service = endpoint.service();
            ApiError::new(ErrorCode::Unavailable, format!("{endpoint}: {what}; is a {service} running?"))
        };
        // The client's own timeout does not cover the time in which a lost connection takes no more requests.
        match tokio::time::timeout(options.reply_timeout, self.client().send_request(subject, request)).await {
            Ok(Ok(reply)) => self.read(endpoint, &reply),
            Ok(Err(error)) => match error.kind() {
                RequestErrorKind::NoResponders => Sent::Again(unavailable("nobody answers this subject")),
                RequestErrorKind::TimedOut | RequestErrorKind::Other => Sent::Again(unavailable(&error.to_string())),
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    Sent::Refused(ApiError::new(ErrorCode::Internal, format!("{endpoint}: {error}")))
                }
            },
            Err(_) => Sent::Again(unavailable(&format!("no reply within {} ms", options.reply_timeout.as_millis()))),
        }
    }

    fn read<R: DeserializeOwned>(&self, endpoint: Endpoint, reply: &Message) -> Sent<R> {
        let headers = reply.headers.as_ref();
        if let Some(epoch) = header(headers, LEADER_EPOCH).and_then(|text| text.parse().ok())
            && !self.observe_epoch(epoch)
        {
            let message = format!("{endpoint}: a deposed leader answered");
            return Sent::Again(ApiError::new(ErrorCode::Unavailable, message));
        }
        let Ok(format) = Format::from_content_type(header(headers, CONTENT_TYPE)) else {
            return Sent::Refused(ApiError::new(
                ErrorCode::Internal,
                format!("{endpoint}: unknown format of the reply"),
            ));
        };
        let Some(status) = header(headers, NATS_SERVICE_ERROR_CODE) else {
            return match format.decode_at_most(&reply.payload, max_bytes(endpoint)) {
                Ok(body) => Sent::Answered(body),
                // The reply is at fault and not the request, whatever the code.
                Err(error) => Sent::Refused(ApiError::new(ErrorCode::Internal, format!("{endpoint}: reply: {error}"))),
            };
        };
        let error = match format.decode::<ErrorBody>(&reply.payload) {
            Ok(body) => body.error,
            Err(_) => foreign_error(status, header(headers, NATS_SERVICE_ERROR)),
        };
        if error.code == ErrorCode::Unavailable { Sent::Again(error) } else { Sent::Refused(error) }
    }
}

/// The error of a reply without our body: what stands between us and the service has no codes of ours.
fn foreign_error(status: &str, message: Option<&str>) -> ApiError {
    let code = if status == "503" { ErrorCode::Unavailable } else { ErrorCode::Internal };
    ApiError::new(code, message.unwrap_or("an error without a body"))
}
