//! Requests that travel together: each gets its own answer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Server, within};
use futures::StreamExt;
use futures::future::join_all;
use laneway_bus::{Bus, Incoming, Refusal, Route, Service};
use laneway_contract::{ApiError, Endpoint, ErrorCode, ServiceName};
use serde_json::json;

/// A service whose claims answer with the number that they are asked with; what `answer` says of a number comes first.
async fn service(bus: &Bus, answer: impl Fn(u64) -> Result<String, Refusal> + Send + Sync + 'static) -> Service {
    let answer = Arc::new(answer);
    let route = Route::new(Endpoint::AttemptsClaim, move |request: Incoming<u64>| {
        let answer = Arc::clone(&answer);
        async move { answer(request.body) }
    });
    Service::start(bus, ServiceName::Scheduler, "test", vec![route]).await.unwrap()
}

async fn ask(bus: &Bus, number: u64) -> Result<String, ApiError> {
    within(bus.request(Endpoint::AttemptsClaim, &number)).await
}

#[tokio::test]
async fn requests_that_wait_together_are_few_messages_and_each_is_answered_by_itself() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let refused = |number| Refusal::Error(ApiError::new(ErrorCode::StaleEpoch, format!("not {number}")));
    let _service = service(&other, move |number| match number % 3 {
        0 => Err(refused(number)),
        1 if number % 2 == 0 => panic!("as the test wants it"),
        _ => Ok(format!("yes {number}")),
    })
    .await;
    // Asked again until the service is there. The server takes what comes on one connection in its order.
    assert_eq!(ask(&bus, 2).await.unwrap(), "yes 2");
    let mut messages = bus.subscribe("laneway.attempts.claim".to_owned()).await.unwrap();
    let answers = join_all((0..100).map(|number| ask(&bus, number))).await;
    for (number, answer) in (0..100).zip(answers) {
        match number % 3 {
            0 => assert_eq!(answer.unwrap_err().code, ErrorCode::StaleEpoch),
            1 if number % 2 == 0 => assert_eq!(answer.unwrap_err().code, ErrorCode::Internal),
            _ => assert_eq!(answer.unwrap(), format!("yes {number}")),
        }
    }
    assert_eq!(ask(&bus, 101).await.unwrap(), "yes 101", "one alone is an ordinary request");
    let mut seen: Vec<usize> = Vec::new();
    while seen.iter().sum::<usize>() < 101 {
        let message = within(messages.next()).await.unwrap();
        let parts = message.headers.as_ref().and_then(|headers| headers.get("Laneway-Bundle")?.as_str().parse().ok());
        seen.push(parts.unwrap_or(1));
    }
    assert!(seen.len() <= 5 && seen.ends_with(&[1]), "{seen:?}");
}

#[tokio::test]
async fn one_silent_part_silences_the_bundle_and_all_are_asked_again() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let _service = service(&other, move |number| {
        let first = counted.fetch_add(1, Ordering::Relaxed) < 10;
        if number == 7 && first { Err(Refusal::Silent) } else { Ok(number.to_string()) }
    })
    .await;
    let answers = join_all((0..10).map(|number| ask(&bus, number))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..10).map(|number: u64| number.to_string()).collect::<Vec<_>>());
    assert!(asked.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn answers_that_do_not_fit_together_come_alone() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let _service = service(&other, |number| Ok("x".repeat(300_000 + number as usize))).await;
    let answers = join_all((0..12).map(|number| ask(&bus, number))).await;
    let lengths: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().len()).collect();
    assert_eq!(lengths, (300_000..300_012).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_says_that_it_is_a_bundle_and_is_none_gets_an_error() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let _service = service(&other, |number| Ok(number.to_string())).await;
    // Asked again until the service is there; what follows is sent once.
    assert_eq!(ask(&bus, 4).await.unwrap(), "4");
    for (count, body) in [("3", &b"\x00\x00\x00\x01\x05"[..]), ("many", b"\x05"), ("1", b"\x00\x00\x00\x09\x05")] {
        let mut headers = laneway_bus::async_nats::HeaderMap::new();
        headers.insert("Content-Type", "application/msgpack");
        headers.insert("Laneway-Bundle", count);
        let request = bus.client().request_with_headers("laneway.attempts.claim", headers, body.into());
        let reply = within(request).await.unwrap();
        let code = reply.headers.unwrap().get("Nats-Service-Error-Code").unwrap().as_str().to_owned();
        assert_eq!(code, "400", "{count}");
    }
    assert_eq!(bus.request::<_, String>(Endpoint::AttemptsClaim, &json!(5)).await.unwrap(), "5");
}
