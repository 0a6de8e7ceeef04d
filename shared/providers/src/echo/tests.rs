#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use futures::StreamExt;
use laneway_contract::{Catalog, Finish, MessageRole, Usage};
use serde_json::json;

use super::options::Options;
use crate::test_support::{Answer, approved, attempt, message, prompt, read};
use crate::{AnyProvider, Delta, Prompt, Provider, ProviderError, Settings};

fn echo() -> AnyProvider {
    let catalog = Catalog::built_in().unwrap();
    AnyProvider::build(&catalog.providers["echo"], &|_| None).unwrap()
}

async fn ask(model: &str, number: u32, prompt: Prompt) -> Answer {
    read(echo().call(&attempt(model, number), prompt)).await
}

#[tokio::test]
async fn the_last_user_message_comes_back_in_tokens() {
    let prompt = Prompt {
        messages: vec![
            message(MessageRole::System, "be brief"),
            message(MessageRole::User, "first"),
            message(MessageRole::Assistant, "first"),
            message(MessageRole::User, " héllo  wide\nworld "),
        ],
        settings: Settings::default(),
    };
    let answer = ask("echo/default", 1, prompt).await;
    assert_eq!(answer.texts, [" héllo", "  wide", "\nworld", " "]);
    assert_eq!(answer.usage, Some(Usage { input_tokens: 7, output_tokens: 4, ..Usage::default() }));
    assert_eq!(answer.finish, Some(Finish::Stop));
    assert_eq!(answer.error, None);
}

#[tokio::test]
async fn the_same_call_gives_the_same_answer() {
    let once = ask("echo/tokens=5,name=a", 1, prompt("a b c")).await;
    assert_eq!(once.text(), "a b c a b");
    assert_eq!(once, ask("echo/tokens=5,name=a", 1, prompt("a b c")).await);
    let empty = Prompt { messages: Vec::new(), settings: Settings::default() };
    assert_eq!(ask("echo/default", 1, empty.clone()).await.text(), "echo");
    assert_eq!(ask("echo/tokens=2", 1, empty).await.text(), "echo echo");
}

#[tokio::test(start_paused = true)]
async fn the_delay_stands_before_each_token() {
    let begin = tokio::time::Instant::now();
    let answer = ask("echo/delay=20,tokens=50", 1, prompt("tick tock")).await;
    assert_eq!(answer.texts.len(), 50);
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn failures_come_when_the_name_says_so() {
    let server = ProviderError::Failed { status: 500, retry_after_ms: None };
    assert_eq!(ask("echo/fail=2", 1, prompt("a")).await.error, Some(server.clone()));
    assert_eq!(ask("echo/fail=2", 2, prompt("a")).await.error, Some(server));
    assert_eq!(ask("echo/fail=2", 3, prompt("a")).await.text(), "a");

    let limited = ProviderError::RateLimited { retry_after_ms: Some(1_000) };
    assert_eq!(ask("echo/rate_limit=1000", 1, prompt("a")).await.error, Some(limited));
    assert_eq!(ask("echo/rate_limit=1000", 2, prompt("a")).await.text(), "a");

    let broken = ask("echo/fail_after=2", 1, prompt("a b c")).await;
    assert_eq!((broken.text().as_str(), broken.error, broken.finish), ("a b", Some(ProviderError::Connection), None));

    let cut = ask("echo/truncate_after=1", 1, prompt("a b c")).await;
    assert_eq!((cut.text().as_str(), cut.error, cut.finish), ("a", Some(ProviderError::Truncated), None));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_model_says_nothing() {
    let mut stream = echo().call(&attempt("echo/hang", 1), prompt("a"));
    assert!(tokio::time::timeout(Duration::from_hours(1), stream.next()).await.is_err());
}

#[tokio::test]
async fn settings_are_kept() {
    let with = |settings: Settings| Prompt { settings, ..prompt("one two three four") };
    let short = ask("echo/default", 1, with(Settings { max_output_tokens: Some(2), ..Settings::default() })).await;
    assert_eq!((short.text().as_str(), short.finish), ("one two", Some(Finish::Length)));
    let stop = Settings { stop: vec!["zzz".to_owned(), " three".to_owned()], ..Settings::default() };
    let stopped = ask("echo/default", 1, with(stop)).await;
    assert_eq!((stopped.text().as_str(), stopped.finish), ("one two", Some(Finish::Stop)));
}

#[tokio::test]
async fn an_answer_follows_its_schema() {
    let schema = json!({"type": "object", "properties": {
        "said": {"type": "string"}, "mood": {"enum": ["good", "bad"]}, "count": {"type": "integer"},
        "parts": {"type": "array", "minItems": 2, "items": {"type": "boolean"}},
    }});
    let settings = Settings { response_schema: Some(schema), ..Settings::default() };
    let answer = ask("echo/default", 1, Prompt { settings, ..prompt("hi you") }).await;
    let value: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(value, json!({"said": "hi you", "mood": "good", "count": 0, "parts": [false, false]}));

    let settings = Settings { response_schema: Some(json!({"$ref": "#/a"})), ..Settings::default() };
    let refused = ask("echo/default", 1, Prompt { settings, ..prompt("hi") }).await;
    assert!(matches!(refused.error, Some(ProviderError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn a_tool_is_asked_for_and_the_answer_goes_on() {
    let check = async |model: &str, said: &str, tools: &[(&str, usize)]| {
        let answer = ask(model, 2, prompt("a b c")).await;
        assert_eq!(answer.text(), said, "{model}");
        let expected: Vec<_> = tools.iter().map(|(id, at)| ((*id).to_owned(), *at)).collect();
        assert_eq!(answer.tools, expected, "{model}");
        answer
    };
    let whole = check("echo/tool_at=1", "a b c", &[("call-2-1", 1)]).await;
    assert_eq!(whole.usage, Some(Usage { input_tokens: 3, output_tokens: 3, ..Usage::default() }));
    assert_eq!(whole.finish, Some(Finish::Stop));
    check("echo/tool_at=0", "a b c", &[("call-2-1", 0)]).await;
    check("echo/tool_at=3", "a b c", &[("call-2-1", 3)]).await;
    check("echo/tool_at=9", "a b c", &[("call-2-1", 3)]).await;
    let broken = check("echo/tool_at=1,fail_after=2", "a b", &[("call-2-1", 1)]).await;
    assert_eq!(broken.error, Some(ProviderError::Connection));
    check("echo/tool_at=1,fail_after=1", "a", &[("call-2-1", 1)]).await;
    check("echo/tool_at=2,truncate_after=1", "a", &[]).await;
}

#[tokio::test]
async fn an_approval_is_asked_for_and_with_it_the_answer_goes_on() {
    let check = async |model: &str, before: &str, behind: &str| {
        let asked = ask(model, 2, prompt("a b c")).await;
        assert_eq!((asked.text().as_str(), asked.approval.as_deref()), (before, Some("approval-2")), "{model}");
        assert_eq!((asked.finish, &asked.error), (None, &None), "{model}");
        let rest = read(echo().call(&approved(model, 2), prompt("a b c"))).await;
        assert_eq!((rest.text().as_str(), &rest.approval), (behind, &None), "{model}");
        assert_eq!(rest.finish, Some(Finish::Stop), "{model}");
        for answer in [&asked, &rest] {
            let output_tokens = answer.texts.len() as u64;
            let usage = Usage { input_tokens: 3, output_tokens, ..Usage::default() };
            assert_eq!(answer.usage, Some(usage), "{model}");
        }
        (asked.tools.len(), rest.tools.len())
    };
    assert_eq!(check("echo/approve_at=1", "a", " b c").await, (0, 0));
    assert_eq!(check("echo/approve_at=0", "", "a b c").await, (0, 0));
    assert_eq!(check("echo/approve_at=3", "a b c", "").await, (0, 0));
    assert_eq!(check("echo/approve_at=9", "a b c", "").await, (0, 0));
    // A tool is asked for once, before or behind the approval.
    assert_eq!(check("echo/approve_at=2,tool_at=1", "a b", " c").await, (1, 0));
    assert_eq!(check("echo/approve_at=1,tool_at=1", "a", " b c").await, (1, 0));
    assert_eq!(check("echo/approve_at=1,tool_at=2", "a", " b c").await, (0, 1));
    assert_eq!(check("echo/approve_at=1,tool_at=3", "a", " b c").await, (0, 1));

    let broken = ask("echo/approve_at=2,fail_after=1", 1, prompt("a b c")).await;
    assert_eq!((broken.approval, broken.error), (None, Some(ProviderError::Connection)));
    let broken = read(echo().call(&approved("echo/approve_at=1,fail_after=2", 1), prompt("a b c"))).await;
    assert_eq!((broken.text().as_str(), broken.error), (" b", Some(ProviderError::Connection)));
}

#[tokio::test]
async fn a_stream_ends_with_its_approval_and_shows_no_arguments() {
    let mut stream = echo().call(&attempt("echo/approve_at=1,tool_at=1", 1), prompt("a b"));
    let mut shown = Vec::new();
    while let Some(item) = stream.next().await {
        shown.push(format!("{:?}", item.unwrap()));
    }
    let usage = Delta::Usage(Usage { input_tokens: 2, output_tokens: 1, ..Usage::default() });
    assert_eq!(shown, ["Text(1 bytes)", "ToolCall(call-1-1, echo)", &format!("{usage:?}"), "Approval(approval-1)"]);
}

#[test]
fn only_known_options_are_taken() {
    for bad in [
        "",
        "Default",
        "delay",
        "delay=",
        "delay=-1",
        "delay=3600001",
        "tokens=100001",
        "tool_at=100001",
        "approve_at=x",
        "fail=x",
        "hang=1",
        "name=",
        "delay=1,,tokens=2",
        "delay=1;tokens=2",
        "unknown=1",
        "default,delay=1",
    ] {
        assert!(matches!(Options::parse(bad), Err(ProviderError::Invalid(_))), "{bad:?}");
    }
    let options = Options::parse(
        "delay=20,tokens=50,fail=2,fail_after=3,truncate_after=4,tool_at=6,approve_at=7,rate_limit=5,hang,name=x",
    );
    let expected = Options {
        delay_ms: 20,
        tokens: Some(50),
        fail: 2,
        fail_after: Some(3),
        truncate_after: Some(4),
        tool_at: Some(6),
        approve_at: Some(7),
        rate_limit_ms: Some(5),
        hang: true,
    };
    assert_eq!(options, Ok(expected));
}
