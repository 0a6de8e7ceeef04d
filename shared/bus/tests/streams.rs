//! Streams, consumers and cancel signals on a real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{Server, within};
use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::{DeliverPolicy, pull};
use laneway_bus::async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use laneway_bus::{
    Bus, BusError, ConnectOptions, ControlSignals, compare_streams, ensure_intake_consumer, ensure_pool_consumer,
    ensure_streams, pool_consumer_config, remove_consumers_ahead, stream_config,
};
use laneway_contract::{ControlMessage, PoolId, RunId, Stop, Stream, Subject};

async fn config_of(bus: &Bus, stream: Stream) -> Config {
    bus.jetstream().get_stream(bus.prefix().stream(stream)).await.unwrap().cached_info().config.clone()
}

#[tokio::test]
async fn streams_are_made_once_as_they_should_be() {
    let server = Server::start();
    let bus = server.bus().await;
    assert_eq!(compare_streams(&bus).await.unwrap(), (Stream::ALL.to_vec(), vec![]));
    assert_eq!(within(ensure_streams(&bus)).await.unwrap(), vec![]);
    bus.publish_stored(&Subject::Intake, HeaderMap::new(), "{}".into()).await.unwrap();
    assert_eq!(within(ensure_streams(&bus)).await.unwrap(), vec![]);
    assert_eq!(compare_streams(&bus).await.unwrap(), (vec![], vec![]));
    let intake = bus.jetstream().get_stream("LANEWAY_INTAKE").await.unwrap();
    assert_eq!(intake.cached_info().state.messages, 1);

    let journal = config_of(&bus, Stream::Journal).await;
    assert_eq!((journal.storage, journal.discard), (StorageType::File, DiscardPolicy::New));
    assert!(journal.deny_delete && !journal.allow_direct && journal.max_age.is_zero());
    assert_eq!((journal.max_bytes, journal.max_messages, journal.max_message_size), (-1, -1, 1024 * 1024));
    let dispatch = config_of(&bus, Stream::Dispatch).await;
    assert_eq!((dispatch.storage, dispatch.retention), (StorageType::Memory, RetentionPolicy::WorkQueue));
    let control = config_of(&bus, Stream::Control).await;
    assert_eq!((control.max_messages_per_subject, control.max_age.as_secs()), (1, 60));
    let flight = config_of(&bus, Stream::Flight).await;
    assert_eq!(flight.persist_mode, Some(PersistenceMode::Async));
    assert!(flight.deny_delete && flight.allow_direct && flight.max_age.is_zero());
}

/// A consumer that is ahead, as one is in a cluster whose stream lost messages: it begins where the stream has not come to.
#[tokio::test]
async fn a_consumer_that_is_ahead_of_its_stream_is_removed_and_others_are_left() {
    let server = Server::start();
    let bus = server.bus().await;
    // A work queue takes no such consumer.
    let config = Config { retention: RetentionPolicy::Limits, ..stream_config(bus.prefix(), Stream::Dispatch, 1) };
    let stream = bus.jetstream().create_stream(config).await.unwrap();
    let [lost, right] = ["lost", "right"].map(|pool| PoolId::parse(pool).unwrap());
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: 100 };
    stream.create_consumer(pull::Config { deliver_policy, ..pool_consumer_config(&bus, &lost) }).await.unwrap();
    let consumer = within(ensure_pool_consumer(&bus, &right)).await.unwrap();
    for pool in [&lost, &right] {
        bus.publish_stored(&Subject::Dispatch(pool.clone()), HeaderMap::new(), "x".into()).await.unwrap();
    }
    assert_eq!(consumer.fetch().max_messages(1).messages().await.unwrap().count().await, 1);
    assert_eq!(within(remove_consumers_ahead(&bus)).await.unwrap(), ["lost"]);
    assert_eq!(within(remove_consumers_ahead(&bus)).await.unwrap(), [""; 0]);
    let again = within(ensure_pool_consumer(&bus, &lost)).await.unwrap();
    assert_eq!(
        again.fetch().max_messages(1).messages().await.unwrap().count().await,
        1,
        "the message was not passed over"
    );
}

#[tokio::test]
async fn a_stream_with_other_settings_is_reported_and_left_alone() {
    let server = Server::start();
    let bus = server.bus().await;
    let mut other = stream_config(bus.prefix(), Stream::Journal, 1);
    other.discard = DiscardPolicy::Old;
    other.max_messages = 10;
    bus.jetstream().create_stream(other.clone()).await.unwrap();
    let differences = within(ensure_streams(&bus)).await.unwrap();
    let shown: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["LANEWAY_JOURNAL: discard is \"old\", should be \"new\"", "LANEWAY_JOURNAL: max_msgs is 10, should be -1"]
    );
    let found = config_of(&bus, Stream::Journal).await;
    assert_eq!((found.discard, found.max_messages), (DiscardPolicy::Old, 10));
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_an_error() {
    let server = Server::start();
    let bus = server.bus().await;
    let overlapping = Config { name: "OTHER".into(), subjects: vec!["laneway.journal".into()], ..Config::default() };
    bus.jetstream().create_stream(overlapping).await.unwrap();
    let error = within(ensure_streams(&bus)).await.unwrap_err();
    assert!(matches!(error, BusError::Stream { ref stream, .. } if stream == "LANEWAY_JOURNAL"), "{error}");
    let wrong = ConnectOptions { url: "nats://[".to_owned(), ..server.options() };
    assert!(matches!(within(Bus::connect(wrong)).await.unwrap_err(), BusError::Url { .. }));
    let wrong = ConnectOptions { url: "nats://me:secret@[".to_owned(), ..server.options() };
    let error = within(Bus::connect(wrong)).await.unwrap_err().to_string();
    assert!(error.contains("nats://[") && !error.contains("secret"), "{error}");
    let missing = ConnectOptions { creds: Some("/nowhere/x.creds".into()), ..server.options() };
    assert!(matches!(within(Bus::connect(missing)).await.unwrap_err(), BusError::Credentials { .. }));
}

#[tokio::test]
async fn a_connection_waits_for_its_server() {
    let mut server = Server::reserve();
    let connecting = laneway_runtime::spawn("connect", Bus::connect(server.options()));
    tokio::task::yield_now().await;
    server.run();
    let bus = within(connecting).await.unwrap().unwrap();
    assert_eq!(bus.prefix().as_str(), "laneway");
}

#[tokio::test]
async fn consumers_are_made_once_and_deliver_until_acknowledged() {
    let server = Server::start();
    let bus = server.bus().await;
    within(ensure_streams(&bus)).await.unwrap();
    let pools = [PoolId::parse("gpu").unwrap(), PoolId::parse("cpu").unwrap()];
    for pool in &pools {
        within(ensure_pool_consumer(&bus, pool)).await.unwrap();
        bus.publish_stored(&Subject::Dispatch(pool.clone()), HeaderMap::new(), pool.to_string().into()).await.unwrap();
    }
    for pool in &pools {
        let consumer = within(ensure_pool_consumer(&bus, pool)).await.unwrap();
        assert_eq!(consumer.cached_info().config.max_deliver, -1);
        let mut fetched = consumer.fetch().max_messages(4).messages().await.unwrap();
        let message = within(fetched.next()).await.unwrap().unwrap();
        assert_eq!(message.payload, pool.to_string());
        message.double_ack().await.unwrap();
        assert!(within(fetched.next()).await.is_none());
    }
    let dispatch = bus.jetstream().get_stream("LANEWAY_DISPATCH").await.unwrap();
    assert_eq!((dispatch.cached_info().state.messages, dispatch.cached_info().state.consumer_count), (0, 2));
    let intake = within(ensure_intake_consumer(&bus)).await.unwrap();
    assert_eq!(intake.cached_info().name, "scheduler");
    assert_eq!(within(remove_consumers_ahead(&bus)).await.unwrap(), [""; 0], "both have come to the end of the stream");
}

#[tokio::test]
async fn acknowledgements_can_be_waited_for_later() {
    let server = Server::start();
    let bus = server.bus().await;
    within(ensure_streams(&bus)).await.unwrap();
    let mut pending = Vec::new();
    for _ in 0..100 {
        pending.push(bus.publish_pending(&Subject::Intake, HeaderMap::new(), "{}".into()).await.unwrap());
    }
    for (index, ack) in pending.into_iter().enumerate() {
        assert_eq!(within(ack.stored()).await.unwrap(), index as u64 + 1);
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", "7");
    let error = within(bus.publish_stored(&Subject::Intake, headers, "{}".into())).await.unwrap_err();
    let wrong = laneway_bus::async_nats::jetstream::context::PublishErrorKind::WrongLastSequence;
    assert!(matches!(error, BusError::NotStored { kind, .. } if kind == wrong), "{error}");
}

fn signal(epoch: u64) -> ControlMessage {
    let run_id = RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap();
    ControlMessage { run_id, epoch, stop: Stop::Cancel }
}

/// Waits for a signal; the last one may come again.
async fn expect(signals: &mut ControlSignals, epoch: u64) {
    while within(signals.next()).await != signal(epoch) {}
}

#[tokio::test]
async fn cancel_signals_survive_what_happens_to_the_server() {
    let mut server = Server::start();
    let bus = server.bus().await;
    within(ensure_streams(&bus)).await.unwrap();
    // Sent before anybody listens: the last of each run is kept.
    for epoch in [1, 2] {
        bus.publish_control(&signal(epoch)).await.unwrap();
    }
    let mut signals = ControlSignals::new(&bus);
    assert_eq!(within(signals.next()).await, signal(2));
    bus.publish_control(&signal(3)).await.unwrap();
    expect(&mut signals, 3).await;

    // The server comes back with an empty stream, whose sequences begin anew.
    server.kill();
    server.run();
    let other = server.bus().await;
    within(ensure_streams(&other)).await.unwrap();
    other.publish_control(&signal(4)).await.unwrap();
    expect(&mut signals, 4).await;

    bus.jetstream().delete_stream("LANEWAY_CONTROL").await.unwrap();
    within(ensure_streams(&other)).await.unwrap();
    other.publish_control(&signal(5)).await.unwrap();
    expect(&mut signals, 5).await;
}
