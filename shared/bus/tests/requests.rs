//! Requests that are sent again, and those that are not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{BOUND, Server, within};
use futures::{FutureExt, StreamExt};
use laneway_bus::async_nats::{HeaderMap, Message, Subscriber};
use laneway_bus::{Bus, Incoming, LEADER_EPOCH, Refusal, RequestOptions, Route, Service};
use laneway_contract::{ApiError, Endpoint, ErrorBody, ErrorCode, Format, MAX_BODY_BYTES, ServiceName, Subject};

type Body = serde_json::Value;

/// A responder by hand: the test says what it replies.
async fn responder(bus: &Bus) -> Subscriber {
    let requests = bus.subscribe("laneway.status".to_owned()).await.unwrap();
    bus.flush().await.unwrap();
    requests
}

async fn reply(bus: &Bus, to: &Message, epoch: Option<u64>, body: Result<&str, ErrorCode>) {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/msgpack");
    if let Some(epoch) = epoch {
        headers.insert(LEADER_EPOCH, epoch.to_string().as_str());
    }
    let body = match body {
        Ok(text) => Format::MessagePack.encode(&text).unwrap(),
        Err(code) => {
            headers.insert("Nats-Service-Error-Code", code.status().to_string().as_str());
            Format::MessagePack.encode(&ErrorBody { error: ApiError::new(code, "no") }).unwrap()
        }
    };
    bus.client().publish_with_headers(to.reply.clone().unwrap(), headers, body.into()).await.unwrap();
}

async fn ask(bus: &Bus) -> Result<String, ApiError> {
    let reply_timeout = Duration::from_millis(300);
    within(bus.request_within(Endpoint::Status, &serde_json::json!({"text": "a"}), BOUND, reply_timeout)).await
}

#[tokio::test]
async fn a_request_without_a_responder_is_answered_by_one_that_comes_later() {
    let server = Server::start();
    let bus = server.bus().await;
    let asking = laneway_runtime::spawn("ask", {
        let bus = bus.clone();
        async move { ask(&bus).await }
    });
    // Each sending after the first follows one that found nobody.
    let sent = || bus.client().statistics().out_messages.load(Ordering::Relaxed);
    let sent_twice = async {
        while sent() < 2 {
            tokio::task::yield_now().await;
        }
    };
    within(sent_twice).await;
    let other = server.bus().await;
    let told = |_: Incoming<Body>| async { Ok::<_, Refusal>("here") };
    let routes = vec![Route::new(Endpoint::Status, told)];
    let _service = Service::start(&other, ServiceName::Scheduler, "test", routes).await.unwrap();
    assert_eq!(within(asking).await.unwrap().unwrap(), "here");
}

#[tokio::test]
async fn silence_and_unavailable_are_asked_again_with_the_same_bytes() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut requests = responder(&bus).await;
    let answering = async {
        let silent = requests.next().await.unwrap();
        let second = requests.next().await.unwrap();
        reply(&bus, &second, None, Err(ErrorCode::Unavailable)).await;
        let third = requests.next().await.unwrap();
        reply(&bus, &third, None, Ok("yes")).await;
        assert_eq!((&silent.payload, &silent.payload), (&second.payload, &third.payload));
    };
    let (answer, ()) = tokio::join!(ask(&bus), within(answering));
    assert_eq!(answer.unwrap(), "yes");
}

#[tokio::test]
async fn what_was_asked_of_a_leader_is_asked_again_at_once_when_another_begins() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut requests = responder(&bus).await;
    let answering = async {
        let silent = requests.next().await.unwrap();
        bus.publish(&Subject::Leading, "7".into()).await.unwrap();
        let again = requests.next().await.unwrap();
        // An old word brings nothing: this is the answer, and no third request comes before it.
        bus.publish(&Subject::Leading, "6".into()).await.unwrap();
        reply(&bus, &again, Some(7), Ok("seven")).await;
        assert_eq!(silent.payload, again.payload);
    };
    // Nothing but the word makes the client ask again in this time.
    let nothing = serde_json::json!({});
    let asking = bus.request_within(Endpoint::Status, &nothing, 2 * BOUND, 2 * BOUND);
    let (answer, ()): (Result<String, ApiError>, ()) = within(async { tokio::join!(asking, answering) }).await;
    assert_eq!(answer.unwrap(), "seven");
    assert_eq!(requests.next().now_or_never().map(|request| request.is_some()), None);
}

#[tokio::test]
async fn the_reply_of_a_deposed_leader_is_dropped() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut requests = responder(&bus).await;
    let answering = async {
        let first = requests.next().await.unwrap();
        reply(&bus, &first, Some(5), Ok("five")).await;
        for epoch_and_body in [(4, Ok("four")), (4, Err(ErrorCode::NotFound)), (6, Ok("six"))] {
            let request = requests.next().await.unwrap();
            reply(&bus, &request, Some(epoch_and_body.0), epoch_and_body.1).await;
        }
    };
    let asking = async {
        assert_eq!(ask(&bus).await.unwrap(), "five");
        assert_eq!(ask(&bus).await.unwrap(), "six");
    };
    tokio::join!(asking, within(answering));
    assert_eq!(bus.highest_epoch(), 6);
    assert!(!bus.observe_epoch(5) && bus.observe_epoch(6));
}

#[tokio::test]
async fn other_errors_are_the_answer() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut requests = responder(&bus).await;
    for code in [ErrorCode::NotFound, ErrorCode::Overloaded, ErrorCode::Internal] {
        let answering = async {
            let request = requests.next().await.unwrap();
            reply(&bus, &request, Some(1), Err(code)).await;
        };
        let (answer, ()) = tokio::join!(ask(&bus), within(answering));
        assert_eq!(answer.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn patience_ends_in_unavailable() {
    let server = Server::start();
    let bus = server.bus().await;
    let patience = Duration::from_millis(200);
    let asking = bus.request_within::<_, Body>(Endpoint::Status, &(), patience, patience);
    let error = within(asking).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("scheduler"), "{error}");
}

#[tokio::test]
async fn a_body_over_the_bound_is_not_sent() {
    let server = Server::start();
    let bus = server.bus().await;
    let error = within(bus.request::<_, Body>(Endpoint::Status, &"x".repeat(MAX_BODY_BYTES))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn the_callers_trace_arrives_and_inside_bodies_may_be_larger() {
    let server = Server::start();
    let bus = server.bus().await;
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let size = move |incoming: Incoming<String>| {
        *note.lock().unwrap() = incoming.traceparent;
        async move { Ok::<_, Refusal>(incoming.body) }
    };
    let routes = vec![Route::new(Endpoint::LeaderPut, size)];
    let _service = Service::start(&bus, ServiceName::Scheduler, "test", routes).await.unwrap();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = RequestOptions { traceparent: Some(traceparent.to_owned()), ..RequestOptions::default() };
    let text = "x".repeat(MAX_BODY_BYTES + 1);
    let told: String = within(bus.request_with(Endpoint::LeaderPut, &text, &options)).await.unwrap();
    assert_eq!(told, text);
    assert_eq!(seen.lock().unwrap().as_deref(), Some(traceparent));
}
