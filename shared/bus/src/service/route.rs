//! An endpoint with the function that answers it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use laneway_contract::{ApiError, Endpoint, ErrorCode, Format};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::max_bytes;

/// Handlers at a time of one endpoint.
const HANDLERS: usize = 1_024;
/// Handlers at a time of an endpoint whose callers wait for the end of a run.
const WAITING_HANDLERS: usize = 10_000;

/// A request as its handler gets it.
#[derive(Clone, Debug)]
pub struct Incoming<Q> {
    /// The body.
    pub body: Q,
    /// How the body was written, and how the reply will be.
    pub format: Format,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

/// Why a handler gives no reply body.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The caller gets this error.
    Error(ApiError),
    /// The caller gets nothing, and asks again: a deposed leader never replies.
    Silent,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// A request before its body is read.
pub(super) struct Raw {
    pub(super) body: Bytes,
    pub(super) format: Format,
    pub(super) traceparent: Option<String>,
}

type Handler = dyn Fn(Raw) -> BoxFuture<'static, Result<Vec<u8>, Refusal>> + Send + Sync;

/// An endpoint, the types of its bodies, and the function that answers it.
#[derive(Clone)]
pub struct Route {
    pub(super) endpoint: Endpoint,
    pub(super) at_most: usize,
    pub(super) request_type: &'static str,
    pub(super) reply_type: &'static str,
    pub(super) handler: Arc<Handler>,
}

impl Route {
    /// Answers an endpoint with a function of the body. The reply is written in the request's format.
    pub fn new<Q, R, F, Fut>(endpoint: Endpoint, handler: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Incoming<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Refusal>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler = move |raw: Raw| -> BoxFuture<'static, Result<Vec<u8>, Refusal>> {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let Raw { body, format, traceparent } = raw;
                let incoming =
                    Incoming { body: format.decode_at_most(&body, max_bytes(endpoint))?, format, traceparent };
                drop(body);
                let reply = format.encode(&handler(incoming).await?)?;
                if reply.len() > max_bytes(endpoint) {
                    return Err(reply_too_large(endpoint, reply.len()).into());
                }
                Ok(reply)
            })
        };
        let callers_wait = matches!(endpoint, Endpoint::RunsWait | Endpoint::RunsSubmit | Endpoint::RunsCancel);
        let at_most = if callers_wait { WAITING_HANDLERS } else { HANDLERS };
        let (request_type, reply_type) = (type_name::<Q>(), type_name::<R>());
        Self { endpoint, at_most, request_type, reply_type, handler: Arc::new(handler) }
    }

    /// Another bound for the handlers at a time; 1,024 by default, 10,000 where callers wait for the end of a run.
    /// Each part of a bundle counts. Beyond it the answer is `overloaded`.
    #[must_use]
    pub fn at_most(mut self, handlers: usize) -> Self {
        self.at_most = handlers;
        self
    }
}

fn reply_too_large(endpoint: Endpoint, bytes: usize) -> ApiError {
    let max = max_bytes(endpoint);
    let message = format!("the reply has {bytes} bytes, over the {max} of one body: ask for less at a time");
    ApiError::new(ErrorCode::Internal, message).with_details(serde_json::json!({"size": bytes, "max": max}))
}

/// The name of a type without its modules.
fn type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}
