//! The intake on a real nats-server: acknowledgements that are lost, and messages that the server gives up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Server, World, submit, within};
use futures::StreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::async_nats::jetstream::consumer::pull;
use laneway_bus::{ensure_streams, intake_consumer_config, pool_consumer_config};
use laneway_contract::*;
use tokio::sync::mpsc::UnboundedReceiver;

const INTAKE: &str = "LANEWAY_INTAKE";

async fn publish(world: &World, body: Vec<u8>) -> u64 {
    world.bus.publish_stored(&Subject::Intake, HeaderMap::new(), body.into()).await.unwrap()
}

async fn publish_run(world: &World, request: &SubmitRun) -> u64 {
    publish(world, Format::Json.encode(request).unwrap()).await
}

/// The consumer that the leader finds, made before it with other settings.
async fn with_consumer(world: &World, config: pull::Config) {
    within(ensure_streams(&world.bus)).await.unwrap();
    world.bus.jetstream().create_consumer_on_stream(config, INTAKE).await.unwrap();
}

async fn messages(world: &World, stream: Stream) -> u64 {
    let name = world.bus.prefix().stream(stream);
    world.bus.jetstream().get_stream(name).await.unwrap().cached_info().state.messages
}

/// Waits until the leader has acknowledged everything.
async fn until_empty(world: &World) {
    within(async {
        while messages(world, Stream::Intake).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The letters that are there.
async fn letters(world: &World) -> Vec<Reject> {
    let name = world.bus.prefix().stream(Stream::Rejects);
    let stream = world.bus.jetstream().get_stream(name).await.unwrap();
    let mut letters = Vec::new();
    for seq in 1..=stream.cached_info().state.last_sequence {
        letters.push(serde_json::from_slice(&stream.get_raw_message(seq).await.unwrap().payload).unwrap());
    }
    letters
}

async fn next_incident(events: &mut UnboundedReceiver<Event>) -> Incident {
    within(async {
        loop {
            if let Event::IncidentNoted(incident) = events.recv().await.expect("the journal goes on") {
                return incident;
            }
        }
    })
    .await
}

/// Every acknowledgement of the first leader is lost, and it is killed when all has been decided several times.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again_and_is_one_run_and_one_letter() {
    let world = World::start_on(Server::with_deaf_user()).await;
    with_consumer(&world, pull::Config { ack_wait: Duration::from_millis(500), ..intake_consumer_config() }).await;
    let (named, unnamed) = (submit("named"), SubmitRun { run_id: None, ..submit("unnamed") });
    publish_run(&world, &named).await;
    publish_run(&world, &unnamed).await;
    // The same words in two messages without an id are two submits.
    publish_run(&world, &unnamed).await;
    let refused = publish(&world, br#"{"model_id": "nobody/x", "input": "words"}"#.to_vec()).await;
    let first = World::scheduler_on(world.server.deaf_bus("first").await, "first", None);
    let intake = world.bus.jetstream().get_stream_no_info(INTAKE).await.unwrap();
    within(async {
        while intake.consumer_info("scheduler").await.unwrap().delivered.consumer_sequence < 12 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(messages(&world, Stream::Intake).await, 4, "nothing was acknowledged");
    first.kill().await;
    let second = world.scheduler("second").await;
    until_empty(&world).await;
    second.stop().await;

    let mut events = world.events();
    let mut queued = Vec::new();
    // The last frame says that the leader has gone, so everything comes before a pause.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(2), events.recv()).await {
        if let Event::RunQueued { run, .. } = event {
            queued.push(run.run_id);
        }
    }
    assert!(queued.contains(&named.run_id.unwrap()), "{queued:?}");
    assert_eq!((queued.len(), queued.iter().collect::<BTreeSet<_>>().len()), (3, 3), "{queued:?}");
    let letters = letters(&world).await;
    let found: Vec<_> = letters.iter().map(|letter| (letter.stream_seq, letter.code)).collect();
    assert_eq!(found, [(refused, ErrorCode::UnknownModel)], "one letter, however often it was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_names_the_run_of_a_body_without_one() {
    let world = World::start().await;
    within(ensure_streams(&world.bus)).await.unwrap();
    let body = Format::Json.encode(&SubmitRun { run_id: None, ..submit("again") }).unwrap();
    let run_id = RunId::generate();
    for _ in 0..2 {
        let mut headers = HeaderMap::new();
        headers.insert(laneway_bus::RUN_ID, run_id.to_string());
        world.bus.publish_stored(&Subject::Intake, headers, body.clone().into()).await.unwrap();
    }
    let _scheduler = world.scheduler("one").await;
    until_empty(&world).await;
    assert_eq!(world.get(run_id).await.run.run_id, run_id);
    assert_eq!(letters(&world).await, [], "the second was a repeat");
    assert_eq!(world.status().await.queued.values().sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_intake_that_is_delivered_no_more_is_a_dead_letter_and_noted() {
    let world = World::start().await;
    with_consumer(&world, pull::Config { max_deliver: 1, ..intake_consumer_config() }).await;
    world.without_replica();
    let _scheduler = world.scheduler("one").await;
    world.status().await;
    let mut events = world.events();
    // It cannot be decided now: nobody says what this artifact is.
    let body = serde_json::json!({"model_id": "echo/default", "input": [
        {"content": {"artifact_id": ArtifactId::from_bytes([3; 32])}}]});
    let seq = publish(&world, body.to_string().into_bytes()).await;
    let incident = next_incident(&mut events).await;
    let letters = letters(&world).await;
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!(
        (letter.code, letter.stream_seq, letter.size),
        (ErrorCode::Internal, seq, body.to_string().len() as u64)
    );
    let expected = Incident {
        found: "max_deliveries".to_owned(),
        place: "LANEWAY_INTAKE/scheduler".to_owned(),
        stream_seq: Some(seq),
        count: 1,
        action: "dead_letter".to_owned(),
        run_id: Some(letter.run_id),
        session_id: None,
    };
    assert_eq!(incident, expected);
    until_empty(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_connection_of_the_leader_lost_are_noted() {
    let world = World::start().await;
    let bus = world.server.bus("one").await;
    let _scheduler = World::scheduler_on(bus.clone(), "one", None);
    world.status().await;
    let mut events = world.events();
    let _never_read = bus.subscribe("flood".to_owned()).await.unwrap();
    // As many as a subscription holds, and some more.
    for _ in 0..70_000 {
        world.bus.client().publish("flood", "x".into()).await.unwrap();
    }
    let incident = next_incident(&mut events).await;
    assert_eq!(
        (incident.found.as_str(), incident.place.as_str(), incident.action.as_str()),
        ("slow_consumer", "one", "none")
    );
    assert!((1..=70_000).contains(&incident.count), "{incident}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_while_nobody_led_is_found_by_the_next_leader() {
    let world = World::start().await;
    let config = pull::Config { max_deliver: 1, ack_wait: Duration::from_millis(200), ..intake_consumer_config() };
    with_consumer(&world, config).await;
    let request = submit("forgotten");
    let seq = publish_run(&world, &request).await;
    // Somebody takes it, and is gone.
    let intake = world.bus.jetstream().get_stream_no_info(INTAKE).await.unwrap();
    let consumer: laneway_bus::PullConsumer = intake.get_consumer("scheduler").await.unwrap();
    assert_eq!(consumer.fetch().max_messages(1).messages().await.unwrap().count().await, 1);
    within(async {
        while intake.consumer_info("scheduler").await.unwrap().num_ack_pending > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let after = submit("in time");
    publish_run(&world, &after).await;
    let _scheduler = world.scheduler("one").await;
    world.status().await;
    let incident = next_incident(&mut world.events()).await;
    assert_eq!((incident.stream_seq, incident.run_id), (Some(seq), request.run_id));
    until_empty(&world).await;
    let letters: Vec<_> = letters(&world).await.into_iter().map(|letter| (letter.stream_seq, letter.code)).collect();
    assert_eq!(letters, [(seq, ErrorCode::Internal)]);
    assert_eq!(
        world.get(after.run_id.unwrap()).await.run.run_id,
        after.run_id.unwrap(),
        "what was not given up is taken"
    );
}

/// Takes one message as somebody who is then gone.
async fn take_one(world: &World) {
    let intake = world.bus.jetstream().get_stream_no_info(INTAKE).await.unwrap();
    let consumer: laneway_bus::PullConsumer = intake.get_consumer("scheduler").await.unwrap();
    let take = async || {
        let batch = consumer.batch().max_messages(1).expires(Duration::from_millis(500)).messages().await;
        batch.unwrap().filter(|message| std::future::ready(message.is_ok())).count().await
    };
    within(async { while take().await == 0 {} }).await;
}

/// What the server counts as in hand.
async fn until_in_hand(world: &World, count: usize) {
    let intake = world.bus.jetstream().get_stream_no_info(INTAKE).await.unwrap();
    within(async {
        // A leader that has just begun makes the consumer.
        while intake.consumer_info("scheduler").await.map_or(usize::MAX, |info| info.num_ack_pending) != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_limit_of_three_what_can_come_again_is_taken_and_the_rest_is_found() {
    let world = World::start().await;
    let config = pull::Config { max_deliver: 3, ack_wait: Duration::from_millis(500), ..intake_consumer_config() };
    with_consumer(&world, config).await;
    let [given_up, in_hand, after] = ["given up", "in hand", "after it"].map(submit);
    let seq = publish_run(&world, &given_up).await;
    // The server gives it up when it is asked for the next time.
    for _ in 0..3 {
        take_one(&world).await;
    }
    publish_run(&world, &in_hand).await;
    take_one(&world).await;
    publish_run(&world, &after).await;
    let _scheduler = world.scheduler("one").await;
    until_empty(&world).await;
    for request in [in_hand, after] {
        let run_id = request.run_id.unwrap();
        assert_eq!(world.get(run_id).await.run.run_id, run_id);
    }
    let letters: Vec<_> = letters(&world).await.into_iter().map(|letter| (letter.stream_seq, letter.run_id)).collect();
    assert_eq!(letters, [(seq, given_up.run_id.unwrap())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_and_given_up_is_no_dead_letter() {
    let world = World::start().await;
    let config = pull::Config { max_deliver: 1, ack_wait: Duration::from_millis(200), ..intake_consumer_config() };
    with_consumer(&world, config).await;
    let first = world.scheduler("first").await;
    let request = submit("accepted");
    world.submit(&request).await;
    first.stop().await;
    // As if its acknowledgement had been lost.
    let seq = publish_run(&world, &request).await;
    take_one(&world).await;
    until_in_hand(&world, 0).await;
    let _second = world.scheduler("second").await;
    let incident = next_incident(&mut world.events()).await;
    assert_eq!((incident.stream_seq, incident.run_id), (Some(seq), request.run_id));
    until_empty(&world).await;
    assert_eq!(letters(&world).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_gives_back_what_is_in_hand() {
    let world = World::start().await;
    world.without_replica();
    let scheduler = world.scheduler("one").await;
    world.status().await;
    // It is decided when a store replica answers.
    let body = serde_json::json!({"model_id": "echo/default", "input": [
        {"content": {"artifact_id": ArtifactId::from_bytes([3; 32])}}]});
    publish(&world, body.to_string().into_bytes()).await;
    until_in_hand(&world, 1).await;
    scheduler.stop().await;
    let begun = tokio::time::Instant::now();
    take_one(&world).await;
    // Else it came after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Fetches one message and does not acknowledge it; then, so that it is due again, nothing.
async fn take_and_forget(world: &World, stream: Stream, consumer: pull::Config) {
    let name = world.bus.prefix().stream(stream);
    let consumer = world.bus.jetstream().create_consumer_on_stream(consumer, name).await.unwrap();
    laneway_runtime::spawn("forgetful", async move {
        loop {
            let batch = consumer.batch().max_messages(1).expires(Duration::from_millis(200)).messages().await;
            let Ok(batch) = batch else { return };
            batch.count().await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_that_is_delivered_no_more_is_noted_with_its_run_which_goes_on() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    world.status().await;
    let mut events = world.events();
    let pool = PoolId::parse("hands").unwrap();
    let config = pull::Config {
        max_deliver: 1,
        ack_wait: Duration::from_millis(200),
        ..pool_consumer_config(&world.bus, &pool)
    };
    take_and_forget(&world, Stream::Dispatch, config).await;
    let worker = WorkerId::parse("w1").unwrap();
    let models = vec!["echo/*".to_owned()];
    let announcement = Announcement { worker_id: worker.clone(), pool, models, slots: 1 };
    let body = Format::MessagePack.encode(&announcement).unwrap();
    let bus = world.bus.clone();
    laneway_runtime::spawn("announce", async move {
        while bus.publish(&Subject::Worker(worker.clone()), body.clone().into()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let run = world.submit(&submit("hello")).await.run;
    let incident = next_incident(&mut events).await;
    assert_eq!((incident.found.as_str(), incident.place.as_str()), ("max_deliveries", "LANEWAY_DISPATCH/hands"));
    assert_eq!((incident.action.as_str(), incident.run_id), ("return_to_queue", Some(run.run_id)));
    assert_eq!(incident.session_id, Some(run.session_id));
    // What the action says: the run is dispatched once more.
    within(async {
        loop {
            if let Event::RunDispatched { run_id, dispatch_no: 2, .. } = events.recv().await.unwrap()
                && run_id == run.run_id
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_somebody_else_is_noted_and_a_storm_of_it_is_few_incidents() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    world.status().await;
    let mut events = world.events();
    for _ in 0..500 {
        world.bus.publish_pending(&Subject::Rejects, HeaderMap::new(), "{}".into()).await.unwrap();
    }
    let config = pull::Config {
        durable_name: Some("probe".to_owned()),
        max_deliver: 1,
        ack_wait: Duration::from_millis(100),
        ..pull::Config::default()
    };
    let consumer = world.bus.jetstream().create_consumer_on_stream(config, "LANEWAY_REJECTS").await.unwrap();
    laneway_runtime::spawn("probe", async move {
        loop {
            let batch = consumer.batch().max_messages(500).expires(Duration::from_millis(200)).messages().await;
            let Ok(batch) = batch else { return };
            batch.count().await;
        }
    });
    let (mut incidents, mut counted) = (0, 0);
    while counted < 500 {
        let incident = next_incident(&mut events).await;
        assert_eq!((incident.place.as_str(), incident.action.as_str()), ("LANEWAY_REJECTS/probe", "none"));
        counted += incident.count;
        incidents += 1;
    }
    assert_eq!(counted, 500);
    assert!(incidents <= 20, "{incidents} of 500");
}
