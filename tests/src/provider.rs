//! A provider outside Laneway: an HTTP server with OpenAI's chat completions that counts what is in flight.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::load::Told;

/// What the provider has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls in flight now, by name: `all`, `provider:<p>`, `model:<p>/<m>`, `session:<id>`.
    pub now: BTreeMap<String, u32>,
    /// The most that were in flight at a time, by the same names.
    pub most: BTreeMap<String, u32>,
    /// The last user message of each call, in order of arrival.
    pub calls: Vec<String>,
    /// The bodies of all calls.
    pub bodies: Vec<Value>,
    /// When each call arrived.
    pub arrived_at: Vec<Instant>,
    /// When connections were closed before the answer was sent.
    pub closed_early_at: Vec<Instant>,
}

/// A call that was sent and closed at once is seen here so much later at most. One that is sent after the end, for a dispatch
/// that comes again or a lease that is over, is later.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A provider, listening until it is dropped.
#[derive(Clone, Debug)]
pub struct CountingProvider {
    /// What it has seen.
    pub seen: Arc<Mutex<Seen>>,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Seen>>,
    tokens: u32,
    delay: Duration,
}

impl CountingProvider {
    /// Starts one that answers with `tokens` pieces, one after each `delay`.
    pub async fn start(tokens: u32, delay: Duration) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Shared { seen: seen.clone(), tokens, delay };
        let app = axum::Router::new()
            .route("/{provider}/v1/chat/completions", axum::routing::post(complete))
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        #[allow(clippy::disallowed_methods, reason = "tests have no runtime of ours")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { seen, port }
    }

    /// The text of a `laneway.toml` section for a provider that is this server.
    #[must_use]
    pub fn section(&self, provider: &str) -> String {
        format!(
            "[providers.{provider}]\nkind = \"openai\"\nbackend = \"LOCAL\"\nendpoint = \"http://127.0.0.1:{}/{provider}/v1/\"\n\
             [providers.{provider}.defaults]\ncapabilities = {{ streaming = true, multi_turn = true, structured_output = true }}\n\n",
            self.port
        )
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic in a handler").clone()
    }
}

impl CountingProvider {
    /// How many calls have arrived.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.seen.lock().expect("no panic in a handler").arrived_at.len()
    }

    /// No session ever had two calls in flight, and all sessions together never more than `limit`.
    pub fn limits_held(&self, limit: u32) {
        for (name, most) in &self.seen().most {
            let limit = if name.starts_with("session:") { 1 } else { limit };
            assert!(*most <= limit, "{name}: {most} calls at a time, and {limit} is the limit");
        }
    }

    /// No call of a run has arrived after somebody was told that the run has ended.
    pub fn nothing_ended_was_called(&self, told: &[Told]) {
        let seen = self.seen();
        let last: BTreeMap<&str, Instant> = seen.calls.iter().map(String::as_str).zip(seen.arrived_at).collect();
        for (input, ended) in told.iter().flat_map(|client| &client.ended) {
            let called = last.get(input.as_str());
            assert!(called.is_none_or(|called| *called <= *ended + ON_ITS_WAY), "{input:?} was called after its end");
        }
    }

    /// How many connections were closed early.
    #[must_use]
    pub fn closings(&self) -> usize {
        self.seen.lock().expect("no panic in a handler").closed_early_at.len()
    }

    /// When the call after the first `known` ones arrived.
    pub async fn next_arrival(&self, known: usize) -> Instant {
        self.until(|seen| seen.arrived_at.get(known).copied()).await
    }

    /// When the connection after the first `known` ones was closed early.
    pub async fn next_closing(&self, known: usize) -> Instant {
        self.until(|seen| seen.closed_early_at.get(known).copied()).await
    }

    async fn until(&self, find: impl Fn(&Seen) -> Option<Instant>) -> Instant {
        for _ in 0..100_000 {
            let found = find(&self.seen.lock().expect("no panic in a handler"));
            if let Some(at) = found {
                return at;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        panic!("nothing came within a minute");
    }
}

/// Counts a call out when its answer has been sent or its connection was closed.
struct InFlight {
    seen: Arc<Mutex<Seen>>,
    names: Vec<String>,
    done: bool,
}

impl InFlight {
    /// The answer was sent to its end.
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Ok(mut seen) = self.seen.lock() {
            for name in &self.names {
                *seen.now.entry(name.clone()).or_default() -= 1;
            }
            if !self.done {
                seen.closed_early_at.push(Instant::now());
            }
        }
    }
}

async fn complete(
    State(shared): State<Shared>,
    Path(provider): Path<String>,
    _headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let text = |message: &Value| {
        let content = &message["content"];
        content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default().to_owned()
    };
    let last = messages.iter().rev().find(|message| message["role"] == "user").map(text).unwrap_or_default();
    if last.contains("please fail") {
        let body = json!({"error": {"message": format!("cannot answer: {last}"), "type": "server_error"}});
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let session =
        last.split_whitespace().find(|word| word.starts_with("session:")).unwrap_or("session:none").to_owned();
    let names = vec!["all".to_owned(), format!("provider:{provider}"), format!("model:{provider}/{model}"), session];
    let in_flight = {
        let mut seen = shared.seen.lock().expect("no panic in a handler");
        for name in &names {
            let now = seen.now.entry(name.clone()).or_default();
            *now += 1;
            let now = *now;
            let most = seen.most.entry(name.clone()).or_default();
            *most = (*most).max(now);
        }
        seen.arrived_at.push(Instant::now());
        seen.calls.push(last.clone());
        seen.bodies.push(body.clone());
        InFlight { seen: shared.seen.clone(), names, done: false }
    };
    let pieces = futures::stream::unfold((0, in_flight), move |(n, in_flight)| {
        let (tokens, delay, last) = (shared.tokens, shared.delay, last.clone());
        async move {
            if n > tokens {
                in_flight.finish();
                return None;
            }
            tokio::time::sleep(delay).await;
            let chunk = if n < tokens {
                event(
                    &json!({"choices": [{"index": 0, "delta": {"content": format!("{last} ")}, "finish_reason": null}]}),
                )
            } else {
                let usage = json!({"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens});
                let end = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
                let usage = event(&json!({"choices": [], "usage": usage}));
                format!("{end}{usage}data: [DONE]\n\n")
            };
            Some((Ok::<_, Infallible>(Bytes::from(chunk)), (n + 1, in_flight)))
        }
    });
    let headers = [("content-type", "text/event-stream")];
    (headers, Body::from_stream(pieces.boxed())).into_response()
}

fn event(piece: &Value) -> String {
    let mut piece = piece.clone();
    piece["id"] = json!("c1");
    piece["object"] = json!("chat.completion.chunk");
    piece["model"] = json!("m");
    format!("data: {piece}\n\n")
}
