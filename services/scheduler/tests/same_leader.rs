//! A leader that goes on in a new epoch, after a time in which its frames were not acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{World, within};
use futures::StreamExt;
use laneway_bus::{Bus, LEADER_EPOCH};
use laneway_contract::*;
use tokio::time::{Instant, sleep};

/// Longer than a leader's lease, shorter than a connection lives without an answer.
const FROZEN: Duration = Duration::from_millis(LEADER_LEASE_MS + 2_000);

/// Answers of an epoch after which it is known to be the only one.
const ENOUGH: usize = 2_000;
/// Requests that are sent every millisecond.
const AT_A_TIME: usize = 50;

/// Sends requests until `epoch` has answered some: how many answers each of them got.
async fn answers(bus: &Bus, epoch: Epoch) -> BTreeMap<String, u32> {
    // The first that a leader subscribes, and a body that is answered at once.
    let subject = bus.prefix().subject(&Subject::Endpoint(Endpoint::RunsSubmit));
    let inbox = bus.client().new_inbox();
    let mut replies = bus.subscribe(format!("{inbox}.*")).await.unwrap();
    let (mut answers, mut sent, mut of_epoch) = (BTreeMap::new(), 0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let end = sleep(common::BOUND);
    tokio::pin!(end);
    loop {
        tokio::select! {
            Some(reply) = replies.next() => {
                // Nobody was there, or it is of a leader.
                let Some(by) = reply.headers.as_ref().and_then(|headers| headers.get(LEADER_EPOCH)) else { continue };
                *answers.entry(reply.subject.to_string()).or_default() += 1;
                of_epoch += usize::from(by.as_str() == epoch.to_string());
                if of_epoch == ENOUGH {
                    // A second answer is on its way no longer than the first.
                    end.as_mut().reset(Instant::now() + Duration::from_millis(500));
                }
            }
            _ = tick.tick(), if of_epoch < ENOUGH => {
                for _ in 0..AT_A_TIME {
                    sent += 1;
                    let reply = format!("{inbox}.{sent}");
                    bus.client().publish_with_reply(subject.clone(), reply, "[]".into()).await.unwrap();
                }
            }
            () = &mut end => return answers,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_on_answers_each_request_once() {
    let world = World::start().await;
    let scheduler = world.scheduler("one").await;
    let epoch = world.status().await.epoch + 1;
    world.server.freeze(FROZEN).await;
    let answers = within(answers(&world.bus, epoch)).await;
    let twice = answers.values().filter(|count| **count > 1).count();
    assert!(answers.len() >= ENOUGH && twice == 0, "{twice} of {} were answered twice", answers.len());
    scheduler.stop().await;
}
