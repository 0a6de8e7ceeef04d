//! Bad input of every kind: each case gets its code, and the service answers the next request.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use laneway_bus::MAX_INSIDE_BYTES;
use laneway_bus::async_nats::{HeaderMap, Message};
use laneway_contract::{ArtifactReply, Endpoint, Format, MAX_BODY_BYTES, Subject};
use laneway_tests::stack::Stack;
use serde_json::{Value, json};

/// What a case sends.
enum Body {
    Json(Value),
    Raw(Vec<u8>),
    MessagePack(Vec<u8>),
    Typed(&'static str, Vec<u8>),
}

use Body::{Json, MessagePack, Raw, Typed};

struct Case {
    about: &'static str,
    endpoint: Endpoint,
    body: Body,
    code: &'static str,
}

fn case(about: &'static str, endpoint: Endpoint, body: Body, code: &'static str) -> Case {
    Case { about, endpoint, body, code }
}

/// Ids of what the cases refer to.
struct Known {
    session: String,
    ended: String,
    run: String,
}

const NOWHERE: &str = "00000000-0000-7000-8000-000000000000";

fn create(extra: Value) -> Body {
    let mut body = json!({"model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Json(body)
}

fn submit(extra: Value) -> Body {
    let mut body = json!({"model_id": "echo/default", "input": "hello"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Json(body)
}

fn malformed() -> Vec<Case> {
    use Endpoint::{RunsSubmit, SessionsAppend, SessionsCreate, SessionsGet};
    let packed = Format::MessagePack.encode(&json!({"session_id": NOWHERE})).unwrap();
    let cut = packed[..packed.len() - 3].to_vec();
    vec![
        case("not JSON", SessionsCreate, Raw(b"hello".to_vec()), "bad_request"),
        case("half of a JSON", SessionsCreate, Raw(br#"{"model_id":"#.to_vec()), "bad_request"),
        case(
            "a fairness key that clears the screen",
            RunsSubmit,
            submit(json!({"fairness_key": "\u{1b}[2J"})),
            "bad_request",
        ),
        case("two JSON values", SessionsCreate, Raw(b"{} {}".to_vec()), "bad_request"),
        case("a JSON array", SessionsCreate, Raw(b"[]".to_vec()), "bad_request"),
        case("a JSON text", RunsSubmit, Raw(br#""hello""#.to_vec()), "bad_request"),
        case("null", SessionsGet, Raw(b"null".to_vec()), "bad_request"),
        case("an empty body", SessionsCreate, Raw(Vec::new()), "bad_request"),
        case("an empty body for get", SessionsGet, Raw(Vec::new()), "bad_request"),
        case("invalid UTF-8", SessionsGet, Raw(b"{\"session_id\":\"\xff\xfe\"}".to_vec()), "bad_request"),
        case("a NUL", SessionsGet, Raw(b"\0".to_vec()), "bad_request"),
        case("truncated MessagePack", SessionsGet, MessagePack(cut), "bad_request"),
        case("MessagePack of another type", SessionsGet, MessagePack(vec![0x93, 1, 2, 3]), "bad_request"),
        case("a reserved byte of MessagePack", SessionsGet, MessagePack(vec![0xc1]), "bad_request"),
        case("JSON as MessagePack", SessionsGet, MessagePack(b"{}".to_vec()), "bad_request"),
        case("MessagePack as JSON", SessionsGet, Raw(packed), "bad_request"),
        case("an unknown Content-Type", SessionsGet, Typed("text/xml", b"<a/>".to_vec()), "bad_request"),
        case("deep nesting", SessionsCreate, Raw([b"[".repeat(10_000), b"]".repeat(10_000)].concat()), "bad_request"),
        case("over 768 KiB", SessionsAppend, Raw(vec![b' '; MAX_BODY_BYTES + 1]), "payload_too_large"),
    ]
}

fn ids_and_fields(known: &Known) -> Vec<Case> {
    use Endpoint::{
        ArtifactsGet, RunsCancel, RunsGet, RunsWait, SessionsCreate, SessionsGet, SessionsList, SessionsMessages,
    };
    let session = |raw: &str| Json(json!({"session_id": raw}));
    let actor = json!({"id": "me", "kind": "person"});
    vec![
        case("an unknown session", SessionsGet, session(NOWHERE), "not_found"),
        case("a thread of nobody", SessionsMessages, session(NOWHERE), "not_found"),
        case("an unknown run", RunsGet, Json(json!({"run_id": NOWHERE})), "not_found"),
        case("waiting for an unknown run", RunsWait, Json(json!({"run_id": NOWHERE, "wait_ms": 1})), "not_found"),
        case(
            "an unknown artifact",
            ArtifactsGet,
            Json(json!({"artifact_id": format!("b3:{}", "0".repeat(64))})),
            "not_found",
        ),
        case(
            "an artifact id with a wrong prefix",
            ArtifactsGet,
            Json(json!({"artifact_id": "sha256:00"})),
            "bad_request",
        ),
        case("a short artifact id", ArtifactsGet, Json(json!({"artifact_id": "b3:00"})), "bad_request"),
        case("a wildcard as id", SessionsGet, session("*"), "bad_request"),
        case("a full wildcard as id", SessionsGet, session(">"), "bad_request"),
        case("dots in an id", SessionsGet, session("a.b.c"), "bad_request"),
        case("spaces in an id", SessionsGet, session("a b"), "bad_request"),
        case("an empty id", SessionsGet, session(""), "bad_request"),
        case("an id in braces", SessionsGet, session(&format!("{{{}}}", known.session)), "bad_request"),
        case("a number as id", SessionsGet, Json(json!({"session_id": 7})), "bad_request"),
        case("an unknown field", SessionsCreate, create(json!({"colour": "red"})), "unknown_field"),
        case(
            "an unknown field in get",
            SessionsGet,
            Json(json!({"session_id": known.session, "x": 1})),
            "unknown_field",
        ),
        case("no model", SessionsCreate, Json(json!({"memory_policy": "EPHEMERAL"})), "bad_request"),
        case("no memory policy", SessionsCreate, Json(json!({"model_id": "echo/default"})), "bad_request"),
        case("a budget that overflows", SessionsCreate, create(json!({"budget_tokens": u64::MAX})), "bad_request"),
        case(
            "a budget of dollars that overflows",
            SessionsCreate,
            create(json!({"budget_usd": "9000000000000"})),
            "bad_request",
        ),
        case("a role with a line feed", SessionsCreate, create(json!({"role": "a\nb"})), "bad_request"),
        case("an unknown memory policy", SessionsCreate, create(json!({"memory_policy": "FOREVER"})), "bad_request"),
        case("an unknown mode", SessionsCreate, create(json!({"mode": "SOMETIMES"})), "bad_request"),
        case("a model without provider", SessionsCreate, create(json!({"model_id": "default"})), "bad_request"),
        case("an unknown provider", SessionsCreate, create(json!({"model_id": "nobody/x"})), "unknown_model"),
        case("a role that is too long", SessionsCreate, create(json!({"role": "r".repeat(129)})), "bad_request"),
        case(
            "a label that is too long",
            SessionsCreate,
            create(json!({"labels": {"k": "v".repeat(129)}})),
            "bad_request",
        ),
        case("33 labels", SessionsCreate, create(json!({"labels": labels(33)})), "bad_request"),
        case("an unknown parent", SessionsCreate, create(json!({"parent_session_id": NOWHERE})), "not_found"),
        case(
            "SYSTEM in the history",
            SessionsCreate,
            create(json!({"history": [{"role": "SYSTEM", "content": "x"}]})),
            "role_forbidden",
        ),
        case(
            "a changed memory policy",
            SessionsCreate,
            create(json!({"session_id": known.session, "memory_policy": "EPHEMERAL"})),
            "memory_policy_immutable",
        ),
        case(
            "the same session with other fields",
            SessionsCreate,
            create(json!({"session_id": known.session, "role": "coder"})),
            "idempotency_conflict",
        ),
        case("a page of 1,001", SessionsList, Json(json!({"limit": 1001})), "bad_request"),
        case("a forged cursor", SessionsList, Json(json!({"cursor": "../../etc"})), "bad_request"),
        case("an unknown state", SessionsList, Json(json!({"state": "SLEEPING"})), "bad_request"),
        case("a cancel without actor", RunsCancel, Json(json!({"run_id": known.run})), "bad_request"),
        case("a cancel of nothing", RunsCancel, Json(json!({"actor": actor})), "bad_request"),
        case(
            "a cancel of two things",
            RunsCancel,
            Json(json!({"run_id": known.run, "session_id": known.session, "actor": actor})),
            "bad_request",
        ),
        case("a cancel of an unknown run", RunsCancel, Json(json!({"run_id": NOWHERE, "actor": actor})), "not_found"),
        case(
            "an unknown kind of actor",
            RunsCancel,
            Json(json!({"run_id": known.run, "actor": {"id": "x", "kind": "cat"}})),
            "bad_request",
        ),
    ]
}

fn labels(count: usize) -> Value {
    (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
}

fn threads(known: &Known) -> Vec<Case> {
    use Endpoint::{ArtifactsPut, SessionsAppend, SessionsComplete, SessionsPause};
    let append = |extra: Value| {
        let mut body = json!({"session_id": known.session, "messages": [{"content": "x"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Json(body)
    };
    let change = |session: &str| Json(json!({"session_id": session, "actor": {"id": "me", "kind": "person"}}));
    vec![
        case(
            "a caller appends ASSISTANT",
            SessionsAppend,
            append(json!({"messages": [{"role": "ASSISTANT", "content": "x"}]})),
            "role_forbidden",
        ),
        case(
            "a caller appends SYSTEM",
            SessionsAppend,
            append(json!({"messages": [{"role": "SYSTEM", "content": "x"}]})),
            "role_forbidden",
        ),
        case(
            "an unknown role",
            SessionsAppend,
            append(json!({"messages": [{"role": "BOSS", "content": "x"}]})),
            "bad_request",
        ),
        case("no messages", SessionsAppend, append(json!({"messages": []})), "bad_request"),
        case(
            "501 messages",
            SessionsAppend,
            append(json!({"messages": vec![json!({"content": "x"}); 501]})),
            "bad_request",
        ),
        case("a message without content", SessionsAppend, append(json!({"messages": [{}]})), "bad_request"),
        case("content that is a number", SessionsAppend, append(json!({"messages": [{"content": 5}]})), "bad_request"),
        case(
            "an unknown field in a message",
            SessionsAppend,
            append(json!({"messages": [{"content": "x", "colour": 1}]})),
            "unknown_field",
        ),
        case(
            "an artifact that is not there",
            SessionsAppend,
            append(json!({"messages": [{"content": {"artifact_id": format!("b3:{}", "1".repeat(64))}}]})),
            "not_found",
        ),
        case("a wrong expected tail", SessionsAppend, append(json!({"expected_tail": 99})), "tail_mismatch"),
        case("a negative expected tail", SessionsAppend, append(json!({"expected_tail": -1})), "bad_request"),
        case(
            "the same key with other content",
            SessionsAppend,
            append(json!({"idempotency_key": "k1", "messages": [{"content": "other"}]})),
            "idempotency_conflict",
        ),
        case(
            "a key that is too long",
            SessionsAppend,
            append(json!({"idempotency_key": "k".repeat(129)})),
            "bad_request",
        ),
        case("an append to nobody", SessionsAppend, append(json!({"session_id": NOWHERE})), "not_found"),
        case(
            "an append to an ended session",
            SessionsAppend,
            append(json!({"session_id": known.ended})),
            "session_terminal",
        ),
        case("a pause of an ended session", SessionsPause, change(&known.ended), "session_terminal"),
        case("a pause of nobody", SessionsPause, change(NOWHERE), "not_found"),
        case("a complete without actor", SessionsComplete, Json(json!({"session_id": known.session})), "bad_request"),
        case("an artifact without content", ArtifactsPut, Json(json!({})), "bad_request"),
        case(
            "an artifact with two contents",
            ArtifactsPut,
            Json(json!({"text": "a", "base64": "YQ=="})),
            "bad_request",
        ),
        case("an artifact in broken base64", ArtifactsPut, Json(json!({"base64": "%%%"})), "bad_request"),
        case(
            "an artifact with another hash",
            ArtifactsPut,
            Json(json!({"text": "a", "expected_id": format!("b3:{}", "2".repeat(64))})),
            "bad_request",
        ),
    ]
}

fn runs(known: &Known) -> Vec<Case> {
    use Endpoint::{AttemptsClaim, AttemptsRenew, AttemptsReport, RunsList, RunsSubmit, RunsWait, SessionsWindow};
    vec![
        case("a negative priority", RunsSubmit, submit(json!({"priority": -1})), "bad_request"),
        case("a priority over 1,000", RunsSubmit, submit(json!({"priority": 1001})), "bad_request"),
        case("an unknown lane", RunsSubmit, submit(json!({"lane": "FAST"})), "bad_request"),
        case("an unknown job kind", RunsSubmit, submit(json!({"job_kind": "shell"})), "unknown_job_kind"),
        case("an unknown provider", RunsSubmit, submit(json!({"model_id": "nobody/x"})), "unknown_model"),
        case("a provider with a star", RunsSubmit, submit(json!({"model_id": "*/x"})), "bad_request"),
        case("a model with a line break", RunsSubmit, submit(json!({"model_id": "echo/a\nb"})), "bad_request"),
        case(
            "a model of 257 bytes",
            RunsSubmit,
            submit(json!({"model_id": format!("echo/{}", "m".repeat(257))})),
            "bad_request",
        ),
        case("neither session nor model", RunsSubmit, Json(json!({"input": "hello"})), "bad_request"),
        case(
            "session fields with a session",
            RunsSubmit,
            submit(json!({"session_id": known.session, "role": "coder"})),
            "bad_request",
        ),
        case("a submit to nobody", RunsSubmit, submit(json!({"session_id": NOWHERE})), "not_found"),
        case(
            "a submit to an ended session",
            RunsSubmit,
            submit(json!({"session_id": known.ended})),
            "session_terminal",
        ),
        case("too many retries", RunsSubmit, submit(json!({"max_retries": 21})), "bad_request"),
        case("no time at all", RunsSubmit, submit(json!({"timeout_ms": 0})), "bad_request"),
        case("an unknown setting", RunsSubmit, submit(json!({"generation": {"heat": 1}})), "unknown_field"),
        case("a temperature of 9", RunsSubmit, submit(json!({"generation": {"temperature": 9.0}})), "bad_request"),
        case(
            "thinking that echo cannot do",
            RunsSubmit,
            submit(json!({"generation": {"reasoning_effort": "high"}})),
            "unsupported_capability",
        ),
        case(
            "ASSISTANT in the input",
            RunsSubmit,
            submit(json!({"input": [{"role": "ASSISTANT", "content": "x"}]})),
            "role_forbidden",
        ),
        case(
            "the same run with other content",
            RunsSubmit,
            submit(json!({"run_id": known.run, "input": "other"})),
            "idempotency_conflict",
        ),
        case("a wait of a day", RunsWait, Json(json!({"run_id": known.run, "wait_ms": 86_400_000})), "bad_request"),
        case("an unknown job state", RunsList, Json(json!({"state": "asleep"})), "bad_request"),
        case(
            "a claim of an unknown run",
            AttemptsClaim,
            Json(json!({"run_id": NOWHERE, "dispatch_no": 1, "worker_id": "w", "claim_id": 1})),
            "not_found",
        ),
        case(
            "a claim of an ended run",
            AttemptsClaim,
            Json(json!({"run_id": known.run, "dispatch_no": 1, "worker_id": "w", "claim_id": 1})),
            "run_terminal",
        ),
        case(
            "a worker with a dot",
            AttemptsClaim,
            Json(json!({"run_id": known.run, "dispatch_no": 1, "worker_id": "w.x", "claim_id": 1})),
            "bad_request",
        ),
        case(
            "a renewal of an ended run",
            AttemptsRenew,
            Json(json!({"run_id": known.run, "epoch": 1, "output_tokens": 0})),
            "run_terminal",
        ),
        case(
            "a report of an ended run",
            AttemptsReport,
            Json(json!({"run_id": known.run, "epoch": 999, "report_no": 0, "messages": [], "outcome": null})),
            "run_terminal",
        ),
        case(
            "a window of an unknown run",
            SessionsWindow,
            Json(json!({"run_id": NOWHERE, "epoch": 1, "min_seq": 1})),
            "not_found",
        ),
        case(
            "a window of an ended run",
            SessionsWindow,
            Json(json!({"run_id": known.run, "epoch": 999, "min_seq": 1})),
            "run_terminal",
        ),
    ]
}

/// The Content-Type and the bytes.
fn bytes_of(body: &Body) -> (Option<&'static str>, Vec<u8>) {
    match body {
        Json(value) => (None, serde_json::to_vec(value).unwrap()),
        Raw(bytes) => (None, bytes.clone()),
        MessagePack(bytes) => (Some("application/msgpack"), bytes.clone()),
        Typed(name, bytes) => (Some(*name), bytes.clone()),
    }
}

async fn send(stack: &Stack, case: &Case) -> Message {
    let (content_type, body) = bytes_of(&case.body);
    let subject = format!("laneway.{}", case.endpoint);
    let mut headers = HeaderMap::new();
    if let Some(name) = content_type {
        headers.insert("Content-Type", name);
    }
    let client = stack.bus.client();
    let reply = client.request_with_headers(subject, headers, Bytes::from(body)).await;
    reply.unwrap_or_else(|error| panic!("{}: no reply: {error}\n{}", case.about, stack.logs()))
}

fn decode(reply: &Message) -> Value {
    let content_type = reply
        .headers
        .as_ref()
        .and_then(|headers| headers.get("Content-Type"))
        .map(laneway_bus::async_nats::HeaderValue::as_str);
    Format::from_content_type(content_type).unwrap().decode(&reply.payload).unwrap()
}

async fn known(stack: &Stack) -> Known {
    let session = "0197c2f4-8f6c-7cc1-9c1b-000000000001".to_owned();
    let body = json!({"session_id": session, "model_id": "echo/default", "memory_policy": "SESSION_SCOPED"});
    stack.must(Endpoint::SessionsCreate, body).await;
    let body = json!({"session_id": session, "idempotency_key": "k1", "messages": [{"content": "x"}]});
    stack.must(Endpoint::SessionsAppend, body).await;
    let run = "0197c2f4-8f6c-7cc1-9c1b-000000000002".to_owned();
    let body = json!({"run_id": run, "model_id": "echo/default", "input": "hello", "wait": true});
    let reply = stack.must(Endpoint::RunsSubmit, body).await;
    assert_eq!(reply["done"], true, "{reply}");
    let ended = reply["run"]["session_id"].as_str().unwrap().to_owned();
    Known { session, ended, run }
}

/// Bodies that no endpoint can read.
fn for_every_endpoint() -> Vec<Case> {
    let mut cases = Vec::new();
    for endpoint in Endpoint::ALL {
        let (bound, unknown_field) = if endpoint.is_internal() {
            // These come from our own services, which may be newer: what they add is passed over.
            (MAX_INSIDE_BYTES, "bad_request")
        } else {
            (MAX_BODY_BYTES, "unknown_field")
        };
        cases.extend([
            case("not JSON", *endpoint, Raw(b"hello".to_vec()), "bad_request"),
            case("half of a JSON", *endpoint, Raw(br#"{"sess"#.to_vec()), "bad_request"),
            case("truncated MessagePack", *endpoint, MessagePack(b"\x81\xaasess".to_vec()), "bad_request"),
            case("a text", *endpoint, Raw(br#""hello""#.to_vec()), "bad_request"),
            case("a number in MessagePack", *endpoint, MessagePack(vec![7]), "bad_request"),
            case("an unknown field", *endpoint, Json(json!({"colour": "red"})), unknown_field),
            case("too large", *endpoint, Raw(vec![b' '; bound + 1]), "payload_too_large"),
        ]);
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_gets_its_code_and_the_next_request_its_answer() {
    let stack = Stack::start("").await;
    let known = known(&stack).await;
    let cases = [malformed(), for_every_endpoint(), ids_and_fields(&known), threads(&known), runs(&known)];
    let cases = cases.concat_cases();
    assert!(cases.len() >= 100 + 7 * Endpoint::ALL.len(), "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let reply = send(&stack, case).await;
        let body = decode(&reply);
        let code = body["error"]["code"].as_str().unwrap_or("no error");
        let headers = reply.headers.clone().unwrap_or_default();
        let status = headers.get("Nats-Service-Error-Code").map(ToString::to_string);
        let expected = laneway_contract::ErrorCode::ALL.iter().find(|code| code.as_str() == case.code).unwrap();
        if code != case.code || status != Some(expected.status().to_string()) {
            let (about, endpoint, expected) = (case.about, case.endpoint, case.code);
            wrong.push(format!("{endpoint}, {about}: expected {expected}, got {code} ({status:?}): {body}"));
        }
        if headers.get("Nats-Service-Error").is_none_or(|message| message.as_str().is_empty()) {
            wrong.push(format!("{}: no message in the header", case.about));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let alive = json!({"model_id": "echo/default", "input": "still there", "wait": true});
    assert_eq!(stack.must(Endpoint::RunsSubmit, alive).await["output"], "still there");
    assert_eq!(stack.thread(&known.session).await.len(), 1, "nothing of the bad requests was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_model_names_of_a_known_provider_are_served() {
    let stack = Stack::start("").await;
    for name in ["a.b.c", "a/b", "qwen3:0.6b", "with space", "*", ">", "ümläut-日本", &"m".repeat(200)] {
        let model_id = format!("echo/name={name}");
        let reply = stack.must(Endpoint::RunsSubmit, json!({"model_id": model_id, "input": "hi", "wait": true})).await;
        assert_eq!((&reply["output"], &reply["run"]["model_id"]), (&json!("hi"), &json!(model_id)));
    }
}

/// What is published to the intake, and the code of its dead letter: all that `runs.submit` refuses with the same code, and
/// what only the intake does.
fn intake(known: &Known) -> Vec<Case> {
    let cases = [malformed(), for_every_endpoint(), ids_and_fields(known), threads(known), runs(known)].concat_cases();
    let mut cases: Vec<_> = cases.into_iter().filter(|case| case.endpoint == Endpoint::RunsSubmit).collect();
    assert!(cases.len() >= 25, "{}", cases.len());
    let packed = Format::MessagePack.encode(&json!({"model_id": "echo/default", "colour": "red"})).unwrap();
    let own = [
        ("an empty body", Raw(Vec::new()), "bad_request"),
        ("invalid UTF-8", Raw(b"{\"model_id\":\"\xff\"}".to_vec()), "bad_request"),
        ("truncated MessagePack", MessagePack(packed[..packed.len() - 8].to_vec()), "bad_request"),
        ("an unknown field in MessagePack", MessagePack(packed), "unknown_field"),
        ("an unknown Content-Type", Typed("text/xml", b"<a/>".to_vec()), "bad_request"),
        ("a submit that waits", submit(json!({"wait": true})), "bad_request"),
        ("too large to be kept", Raw(vec![b'x'; MAX_BODY_BYTES - 100]), "bad_request"),
    ];
    cases.extend(own.map(|(about, body, code)| case(about, Endpoint::RunsSubmit, body, code)));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_message_of_the_intake_becomes_a_dead_letter() {
    let stack = Stack::start("").await;
    let known = known(&stack).await;
    let mut letters = stack.bus.client().subscribe("laneway.rejects.runs").await.unwrap();
    let mut expected = BTreeMap::new();
    for Case { about, body, code, endpoint: _ } in intake(&known) {
        let (content_type, bytes) = bytes_of(&body);
        let mut headers = HeaderMap::new();
        if let Some(name) = content_type {
            headers.insert("Content-Type", name);
        }
        let seq = stack.bus.publish_stored(&Subject::Intake, headers, bytes.clone().into()).await.unwrap();
        expected.insert(seq, (about, code, bytes));
    }
    while !expected.is_empty() {
        let letter = tokio::time::timeout(Duration::from_secs(20), letters.next()).await;
        let letter = letter.unwrap_or_else(|_| panic!("no letter for {:?}", expected.values().map(|e| e.0))).unwrap();
        let letter: Value = serde_json::from_slice(&letter.payload).unwrap();
        let (about, code, bytes) = expected.remove(&letter["stream_seq"].as_u64().unwrap()).expect("one letter each");
        assert_eq!((&letter["code"], &letter["size"]), (&json!(code), &json!(bytes.len())), "{about}: {letter}");
        assert!(letter["content_hash"].is_string() && letter["run_id"].is_string(), "{about}: {letter}");
        if bytes.len() > MAX_BODY_BYTES - 1024 {
            assert!(letter["artifact_id"].is_null(), "{about}: {letter}");
            continue;
        }
        let get = json!({"artifact_id": letter["artifact_id"], "min_seq": letter["journal_seq"]});
        assert_eq!(letter["artifact_id"], letter["content_hash"], "{about}: {letter}");
        let kept: ArtifactReply = stack.bus.request(Endpoint::ArtifactsGet, &get).await.unwrap();
        assert!(kept.bytes.unwrap() == bytes, "{about}: the body is kept as it came");
    }
    // What is good goes on, also in MessagePack and without an id.
    let good = Format::MessagePack.encode(&json!({"session_id": known.session, "input": "good"})).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/msgpack");
    stack.bus.publish_stored(&Subject::Intake, headers, good.into()).await.unwrap();
    for _ in 0..400 {
        if stack.thread(&known.session).await.len() == 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the good one is not answered\n{}", stack.logs());
}

trait Concat {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> Concat for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}
