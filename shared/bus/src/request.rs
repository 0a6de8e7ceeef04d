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
use crate::bundle::is_bundled;
use crate::headers::{BUNDLE, CONTENT_TYPE, LEADER_EPOCH, TRACEPARENT, header, one_line};
use crate::service::max_bytes;

/// A frozen leader still holds its subscription: no reply in this time counts as nobody there.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
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
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A body.
    Answered(Format, Bytes),
    /// An error that asking again does not change.
    Refused(ApiError),
    /// Nobody has answered, or not for now.
    Again(ApiError),
}

impl Reply {
    /// An error that came as an answer.
    pub(crate) fn from_error(error: ApiError) -> Self {
        if error.code == ErrorCode::Unavailable { Self::Again(error) } else { Self::Refused(error) }
    }

    /// No reply came in time.
    pub(crate) fn unanswered(endpoint: Endpoint, within: Duration) -> Self {
        Self::unavailable(endpoint, &format!("no reply within {} ms", within.as_millis()))
    }

    fn unavailable(endpoint: Endpoint, what: &str) -> Self {
        let service = endpoint.service();
        let message = format!("{endpoint}: {what}; is a {service} running?");
        Self::Again(ApiError::new(ErrorCode::Unavailable, message))
    }
}

/// Waits until another leader says that it answers; for ever where no leader is asked.
pub(crate) async fn another(leaders: &mut Option<watch::Receiver<Epoch>>) {
    let heard = match leaders {
        Some(leaders) => leaders.changed().await.is_ok(),
        None => false,
    };
    if !heard {
        std::future::pending::<()>().await;
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
        let mut leaders = self.leaders_of(endpoint);
        loop {
            let reply = tokio::select! {
                biased;
                reply = self.send(endpoint, body.clone(), options) => reply,
                // Whom it was sent to is gone, and will not answer.
                () = another(&mut leaders) => continue,
            };
            let why = match reply {
                // The reply is at fault and not the request, whatever the code.
                Reply::Answered(format, body) => {
                    let read = format.decode_at_most(&body, max_bytes(endpoint));
                    return read
                        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("{endpoint}: reply: {error}")));
                }
                Reply::Refused(error) => return Err(error),
                Reply::Again(error) => error,
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

    /// The words of new leaders, where a leader is asked.
    pub(crate) fn leaders_of(&self, endpoint: Endpoint) -> Option<watch::Receiver<Epoch>> {
        (endpoint.service() == ServiceName::Scheduler).then(|| self.leaders())
    }

    async fn send(&self, endpoint: Endpoint, body: Bytes, options: &RequestOptions) -> Reply {
        match &options.traceparent {
            None if is_bundled(endpoint) => self.bundled(endpoint, body, options.reply_timeout).await,
            // On the heap: it would lie in the future of every caller.
            traceparent => {
                let traceparent = traceparent.as_deref();
                Box::pin(self.exchange(endpoint, body, traceparent, None, options.reply_timeout)).await
            }
        }
    }

    /// Sends a body once: a request, or a bundle of so many.
    pub(crate) async fn exchange(
        &self,
        endpoint: Endpoint,
        body: Bytes,
        traceparent: Option<&str>,
        bundle: Option<usize>,
        reply_timeout: Duration,
    ) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, Format::MessagePack.content_type());
        if let Some(traceparent) = traceparent {
            headers.insert(TRACEPARENT, one_line(traceparent).as_str());
        }
        if let Some(parts) = bundle {
            headers.insert(BUNDLE, parts.to_string().as_str());
        }
        let subject = self.prefix().subject(&Subject::Endpoint(endpoint));
        let request = Request::new().payload(body).headers(headers).timeout(None);
        let unavailable = |what: &str| Reply::unavailable(endpoint, what);
        // The client's own timeout does not cover the time in which a lost connection takes no more requests.
        match tokio::time::timeout(reply_timeout, self.client().send_request(subject, request)).await {
            Ok(Ok(reply)) => self.read(endpoint, reply),
            Ok(Err(error)) => match error.kind() {
                RequestErrorKind::NoResponders => unavailable("nobody answers this subject"),
                RequestErrorKind::TimedOut | RequestErrorKind::Other => unavailable(&error.to_string()),
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    Reply::Refused(ApiError::new(ErrorCode::Internal, format!("{endpoint}: {error}")))
                }
            },
            Err(_) => Reply::unanswered(endpoint, reply_timeout),
        }
    }

    fn read(&self, endpoint: Endpoint, reply: Message) -> Reply {
        let headers = reply.headers.as_ref();
        if let Some(epoch) = header(headers, LEADER_EPOCH).and_then(|text| text.parse().ok())
            && !self.observe_epoch(epoch)
        {
            let message = format!("{endpoint}: a deposed leader answered");
            return Reply::Again(ApiError::new(ErrorCode::Unavailable, message));
        }
        let Ok(format) = Format::from_content_type(header(headers, CONTENT_TYPE)) else {
            return Reply::Refused(ApiError::new(
                ErrorCode::Internal,
                format!("{endpoint}: unknown format of the reply"),
            ));
        };
        let Some(status) = header(headers, NATS_SERVICE_ERROR_CODE) else {
            return Reply::Answered(format, reply.payload);
        };
        Reply::from_error(match format.decode::<ErrorBody>(&reply.payload) {
            Ok(body) => body.error,
            Err(_) => foreign_error(status, header(headers, NATS_SERVICE_ERROR)),
        })
    }
}

/// The error of a reply without our body: what stands between us and the service has no codes of ours.
fn foreign_error(status: &str, message: Option<&str>) -> ApiError {
    let code = if status == "503" { ErrorCode::Unavailable } else { ErrorCode::Internal };
    ApiError::new(code, message.unwrap_or("an error without a body"))
}
