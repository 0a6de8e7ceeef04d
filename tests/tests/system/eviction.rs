//! Memory that holds three sessions and four keys: nothing that was given up is lost, doubled or shown otherwise.

use std::time::Duration;

use laneway_bus::async_nats::HeaderMap;
use laneway_contract::{Endpoint, ErrorCode, ServiceName, Subject};
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

const CONFIG: &str = "
[scheduler]
sessions_in_memory = 3
keys_in_memory = 4
ended_runs_in_memory = 1000
";
const SESSIONS: usize = 12;

fn actor() -> Value {
    json!({"id": "me", "kind": "person"})
}

fn create(session: &str) -> Value {
    json!({"session_id": session, "model_id": "echo/default", "memory_policy": "SESSION_SCOPED"})
}

fn append(session: &str, key: &str, content: &str) -> Value {
    json!({"session_id": session, "idempotency_key": key, "messages": [{"content": content}]})
}

/// Waits until so many sessions are left in memory.
async fn given_up(stack: &Stack, at_most: u64) -> Value {
    for _ in 0..100 {
        let status = stack.must(Endpoint::Status, json!({})).await;
        if status["sessions_in_memory"].as_u64().unwrap() <= at_most {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing is given up\n{}", stack.logs());
}

async fn made(stack: &Stack) -> Vec<String> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let session = uuid::Uuid::now_v7().to_string();
        stack.must(Endpoint::SessionsCreate, create(&session)).await;
        let first = stack.must(Endpoint::SessionsAppend, append(&session, "first", "one")).await;
        assert_eq!((&first["first_seq"], &first["repeated"]), (&json!(1), &json!(false)));
        sessions.push(session);
    }
    sessions
}

/// Whatever was done once is known as that, of sessions that memory has given up long ago.
async fn check_repeats(stack: &Stack, session: &str, run: &Value) {
    let again = stack.must(Endpoint::SessionsCreate, create(session)).await;
    assert_eq!(again["repeated"], true);
    let other = json!({"session_id": session, "model_id": "echo/other", "memory_policy": "SESSION_SCOPED"});
    let conflict = stack.ask(Endpoint::SessionsCreate, other).await.unwrap_err();
    assert_eq!(conflict.code, ErrorCode::IdempotencyConflict);
    for (key, content, seq) in [("first", "one", 1), ("second", "two", 2)] {
        let again = stack.must(Endpoint::SessionsAppend, append(session, key, content)).await;
        assert_eq!((&again["first_seq"], &again["repeated"]), (&json!(seq), &json!(true)));
        let conflict = stack.ask(Endpoint::SessionsAppend, append(session, key, "other")).await.unwrap_err();
        assert_eq!(conflict.code, ErrorCode::IdempotencyConflict);
    }
    let again = stack.must(Endpoint::RunsSubmit, run.clone()).await;
    assert_eq!((&again["repeated"], &again["run"]["state"]), (&json!(true), &json!("completed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_memory_holds_are_neither_lost_nor_doubled() {
    let mut stack = Stack::start(CONFIG).await;
    let sessions = made(&stack).await;
    let status = given_up(&stack, 3).await;
    assert_eq!(status["sessions"], json!(SESSIONS));
    let mut runs = Vec::new();
    for session in &sessions {
        let second = stack.must(Endpoint::SessionsAppend, append(session, "second", "two")).await;
        assert_eq!((&second["first_seq"], &second["repeated"]), (&json!(2), &json!(false)));
        let run = json!({"session_id": session, "run_id": uuid::Uuid::now_v7(), "input": "three", "wait": true});
        assert_eq!(stack.must(Endpoint::RunsSubmit, run.clone()).await["done"], true);
        runs.push(run);
    }
    given_up(&stack, 3).await;
    for (session, run) in sessions.iter().zip(&runs) {
        check_repeats(&stack, session, run).await;
    }
    let leader = stack.leader().await;
    stack.kill9(&leader).await;
    for (session, run) in sessions.iter().zip(&runs) {
        check_repeats(&stack, session, run).await;
        let roles: Vec<(String, String)> = stack.thread(session).await;
        let expected = [("USER", "one"), ("USER", "two"), ("USER", "three")];
        assert_eq!(roles.len(), 4, "{roles:?}");
        assert!(roles.iter().zip(expected).all(|((role, text), (r, t))| (role.as_str(), text.as_str()) == (r, t)));
    }
    check_shown(&stack, &sessions).await;
    assert!(stack.ended().is_empty(), "a part has stopped: {:?}", stack.ended());
}

/// Lists, registry, budgets and the end of sessions that memory does not hold.
async fn check_shown(stack: &Stack, sessions: &[String]) {
    let registry = async |limit: usize| {
        let (mut found, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = stack.must(Endpoint::SessionsRegistry, json!({"limit": limit, "cursor": cursor})).await;
            found.extend(page["sessions"].as_array().unwrap().clone());
            cursor = page["cursor"].clone();
            if cursor.is_null() {
                return found;
            }
        }
    };
    let mut expected: Vec<&String> = sessions.iter().collect();
    expected.sort();
    for limit in [5, 1_000] {
        let rows = registry(limit).await;
        assert_eq!(rows.iter().map(|row| row["session_id"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        assert!(rows.iter().all(|row| row["state"] == "IDLE" && row["model_id"] == "echo/default"), "{rows:?}");
    }
    let (first, second) = (&sessions[0], &sessions[1]);
    let budget = stack.must(Endpoint::BudgetsGet, json!({"session_id": first})).await;
    assert!(budget["tokens"]["used"].as_u64().unwrap() > 0, "{budget}");
    let paused = stack.must(Endpoint::SessionsPause, json!({"session_id": first, "actor": actor()})).await;
    assert_eq!(paused["session"]["state"], "PAUSED");
    let ended = stack.must(Endpoint::SessionsComplete, json!({"session_id": second, "actor": actor()})).await;
    assert_eq!(ended["session"]["state"], "COMPLETED");
    let cancelled = stack.must(Endpoint::RunsCancel, json!({"session_id": sessions[2], "actor": actor()})).await;
    assert_eq!(cancelled["runs"], json!([]));
    let nowhere = json!({"session_id": uuid::Uuid::now_v7(), "actor": actor()});
    assert_eq!(stack.ask(Endpoint::SessionsPause, nowhere).await.unwrap_err().code, ErrorCode::NotFound);
    let status = given_up(stack, 3).await;
    assert_eq!(status["sessions"], json!(SESSIONS - 1));
    let rows = registry(100).await;
    assert_eq!(rows.len(), SESSIONS - 1);
    assert_eq!(rows.iter().filter(|row| row["state"] == "PAUSED").count(), 1);
    let shown = stack.must(Endpoint::SessionsGet, json!({"session_id": first})).await;
    assert_eq!((&shown["session"]["state"], &shown["session"]["messages_count"]), (&json!("PAUSED"), &json!(4)));
    let late = stack.ask(Endpoint::SessionsAppend, append(second, "late", "late")).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::SessionTerminal);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_what_was_given_up_waits_for_one() {
    let mut stack = Stack::start(CONFIG).await;
    let sessions = made(&stack).await;
    given_up(&stack, 3).await;
    stack.kill9("store-a").await;

    let session = &sessions[0];
    let refused = stack.ask(Endpoint::SessionsAppend, append(session, "second", "two")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    let submit = json!({"session_id": session, "run_id": uuid::Uuid::now_v7(), "input": "three"});
    let refused = stack.ask(Endpoint::RunsSubmit, submit.clone()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    // A message of the intake waits; what memory holds, or makes, goes on.
    let run_id = uuid::Uuid::now_v7().to_string();
    let waits = json!({"session_id": &sessions[1], "run_id": &run_id, "input": "later"});
    let body = serde_json::to_vec(&waits).unwrap();
    stack.bus.publish_stored(&Subject::Intake, HeaderMap::new(), body.into()).await.unwrap();
    let new = json!({"model_id": "echo/hang", "input": "now"});
    let started = stack.must(Endpoint::RunsSubmit, new).await;
    let held = started["run"]["session_id"].clone();
    let cancelled = stack.must(Endpoint::RunsCancel, json!({"session_id": held, "actor": actor()})).await;
    assert_eq!(cancelled["runs"].as_array().unwrap().len(), 1);

    stack.start_part(ServiceName::SessionStore, "store-a", &[]);
    stack.ready().await;
    let second = stack.must(Endpoint::SessionsAppend, append(session, "second", "two")).await;
    assert_eq!((&second["first_seq"], &second["repeated"]), (&json!(2), &json!(false)));
    // What was sent before may have waited for the store until now: then this is its repeat.
    stack.must(Endpoint::RunsSubmit, submit.clone()).await;
    stack.wait_run(submit["run_id"].as_str().unwrap()).await;
    let asked = stack.thread(session).await.into_iter().filter(|(_, text)| text == "three");
    assert_eq!(asked.filter(|(role, _)| role == "USER").count(), 1);
    assert_eq!(stack.wait_run(&run_id).await["run"]["state"], "completed");
    assert_eq!(stack.thread(&sessions[1]).await[1], ("USER".to_owned(), "later".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_that_is_forgotten_is_still_found_in_a_store() {
    let stack = Stack::start("[scheduler]\nended_runs_in_memory = 2\n").await;
    let mut runs = Vec::new();
    for n in 0..5 {
        let run = json!({"model_id": "echo/default", "input": format!("input {n}"), "wait": true});
        runs.push(stack.must(Endpoint::RunsSubmit, run).await["run"]["run_id"].clone());
    }
    let mut status = Value::Null;
    for _ in 0..100 {
        status = stack.must(Endpoint::Status, json!({})).await;
        if status["ended_runs"].as_u64().unwrap() <= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((&status["ended_runs"], status["forgotten_until"].is_string()), (&json!(2), true), "{status}");
    let first = &runs[0];
    assert_eq!(stack.must(Endpoint::RunsGet, json!({"run_id": first})).await["run"]["state"], "completed");
    assert_eq!(stack.must(Endpoint::RunsWait, json!({"run_id": first})).await["output"], "input 0");
    let cancelled = stack.must(Endpoint::RunsCancel, json!({"run_id": first, "actor": actor()})).await;
    assert_eq!(cancelled["runs"][0]["receipt"]["too_late"], true, "{cancelled}");
    let explained = stack.ask(Endpoint::RunsExplain, json!({"run_id": first})).await.unwrap_err();
    assert_eq!((explained.code, &explained.details["state"]), (ErrorCode::RunTerminal, &json!("completed")));
    let nowhere = json!({"run_id": uuid::Uuid::now_v7()});
    assert_eq!(stack.ask(Endpoint::RunsExplain, nowhere.clone()).await.unwrap_err().code, ErrorCode::NotFound);
    let nowhere = json!({"run_id": nowhere["run_id"], "actor": actor()});
    assert_eq!(stack.ask(Endpoint::RunsCancel, nowhere).await.unwrap_err().code, ErrorCode::NotFound);
}
