//! What callers may send, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use laneway_contract::{
    AppendMessages, CreateSession, Event, Format, MAX_BODY_BYTES, MemoryPolicy, MessageRole, Mode, PreparedSession,
    PutArtifact, Source,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::*;

fn request<T: serde::de::DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    Format::Json.decode(body.to_string().as_bytes())
}

fn create_in(world: &World, body: &Value) -> Result<PreparedSession, ApiError> {
    create(&world.read(), &catalog(), &request::<CreateSession>(body)?)
}

fn append_in(world: &World, body: &Value) -> Result<Append, ApiError> {
    append(&world.read(), &request::<AppendMessages>(body)?)
}

fn new_append(world: &World, body: &Value) -> PreparedAppend {
    match append_in(world, body).unwrap() {
        Append::New(prepared) => prepared,
        Append::Repeated(reply) => panic!("repeated: {reply:?}"),
    }
}

/// The smallest create, with some fields set.
fn creating(fields: &Value) -> Value {
    let mut body = json!({"model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// An append to session 1.
fn appending(messages: &Value) -> Value {
    json!({"session_id": session_id(1), "messages": messages})
}

#[test]
fn a_create_is_complete_before_it_is_sent() {
    let world = World::new();
    let prepared = create_in(
        &world,
        &creating(&json!({"instructions": "be brief", "history": [
        {"content": "hi"}, {"role": "ASSISTANT", "content": "be brief"},
        {"role": "TOOL_CALL", "content": "{}", "tool_call_id": "c"},
        {"role": "TOOL_RESULT", "content": "1", "tool_call_id": "c"}]})),
    )
    .unwrap();
    let roles: Vec<_> = prepared.messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["SYSTEM", "USER", "ASSISTANT", "TOOL_CALL", "TOOL_RESULT"]);
    assert_eq!(prepared.messages[0].source, Source::Runtime);
    assert!(prepared.messages[1..].iter().all(|message| message.source == Source::Import));
    assert_eq!(prepared.fields.instructions, Some(prepared.messages[0].content));
    assert_eq!(prepared.fields.mode, Mode::SessionPersistent);
    assert_eq!((prepared.fields.role.as_str(), prepared.fields.spawn_depth), ("orchestrator", 0));
    assert_eq!(prepared.fields.memory_policy, MemoryPolicy::SessionScoped);
    // Five messages, two of them with one content.
    assert_eq!(prepared.artifacts.len(), 4);
    for artifact in &prepared.artifacts {
        assert_eq!(artifact.id, hash_key().artifact_id(&artifact.bytes));
    }
}

#[test]
fn a_child_is_one_deeper_than_its_parent() {
    let mut world = World::new();
    let mut parent = session(1, 1);
    parent.fields.spawn_depth = 2;
    world.commit(vec![created(parent)]);
    let body = creating(&json!({"parent_session_id": session_id(1)}));
    assert_eq!(create_in(&world, &body).unwrap().fields.spawn_depth, 3);
}

#[test]
fn the_same_request_has_the_same_fingerprint_whatever_ids_are_made_up() {
    let world = World::new();
    let body = creating(&json!({"history": [{"content": "hi"}], "labels": {"a": "1", "b": "2"}}));
    let other = creating(&json!({"history": [{"content": "ho"}], "labels": {"a": "1", "b": "2"}}));
    let [first, again, different] = [&body, &body, &other].map(|body| create_in(&world, body).unwrap());
    assert_ne!(first.session_id, again.session_id);
    assert_ne!(first.messages[0].message_id, again.messages[0].message_id);
    assert_eq!(first.fingerprint, again.fingerprint);
    assert_ne!(first.fingerprint, different.fingerprint);
}

#[test]
fn refused_creates() {
    let mut world = World::new();
    world.commit(vec![created(session(1, 1)), stored("there")]);
    let check = |fields: Value, code: ErrorCode, path: &str| {
        let error = create_in(&world, &creating(&fields)).map(|prepared| prepared.session_id).unwrap_err();
        assert_eq!((error.code, error.details["path"].as_str().unwrap_or_default()), (code, path), "{fields}: {error}");
    };
    let long = "x".repeat(129);
    let many = |n: usize| (0..n).map(|at| at.to_string()).collect::<Vec<_>>();
    let labels = |n: usize| many(n).into_iter().map(|name| (name, json!(""))).collect::<serde_json::Map<_, _>>();
    let nowhere = hash_key().artifact_id(b"nowhere");
    let bad = ErrorCode::BadRequest;
    check(json!({"role": long}), bad, "role");
    check(json!({"role": ""}), bad, "role");
    check(json!({"wp_id": long}), bad, "wp_id");
    check(json!({"mt_id": long}), bad, "mt_id");
    check(json!({"work_profile_id": ""}), bad, "work_profile_id");
    check(json!({"consent_receipt_id": long}), bad, "consent_receipt_id");
    check(json!({"projection_plan_id": long}), bad, "projection_plan_id");
    check(json!({"target_entity_ids": ["a", long]}), bad, "target_entity_ids[1]");
    check(json!({"capability_grants": many(129)}), bad, "capability_grants");
    check(json!({"capability_token_ids": [""]}), bad, "capability_token_ids[0]");
    check(json!({"labels": labels(33)}), bad, "labels");
    check(json!({"labels": {long.as_str(): "x"}}), bad, "labels");
    check(json!({"labels": {"x": long}}), bad, "labels");
    check(json!({"history": vec![json!({"content": "x"}); 501]}), bad, "history");
    check(json!({"instructions": "x", "history": vec![json!({"content": "x"}); 500]}), bad, "history");
    check(json!({"history": [{"role": "SYSTEM", "content": "x"}]}), ErrorCode::RoleForbidden, "history[0].role");
    check(json!({"history": [{"role": "TOOL_CALL", "content": "x"}]}), bad, "history[0].tool_call_id");
    check(json!({"history": [{"content": "x", "tool_call_id": "c"}]}), bad, "history[0].tool_call_id");
    check(json!({"history": [{"content": "x", "source": "runtime"}]}), bad, "history[0].source");
    check(json!({"history": [{"content": "x", "content_type": "té"}]}), bad, "history[0].content_type");
    check(
        json!({"history": [{"content": "x", "attachments": [nowhere]}]}),
        ErrorCode::NotFound,
        "history[0].attachments",
    );
    check(json!({"instructions": {"artifact_id": nowhere}}), ErrorCode::NotFound, "instructions");
    check(json!({"model_id": "nobody/x"}), ErrorCode::UnknownModel, "model_id");
    check(json!({"model_id": "echo"}), bad, "model_id");
    check(json!({"parent_session_id": session_id(9)}), ErrorCode::NotFound, "parent_session_id");
    check(json!({"parent_session_id": session_id(1), "spawn_depth": 2}), bad, "spawn_depth");
    check(json!({"spawn_depth": 1}), bad, "spawn_depth");
    check(json!({"memory_policy": "FOREVER"}), bad, "memory_policy");
    check(json!({"colour": "red"}), ErrorCode::UnknownField, "colour");
}

#[test]
fn the_most_that_is_allowed_is_taken() {
    let mut world = World::new();
    world.commit(vec![stored("there")]);
    let longest = "x".repeat(128);
    let there = artifact("there").id;
    create_in(
        &world,
        &creating(&json!({
            "role": longest, "wp_id": longest, "labels": {longest.as_str(): longest},
            "history": vec![json!({"content": {"artifact_id": there}, "attachments": vec![there; 8]}); 500],
        })),
    )
    .unwrap();
}

#[test]
fn refused_appends() {
    let world = World::new();
    let check = |body: Value, code: ErrorCode, path: &str| {
        let error = append_in(&world, &body).unwrap_err();
        assert_eq!((error.code, error.details["path"].as_str().unwrap_or_default()), (code, path), "{error}");
    };
    let bad = ErrorCode::BadRequest;
    check(appending(&json!([])), bad, "messages");
    check(appending(&json!(vec![json!({"content": "x"}); 501])), bad, "messages");
    for role in ["SYSTEM", "ASSISTANT", "TOOL_CALL", "TOOL_RESULT"] {
        check(
            appending(&json!([{"content": "x"}, {"role": role, "content": "x"}])),
            ErrorCode::RoleForbidden,
            "messages[1].role",
        );
    }
    check(appending(&json!([{"content": "x", "tool_call_id": "c"}])), bad, "messages[0].tool_call_id");
    check(appending(&json!([{"content": "x", "source": "import"}])), bad, "messages[0].source");
    check(appending(&json!([{"content": "x", "source": "runtime"}])), bad, "messages[0].source");
    let id = message_id(1);
    check(
        appending(&json!([{"content": "x", "message_id": id}, {"content": "y", "message_id": id}])),
        bad,
        "messages[1].message_id",
    );
    let large = "x".repeat(contents::MAX_MESSAGE_BYTES as usize + 1);
    check(appending(&json!([{"content": large}])), ErrorCode::PayloadTooLarge, "messages[0].content");
    let mut body = appending(&json!([{"content": "x"}]));
    body["idempotency_key"] = json!("");
    check(body.clone(), bad, "idempotency_key");
    body["idempotency_key"] = json!("x".repeat(129));
    check(body, bad, "idempotency_key");
}

#[test]
fn errors_about_contents_never_quote_them() {
    let world = World::new();
    let body = appending(&json!([{"content": "canary".repeat(200_000)}]));
    let error = append(&world.read(), &serde_json::from_value(body).unwrap()).unwrap_err();
    assert!(!serde_json::to_string(&error).unwrap().contains("canary"));
}

#[test]
fn an_append_without_a_key_goes_under_its_first_message() {
    let world = World::new();
    let prepared = new_append(&world, &appending(&json!([{"content": "a"}, {"content": "b"}])));
    assert_eq!(prepared.key, prepared.messages[0].message_id.to_string());
    assert!(
        prepared.messages.iter().all(|message| message.role == MessageRole::User && message.source == Source::Caller)
    );
}

#[test]
fn a_content_that_is_there_is_not_sent_again() {
    let mut world = World::new();
    world.commit(vec![stored("known")]);
    let prepared =
        new_append(&world, &appending(&json!([{"content": "known"}, {"content": "new"}, {"content": "new"}])));
    assert_eq!(prepared.artifacts, vec![artifact("new")]);
    assert_eq!(prepared.messages[0].content, artifact("known").id);
}

#[test]
fn a_repeated_append_gets_its_first_answer_from_the_view() {
    let mut world = World::new();
    let mut body = appending(&json!([{"content": "a"}, {"content": "b"}]));
    body["idempotency_key"] = json!("k");
    let prepared = new_append(&world, &body);
    world.commit(vec![
        created(session(1, 1)),
        Event::AppendKeyTaken {
            session_id: session_id(1),
            key: "k".to_owned(),
            fingerprint: prepared.fingerprint,
            first_seq: 3,
            last_seq: 4,
        },
    ]);
    let Append::Repeated(reply) = append_in(&world, &body).unwrap() else { panic!("sent again") };
    assert_eq!((reply.first_seq, reply.last_seq, reply.repeated), (3, 4, true));
    body["messages"][1]["content"] = json!("c");
    assert_eq!(append_in(&world, &body).unwrap_err().code, ErrorCode::IdempotencyConflict);
    // The key of one session is nothing to another.
    body["session_id"] = json!(session_id(2));
    new_append(&world, &body);
}

#[test]
fn without_a_hash_key_nothing_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let (view, _writer) = crate::view::View::open(folder.path()).unwrap();
    let body = request(&appending(&json!([{"content": "x"}]))).unwrap();
    assert_eq!(append(&view.read().unwrap(), &body).unwrap_err().code, ErrorCode::Unavailable);
}

#[test]
fn artifacts_are_put_once_and_under_their_hash() {
    let mut world = World::new();
    let put_in = |world: &World, body: Value| put(&world.read(), request::<PutArtifact>(&body).unwrap());
    let (new, reply) = put_in(&world, json!({"text": "hello"})).unwrap();
    assert_eq!((new.unwrap(), reply.artifact_id, reply.size), (artifact("hello"), artifact("hello").id, 5));
    let (new, _) = put_in(&world, json!({"base64": "aGVsbG8=", "expected_id": artifact("hello").id})).unwrap();
    assert_eq!(new.unwrap().content_type, "application/octet-stream");
    world.commit(vec![stored("hello")]);
    let (new, reply) = put_in(&world, json!({"text": "hello"})).unwrap();
    assert_eq!((new, reply.artifact_id), (None, artifact("hello").id));
    let check = |body: Value, code: ErrorCode| {
        assert_eq!(put_in(&world, body.clone()).unwrap_err().code, code, "{body}");
    };
    check(json!({}), ErrorCode::BadRequest);
    check(json!({"text": "a", "base64": "YQ=="}), ErrorCode::BadRequest);
    check(json!({"base64": "not base64"}), ErrorCode::BadRequest);
    check(json!({"text": "a", "content_type": "a\nb"}), ErrorCode::BadRequest);
    check(json!({"text": "a", "expected_id": artifact("hello").id}), ErrorCode::BadRequest);
    let large = PutArtifact { text: Some("x".repeat(MAX_BODY_BYTES)), ..PutArtifact::default() };
    assert_eq!(put(&world.read(), large).unwrap_err().code, ErrorCode::PayloadTooLarge);
}
