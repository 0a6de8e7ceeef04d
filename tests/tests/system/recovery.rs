//! What is folded again is the same: a long thread after the store's disk is lost, and the engine's state from the stream.

use laneway_contract::{Endpoint, Event, Stream};
use laneway_engine::State;
use laneway_journal::{Body, Follower, Position};
use laneway_tests::stack::Stack;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_200_messages_is_the_same_after_the_view_was_deleted() {
    let mut stack = Stack::start("").await;
    let session = stack.create_session("echo/default").await;
    for n in 0..100 {
        let run = json!({"session_id": session, "input": format!("question {n}"), "wait": true});
        assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["done"], true);
    }
    let read = json!({"session_id": session, "with_content": true, "limit": 1000});
    let before = stack.must(Endpoint::SessionsMessages, read.clone()).await["messages"].clone();
    assert_eq!(before.as_array().unwrap().len(), 200);
    let shown = stack.must(Endpoint::SessionsGet, json!({"session_id": session})).await["session"].clone();

    stack.kill9_all().await;
    stack.nats.kill9().await;
    std::fs::remove_dir_all(stack.data_path("store-a")).unwrap();
    stack.nats.restart().await;
    stack.start_all().await;

    let after = stack.must(Endpoint::SessionsMessages, read).await["messages"].clone();
    assert_eq!(serde_json::to_vec(&after).unwrap(), serde_json::to_vec(&before).unwrap());
    let again = stack.must(Endpoint::SessionsGet, json!({"session_id": session})).await["session"].clone();
    assert_eq!(serde_json::to_vec(&again).unwrap(), serde_json::to_vec(&shown).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fold_of_the_stream_gives_the_same_state_and_the_digests_of_the_leader() {
    let stack = Stack::start("").await;
    let session = stack.create_session("echo/default").await;
    // Every 1,000th frame carries a digest, so there have to be that many: one append each, one after the other.
    for n in 0..1_100 {
        let append = json!({"session_id": session, "messages": [{"content": format!("note {n}")}]});
        stack.must(Endpoint::SessionsAppend, append).await;
    }
    let last = stack.must(Endpoint::Status, json!({})).await["journal_seq"].as_u64().unwrap();
    let (first, digests) = fold(&stack, last).await;
    let (second, _) = fold(&stack, last).await;
    assert_eq!(first, second);
    assert!(digests > 0, "no digest in {last} frames");
}

/// The digest of a fold of the journal, and how many digests of the leader it was compared with on the way.
async fn fold(stack: &Stack, last: u64) -> (u128, usize) {
    let name = stack.bus.prefix().stream(Stream::Journal);
    let mut follower = Follower::<Event>::new(stack.bus.client().clone(), &name, Position::default());
    let (mut state, mut compared) = (State::default(), 0);
    loop {
        for committed in follower.next_batch(1_000).await.unwrap() {
            if let Body::Turns(turns) = committed.frame.body {
                for turn in turns {
                    for event in turn.events {
                        if let Event::StateDigest { digest } = &event {
                            assert_eq!(state.digest(), *digest, "frame {}", committed.position.number);
                            compared += 1;
                        }
                        state.apply(&event, turn.at);
                    }
                }
            }
            if committed.position.number >= last {
                return (state.digest(), compared);
            }
        }
    }
}
