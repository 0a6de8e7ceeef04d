//! The main path through separate processes and a real nats-server, killed and restarted on the way.

use laneway_contract::{Endpoint, ServiceName};
use laneway_tests::stack::Stack;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_survives_the_death_of_everything() {
    let mut stack = Stack::start("").await;
    let session = stack.create_session("echo/default").await;
    let append = json!({
        "session_id": session,
        "messages": [{"content": "remember the blue door"}],
        "idempotency_key": "a1",
        "expected_tail": 0,
    });
    let first = stack.must(Endpoint::SessionsAppend, append.clone()).await;
    assert_eq!((first["first_seq"].as_u64(), first["repeated"].as_bool()), (Some(1), Some(false)));
    let again = stack.must(Endpoint::SessionsAppend, append.clone()).await;
    assert_eq!((again["first_seq"].as_u64(), again["repeated"].as_bool()), (Some(1), Some(true)));

    let run = uuid::Uuid::now_v7().to_string();
    let submit = json!({"run_id": run, "session_id": session, "input": "which door was it"});
    stack.must(Endpoint::RunsSubmit, submit.clone()).await;
    let reply = stack.wait_run(&run).await;
    assert_eq!(reply["run"]["state"], "completed", "{reply}");
    assert_eq!(reply["output"], "which door was it");
    let before = stack.thread(&session).await;
    assert_eq!(before.len(), 3);

    stack.nats.kill9().await;
    stack.nats.restart().await;
    stack.ready().await;
    stack.kill9_all().await;
    std::fs::remove_dir_all(stack.data_path("store-a")).unwrap();
    stack.start_all().await;

    assert_eq!(stack.thread(&session).await, before, "the same thread from the journal alone");
    let again = stack.must(Endpoint::SessionsAppend, append).await;
    assert_eq!(again["repeated"], true, "the key is remembered");
    let again = stack.must(Endpoint::RunsSubmit, submit).await;
    assert_eq!((&again["repeated"], &again["run"]["state"]), (&json!(true), &json!("completed")), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_a_whole_conversation() {
    let stack = Stack::start("").await;
    let run_id = uuid::Uuid::now_v7().to_string();
    let body = json!({"run_id": run_id, "model_id": "echo/default", "input": "hello", "wait": true});
    let reply = stack.must(Endpoint::RunsSubmit, body.clone()).await;
    assert_eq!((&reply["done"], &reply["output"], &reply["repeated"]), (&json!(true), &json!("hello"), &json!(false)));
    let session = reply["run"]["session_id"].as_str().unwrap();
    let shown =
        stack.must(Endpoint::SessionsGet, json!({"session_id": session, "min_seq": reply["journal_seq"]})).await;
    assert_eq!(shown["session"]["state"], "COMPLETED");
    assert_eq!(shown["session"]["mode"], "ONE_SHOT");
    let again = stack.must(Endpoint::RunsSubmit, body).await;
    assert_eq!((&again["repeated"], &again["output"]), (&json!(true), &json!("hello")));
    assert_eq!(again["run"]["session_id"], session, "a repeat makes no second session");
    let other = json!({"run_id": run_id, "model_id": "echo/default", "input": "other"});
    assert_eq!(stack.ask(Endpoint::RunsSubmit, other).await.unwrap_err().code.as_str(), "idempotency_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_store_replica_took_is_read_at_the_other() {
    let mut stack = Stack::start("").await;
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    stack.described("PING.laneway-session-store", 2).await;
    // Which replica answers is the server's choice: of so many pairs of write and read, some cross.
    for _ in 0..40 {
        let body = json!({"model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
        let created = stack.must(Endpoint::SessionsCreate, body).await;
        let session = created["session"]["session_id"].clone();
        let get = json!({"session_id": session, "min_seq": created["journal_seq"]});
        assert_eq!(stack.must(Endpoint::SessionsGet, get).await["session"], created["session"]);
        let append = json!({"session_id": session, "messages": [{"content": "one"}]});
        let appended = stack.must(Endpoint::SessionsAppend, append).await;
        let read = json!({"session_id": session, "min_seq": appended["journal_seq"]});
        assert_eq!(stack.must(Endpoint::SessionsMessages, read).await["messages"][0]["seq"], 1);
    }
    for replica in stack.described("STATS.laneway-session-store", 2).await {
        for name in ["sessions-create", "sessions-get", "sessions-append", "sessions-messages"] {
            let endpoint = replica["endpoints"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap();
            assert!(endpoint["num_requests"].as_u64().unwrap() > 0, "a replica was never asked for {name}: {replica}");
        }
    }
}
