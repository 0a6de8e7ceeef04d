#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use laneway_contract::{Backend, Finish, MessageRole, ModelSpec, ProviderKind, ProviderSpec, ReasoningEffort};
use laneway_contract::{ErrorClass, RunError, Usage};
use secrecy::SecretString;
use serde_json::json;

use crate::test_support::{attempt, message, prompt, read};
use crate::{AnyProvider, BuildError, Delta, KeyError, Prompt, PromptMessage, Provider, ProviderError, Settings};
use server::{Act, Server, text, usage};

const CANARY: &str = "canary-3f9a";
const KEY: &str = "sk-secret-key-77";

fn spec(endpoint: Option<String>, api_key_env: Option<&str>) -> ProviderSpec {
    ProviderSpec {
        kind: ProviderKind::Openai,
        backend: Backend::Local,
        endpoint,
        api_key_env: api_key_env.map(str::to_owned),
        api_key_file: None,
        defaults: ModelSpec {
            capabilities: laneway_contract::Capabilities::default(),
            context_window: None,
            output_limit: None,
            input_usd_per_million: None,
            output_usd_per_million: None,
        },
        models: std::collections::BTreeMap::new(),
    }
}

fn provider(server: &Server) -> AnyProvider {
    AnyProvider::build(&spec(Some(server.url()), Some("TEST_KEY")), &|_| Some(SecretString::from(KEY))).unwrap()
}

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

#[tokio::test]
async fn a_stream_gives_text_thinking_usage_and_finish() {
    let think = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hmm"}}]}"#;
    let server = Server::start(vec![
        Act::Event(think.to_owned()),
        Act::Event(text("Hel")),
        Act::Event(text("lo")),
        Act::Event(STOP.to_owned()),
        Act::Event(usage(7, 2)),
        Act::Event("[DONE]".to_owned()),
    ])
    .await;
    let answer = read(provider(&server).call(&attempt("openai/m", 1), prompt("hi"))).await;
    assert_eq!(answer.texts, ["Hel", "lo"]);
    assert_eq!(answer.thinking, "hmm");
    let expected = Usage { input_tokens: 7, output_tokens: 2, cached_tokens: 3, reasoning_tokens: 1 };
    assert_eq!(answer.usage, Some(expected));
    assert_eq!((answer.finish, answer.error), (Some(Finish::Stop), None));
}

#[tokio::test]
async fn the_request_says_exactly_what_was_asked() {
    let server = Server::start(vec![Act::Event(STOP.to_owned()), Act::Event("[DONE]".to_owned())]).await;
    let call = PromptMessage {
        role: MessageRole::ToolCall,
        content: r#"{"name":"add","arguments":{"a":1}}"#.to_owned(),
        tool_call_id: Some("c1".to_owned()),
    };
    let result =
        PromptMessage { role: MessageRole::ToolResult, content: "2".to_owned(), tool_call_id: Some("c1".to_owned()) };
    let prompt = Prompt {
        messages: vec![
            message(MessageRole::System, "be kind"),
            message(MessageRole::User, "hi"),
            call,
            result,
            message(MessageRole::Assistant, "ok"),
        ],
        settings: Settings {
            temperature: Some(0.5),
            max_output_tokens: Some(9),
            stop: vec!["END".to_owned()],
            response_schema: Some(json!({"type": "object", "properties": {"a": {"type": "string"}}})),
            reasoning_effort: Some(ReasoningEffort::Low),
        },
    };
    read(provider(&server).call(&attempt("openai/ns::org/model:v1-high", 1), prompt)).await;
    let (authorization, body) = server.request();
    assert_eq!(authorization, Some(format!("Bearer {KEY}")));
    // genai reads meaning into names; the exact one has to arrive.
    assert_eq!(body["model"], "ns::org/model:v1-high");
    assert_eq!((&body["stream"], &body["stream_options"]["include_usage"]), (&json!(true), &json!(true)));
    assert_eq!((&body["temperature"], &body["max_tokens"], &body["stop"]), (&json!(0.5), &json!(9), &json!(["END"])));
    assert_eq!(body["reasoning_effort"], "low");
    assert_eq!(body["response_format"]["json_schema"]["schema"]["properties"]["a"]["type"], "string");
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
    assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["name"], "add");
    assert_eq!(body["messages"][3]["tool_call_id"], "c1");
}

#[tokio::test]
async fn no_effort_is_read_from_a_models_name() {
    let server = Server::start(vec![Act::Event(STOP.to_owned()), Act::Event("[DONE]".to_owned())]).await;
    read(provider(&server).call(&attempt("openai/qwen-high", 1), prompt("hi"))).await;
    let (_, body) = server.request();
    assert_eq!((&body["model"], body.get("reasoning_effort")), (&json!("qwen-high"), None));
}

#[tokio::test]
async fn without_a_key_no_credentials_are_sent() {
    let server = Server::start(vec![Act::Event(STOP.to_owned()), Act::Event("[DONE]".to_owned())]).await;
    let provider = AnyProvider::build(&spec(Some(server.url()), None), &|_| panic!("no variable is named")).unwrap();
    let answer = read(provider.call(&attempt("openai/m", 1), prompt("hi"))).await;
    assert_eq!((answer.finish, server.request().0), (Some(Finish::Stop), None));
}

#[tokio::test]
async fn statuses_have_their_class() {
    let check = async |status: u16, headers: Vec<(&'static str, &'static str)>, class, retryable, wait| {
        let server = Server::refusing(status, headers, CANARY).await;
        let answer = read(provider(&server).call(&attempt("openai/m", 1), prompt("hi"))).await;
        let error = RunError::from(answer.error.unwrap());
        assert_eq!((error.class, error.retryable, error.retry_after_ms), (class, retryable, wait), "{status}");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    };
    check(429, vec![("retry-after", "3")], ErrorClass::RateLimit, true, Some(3_000)).await;
    check(429, vec![], ErrorClass::RateLimit, true, None).await;
    check(500, vec![], ErrorClass::Server, true, None).await;
    check(503, vec![("retry-after", "1")], ErrorClass::Server, true, Some(1_000)).await;
    check(401, vec![], ErrorClass::Authentication, false, None).await;
    check(403, vec![], ErrorClass::Authentication, false, None).await;
    check(400, vec![], ErrorClass::InvalidRequest, false, None).await;
    check(404, vec![], ErrorClass::InvalidRequest, false, None).await;
    check(408, vec![], ErrorClass::Timeout, true, None).await;
    check(304, vec![], ErrorClass::Protocol, true, None).await;
}

#[tokio::test]
async fn a_broken_stream_is_never_an_answer() {
    let check = async |acts: Vec<Act>, text: &str, error: ProviderError| {
        let server = Server::start(acts).await;
        let answer = read(provider(&server).call(&attempt("openai/m", 1), prompt("hi"))).await;
        assert_eq!((answer.text().as_str(), answer.finish, answer.error), (text, None, Some(error)));
    };
    check(vec![Act::Event(text("half")), Act::Cut], "half", ProviderError::Connection).await;
    check(vec![Act::Event(text("half"))], "half", ProviderError::Truncated).await;
    check(vec![Act::Event(text("half")), Act::Event("[DONE]".to_owned())], "half", ProviderError::Truncated).await;
    check(vec![Act::Event("{not json".to_owned())], "", ProviderError::Unreadable).await;
    let failed = format!(r#"{{"error":{{"message":"{CANARY}","type":"server_error"}}}}"#);
    check(vec![Act::Event(failed)], "", ProviderError::FailedInStream).await;
    let limited = ProviderError::RateLimited { retry_after_ms: None };
    check(vec![Act::Event(r#"{"error":{"code":429}}"#.to_owned())], "", limited).await;
}

#[tokio::test]
async fn nobody_listening_is_a_connection_error() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = AnyProvider::build(&spec(Some(format!("http://{address}/v1")), None), &|_| None).unwrap();
    let answer = read(provider.call(&attempt("openai/m", 1), prompt("hi"))).await;
    assert_eq!(answer.error, Some(ProviderError::Connection));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let mut server = Server::start(vec![Act::Event(text("first")), Act::Hang]).await;
    let mut stream = provider(&server).call(&attempt("openai/m", 1), prompt("hi"));
    assert_eq!(stream.next().await, Some(Ok(Delta::Text("first".to_owned()))));
    assert!(!server.is_closed());
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), server.closed()).await.expect("the server sees the end");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn keys_and_texts_are_in_no_log_and_no_debug() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the log is heard");

    let server = Server::refusing(500, vec![], CANARY).await;
    let provider = provider(&server);
    let prompt = prompt(CANARY);
    let shown = format!("{provider:?} {prompt:?} {:?}", Delta::Text(CANARY.to_owned()));
    read(provider.call(&attempt("openai/m", 1), prompt)).await;
    let broken = Server::start(vec![Act::Event(format!("{{{CANARY}"))]).await;
    read(self::provider(&broken).call(&attempt("openai/m", 1), self::prompt(CANARY))).await;

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the log is heard"));
    for secret in [CANARY, KEY] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!logged.contains(secret), "{logged}");
    }
}

#[test]
fn keys_come_from_variables_and_files() {
    let env = |name: &str| (name == "SET").then(|| SecretString::from("k\n"));
    assert!(AnyProvider::build(&spec(None, Some("SET")), &env).is_ok());
    let unset = AnyProvider::build(&spec(None, Some("UNSET")), &env).unwrap_err();
    assert_eq!(unset, BuildError::Key(KeyError::Unset { variable: "UNSET".to_owned() }));

    let folder = tempfile::tempdir().unwrap();
    let in_file = |text: &str| {
        let file = folder.path().join("key");
        std::fs::write(&file, text).unwrap();
        ProviderSpec { api_key_file: Some(file.to_string_lossy().into_owned()), ..spec(None, None) }
    };
    assert!(AnyProvider::build(&in_file(&format!("{KEY}\n")), &env).is_ok());
    for bad in [" \n", "two words", "käy"] {
        let error = AnyProvider::build(&in_file(bad), &env).unwrap_err();
        assert!(matches!(error, BuildError::Key(KeyError::Malformed { .. })), "{error}");
    }
    let nowhere = ProviderSpec { api_key_file: Some("/nowhere/key".to_owned()), ..spec(None, None) };
    assert!(matches!(AnyProvider::build(&nowhere, &env), Err(BuildError::Key(KeyError::File { .. }))));
}

#[test]
fn endpoints_are_checked_when_built() {
    for bad in ["", "localhost:80", "ftp://a/", "http://", "http://user:pw@host/v1", "http://a/v1?x=1", "http://a b/"] {
        let built = AnyProvider::build(&spec(Some(bad.to_owned()), None), &|_| None);
        assert!(matches!(built, Err(BuildError::Endpoint(_))), "{bad:?}");
    }
    for good in ["http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1", "https://api.example.org"] {
        assert!(AnyProvider::build(&spec(Some(good.to_owned()), None), &|_| None).is_ok(), "{good}");
    }
}
