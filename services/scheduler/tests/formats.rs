//! Programs of two versions on one journal: it is raised when all read the newer format, and not before; who does not read it
//! stops cleanly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Scheduler, World, submit, within};
use laneway_contract::*;
use laneway_journal::frame::FORMAT;
use laneway_journal::{Fault, Formats};
use laneway_scheduler::SchedulerError;
use tokio::time::sleep;

/// Those of a program that comes after this one.
const NEXT: Formats = Formats { oldest: FORMAT, newest: FORMAT + 1 };

/// The formats of the frames in the journal, by their first field.
async fn formats(world: &World) -> Vec<u8> {
    let stream = world.bus.jetstream().get_stream(world.bus.prefix().stream(Stream::Journal)).await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let mut formats = Vec::new();
    for number in 1..=last {
        formats.push(stream.get_raw_message(number).await.unwrap().payload[1]);
    }
    formats
}

/// Waits until a frame has the newer format.
async fn raised(world: &World) {
    within(async {
        while formats(world).await.last() != Some(&(NEXT.newest as u8)) {
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

async fn cannot_read(scheduler: Scheduler) {
    let ended = scheduler.ended().await;
    let Err(SchedulerError::Journal(fault @ Fault::NewerFormat { format, .. })) = ended else { panic!("{ended:?}") };
    assert_eq!(format, NEXT.newest);
    assert!(!fault.is_damage());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_raised_when_the_last_old_program_has_gone() {
    let world = World::start().await;
    let old = world.scheduler("old").await;
    assert_eq!(world.status().await.leader, "old");
    let new = world.scheduler_of("new", NEXT).await;
    let other = world.scheduler("other").await;
    let requests: Vec<SubmitRun> = (0..9).map(|n| submit(&format!("run {n}"))).collect();
    for request in &requests[..3] {
        world.submit(request).await;
    }
    old.stop().await;
    // Whoever of the two leads: the other is there and asked, so nothing newer is written.
    for request in &requests[3..6] {
        world.submit(request).await;
    }
    sleep(Duration::from_secs(8)).await;
    assert!(formats(&world).await.iter().all(|&format| format == FORMAT as u8), "raised while an old program reads it");
    other.stop().await;
    raised(&world).await;
    for request in &requests[6..] {
        world.submit(request).await;
    }
    for request in &requests {
        assert!(world.submit(request).await.repeated, "a submit that was acknowledged is not known");
    }
    let formats = formats(&world).await;
    assert!(formats.is_sorted(), "no frame behind the raise has the older format: {formats:?}");

    // An old program that comes back reads up to there and stops; nothing is lost, and the new one goes on.
    cannot_read(world.scheduler("old").await).await;
    assert_eq!(world.status().await.leader, "new");
    new.stop().await;
    let again = world.scheduler_of("again", NEXT).await;
    for request in &requests {
        assert!(world.submit(request).await.repeated);
    }
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_program_that_nobody_heard_stops_when_the_journal_is_raised() {
    let world = World::start().await;
    let new = world.scheduler_of("new", NEXT).await;
    assert_eq!(world.status().await.leader, "new");
    raised(&world).await;
    cannot_read(world.scheduler("old").await).await;
    world.submit(&submit("goes on")).await;
    new.stop().await;
}
