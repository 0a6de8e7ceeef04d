//! An HTTP server that says what a test tells it to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::watch;

/// What the server does next in its answer.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Sends an event.
    Event(String),
    /// Breaks the connection.
    Cut,
    /// Sends nothing more, and does not end.
    Hang,
}

/// The `Authorization` header and the body of the last request.
type Seen = Arc<Mutex<Option<(Option<String>, serde_json::Value)>>>;

/// The server.
pub(super) struct Server {
    address: SocketAddr,
    seen: Seen,
    closed: watch::Receiver<bool>,
}

#[derive(Clone)]
struct Script {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    acts: Vec<Act>,
    body: Option<String>,
    seen: Seen,
    closed: watch::Sender<bool>,
}

impl Server {
    /// Answers with these events.
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        Self::serve(200, vec![("content-type", "text/event-stream")], acts, None).await
    }

    /// Answers with this status and text.
    pub(super) async fn refusing(status: u16, headers: Vec<(&'static str, &'static str)>, text: &str) -> Self {
        Self::serve(status, headers, Vec::new(), Some(format!(r#"{{"error":{{"message":"{text}"}}}}"#))).await
    }

    async fn serve(
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        acts: Vec<Act>,
        body: Option<String>,
    ) -> Self {
        let seen = Seen::default();
        let (sender, closed) = watch::channel(false);
        let script = Script { status, headers, acts, body, seen: seen.clone(), closed: sender };
        let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(script);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[allow(clippy::disallowed_methods, reason = "a server of a test, not of the product")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen, closed }
    }

    /// The endpoint to configure.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    /// The `Authorization` header and the body of the last request.
    pub(super) fn request(&self) -> (Option<String>, serde_json::Value) {
        self.seen.lock().unwrap().clone().expect("a request came")
    }

    /// Whether the client has gone while an answer was being sent.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the client has gone.
    pub(super) async fn closed(&mut self) {
        self.closed.wait_for(|closed| *closed).await.unwrap();
    }
}

async fn answer(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    *script.seen.lock().unwrap() = Some((authorization, serde_json::from_slice(&body).unwrap()));
    let mut response = Response::builder().status(StatusCode::from_u16(script.status).unwrap());
    for (name, value) in script.headers {
        response = response.header(name, value);
    }
    let body = match script.body {
        Some(text) => Body::from(text),
        None => Body::from_stream(Watched { inner: events(script.acts), closed: script.closed }),
    };
    response.body(body).unwrap()
}

fn events(acts: Vec<Act>) -> BoxStream<'static, std::io::Result<String>> {
    stream::iter(acts)
        .then(|act| async {
            // Each event is a write of its own, as from a model.
            tokio::task::yield_now().await;
            match act {
                Act::Event(data) => Ok(format!("data: {data}\n\n")),
                Act::Cut => Err(std::io::Error::other("cut")),
                Act::Hang => std::future::pending().await,
            }
        })
        .boxed()
}

/// Tells when the server drops the answer.
struct Watched {
    inner: BoxStream<'static, std::io::Result<String>>,
    closed: watch::Sender<bool>,
}

impl Stream for Watched {
    type Item = std::io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.closed.send_replace(true);
    }
}

/// A chunk with text.
pub(super) fn text(text: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
}

/// The chunk with the usage.
pub(super) fn usage(input: u32, output: u32) -> String {
    format!(
        r#"{{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":9,
        "prompt_tokens_details":{{"cached_tokens":3}},"completion_tokens_details":{{"reasoning_tokens":1}}}}}}"#
    )
    .replace('\n', "")
}
