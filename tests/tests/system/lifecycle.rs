//! Sessions from the operator's side: the registry, pause and the ways to end; and artifacts as callers store and read them.

use std::time::Duration;

use bytes::Bytes;
use laneway_contract::{ApiError, ArtifactReply, Endpoint, PutArtifact, PutReply};
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

async fn create(stack: &Stack, fields: Value) -> String {
    let mut body = json!({"model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let reply = stack.must(Endpoint::SessionsCreate, body).await;
    reply["session"]["session_id"].as_str().unwrap().to_owned()
}

async fn submit(stack: &Stack, session: &str) -> String {
    let reply = stack.must(Endpoint::RunsSubmit, json!({"session_id": session, "input": "hello"})).await;
    reply["run"]["run_id"].as_str().unwrap().to_owned()
}

/// Waits until a run executes.
async fn executes(stack: &Stack, run: &str) {
    for _ in 0..400 {
        if stack.must(Endpoint::RunsGet, json!({"run_id": run})).await["run"]["state"] == "running" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{run} is never claimed\n{}", stack.logs());
}

fn change(session: &str) -> Value {
    json!({"session_id": session, "actor": {"id": "ada", "kind": "person"}, "reason": "told to"})
}

async fn refused(stack: &Stack, endpoint: Endpoint, body: Value) -> ApiError {
    stack.ask(endpoint, body).await.expect_err("a refusal")
}

/// Waits until a session has ended, as a store shows it.
async fn ended(stack: &Stack, session: &str) -> Value {
    for _ in 0..400 {
        let shown = stack.must(Endpoint::SessionsGet, json!({"session_id": session})).await["session"].clone();
        if ["COMPLETED", "FAILED", "CANCELLED"].iter().any(|state| shown["state"] == *state) {
            return shown["state"].clone();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{session} does not end\n{}", stack.logs());
}

/// The ids of all pages with this filter.
async fn listed(stack: &Stack, filter: Value, limit: u32) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut body = json!({"limit": limit, "cursor": cursor});
        body.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let page = stack.must(Endpoint::SessionsRegistry, body).await;
        let rows = page["sessions"].as_array().unwrap();
        assert!(rows.len() <= limit as usize, "{page}");
        ids.extend(rows.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()));
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_lists_every_session_that_has_not_ended() {
    let stack = Stack::start("[limits]\nper_model = 1\n").await;
    let root = create(&stack, json!({"role": "orchestrator", "wp_id": "wp-1"})).await;
    let hangs = json!({"role": "coder", "wp_id": "wp-1", "mt_id": "mt-3", "model_id": "echo/hang"});
    let mut child = hangs.clone();
    child["parent_session_id"] = json!(root);
    let child = create(&stack, child).await;
    let other = create(&stack, json!({"role": "coder", "wp_id": "wp-2", "model_id": "echo/hang"})).await;
    let gone = create(&stack, json!({"parent_session_id": root})).await;
    stack.must(Endpoint::SessionsComplete, change(&gone)).await;
    let runs = [submit(&stack, &child).await, submit(&stack, &child).await, submit(&stack, &other).await];
    executes(&stack, &runs[0]).await;

    let mut all = vec![root.clone(), child.clone(), other.clone()];
    all.sort();
    for limit in [1, 2, 3, 100] {
        assert_eq!(listed(&stack, json!({}), limit).await, all, "by id, each once, in pages of {limit}");
    }
    for (filter, expected) in [
        (json!({"state": "ACTIVE"}), vec![&child]),
        (json!({"state": "CREATED"}), vec![&root, &other]),
        (json!({"state": "COMPLETED"}), vec![]),
        (json!({"provider": "echo"}), vec![&root, &child, &other]),
        (json!({"provider": "openai"}), vec![]),
        (json!({"model_id": "echo/hang"}), vec![&child, &other]),
        (json!({"role": "coder"}), vec![&child, &other]),
        (json!({"wp_id": "wp-1"}), vec![&root, &child]),
        (json!({"wp_id": "wp-1", "role": "coder", "state": "ACTIVE"}), vec![&child]),
    ] {
        let mut expected: Vec<String> = expected.into_iter().cloned().collect();
        expected.sort();
        assert_eq!(listed(&stack, filter.clone(), 1).await, expected, "{filter}");
    }

    let page = stack.must(Endpoint::SessionsRegistry, json!({})).await;
    let row = |id: &str| page["sessions"].as_array().unwrap().iter().find(|row| row["session_id"] == id).unwrap();
    assert_eq!(row(&root)["children"], json!([child]), "the one that has ended is not among them");
    assert_eq!((&row(&root)["spawn_depth"], &row(&root)["current_run_id"]), (&json!(0), &json!(null)));
    let shown = row(&child);
    for (key, value) in [
        ("parent_session_id", json!(root)),
        ("spawn_depth", json!(1)),
        ("children", json!([])),
        ("state", json!("ACTIVE")),
        ("current_run_id", json!(runs[0])),
        ("job_state", json!("running")),
        ("queued_runs", json!(1)),
        ("provider", json!("echo")),
        ("model_id", json!("echo/hang")),
        ("role", json!("coder")),
        ("wp_id", json!("wp-1")),
        ("mt_id", json!("mt-3")),
    ] {
        assert_eq!(shown[key], value, "{key} of {shown}");
    }
    assert!(shown["since"].is_string(), "{shown}");
    // The limit lets one of them run, and the counts are those that the limit uses.
    assert_eq!((&page["per_provider"], &page["per_model"]), (&json!({"echo": 1}), &json!({"echo/hang": 1})));
    let waits = stack.must(Endpoint::RunsGet, json!({"run_id": runs[2]})).await;
    assert_eq!((&waits["run"]["state"], &waits["run"]["reason"]), (&json!("queued"), &json!("model")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_paused_goes_on_and_ends_as_it_is_told() {
    let stack = Stack::start("").await;
    let session = create(&stack, json!({})).await;
    let state = async |endpoint| stack.must(endpoint, change(&session)).await["session"]["state"].clone();
    assert_eq!(state(Endpoint::SessionsPause).await, "PAUSED");
    let run = submit(&stack, &session).await;
    let held = stack.must(Endpoint::RunsWait, json!({"run_id": run, "wait_ms": 300})).await;
    assert_eq!((&held["done"], &held["run"]["reason"]), (&json!(false), &json!("paused")), "{held}");
    let busy = refused(&stack, Endpoint::SessionsComplete, change(&session)).await;
    assert_eq!(busy.code.as_str(), "busy");
    assert_eq!(state(Endpoint::SessionsResume).await, "CREATED");
    assert_eq!(stack.wait_run(&run).await["run"]["state"], "completed");
    assert_eq!(state(Endpoint::SessionsComplete).await, "COMPLETED");

    // `fail`, `cancel` and `complete` with `cancel_runs` take a run that executes with them, and let nothing in from there on.
    let mut cancel_runs = change("");
    cancel_runs["cancel_runs"] = json!(true);
    for (endpoint, body, end, another) in [
        (Endpoint::SessionsFail, change(""), "FAILED", Endpoint::SessionsCancel),
        (Endpoint::SessionsCancel, change(""), "CANCELLED", Endpoint::SessionsComplete),
        (Endpoint::SessionsComplete, cancel_runs, "COMPLETED", Endpoint::SessionsFail),
    ] {
        let session = create(&stack, json!({"model_id": "echo/hang"})).await;
        let (run, waits) = (submit(&stack, &session).await, submit(&stack, &session).await);
        executes(&stack, &run).await;
        let mut body = body;
        body["session_id"] = json!(session);
        stack.must(endpoint, body.clone()).await;
        for (endpoint, body) in [
            (Endpoint::RunsSubmit, json!({"session_id": session, "input": "more"})),
            (Endpoint::SessionsAppend, json!({"session_id": session, "messages": [{"content": "more"}]})),
        ] {
            let error = refused(&stack, endpoint, body).await;
            assert_eq!(error.code.as_str(), "session_terminal", "{endpoint} after {end}");
        }
        for run in [run, waits] {
            assert_eq!(stack.wait_run(&run).await["run"]["state"], "cancelled", "{end}");
        }
        assert_eq!(ended(&stack, &session).await, end);
        assert_eq!(stack.must(endpoint, body).await["repeated"], true, "the same end once more is a repeat");
        for endpoint in [Endpoint::SessionsPause, Endpoint::SessionsResume, another] {
            let error = refused(&stack, endpoint, change(&session)).await;
            assert_eq!((error.code.as_str(), &error.details["state"]), ("session_terminal", &json!(end)), "{endpoint}");
        }
    }
}

/// Asks in JSON, as the `nats` CLI does.
async fn in_json(stack: &Stack, endpoint: Endpoint, body: Value) -> Value {
    let bytes = serde_json::to_vec(&body).unwrap();
    let reply = stack.bus.client().request(format!("laneway.{endpoint}"), bytes.into()).await.unwrap();
    serde_json::from_slice(&reply.payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_comes_back_as_it_was_stored() {
    let stack = Stack::start("").await;
    let get = async |id: &Value| in_json(&stack, Endpoint::ArtifactsGet, json!({"artifact_id": id})).await;

    let text = in_json(&stack, Endpoint::ArtifactsPut, json!({"text": "grün und blau"})).await;
    assert_eq!(text["size"], 14);
    let shown = get(&text["artifact_id"]).await;
    assert_eq!((&shown["text"], &shown["base64"]), (&json!("grün und blau"), &json!(null)));
    assert_eq!(shown["content_type"], "text/plain; charset=utf-8");

    let base64 = in_json(&stack, Endpoint::ArtifactsPut, json!({"base64": "AP/+", "content_type": "image/png"})).await;
    let shown = get(&base64["artifact_id"]).await;
    assert_eq!((&shown["base64"], &shown["text"]), (&json!("AP/+"), &json!(null)));
    assert_eq!((&shown["content_type"], &shown["size"]), (&json!("image/png"), &json!(3)));

    // The same bytes, in binary: the same artifact, whatever the way.
    let put = PutArtifact { bytes: Some(Bytes::from_static(&[0x00, 0xff, 0xfe])), ..PutArtifact::default() };
    let packed: PutReply = stack.bus.request(Endpoint::ArtifactsPut, &put).await.unwrap();
    assert_eq!(json!(packed.artifact_id), base64["artifact_id"]);
    let read = json!({"artifact_id": packed.artifact_id});
    let shown: ArtifactReply = stack.bus.request(Endpoint::ArtifactsGet, &read).await.unwrap();
    assert_eq!(shown.bytes.as_deref(), Some(&[0x00, 0xff, 0xfe][..]));
    // As large as they may be.
    let large = PutArtifact { bytes: Some(vec![7; 767 * 1024].into()), ..PutArtifact::default() };
    let stored: PutReply = stack.bus.request(Endpoint::ArtifactsPut, &large).await.unwrap();
    let read = json!({"artifact_id": stored.artifact_id});
    let shown: ArtifactReply = stack.bus.request(Endpoint::ArtifactsGet, &read).await.unwrap();
    assert_eq!(shown.bytes, large.bytes);
    let larger = PutArtifact { bytes: Some(vec![7; 767 * 1024 + 1].into()), ..PutArtifact::default() };
    let error = stack.bus.request::<_, PutReply>(Endpoint::ArtifactsPut, &larger).await.unwrap_err();
    assert_eq!(error.code.as_str(), "payload_too_large");

    let expecting = |id: &Value| json!({"text": "grün und blau", "expected_id": id});
    let right = in_json(&stack, Endpoint::ArtifactsPut, expecting(&text["artifact_id"])).await;
    assert_eq!(right["artifact_id"], text["artifact_id"]);
    let wrong = in_json(&stack, Endpoint::ArtifactsPut, expecting(&base64["artifact_id"])).await;
    assert_eq!(wrong["error"]["code"], "bad_request", "{wrong}");
    assert_eq!(wrong["error"]["details"]["artifact_id"], text["artifact_id"], "it says what the content is: {wrong}");
}
