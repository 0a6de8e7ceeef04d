//! From a message to its reply, whatever the message is and whatever its handler does.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use laneway_contract::{ApiError, ErrorBody, ErrorCode, Format};

use super::route::Raw;
use super::{Refusal, Served, Shared};
use crate::bundle;
use crate::headers::{BUNDLE, CONTENT_TYPE, LEADER_EPOCH, TRACEPARENT, header, one_line};

/// Runs the handler and replies.
pub(super) async fn answer(shared: &Shared, served: &Served, mut message: Message) {
    let headers = message.headers.as_ref();
    let format = Format::from_content_type(header(headers, CONTENT_TYPE));
    if let (Ok(Format::MessagePack), Some(count)) = (&format, header(headers, BUNDLE)) {
        let count = count.parse().ok();
        let body = std::mem::take(&mut message.payload);
        return answer_bundle(shared, served, &message, body, count).await;
    }
    let (answer, took) = match format.clone() {
        Ok(format) => {
            let traceparent = header(headers, TRACEPARENT).map(ToOwned::to_owned);
            handle(served, Raw { body: std::mem::take(&mut message.payload), format, traceparent }).await
        }
        Err(error) => (Err(Refusal::Error(error)), Duration::ZERO),
    };
    let format = format.unwrap_or_default();
    let error = match answer {
        Ok(body) => {
            reply(shared, &message, format, HeaderMap::new(), body).await;
            None
        }
        Err(Refusal::Error(error)) => {
            reply_error(shared, &message, format, &error).await;
            Some(error)
        }
        Err(Refusal::Silent) => None,
    };
    served.count(took, error.as_ref());
}

/// Runs the handler of each part of a bundle, all at the same time, and replies once.
async fn answer_bundle(shared: &Shared, served: &Served, message: &Message, body: Bytes, count: Option<usize>) {
    let Some(parts) = count.and_then(|count| bundle::read_parts(body, count)) else {
        let text = format!("not a bundle of at most {} requests: send one request in a message", bundle::MAX_PARTS);
        return refuse(shared, served, message, ApiError::new(ErrorCode::BadRequest, text)).await;
    };
    let raw = |body| Raw { body, format: Format::MessagePack, traceparent: None };
    let handled = join_all(parts.into_iter().map(|body| handle(served, raw(body)))).await;
    let mut answers = Vec::with_capacity(handled.len());
    for (answer, took) in handled {
        let answer = match answer {
            Ok(body) => Some(Ok(body)),
            Err(Refusal::Error(error)) => Some(Err(error)),
            Err(Refusal::Silent) => None,
        };
        served.count(took, answer.as_ref().and_then(|answer| answer.as_ref().err()));
        answers.push(answer);
    }
    // One that may not answer any more says nothing to anybody: all of them are asked again.
    let Some(answers) = answers.into_iter().collect() else { return };
    let body = bundle::write_answers(answers);
    reply(shared, message, Format::MessagePack, HeaderMap::new(), body).await;
}

/// Runs the handler, whatever it does: what it gives, and how long it took.
async fn handle(served: &Served, raw: Raw) -> (Result<Vec<u8>, Refusal>, Duration) {
    let started = Instant::now();
    // The call itself is inside too: a handler may panic before it gives its future.
    let handled = AssertUnwindSafe(async { (served.route.handler)(raw).await }).catch_unwind().await;
    let answer = handled.unwrap_or_else(|_| {
        tracing::error!(endpoint = %served.route.endpoint, "a handler panicked");
        Err(Refusal::Error(ApiError::new(ErrorCode::Internal, "a fault of the service, which is in its log")))
    });
    (answer, started.elapsed())
}

/// Replies with an error without running the handler.
pub(super) async fn refuse(shared: &Shared, served: &Served, message: &Message, error: ApiError) {
    let format = Format::from_content_type(header(message.headers.as_ref(), CONTENT_TYPE)).unwrap_or_default();
    reply_error(shared, message, format, &error).await;
    served.count(Duration::ZERO, Some(&error));
}

async fn reply_error(shared: &Shared, message: &Message, format: Format, error: &ApiError) {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SERVICE_ERROR_CODE, error.code.status().to_string().as_str());
    headers.insert(NATS_SERVICE_ERROR, one_line(&error.to_string()).as_str());
    // An error without its body still has its headers.
    let body = format.encode(&ErrorBody { error: error.clone() }).unwrap_or_default();
    reply(shared, message, format, headers, body).await;
}

/// IMPORTANT: the only way out, so that nothing leaves a leader past its gate.
async fn reply(shared: &Shared, message: &Message, format: Format, mut headers: HeaderMap, body: Vec<u8>) {
    let Some(inbox) = message.reply.clone() else { return };
    if let Some(gate) = &shared.gate {
        match gate() {
            Some(epoch) => headers.insert(LEADER_EPOCH, epoch.to_string().as_str()),
            None => return,
        }
    }
    headers.insert(CONTENT_TYPE, format.content_type());
    if let Err(error) = shared.bus.client().publish_with_headers(inbox, headers, body.into()).await {
        tracing::debug!(%error, "a reply was not sent");
    }
}
