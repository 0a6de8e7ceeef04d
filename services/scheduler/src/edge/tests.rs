//! What the edge refuses, what it fills in, and what makes two requests the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use laneway_contract::*;
use laneway_engine::{CancelTarget, Command, LimitsChange};
use serde_json::{Value, json};

use super::*;

const SESSION: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e";
const RUN: &str = "0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f";

fn edge() -> Edge {
    let plain = |name: &str, capabilities: Capabilities| {
        let defaults = ModelSpec {
            capabilities,
            context_window: Some(8_192),
            output_limit: Some(1_000),
            input_usd_per_million: None,
            output_usd_per_million: None,
        };
        let spec = ProviderSpec {
            kind: ProviderKind::Openai,
            backend: Backend::Cloud,
            endpoint: None,
            api_key_env: None,
            api_key_file: None,
            defaults,
            models: std::collections::BTreeMap::new(),
        };
        (name.to_owned(), spec)
    };
    let thinking = Capabilities { thinking: true, structured_output: true, ..Capabilities::default() };
    let more = [plain("plain", Capabilities::default()), plain("able", thinking)];
    let catalog = Catalog::built_in().unwrap().with(more.into_iter().collect());
    Edge::new(HashKey::from_bytes([7; 32]), Arc::new(catalog))
}

fn parse(body: &Value) -> Result<SubmitRun, ApiError> {
    Format::Json.decode(body.to_string().as_bytes())
}

fn prepare(body: &Value) -> Result<Prepared, ApiError> {
    edge().submit(parse(body)?, &KnownArtifacts::new(), None)
}

/// A request on top of one that is right.
fn with(changes: Value) -> Value {
    changed(json!({"run_id": RUN, "model_id": "echo/default", "input": "hello"}), changes)
}

fn in_session(changes: Value) -> Value {
    changed(json!({"run_id": RUN, "session_id": SESSION, "input": "hello"}), changes)
}

fn changed(mut body: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("fields") };
    for (key, value) in changes {
        body[key] = value;
    }
    body
}

fn check(body: &Value, code: ErrorCode, path: &str) {
    let error = prepare(body).err().unwrap_or_else(|| panic!("taken: {body}"));
    assert_eq!(error.code, code, "{body}: {error}");
    if !path.is_empty() {
        let found = error.details.get("path").and_then(Value::as_str);
        assert_eq!(found, Some(path), "{body}: {error}");
    }
}

#[test]
fn refuses_what_is_wrong() {
    let long = "x".repeat(129);
    let message = |field: &str, value: Value| {
        let mut message = json!({"content": "hi"});
        message[field] = value;
        with(json!({"input": [message]}))
    };
    let twice = json!({"content": "a", "message_id": SESSION});
    let cases = [
        (with(json!({"job_kind": "tool_run"})), ErrorCode::UnknownJobKind, "job_kind"),
        (with(json!({"model_id": "nobody/knows"})), ErrorCode::UnknownModel, "model_id"),
        (json!({"input": "hello"}), ErrorCode::BadRequest, "model_id"),
        (with(json!({"priority": 1001})), ErrorCode::BadRequest, "priority"),
        (with(json!({"priority": -1})), ErrorCode::BadRequest, "priority"),
        (with(json!({"lane": "FAST"})), ErrorCode::BadRequest, "lane"),
        (with(json!({"on_busy": "SOMETIMES"})), ErrorCode::BadRequest, "on_busy"),
        (with(json!({"max_retries": 21})), ErrorCode::BadRequest, "max_retries"),
        (with(json!({"timeout_ms": 0})), ErrorCode::BadRequest, "timeout_ms"),
        (with(json!({"timeout_ms": MAX_TIMEOUT_MS + 1})), ErrorCode::BadRequest, "timeout_ms"),
        (with(json!({"queue_timeout_ms": 0})), ErrorCode::BadRequest, "queue_timeout_ms"),
        (with(json!({"queue_timeout_ms": MAX_TIMEOUT_MS + 1})), ErrorCode::BadRequest, "queue_timeout_ms"),
        (with(json!({"max_tokens_budget": 0})), ErrorCode::BadRequest, "max_tokens_budget"),
        (with(json!({"max_tokens_budget": u64::MAX})), ErrorCode::BadRequest, "max_tokens_budget"),
        (with(json!({"budget_tokens": u64::MAX})), ErrorCode::BadRequest, "budget_tokens"),
        (with(json!({"budget_usd": "1000001"})), ErrorCode::BadRequest, "budget_usd"),
        (with(json!({"deadline": "soon"})), ErrorCode::BadRequest, "deadline"),
        (with(json!({"not_before": 5})), ErrorCode::BadRequest, "not_before"),
        (with(json!({"wait_ms": MAX_WAIT_MS + 1})), ErrorCode::BadRequest, "wait_ms"),
        (with(json!({"concurrency_group": long})), ErrorCode::BadRequest, "concurrency_group"),
        (with(json!({"concurrency_group": ""})), ErrorCode::BadRequest, "concurrency_group"),
        (with(json!({"cancellation_token": long})), ErrorCode::BadRequest, "cancellation_token"),
        (with(json!({"fairness_key": long})), ErrorCode::BadRequest, "fairness_key"),
        (with(json!({"role": long})), ErrorCode::BadRequest, "role"),
        (with(json!({"target_entity_ids": ["a", long]})), ErrorCode::BadRequest, "target_entity_ids[1]"),
        (with(json!({"labels": {"k": long}})), ErrorCode::BadRequest, "labels"),
        (with(json!({"labels": {"": "v"}})), ErrorCode::BadRequest, "labels"),
        (with(json!({"estimated_tokens": u64::MAX})), ErrorCode::BadRequest, "estimated_tokens"),
        (with(json!({"unheard_of": 1})), ErrorCode::UnknownField, "unheard_of"),
        (with(json!({"generation": {"temprature": 1}})), ErrorCode::UnknownField, "generation.temprature"),
        (with(json!({"generation": {"temperature": 2.5}})), ErrorCode::BadRequest, "generation.temperature"),
        (with(json!({"generation": {"max_output_tokens": 0}})), ErrorCode::BadRequest, "generation.max_output_tokens"),
        (with(json!({"generation": {"stop": []}})), ErrorCode::BadRequest, "generation.stop"),
        (with(json!({"generation": {"stop": [""]}})), ErrorCode::BadRequest, "generation.stop"),
        (with(json!({"generation": {"response_schema": 7}})), ErrorCode::BadRequest, "generation.response_schema"),
        (with(json!({"input": []})), ErrorCode::BadRequest, "input"),
        (with(json!({"input": [twice, twice]})), ErrorCode::BadRequest, "input[1].message_id"),
        (message("role", json!("ASSISTANT")), ErrorCode::RoleForbidden, "input[0].role"),
        (message("role", json!("SYSTEM")), ErrorCode::RoleForbidden, "input[0].role"),
        (message("tool_call_id", json!("t")), ErrorCode::BadRequest, "input[0].tool_call_id"),
        (message("source", json!("runtime")), ErrorCode::BadRequest, "input[0].source"),
        (message("content_type", json!("text")), ErrorCode::BadRequest, "input[0].content_type"),
        (
            message("attachments", json!([format!("b3:{}", "0".repeat(64))])),
            ErrorCode::NotFound,
            "input[0].attachments",
        ),
        (
            message("content", json!({"artifact_id": format!("b3:{}", "0".repeat(64))})),
            ErrorCode::NotFound,
            "input[0].content",
        ),
        (in_session(json!({"role": "coder"})), ErrorCode::BadRequest, "role"),
        (in_session(json!({"budget_tokens": 5})), ErrorCode::BadRequest, "budget_tokens"),
        (in_session(json!({"budget_usd": "1"})), ErrorCode::BadRequest, "budget_usd"),
        (in_session(json!({"labels": {}})), ErrorCode::BadRequest, "labels"),
        (in_session(json!({"memory_policy": "EPHEMERAL"})), ErrorCode::BadRequest, "memory_policy"),
        (in_session(json!({"instructions": "be kind"})), ErrorCode::BadRequest, "instructions"),
        (in_session(json!({"model_id": "nobody/knows"})), ErrorCode::UnknownModel, "model_id"),
    ];
    for (body, code, path) in &cases {
        check(body, *code, path);
    }
    let too_many = vec![json!({"content": "x"}); MAX_MESSAGES + 1];
    check(&with(json!({"input": too_many})), ErrorCode::BadRequest, "input");
    check(&with(json!({"input": "x".repeat(760 * 1024)})), ErrorCode::PayloadTooLarge, "input");
}

#[test]
fn refuses_what_the_model_cannot_do() {
    let schema = json!({"generation": {"response_schema": {"type": "object"}}});
    let effort = json!({"generation": {"reasoning_effort": "high"}});
    let tokens = json!({"generation": {"max_output_tokens": 1001}});
    let on = |model: &str, changes: &Value| {
        let mut body = with(changes.clone());
        body["model_id"] = json!(model);
        body
    };
    let unable = ErrorCode::UnsupportedCapability;
    check(&on("plain/a", &schema), unable, "generation.response_schema");
    check(&on("plain/a", &effort), unable, "generation.reasoning_effort");
    check(&on("plain/a", &tokens), ErrorCode::ExceedsLimit, "generation.max_output_tokens");
    prepare(&on("able/a", &schema)).unwrap();
    prepare(&on("able/a", &effort)).unwrap();
    // In a session the model may be the session's: checked against the state, right before the turn.
    let prepared = prepare(&in_session(schema)).unwrap();
    let (session, needs) = prepared.of_session_model.unwrap();
    assert_eq!(session.to_string(), SESSION);
    let catalog = edge().catalog().clone();
    assert_eq!(needs.check(&catalog, &ModelId::parse("plain/a").unwrap()).unwrap_err().code, unable);
    needs.check(&catalog, &ModelId::parse("able/a").unwrap()).unwrap();
}

#[test]
fn errors_never_quote_content() {
    let canary = "canary-7f3a";
    let cases = [
        with(json!({"input": {"x": canary}})),
        with(json!({"input": [{"content": canary, "role": "ASSISTANT"}]})),
        with(json!({"generation": {"response_schema": canary}})),
        with(json!({"generation": {"stop": [canary.repeat(60)]}})),
        with(json!({"job_kind": canary})),
    ];
    for body in cases {
        let error = prepare(&body).unwrap_err();
        assert!(!format!("{error:?}").contains(canary), "{error:?}");
    }
}

#[test]
fn fills_in_every_default() {
    let prepared = prepare(&with(json!({"instructions": "be kind"}))).unwrap();
    let submit = prepared.submit;
    assert_eq!(prepared.wait, None);
    assert_eq!((submit.lane, submit.priority, submit.on_busy), (Lane::Primary, 50, OnBusy::Enqueue));
    assert_eq!((submit.max_retries, submit.timeout_ms), (3, 120_000));
    assert_eq!(submit.retry_backoff, RetryBackoff::Exponential);
    assert_eq!(submit.backend, Some(Backend::Local));
    let session = submit.new_session.unwrap();
    assert_eq!(session.fields.mode, Mode::OneShot);
    assert_eq!(session.fields.memory_policy, MemoryPolicy::SessionScoped);
    assert_eq!(session.fields.role, "orchestrator");
    // Instructions are message 1, and the input waits for the first claim.
    let [system] = &session.messages[..] else { panic!("one SYSTEM message") };
    assert_eq!((system.role, Some(system.content)), (MessageRole::System, session.fields.instructions));
    let [input] = &submit.input[..] else { panic!("one input") };
    assert_eq!((input.role, input.size), (MessageRole::User, 5));
    // Both texts are artifacts, and nothing else of the command holds them.
    let stored: Vec<&[u8]> = submit.artifacts.iter().map(|artifact| &artifact.bytes[..]).collect();
    assert!(stored.contains(&&b"hello"[..]) && stored.contains(&&b"be kind"[..]) && stored.len() == 2);
    let waits = prepare(&with(json!({"wait": true, "wait_ms": 5, "with_content": false}))).unwrap();
    assert_eq!(waits.wait, Some(Wait { ms: 5, with_content: false }));
}

#[test]
fn times_and_budgets_reach_the_command() {
    let submit = prepare(&with(json!({
        "not_before": "2026-01-01T00:00:00Z", "deadline": "2026-01-01T00:00:01.000Z", "queue_timeout_ms": 7,
        "max_tokens_budget": 9, "budget_tokens": 11, "budget_usd": "0.5",
    })));
    let submit = submit.unwrap().submit;
    let from = submit.not_before.unwrap();
    assert_eq!((submit.deadline, submit.queue_timeout_ms), (Some(from.plus_millis(1_000)), Some(7)));
    assert_eq!((submit.max_tokens_budget, submit.retry_of), (Some(9), None));
    let fields = submit.new_session.unwrap().fields;
    assert_eq!((fields.budget_tokens, fields.budget_usd), (Some(11), Some(MicroUsd(500_000))));
}

#[test]
fn an_estimate_is_what_the_caller_or_the_table_says() {
    let tokens = |body: Value| prepare(&body).unwrap().submit.estimate.output_tokens;
    assert_eq!(tokens(with(json!({}))), 4_096, "a model without a limit");
    assert_eq!(tokens(with(json!({"model_id": "plain/a"}))), 1_000, "a model with a smaller one");
    assert_eq!(tokens(with(json!({"model_id": "plain/a", "generation": {"max_output_tokens": 10}}))), 10);
    assert_eq!(tokens(in_session(json!({"model_id": "plain/a"}))), 1_000);
    // Where the session says which model it is, the estimate is made right before the turn.
    let (_, needs) = prepare(&in_session(json!({}))).unwrap().of_session_model.unwrap();
    let of_model = needs.estimate(edge().catalog(), &ModelId::parse("plain/a").unwrap());
    assert_eq!(of_model, Estimate { output_tokens: 1_000, ..Estimate::default() });
    let free = needs.estimate(edge().catalog(), &ModelId::parse("echo/default").unwrap());
    assert_eq!((free.input_usd_per_million, free.output_usd_per_million), (Some(MicroUsd(0)), Some(MicroUsd(0))));
}

#[test]
fn limits_are_named_and_in_their_bounds() {
    let actor = json!({"id": "me", "kind": "person"});
    let set = |changes: Value| {
        let body = json!({"changes": changes, "actor": actor});
        Format::Json.decode::<ChangeLimits>(body.to_string().as_bytes()).and_then(change_limits)
    };
    let good = json!({
        "global": 0, "provider:openai": 5, "model:openai/gpt-5": null, "group:nightly": 1,
        "requests_per_minute:provider:openai": 60, "tokens_burst:model:ollama/qwen3:0.6b": 1, "weight:PRIMARY": 9,
    });
    let LimitsChange::Single(changes) = set(good).unwrap().change else { panic!("single limits") };
    assert_eq!(changes.len(), 7);
    for (changes, path) in [
        (json!({"global": 1_000_001}), "changes.global"),
        (json!({"weight:PRIMARY": 0}), "changes.weight:PRIMARY"),
        (json!({"requests_per_minute:provider:openai": 0}), "changes.requests_per_minute:provider:openai"),
        (json!({"canary": 1}), "changes"),
        (json!({"provider:": 1}), "changes"),
        (json!({"weight:canary": 1}), "changes"),
        (json!({"tokens_per_minute:openai": 1}), "changes"),
        (json!({}), "changes"),
    ] {
        let error = set(changes.clone()).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{changes}: {error}");
        assert_eq!(error.details["path"], path, "{changes}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let nobody = json!({"changes": {"global": 1}, "actor": {"id": "", "kind": "person"}});
    let nobody = Format::Json.decode::<ChangeLimits>(nobody.to_string().as_bytes()).and_then(change_limits);
    assert_eq!(nobody.unwrap_err().details["path"], "actor.id");
}

#[test]
fn a_budget_has_one_owner() {
    let budget = |changes: Value| {
        let body = changed(json!({"actor": {"id": "me", "kind": "person"}}), changes);
        Format::Json.decode::<laneway_contract::SetBudget>(body.to_string().as_bytes()).and_then(set_budget)
    };
    let set = budget(json!({"wp_id": "wp", "tokens": 5, "usd": "0.000001"})).unwrap();
    assert_eq!(set.owner, BudgetOwner::WorkPacket("wp".to_owned()));
    assert_eq!((set.tokens, set.usd), (Some(5), Some(MicroUsd(1))));
    let set = budget(json!({"session_id": SESSION})).unwrap();
    assert_eq!((set.owner.to_string(), set.tokens, set.usd), (format!("session:{SESSION}"), None, None));
    for wrong in [
        json!({}),
        json!({"session_id": SESSION, "wp_id": "wp"}),
        json!({"wp_id": ""}),
        json!({"wp_id": "wp", "tokens": u64::MAX}),
        json!({"wp_id": "wp", "usd": "1000001"}),
    ] {
        assert_eq!(budget(wrong.clone()).unwrap_err().code, ErrorCode::BadRequest, "{wrong}");
    }
}

#[test]
fn a_retry_names_runs_or_says_which_to_find() {
    let asked = |changes: Value| {
        let body = changed(json!({"actor": {"id": "me", "kind": "person"}}), changes);
        Format::Json.decode::<RetryRuns>(body.to_string().as_bytes()).and_then(retry)
    };
    let Which::Named(runs) = asked(json!({"run_ids": [RUN, RUN]})).unwrap().which else { panic!("named") };
    assert_eq!(runs.len(), 1);
    let Which::Found(filter) = asked(json!({"error_code": "timeout"})).unwrap().which else { panic!("found") };
    assert_eq!((filter.states.len(), filter.limit), (2, 100));
    let found = asked(json!({"state": "poisoned", "limit": 200, "dry_run": true, "key": "again"})).unwrap();
    assert!(found.dry_run && found.key.is_some());
    for wrong in [
        json!({}),
        json!({"run_ids": []}),
        json!({"run_ids": vec![RUN; 201]}),
        json!({"run_ids": [RUN], "state": "failed"}),
        json!({"run_ids": [RUN], "cursor": RUN}),
        json!({"state": "completed"}),
        json!({"session_id": SESSION, "limit": 201}),
        json!({"session_id": SESSION, "limit": 0}),
        json!({"session_id": SESSION, "key": ""}),
    ] {
        assert_eq!(asked(wrong.clone()).unwrap_err().code, ErrorCode::BadRequest, "{wrong}");
    }
}

/// A run as it was queued, with its session.
fn queued(body: &Value) -> Old {
    let submit = prepare(body).unwrap().submit;
    let run_id = submit.run_id;
    let mut state = laneway_engine::State::default();
    let now = Timestamp::from_millis(1_000);
    state.turn(&Command::Submit(submit), &laneway_engine::Hints::default(), now).unwrap();
    let run = (*state.run(run_id).unwrap().record).clone();
    let session = state.session(run.session_id).unwrap().creation.fields.clone();
    Old { run, session, closed: true }
}

#[test]
fn a_retry_is_the_same_run_each_time() {
    let old = queued(&with(json!({
        "instructions": "be kind", "lane": "BACKGROUND", "priority": 7, "labels": {"a": "b"},
        "not_before": "1970-01-01T00:00:05Z", "deadline": "1970-01-01T00:00:09Z", "queue_timeout_ms": 3,
        "on_busy": "INTERRUPT",
        "generation": {"max_output_tokens": 12, "stop": ["x"]},
    })));
    let system = old.session.instructions.unwrap();
    let text = Known { content_type: "text/plain".to_owned(), size: 7 };
    let known = KnownArtifacts::from([(system, text)]);
    let again = |key: Option<&str>, now| edge().again(old.clone(), key, &known, Timestamp::from_millis(now), None);
    let first = again(None, 1_000).unwrap();
    let second = again(None, 10_000).unwrap();
    assert_eq!((first.run_id, first.fingerprint), (second.run_id, second.fingerprint));
    assert_eq!(first.run_id, retried_as(old.run.run_id, None));
    assert_ne!(again(Some("k"), 0).unwrap().run_id, first.run_id);
    assert_ne!(again(Some("k"), 0).unwrap().fingerprint, first.fingerprint);
    // Times that have passed are dropped, those to come stay.
    assert_eq!((first.not_before, first.deadline), (old.run.fields.not_before, old.run.fields.deadline));
    assert_eq!((second.not_before, second.deadline, second.queue_timeout_ms), (None, None, Some(3)));
    assert_eq!((first.lane, first.priority, first.retry_of), (Lane::Background, 7, Some(old.run.run_id)));
    assert_eq!((old.run.fields.on_busy, first.on_busy), (OnBusy::Interrupt, OnBusy::Enqueue), "it cancels nothing");
    assert_eq!((first.estimate.output_tokens, &first.generation), (12, &old.run.fields.generation));
    // The input is the same content in new messages.
    assert_eq!(first.input[0].content, old.run.fields.input[0].content);
    assert_ne!(first.input[0].message_id, old.run.fields.input[0].message_id);
    assert_eq!(first.input, second.input);
    assert!(first.artifacts.is_empty() && first.session_id.is_none());
    let (session, same) = (first.new_session.unwrap(), second.new_session.unwrap());
    assert_eq!((session.session_id, &session.messages), (same.session_id, &same.messages));
    assert_eq!(session.fields, old.session);
    assert_eq!((session.messages[0].role, session.messages[0].content), (MessageRole::System, system));
    // A session that goes on takes the retry in.
    let open = Old { closed: false, ..old.clone() };
    let in_session = edge().again(open, None, &KnownArtifacts::new(), Timestamp::ZERO, None).unwrap();
    assert!(in_session.session_id == Some(old.run.session_id) && in_session.new_session.is_none());
    // What cannot be made again is refused.
    let missing = edge().again(old.clone(), None, &KnownArtifacts::new(), Timestamp::ZERO, None).unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    let mut gone = old.clone();
    gone.run.fields.model_id = ModelId::parse("nobody/knows").unwrap();
    assert_eq!(edge().again(gone, None, &known, Timestamp::ZERO, None).unwrap_err().code, ErrorCode::UnknownModel);
}

#[test]
fn a_run_with_a_model_of_its_own_runs_where_that_model_is() {
    let submit = |changes| prepare(&in_session(changes)).unwrap().submit;
    assert_eq!(submit(json!({"model_id": "plain/a"})).backend, Some(Backend::Cloud));
    assert_eq!(submit(json!({"model_id": "plain/a", "backend": "LOCAL"})).backend, Some(Backend::Local));
    assert_eq!(submit(json!({})).backend, None);
}

#[test]
fn a_repeat_is_known_and_other_content_is_told_apart() {
    let fingerprint = |body: Value| prepare(&body).unwrap().submit.fingerprint;
    let first = fingerprint(with(json!({})));
    // Ids that the edge makes, and how the caller waits, are no part of what is asked.
    for same in [json!({}), json!({"wait": true}), json!({"wait": true, "wait_ms": 1}), json!({"with_content": false})]
    {
        assert_eq!(fingerprint(with(same.clone())), first, "{same}");
    }
    for other in [
        json!({"input": "hello!"}),
        json!({"run_id": SESSION}),
        json!({"priority": 1}),
        json!({"model_id": "echo/other"}),
        json!({"generation": {"temperature": 0.5}}),
        json!({"labels": {"a": "b"}}),
    ] {
        assert_ne!(fingerprint(with(other.clone())), first, "{other}");
    }
    // The format of the request is not its content.
    let request = parse(&with(json!({}))).unwrap();
    let packed = Format::MessagePack.encode(&request).unwrap();
    let unpacked: SubmitRun = Format::MessagePack.decode(&packed).unwrap();
    let again = edge().submit(unpacked, &KnownArtifacts::new(), None).unwrap();
    assert_eq!(again.submit.fingerprint, first);
    // Another deployment's fingerprints tell nothing about ours.
    let other = Edge::new(HashKey::from_bytes([8; 32]), edge().catalog().clone());
    assert_ne!(other.submit(request, &KnownArtifacts::new(), None).unwrap().submit.fingerprint, first);
}

#[test]
fn names_the_artifacts_that_have_to_be_looked_up() {
    let id = |digit: &str| format!("b3:{}", digit.repeat(64));
    let body = with(json!({
        "instructions": {"artifact_id": id("1")},
        "input": [{"content": {"artifact_id": id("2")}, "attachments": [id("3"), id("2")]}],
    }));
    let request = parse(&body).unwrap();
    let named = referenced(&request);
    assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), [id("1"), id("2"), id("3")]);
    let text = Known { content_type: "text/plain".to_owned(), size: 3 };
    let known: KnownArtifacts = named.into_iter().map(|id| (id, text.clone())).collect();
    let submit = edge().submit(request, &known, None).unwrap().submit;
    assert_eq!((submit.input[0].size, submit.artifacts.len()), (3, 0));
}

#[test]
fn a_cancel_has_one_target_and_an_actor() {
    let actor = json!({"id": "me", "kind": "person"});
    let cancelled = |body: Value| Format::Json.decode::<CancelRuns>(body.to_string().as_bytes()).and_then(cancel);
    let bad = |body: Value| assert_eq!(cancelled(body.clone()).unwrap_err().code, ErrorCode::BadRequest, "{body}");
    bad(json!({"actor": actor}));
    bad(json!({"run_id": RUN}));
    bad(json!({"run_id": RUN, "session_id": SESSION, "actor": actor}));
    bad(json!({"run_id": RUN, "actor": {"id": "", "kind": "person"}}));
    bad(json!({"run_id": RUN, "actor": actor, "reason": "x".repeat(129)}));
    bad(json!({"run_id": RUN, "actor": actor, "wait_ms": 10}));
    bad(json!({"run_id": RUN, "actor": actor, "wait": true, "wait_ms": 600_001}));
    let before = "2026-01-02T03:04:05.006Z";
    bad(json!({"run_id": RUN, "actor": actor, "submitted_before": before}));
    let (older, _) = cancelled(json!({"session_id": SESSION, "actor": actor, "submitted_before": before})).unwrap();
    assert_eq!(older.submitted_before.map(|before| before.to_string()).as_deref(), Some(before));
    let (by_token, wait_ms) = cancelled(json!({"cancellation_token": "t", "actor": actor})).unwrap();
    assert!(matches!(by_token.target, CancelTarget::Token(token) if token == "t"));
    assert_eq!(wait_ms, None);
    let waits = |body: Value| cancelled(body).unwrap().1;
    assert_eq!(waits(json!({"run_id": RUN, "actor": actor, "wait": true})), Some(30_000));
    assert_eq!(waits(json!({"run_id": RUN, "actor": actor, "wait": true, "wait_ms": 7})), Some(7));
}

#[test]
fn each_lifecycle_verb_is_its_own_end() {
    let asked = |cancel_runs, interrupt| ChangeSession {
        session_id: SessionId::parse(SESSION).unwrap(),
        actor: Actor::runtime(),
        reason: String::new(),
        cancel_runs,
        interrupt,
    };
    let request = |cancel_runs| asked(cancel_runs, false);
    let end = |verb, cancel_runs| {
        let command = change(request(cancel_runs), verb).unwrap();
        let Command::End(end) = command else { panic!("{command:?}") };
        (end.end, end.cancel_runs)
    };
    assert_eq!(end(Change::Complete, false), (SessionState::Completed, false));
    assert_eq!(end(Change::Complete, true), (SessionState::Completed, true));
    assert_eq!(end(Change::Fail, false), (SessionState::Failed, true));
    assert_eq!(end(Change::Cancel, false), (SessionState::Cancelled, true));
    assert!(matches!(change(request(false), Change::Pause).unwrap(), Command::Pause(pause) if pause.paused));
    assert!(matches!(change(request(false), Change::Resume).unwrap(), Command::Pause(pause) if !pause.paused));
    assert_eq!(change(request(true), Change::Pause).unwrap_err().code, ErrorCode::BadRequest);
    for (verb, interrupts) in [(Change::Pause, true), (Change::Pause, false)] {
        let paused = change(asked(false, interrupts), verb).unwrap();
        assert!(matches!(paused, Command::Pause(pause) if pause.interrupt == interrupts));
    }
    for verb in [Change::Resume, Change::Complete, Change::Fail, Change::Cancel] {
        let error = change(asked(false, true), verb).unwrap_err();
        assert_eq!((error.code, &error.details["path"]), (ErrorCode::BadRequest, &json!("interrupt")));
    }
}

#[test]
fn a_report_has_numbers_that_can_be_added_up() {
    let outcome = |usage: Usage, retry_after_ms| Outcome {
        result: AttemptResult::Failed {
            error: RunError {
                code: "rate_limited".to_owned(),
                message: "wait".to_owned(),
                class: ErrorClass::RateLimit,
                retryable: true,
                retry_after_ms,
            },
        },
        usage,
        cost_usd: None,
        first_token_after_ms: None,
        told_after_ms: None,
        closed_after_ms: None,
        issues: Vec::new(),
    };
    let report = |outcome| ReportAttempt {
        run_id: RunId::parse(RUN).unwrap(),
        epoch: 1,
        report_no: 0,
        messages: vec![ProducedMessage {
            message_id: MessageId::generate(),
            role: MessageRole::Assistant,
            content: "answer".to_owned(),
            token_count: Some(1),
            tool_call_id: None,
            finish: Some(Finish::Stop),
        }],
        outcome: Some(outcome),
    };
    let taken = edge().report(report(outcome(Usage::default(), Some(u64::MAX)))).unwrap();
    assert_eq!((taken.messages.len(), taken.artifacts.len()), (1, 1));
    let Some(Outcome { result: AttemptResult::Failed { error }, .. }) = taken.outcome else { panic!("failed") };
    assert_eq!(error.retry_after_ms, Some(MAX_TIMEOUT_MS));
    let endless = Usage { output_tokens: u64::MAX, ..Usage::default() };
    assert_eq!(edge().report(report(outcome(endless, None))).unwrap_err().code, ErrorCode::BadRequest);
}
