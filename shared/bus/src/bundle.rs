//! Bundles: requests of one process that wait at the same time travel to their endpoint as one message, and their answers come
//! back as one. Each is handled and answered by itself; a request that waits alone is an ordinary one.
//!
//! A body is its parts, each behind its length (4 bytes, big endian). In a reply, a byte before each length says what it is:
//! 0 the body of an answer, 1 the body of an error, 2 nothing, because the answer does not fit: it is to be asked for alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use laneway_contract::{ApiError, Endpoint, ErrorBody, ErrorCode, Format};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::Bus;
use crate::headers::{BUNDLE, header};
use crate::request::{REPLY_TIMEOUT, Reply, another};
use crate::service::MAX_INSIDE_BYTES;

/// Parts of one bundle.
pub(crate) const MAX_PARTS: usize = 128;
/// Bytes of the parts of one bundle. A larger request goes alone.
const MAX_BYTES: usize = 256 * 1024;
/// Parts of one bundle of windows: that many of 30 KiB each have their answers in one reply, and what does not fit is read twice.
const MAX_WINDOWS: usize = 32;
/// Messages of one endpoint whose reply is awaited, before further requests wait for them.
const UNDER_WAY: usize = 2;
/// A message whose reply takes longer holds up no further requests: it may be with a service that is frozen. Since each is given up
/// at its reply timeout, this bounds how many there are.
const LONG: Duration = Duration::from_millis(100);
/// So long requests are sent one by one, after a service has not known a bundle for one.
const UNBUNDLED: Duration = Duration::from_mins(1);

const ANSWER: u8 = 0;
const ERROR: u8 = 1;
const ALONE: u8 = 2;

/// Whether requests to this endpoint are bundled: those that a busy worker or store makes many of at the same time.
pub(crate) const fn is_bundled(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::AttemptsClaim | Endpoint::AttemptsReport | Endpoint::SessionsWindow | Endpoint::LeaderAppend
    )
}

/// The requests of a process that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    by_endpoint: Mutex<HashMap<Endpoint, Lane>>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Each has a caller that waits for it, and whoever gave up is left out: there are no more than callers at a time.
    waiting: VecDeque<Part>,
    under_way: usize,
    unbundled_until: Option<Instant>,
}

#[derive(Debug)]
struct Part {
    body: Bytes,
    tell: oneshot::Sender<Answer>,
}

/// What a part came to; none where it is to be asked for alone.
type Answer = Option<Reply>;

impl Bundles {
    /// Whether requests are sent together now.
    fn are_taken(&self, endpoint: Endpoint, now: Instant) -> bool {
        self.with(endpoint, |lane| lane.unbundled_until.is_none_or(|until| until <= now))
    }

    /// Takes note that a service does not know bundles.
    fn not_taken(&self, endpoint: Endpoint, now: Instant) {
        self.with(endpoint, |lane| lane.unbundled_until = Some(now + UNBUNDLED));
    }

    /// Takes a request in. True when somebody is to send now.
    fn push(&self, endpoint: Endpoint, part: Part) -> bool {
        self.with(endpoint, |lane| {
            lane.waiting.push_back(part);
            let free = lane.under_way < UNDER_WAY;
            lane.under_way += usize::from(free);
            free
        })
    }

    /// The next bundle. None when nothing waits: then one message fewer is under way.
    fn next(&self, endpoint: Endpoint) -> Option<Vec<Part>> {
        let most = if endpoint == Endpoint::SessionsWindow { MAX_WINDOWS } else { MAX_PARTS };
        self.with(endpoint, |lane| {
            let (mut parts, mut bytes) = (Vec::new(), 0);
            while let Some(part) = lane.waiting.front() {
                // Who gave up asks again, if at all.
                let gone = part.tell.is_closed();
                bytes += if gone { 0 } else { 4 + part.body.len() };
                if parts.len() == most || (bytes > MAX_BYTES && !parts.is_empty()) {
                    break;
                }
                parts.extend(lane.waiting.pop_front().filter(|_| !gone));
            }
            if parts.is_empty() {
                lane.under_way -= 1;
                return None;
            }
            Some(parts)
        })
    }

    fn with<T>(&self, endpoint: Endpoint, change: impl FnOnce(&mut Lane) -> T) -> T {
        // Whole after any panic: nothing in here panics halfway.
        let mut lanes = self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        change(lanes.entry(endpoint).or_default())
    }
}

impl Bus {
    /// Sends a request, together with others that wait at the same time.
    pub(crate) async fn bundled(&self, endpoint: Endpoint, body: Bytes, reply_timeout: Duration) -> Reply {
        let alone = |body| Box::pin(self.exchange(endpoint, body, None, None, reply_timeout));
        if !self.bundles().are_taken(endpoint, Instant::now()) {
            return alone(body).await;
        }
        let (tell, told) = oneshot::channel();
        if self.bundles().push(endpoint, Part { body: body.clone(), tell }) {
            laneway_runtime::spawn("bundles", self.clone().send_waiting(endpoint));
        }
        match timeout(reply_timeout, told).await {
            Ok(Ok(Some(reply))) => reply,
            // By who waits for it, so that nobody asks for one that gave up, nor one after the other.
            Ok(Ok(None)) => alone(body).await,
            Ok(Err(_)) | Err(_) => Reply::unanswered(endpoint, reply_timeout),
        }
    }

    /// Sends what waits, until nothing does.
    async fn send_waiting(self, endpoint: Endpoint) {
        while let Some(parts) = self.bundles().next(endpoint) {
            let mut sending = Box::pin(self.clone().send_bundle(endpoint, parts));
            if timeout(LONG, &mut sending).await.is_err() {
                laneway_runtime::spawn("long bundle", sending);
            }
        }
    }

    async fn send_bundle(self, endpoint: Endpoint, parts: Vec<Part>) {
        let mut leaders = self.leaders_of(endpoint);
        let answers = tokio::select! {
            biased;
            answers = self.answers(endpoint, &parts) => answers,
            // Whom they were sent to is gone. Each is asked again by who waits for it.
            () = another(&mut leaders) => return,
        };
        for (part, answer) in parts.into_iter().zip(answers) {
            // Who has gone away needs no answer.
            drop(part.tell.send(answer));
        }
    }

    async fn answers(&self, endpoint: Endpoint, parts: &[Part]) -> Vec<Answer> {
        if let [Part { body, .. }] = parts {
            return vec![Some(self.exchange(endpoint, body.clone(), None, None, REPLY_TIMEOUT).await)];
        }
        let bodies: Vec<&[u8]> = parts.iter().map(|part| &part.body[..]).collect();
        let reply = self.exchange(endpoint, write_parts(&bodies), None, Some(parts.len()), REPLY_TIMEOUT).await;
        let answers = match reply {
            Reply::Answered(_, body) => read_answers(&body, parts.len()),
            Reply::Again(_) => Some(vec![Some(reply); parts.len()]),
            Reply::Refused(ref error) if error.code == ErrorCode::Overloaded => Some(vec![Some(reply); parts.len()]),
            Reply::Refused(_) => None,
        };
        // IMPORTANT: a service that is older than bundles reads one as a request, and refuses it. That says nothing of any part:
        // a worker that took it for the answer to its report would drop an answer that is paid for.
        answers.unwrap_or_else(|| {
            tracing::debug!(%endpoint, "a bundle was not understood: sending one by one");
            self.bundles().not_taken(endpoint, Instant::now());
            vec![None; parts.len()]
        })
    }
}

fn write_parts(parts: &[&[u8]]) -> Bytes {
    let mut body = BytesMut::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        body.put_u32(part.len() as u32);
        body.put_slice(part);
    }
    body.freeze()
}

/// How many requests a message says that it has.
pub(crate) fn parts(headers: Option<&HeaderMap>) -> usize {
    header(headers, BUNDLE).and_then(|count| count.parse().ok()).unwrap_or(1).clamp(1, MAX_PARTS)
}

/// The parts of a request. None when the body is no bundle of so many.
pub(crate) fn read_parts(mut body: Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut parts = Vec::with_capacity(count.min(MAX_PARTS));
    while body.has_remaining() {
        parts.push(read_part(&mut body)?);
    }
    (parts.len() == count && count <= MAX_PARTS).then_some(parts)
}

fn read_part(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32().ok()? as usize;
    (length <= body.len()).then(|| body.split_to(length))
}

/// The reply to a bundle, of the answers in the order of its parts.
pub(crate) fn write_answers(answers: Vec<Result<Vec<u8>, ApiError>>) -> Vec<u8> {
    let mut body = Vec::new();
    for answer in answers {
        let (kind, part) = match answer {
            Ok(part) => (ANSWER, part),
            // An error that cannot be written is one without a text.
            Err(error) => (ERROR, Format::MessagePack.encode(&ErrorBody { error }).unwrap_or_default()),
        };
        // Room for the heads of those that come after it.
        let fits = body.len() + part.len() + 5 * MAX_PARTS <= MAX_INSIDE_BYTES;
        let (kind, part) = if fits { (kind, part) } else { (ALONE, Vec::new()) };
        body.put_u8(kind);
        body.put_u32(part.len() as u32);
        body.put_slice(&part);
    }
    body
}

/// What each part came to. None when the body is no reply to a bundle of so many.
fn read_answers(body: &Bytes, count: usize) -> Option<Vec<Answer>> {
    let mut body = body.clone();
    let mut answers = Vec::with_capacity(count);
    while body.has_remaining() {
        let kind = body.get_u8();
        let part = read_part(&mut body)?;
        answers.push(match kind {
            ANSWER => Some(Reply::Answered(Format::MessagePack, part)),
            ERROR => Some(Reply::from_error(Format::MessagePack.decode::<ErrorBody>(&part).ok()?.error)),
            ALONE => None,
            _ => return None,
        });
    }
    (answers.len() == count).then_some(answers)
}

#[cfg(test)]
mod tests;
