//! What a served endpoint answers, whatever is sent to it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Server, within};
use laneway_bus::async_nats::{HeaderMap, Message};
use laneway_bus::{Bus, Incoming, LEADER_EPOCH, Refusal, Route, Service};
use laneway_contract::{ApiError, Endpoint, ErrorBody, ErrorCode, Format, MAX_BODY_BYTES, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    text: String,
    traceparent: Option<String>,
}

async fn tell(incoming: Incoming<Ask>) -> Result<Told, Refusal> {
    let Incoming { body, traceparent, .. } = incoming;
    match body.text.as_str() {
        "refuse" => Err(ApiError::new(ErrorCode::NotFound, "nothing\r\nhere")
            .with_details(serde_json::json!({"id": "x"}))
            .into()),
        "panic" => panic!("canary"),
        "large" => Ok(Told { text: "x".repeat(MAX_BODY_BYTES), traceparent }),
        _ => Ok(Told { text: body.text, traceparent }),
    }
}

async fn serve(bus: &Bus, routes: Vec<Route>) -> Service {
    Service::start(bus, ServiceName::Scheduler, "test", routes).await.unwrap()
}

async fn send(bus: &Bus, content_type: Option<&str>, body: impl Into<Vec<u8>>) -> Message {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert("content-type", content_type);
    }
    within(bus.client().request_with_headers("laneway.status", headers, body.into().into())).await.unwrap()
}

fn error_of(format: Format, reply: &Message) -> ApiError {
    let headers = reply.headers.as_ref().unwrap();
    let error = format.decode::<ErrorBody>(&reply.payload).unwrap().error;
    assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), error.code.status().to_string());
    assert!(headers.get("Nats-Service-Error").unwrap().as_str().starts_with(error.code.as_str()));
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), format.content_type());
    error
}

#[tokio::test]
async fn a_body_goes_there_and_back_in_either_format() {
    let server = Server::start();
    let bus = server.bus().await;
    let _service = serve(&bus, vec![Route::new(Endpoint::Status, tell)]).await;
    for (content_type, format) in [
        (None, Format::Json),
        (Some("application/json; charset=utf-8"), Format::Json),
        (Some("application/msgpack"), Format::MessagePack),
    ] {
        let ask = Ask { text: "grüße".to_owned() };
        let reply = send(&bus, content_type, format.encode(&ask).unwrap()).await;
        assert_eq!(format.decode::<Told>(&reply.payload).unwrap().text, ask.text, "{content_type:?}");
        assert_eq!(reply.headers.unwrap().get("Content-Type").unwrap().as_str(), format.content_type());
    }
}

#[tokio::test]
async fn an_error_has_headers_and_a_body_in_the_format_of_the_request() {
    let server = Server::start();
    let bus = server.bus().await;
    let _service = serve(&bus, vec![Route::new(Endpoint::Status, tell)]).await;
    for format in [Format::Json, Format::MessagePack] {
        let ask = Ask { text: "refuse".to_owned() };
        let reply = send(&bus, Some(format.content_type()), format.encode(&ask).unwrap()).await;
        let error = error_of(format, &reply);
        assert_eq!((error.code, &error.details["id"]), (ErrorCode::NotFound, &"x".into()));
        assert_eq!(error.message, "nothing\r\nhere");
    }
}

#[tokio::test]
async fn anything_at_all_gets_an_answer_and_so_does_the_next_request() {
    let server = Server::start();
    let bus = server.bus().await;
    let _service = serve(&bus, vec![Route::new(Endpoint::Status, tell)]).await;
    let json = Some("application/json");
    let packed = Some("application/msgpack");
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES));
    let cases: Vec<(Option<&str>, Vec<u8>, ErrorCode)> = vec![
        (None, b"".into(), ErrorCode::BadRequest),
        (json, b"not json".into(), ErrorCode::BadRequest),
        (json, b"{\"text\":1}".into(), ErrorCode::BadRequest),
        (json, b"{\"text\":\"a\",\"more\":1}".into(), ErrorCode::UnknownField),
        (json, b"{\"text\":\"\xff\"}".into(), ErrorCode::BadRequest),
        (packed, b"\x81\xa4text".into(), ErrorCode::BadRequest),
        (packed, b"\xc1".into(), ErrorCode::BadRequest),
        (Some("text/plain"), b"{}".into(), ErrorCode::BadRequest),
        (json, large.into(), ErrorCode::PayloadTooLarge),
        (json, b"{\"text\":\"panic\"}".into(), ErrorCode::Internal),
        (json, b"{\"text\":\"large\"}".into(), ErrorCode::Internal),
    ];
    for (content_type, body, code) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let reply = send(&bus, content_type, body).await;
        let format = if content_type == packed { Format::MessagePack } else { Format::Json };
        let error = error_of(format, &reply);
        assert_eq!(error.code, code, "{shown}");
        assert!(!error.to_string().contains("canary"), "{shown}");
        let next = send(&bus, json, b"{\"text\":\"next\"}".to_vec()).await;
        assert_eq!(Format::Json.decode::<Told>(&next.payload).unwrap().text, "next", "after {shown}");
    }
}

#[tokio::test]
async fn beyond_its_bound_an_endpoint_is_overloaded_and_recovers() {
    let server = Server::start();
    let bus = server.bus().await;
    let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (in_handler, released) = (Arc::clone(&entered), Arc::clone(&release));
    let hold = move |incoming: Incoming<Ask>| {
        let (entered, release) = (Arc::clone(&in_handler), Arc::clone(&released));
        async move {
            entered.add_permits(1);
            release.acquire().await.unwrap().forget();
            Ok::<_, Refusal>(incoming.body)
        }
    };
    let _service = serve(&bus, vec![Route::new(Endpoint::Status, hold).at_most(2)]).await;
    let ask = || send(&bus, None, b"{\"text\":\"a\"}".to_vec());
    let overload = async {
        within(entered.acquire_many(2)).await.unwrap().forget();
        let error = error_of(Format::Json, &ask().await);
        assert_eq!(error.code, ErrorCode::Overloaded);
        assert!(error.details["retry_after_ms"].as_u64().unwrap() > 0);
        release.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), overload);
    release.add_permits(1);
    for reply in [first, second, ask().await] {
        assert_eq!(Format::Json.decode::<Ask>(&reply.payload).unwrap().text, "a");
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_running_and_then_nobody_is_there() {
    let server = Server::start();
    let bus = server.bus().await;
    let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (in_handler, released) = (Arc::clone(&entered), Arc::clone(&release));
    let hold = move |incoming: Incoming<Ask>| {
        let (entered, release) = (Arc::clone(&in_handler), Arc::clone(&released));
        async move {
            entered.add_permits(1);
            release.acquire().await.unwrap().forget();
            Ok::<_, Refusal>(incoming.body)
        }
    };
    let service = serve(&bus, vec![Route::new(Endpoint::Status, hold)]).await;
    let stop = async {
        within(entered.acquire()).await.unwrap().forget();
        let mut stopping = std::pin::pin!(service.stop());
        assert!(futures::poll!(&mut stopping).is_pending());
        release.add_permits(1);
        within(stopping).await;
    };
    let (reply, ()) = tokio::join!(send(&bus, None, b"{\"text\":\"a\"}".to_vec()), stop);
    assert_eq!(Format::Json.decode::<Ask>(&reply.payload).unwrap().text, "a");
    bus.flush().await.unwrap();
    assert!(within(bus.client().request("laneway.status", "{}".into())).await.is_err());
}

#[tokio::test]
async fn a_gate_puts_the_epoch_on_every_reply_and_holds_all_of_them_back() {
    let server = Server::start();
    let bus = server.bus().await;
    let epoch = Arc::new(AtomicU64::new(7));
    let now = Arc::clone(&epoch);
    let gate = Arc::new(move || Some(now.load(Ordering::SeqCst)).filter(|epoch| *epoch > 0));
    let routes = vec![Route::new(Endpoint::Status, tell)];
    let _service = Service::start_gated(&bus, ServiceName::Scheduler, "leader-7", gate, routes).await.unwrap();
    for body in ["{\"text\":\"a\"}", "not json", "{\"text\":\"panic\"}", "{\"text\":\"refuse\"}"] {
        let reply = send(&bus, None, body).await;
        assert_eq!(reply.headers.unwrap().get(LEADER_EPOCH).unwrap().as_str(), "7", "{body}");
    }
    epoch.store(0, Ordering::SeqCst);
    let mut replies = bus.subscribe("inbox".to_owned()).await.unwrap();
    for body in ["{\"text\":\"a\"}", "not json", "{\"text\":\"panic\"}", "{\"text\":\"refuse\"}"] {
        bus.client().publish_with_reply("laneway.status", "inbox", body.into()).await.unwrap();
    }
    // The last question is asked of the micro protocol, which has no gate, until all four were handled.
    let handled = async {
        while stats(&bus).await["endpoints"][0]["num_requests"] != 8 {
            tokio::task::yield_now().await;
        }
    };
    within(handled).await;
    bus.client().publish("inbox", "end".into()).await.unwrap();
    let first = within(futures::StreamExt::next(&mut replies)).await.unwrap();
    assert_eq!(first.payload, "end");
}

async fn stats(bus: &Bus) -> serde_json::Value {
    let reply = within(bus.client().request("$SRV.STATS.laneway-scheduler", "".into())).await.unwrap();
    serde_json::from_slice(&reply.payload).unwrap()
}

#[tokio::test]
async fn the_micro_protocol_describes_and_counts() {
    let server = Server::start();
    let bus = server.bus().await;
    let _service = serve(&bus, vec![Route::new(Endpoint::Status, tell)]).await;
    let ask = async |subject: &str| -> serde_json::Value {
        let reply = within(bus.client().request(subject.to_owned(), "".into())).await.unwrap();
        serde_json::from_slice(&reply.payload).unwrap()
    };
    let ping = ask("$SRV.PING").await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    let info = ask(&format!("$SRV.INFO.laneway-scheduler.{}", ping["id"].as_str().unwrap())).await;
    let endpoint = &info["endpoints"][0];
    assert_eq!((&endpoint["subject"], &endpoint["queue_group"]), (&"laneway.status".into(), &"test".into()));
    assert_eq!((&endpoint["metadata"]["request"], &endpoint["metadata"]["reply"]), (&"Ask".into(), &"Told".into()));
    assert_eq!(endpoint["metadata"]["about"], Endpoint::Status.about());

    send(&bus, None, b"{\"text\":\"a\"}".to_vec()).await;
    send(&bus, None, b"{\"text\":\"refuse\"}".to_vec()).await;
    let counted = async {
        loop {
            let stats = stats(&bus).await;
            if stats["endpoints"][0]["num_requests"] == 2 {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    let stats = within(counted).await;
    let endpoint = &stats["endpoints"][0];
    assert_eq!((&endpoint["num_errors"], &endpoint["last_error"]), (&1.into(), &"404:nothing  here".into()));
    assert!(endpoint["average_processing_time"].as_u64().unwrap() > 0);
    // The types of the client read what we write.
    let _: laneway_bus::async_nats::service::Stats = serde_json::from_value(stats).unwrap();
    let _: laneway_bus::async_nats::service::Info = serde_json::from_value(info).unwrap();
    let _: laneway_bus::async_nats::service::PingResponse = serde_json::from_value(ping).unwrap();
}

#[tokio::test]
async fn a_closed_service_takes_nothing_while_its_handlers_go_on() {
    let server = Server::start();
    let bus = server.bus().await;
    let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (in_handler, released) = (Arc::clone(&entered), Arc::clone(&release));
    let hold = move |incoming: Incoming<Ask>| {
        let (entered, release) = (Arc::clone(&in_handler), Arc::clone(&released));
        async move {
            entered.add_permits(1);
            release.acquire().await.unwrap().forget();
            Ok::<_, Refusal>(incoming.body)
        }
    };
    let service = serve(&bus, vec![Route::new(Endpoint::Status, hold)]).await;
    let close = async {
        within(entered.acquire()).await.unwrap().forget();
        let closed = within(service.close()).await;
        assert!(within(bus.client().request("laneway.status", "{}".into())).await.is_err());
        release.add_permits(1);
        within(closed.answered()).await;
    };
    let (reply, ()) = tokio::join!(send(&bus, None, b"{\"text\":\"a\"}".to_vec()), close);
    assert_eq!(Format::Json.decode::<Ask>(&reply.payload).unwrap().text, "a");
}

#[tokio::test]
async fn cancels_that_wait_leave_room_for_others() {
    let server = Server::start();
    let bus = server.bus().await;
    let entered = Arc::new(Semaphore::new(0));
    let in_handler = Arc::clone(&entered);
    let wait = move |_: Incoming<Ask>| {
        in_handler.add_permits(1);
        std::future::pending::<Result<Ask, Refusal>>()
    };
    let _service = serve(&bus, vec![Route::new(Endpoint::RunsCancel, wait)]).await;
    for _ in 0..1_100 {
        bus.client().publish_with_reply("laneway.runs.cancel", "inbox", "{\"text\":\"a\"}".into()).await.unwrap();
    }
    within(entered.acquire_many(1_100)).await.unwrap().forget();
}
