//! What the server and the client say when messages are not delivered, heard from a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Server, within};
use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::pull;
use laneway_bus::async_nats::jetstream::stream;
use laneway_bus::{Advisory, ensure_streams};
use laneway_contract::{Stream, Subject, Token};

#[tokio::test]
async fn a_message_that_was_delivered_too_often_is_heard_of_once_and_only_of_our_streams() {
    let server = Server::start();
    let bus = server.bus().await;
    within(ensure_streams(&bus)).await.unwrap();
    let mut advisories = within(bus.advisories()).await.unwrap();
    let foreign = stream::Config {
        name: "OTHERS".to_owned(),
        subjects: vec!["others.>".to_owned()],
        ..stream::Config::default()
    };
    bus.jetstream().create_stream(foreign).await.unwrap();
    bus.client().publish("others.x", "x".into()).await.unwrap();
    bus.publish_stored(&Subject::Rejects, HeaderMap::new(), "{}".into()).await.unwrap();
    for stream in ["OTHERS", "LANEWAY_REJECTS"] {
        let config = pull::Config {
            durable_name: Some("probe".to_owned()),
            max_deliver: 1,
            ack_wait: Duration::from_millis(50),
            ..pull::Config::default()
        };
        let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await.unwrap();
        let once = consumer.fetch().max_messages(1).messages().await.unwrap().count().await;
        assert_eq!(once, 1, "{stream}");
        // Asked for again after its time, it is delivered no more.
        let expires = Duration::from_millis(300);
        let again = consumer.batch().max_messages(1).expires(expires).messages().await.unwrap();
        assert_eq!(again.count().await, 0, "{stream}");
    }
    let heard = within(advisories.next()).await.unwrap();
    let consumer = Some(Token::parse("probe").unwrap());
    assert_eq!(heard, Advisory::MaxDeliveries { stream: Stream::Rejects, consumer, stream_seq: 1, deliveries: 1 });
}

#[tokio::test]
async fn messages_that_a_slow_subscription_loses_are_counted() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut advisories = within(bus.advisories()).await.unwrap();
    let _never_read = bus.subscribe("flood".to_owned()).await.unwrap();
    // As many as a subscription holds, and some more.
    for _ in 0..70_000 {
        bus.client().publish("flood", "x".into()).await.unwrap();
    }
    let heard = within(advisories.next()).await.unwrap();
    assert!(matches!(heard, Advisory::SlowConsumer { dropped: 1.. }), "{heard:?}");
}
