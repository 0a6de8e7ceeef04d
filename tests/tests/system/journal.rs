//! The journal against a real nats-server: leading, following, taking over, and the server killed under load.

use std::collections::BTreeSet;
use std::time::Duration;

use laneway_bus::{Bus, ensure_streams, stream_config};
use laneway_contract::{Prefix, Stream};
use laneway_journal::node::Settings;
use laneway_journal::{Body, Committed, Fault, Follower, Formats, Journal, JournalConfig, Loss, Position, Progress};
use laneway_tests::nats::NatsServer;
use laneway_tests::stack::connect;
use tokio::time::timeout;
use uuid::Uuid;

type Log = Journal<u64, u64>;

/// The last event of a test.
const LAST: u64 = u64::MAX;

const LIMIT: Duration = Duration::from_secs(30);

fn journal(bus: &Bus, instance: &str) -> Log {
    let config = JournalConfig {
        stream: Prefix::default().stream(Stream::Journal),
        subject: stream_config(bus.prefix(), Stream::Journal, 1).subjects[0].clone(),
        settings: Settings {
            instance: instance.to_owned(),
            process: Uuid::now_v7(),
            new_journal: Some(Uuid::now_v7()),
            lease_ms: 1_500,
            margin_ms: 500,
            formats: Formats::default(),
        },
    };
    Journal::new(bus.client().clone(), config)
}

async fn start() -> (NatsServer, Bus) {
    let server = NatsServer::start().await;
    let bus = connect(&server.url()).await;
    ensure_streams(&bus).await.unwrap();
    (server, bus)
}

async fn next(journal: &mut Log) -> Progress<u64, u64> {
    timeout(LIMIT, journal.next()).await.expect("progress")
}

async fn lead(journal: &mut Log) -> u64 {
    loop {
        match next(journal).await {
            Progress::Leading { epoch, .. } => return epoch,
            Progress::Followed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn push(journal: &mut Log, event: u64) -> bool {
    let Some(mut turn) = journal.begin() else { return false };
    turn.add(&[event]).unwrap();
    journal.push(turn, event).unwrap();
    true
}

fn events(frames: &[Committed<u64>]) -> Vec<u64> {
    let turns = frames.iter().flat_map(|committed| match &committed.frame.body {
        Body::Turns(turns) => turns.as_slice(),
        Body::Started { .. } | Body::Stopped | Body::FormatRaised { .. } => &[],
    });
    turns.flat_map(|turn| turn.events.clone()).collect()
}

fn follower(bus: &Bus, position: Position) -> Follower<u64> {
    Follower::new(bus.client().clone(), &Prefix::default().stream(Stream::Journal), position)
}

async fn batch(follower: &mut Follower<u64>) -> Vec<Committed<u64>> {
    timeout(LIMIT, follower.next_batch(1_000)).await.expect("frames").expect("no fault")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_at_once_from_a_leader_that_stops() {
    let (_server, bus) = start().await;
    let mut first = journal(&bus, "first");
    assert_eq!(lead(&mut first).await, 1);
    assert!(push(&mut first, 7));
    let released = next(&mut first).await;
    assert!(matches!(released, Progress::Released(released) if released.effects == [7] && released.number == 2));
    let mut second = journal(&bus, "second");
    while second.position() != first.position() {
        assert!(matches!(next(&mut second).await, Progress::Followed(_)));
    }
    first.stop();
    assert!(matches!(next(&mut first).await, Progress::Stopped));
    assert_eq!(lead(&mut second).await, 2);
    assert!(second.may_answer());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_leader_that_is_silent_and_deposes_it() {
    let (_server, bus) = start().await;
    let mut first = journal(&bus, "first");
    lead(&mut first).await;
    let mut second = journal(&bus, "second");
    // Nobody awaits the first journal: to the others it is frozen.
    assert_eq!(lead(&mut second).await, 2);
    assert!(!first.may_answer());
    assert!(matches!(next(&mut first).await, Progress::Deposed));
    loop {
        match next(&mut first).await {
            Progress::Followed(committed) if committed.frame.epoch == 2 => break,
            Progress::Followed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    let (mut server, bus) = start().await;
    let mut leader = journal(&bus, "leader");
    lead(&mut leader).await;
    let reading = async {
        let mut reader = follower(&bus, Position::START);
        let mut frames = Vec::new();
        while events(&frames).last() != Some(&LAST) {
            frames.extend(batch(&mut reader).await);
        }
        frames
    };
    let writing = async {
        let (mut pushed, mut acknowledged) = (0, BTreeSet::new());
        for round in 0..3 {
            let until = acknowledged.len() + 400;
            while acknowledged.len() < until {
                while leader.backlog() < 1_000 && push(&mut leader, pushed) {
                    pushed += 1;
                }
                match next(&mut leader).await {
                    Progress::Released(released) => acknowledged.extend(released.effects),
                    Progress::Leading { resumed, .. } => assert!(resumed, "round {round}: took over from itself"),
                    Progress::Followed(_) => {}
                    other => panic!("round {round}: {other:?}"),
                }
            }
            server.restart().await;
        }
        while !push(&mut leader, LAST) {
            next(&mut leader).await;
        }
        while !acknowledged.contains(&LAST) {
            if let Progress::Released(released) = next(&mut leader).await {
                acknowledged.extend(released.effects);
            }
        }
        acknowledged
    };
    let (frames, acknowledged) = timeout(2 * LIMIT, async { tokio::join!(reading, writing) }).await.expect("an end");
    let stored = events(&frames);
    let once: BTreeSet<_> = stored.iter().copied().collect();
    assert_eq!(once.len(), stored.len(), "each turn is stored once");
    assert_eq!(acknowledged, once, "what was acknowledged is what is stored");
    assert!(stored.is_sorted(), "in the order in which it was decided");

    let middle = frames[frames.len() / 2].position;
    let mut resumed = follower(&bus, middle);
    assert_eq!(batch(&mut resumed).await[0].position.number, middle.number + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_frame_is_another_stops() {
    let (_server, bus) = start().await;
    let mut leader = journal(&bus, "leader");
    lead(&mut leader).await;
    let mut position = leader.position();
    position.hash = laneway_journal::FrameHash::of(b"another");
    let fault = timeout(LIMIT, follower(&bus, position).next_batch(10)).await.expect("a fault").unwrap_err();
    assert_eq!(fault, Fault::DataLoss { first: 1, last: 1, loss: Loss::Replaced });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_again_stops_leader_and_view() {
    let (_server, bus) = start().await;
    let mut leader = journal(&bus, "leader");
    lead(&mut leader).await;
    assert!(push(&mut leader, 1));
    assert!(matches!(next(&mut leader).await, Progress::Released(_)));
    let mut view = follower(&bus, leader.position());
    bus.jetstream().delete_stream(Prefix::default().stream(Stream::Journal)).await.unwrap();
    ensure_streams(&bus).await.unwrap();
    loop {
        match next(&mut leader).await {
            Progress::Fault(fault) => {
                assert_eq!(fault, Fault::DataLoss { first: 1, last: 2, loss: Loss::Missing });
                break;
            }
            Progress::Leading { .. } | Progress::Followed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let fault = timeout(LIMIT, view.next_batch(10)).await.expect("a fault").unwrap_err();
    assert_eq!(fault, Fault::DataLoss { first: 1, last: 2, loss: Loss::Missing });
}
