//! Requests that travel together: each gets its own answer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Server, within};
use futures::StreamExt;
use futures::future::join_all;
use laneway_bus::{Bus, Incoming, Refusal, Route, Service};
use laneway_contract::{ApiError, Endpoint, ErrorBody, ErrorCode, Format, ServiceName, Subject};
use serde_json::json;
use tokio::sync::Semaphore;

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

/// Answers claims as a service does that has never heard of bundles: it reads the body of each message as one request.
async fn old_service(bus: &Bus) -> tokio::task::JoinHandle<()> {
    let mut requests = bus.subscribe("laneway.attempts.claim".to_owned()).await.unwrap();
    bus.flush().await.unwrap();
    let bus = bus.clone();
    laneway_runtime::spawn("old service", async move {
        while let Some(request) = requests.next().await {
            let mut headers = laneway_bus::async_nats::HeaderMap::new();
            headers.insert("Content-Type", "application/msgpack");
            let body = match Format::MessagePack.decode::<(u64,)>(&request.payload) {
                Ok((number,)) => Format::MessagePack.encode(&number.to_string()).unwrap(),
                Err(error) => {
                    headers.insert("Nats-Service-Error-Code", "400");
                    Format::MessagePack.encode(&ErrorBody { error }).unwrap()
                }
            };
            bus.client().publish_with_headers(request.reply.unwrap(), headers, body.into()).await.unwrap();
        }
    })
}

#[tokio::test]
async fn a_service_that_is_older_than_bundles_answers_every_part() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let serving = old_service(&other).await;
    let mut messages = other.subscribe("laneway.attempts.claim".to_owned()).await.unwrap();
    other.flush().await.unwrap();
    let ask = |number: u64| {
        let bus = bus.clone();
        async move { within(bus.request::<_, String>(Endpoint::AttemptsClaim, &(number,))).await }
    };
    assert_eq!(ask(100).await.unwrap(), "100", "it is there");
    for round in 0..2 {
        let answers = join_all((0..50).map(ask)).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..50).map(|number: u64| number.to_string()).collect::<Vec<_>>(), "round {round}");
    }
    let (mut single, mut bundles) = (0, 0);
    while single < 100 {
        let headers = within(messages.next()).await.unwrap().headers.unwrap();
        let is_bundle = headers.get("Laneway-Bundle").is_some();
        bundles += usize::from(is_bundle);
        single += usize::from(!is_bundle);
        assert!(!is_bundle || single < 50, "what follows is sent one by one");
    }
    assert!(bundles > 0, "there was something to refuse");
    serving.abort();
}

/// A service whose claims of `slow` numbers take until they are let go. What is held, and what lets go.
async fn holding(
    bus: &Bus,
    slow: impl Fn(u64) -> bool + Send + Sync + 'static,
) -> (Service, Arc<Semaphore>, Arc<Semaphore>) {
    let (held, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (slow, told, go) = (Arc::new(slow), Arc::clone(&held), Arc::clone(&release));
    let route = Route::new(Endpoint::AttemptsClaim, move |request: Incoming<u64>| {
        let (slow, told, go) = (Arc::clone(&slow), Arc::clone(&told), Arc::clone(&go));
        async move {
            if slow(request.body) {
                told.add_permits(1);
                drop(go.acquire().await.unwrap());
            }
            Ok::<_, Refusal>(request.body.to_string())
        }
    });
    (Service::start(bus, ServiceName::Scheduler, "test", vec![route]).await.unwrap(), held, release)
}

#[tokio::test]
async fn slow_messages_hold_up_no_further_requests() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let (_service, held, release) = holding(&other, |number| number < 10).await;
    assert_eq!(ask(&bus, 100).await.unwrap(), "100");
    let long = Duration::from_secs(9);
    let ask_long =
        async |number: u64| within(bus.request_within::<_, String>(Endpoint::AttemptsClaim, &number, long, long)).await;
    // One after the other, so that each is a message of its own: as many as may be under way.
    let quick = async {
        within(held.acquire()).await.unwrap().forget();
        for number in 200..205 {
            assert_eq!(ask(&bus, number).await.unwrap(), number.to_string());
        }
        assert_eq!(held.available_permits(), 0, "nothing was given up and asked again first, which is after 2 s");
        release.add_permits(1);
    };
    let second = async {
        within(held.acquire()).await.unwrap().forget();
        tokio::join!(ask_long(1), quick).0
    };
    let slow: [_; 2] = tokio::join!(ask_long(0), second).into();
    assert!(slow.iter().all(Result::is_ok), "{slow:?}");
}

#[tokio::test]
async fn a_bundle_that_times_out_is_asked_again_without_who_gave_up() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let asked = Arc::new(AtomicUsize::new(0));
    let (_service, held, release) = holding(&other, {
        let asked = Arc::clone(&asked);
        move |number| number < 10 && asked.fetch_add(1, Ordering::Relaxed) < 10
    })
    .await;
    assert_eq!(ask(&bus, 100).await.unwrap(), "100");
    let given_up = tokio::time::timeout(Duration::from_millis(1_500), ask(&bus, 9));
    let (answers, given_up) = tokio::join!(join_all((0..9).map(|number| ask(&bus, number))), given_up);
    assert!(given_up.is_err());
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..9).map(|number: u64| number.to_string()).collect::<Vec<_>>());
    assert_eq!((held.available_permits(), asked.load(Ordering::Relaxed)), (10, 19), "each but one was asked twice");
    release.add_permits(1);
}

#[tokio::test]
async fn parts_count_against_the_bound_of_their_endpoint() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let route = Route::new(Endpoint::AttemptsClaim, |request: Incoming<u64>| async move {
        tokio::time::sleep(Duration::from_millis(u64::from(request.body == 7) * 300)).await;
        Ok::<_, Refusal>(request.body.to_string())
    });
    let _service = Service::start(&other, ServiceName::Scheduler, "test", vec![route.at_most(20)]).await.unwrap();
    assert_eq!(ask(&bus, 4).await.unwrap(), "4");
    let send = |count: usize, number: u8| {
        let mut headers = laneway_bus::async_nats::HeaderMap::new();
        headers.insert("Content-Type", "application/msgpack");
        headers.insert("Laneway-Bundle", count.to_string().as_str());
        let body = [0, 0, 0, 1, number].repeat(count);
        bus.client().request_with_headers("laneway.attempts.claim", headers, body.into())
    };
    let (first, second) = within(futures::future::join(send(15, 7), send(15, 7))).await;
    let refused = [first.unwrap(), second.unwrap()].map(|reply| {
        let headers = reply.headers.unwrap();
        headers.get("Nats-Service-Error-Code").map(|code| code.as_str().to_owned())
    });
    assert!(refused.contains(&None) && refused.contains(&Some("429".to_owned())), "{refused:?}");
    // One that is larger than the bound has all of it, as soon as the first has given it back.
    let all = async { while send(25, 1).await.unwrap().headers.unwrap().get("Nats-Service-Error-Code").is_some() {} };
    within(all).await;
}

#[tokio::test]
async fn a_leader_that_changes_in_the_middle_of_a_bundle_loses_no_part() {
    let server = Server::start();
    let (bus, other) = (server.bus().await, server.bus().await);
    let route = |told: Arc<Semaphore>| {
        Route::new(Endpoint::AttemptsClaim, move |request: Incoming<u64>| {
            told.add_permits(1);
            async move { Ok::<_, Refusal>(request.body.to_string()) }
        })
    };
    let (old, new) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let serve = |group, epoch: Option<u64>, told: &Arc<Semaphore>| {
        let routes = vec![route(Arc::clone(told))];
        Service::start_gated(&other, ServiceName::Scheduler, group, Arc::new(move || epoch), routes)
    };
    let deposed = serve("leader-1", None, &old).await.unwrap();
    let change = async {
        within(old.acquire_many(10)).await.unwrap().forget();
        deposed.stop().await;
        let leader = serve("leader-2", Some(2), &new).await.unwrap();
        other.publish(&Subject::Leading, "2".into()).await.unwrap();
        leader
    };
    let (answers, _leader) = tokio::join!(join_all((0..10).map(|number| ask(&bus, number))), change);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..10).map(|number: u64| number.to_string()).collect::<Vec<_>>());
    assert!(new.available_permits() >= 10, "each is asked of the new leader");
}
