//! What one echo call will do, decided before it begins.

use laneway_contract::{Finish, MessageRole, Usage};
use serde_json::json;

use super::options::Options;
use super::schema::smallest;
use crate::attempt::Attempt;
use crate::delta::Delta;
use crate::error::ProviderError;
use crate::prompt::Prompt;

/// One step of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A token, after the delay.
    Token(Delta),
    /// Something else, at once.
    Now(Delta),
    /// The end, badly.
    Fail(ProviderError),
    /// No end.
    Hang,
}

/// The whole call.
pub(super) fn script(options: &Options, attempt: &Attempt, prompt: &Prompt) -> Vec<Step> {
    let number = attempt.number();
    if let Some(wait) = options.rate_limit_ms.filter(|_| number == 1) {
        return vec![Step::Fail(ProviderError::RateLimited { retry_after_ms: Some(wait) })];
    }
    if u64::from(number) <= options.fail {
        return vec![Step::Fail(ProviderError::Failed { status: 500, retry_after_ms: None })];
    }
    if options.hang {
        return vec![Step::Hang];
    }
    let (tokens, finish) = match answer(options, prompt) {
        Ok(answer) => answer,
        Err(error) => return vec![Step::Fail(error)],
    };
    play(options, attempt, tokens, finish, input_tokens(prompt))
}

fn play(options: &Options, attempt: &Attempt, tokens: Vec<String>, finish: Finish, input_tokens: u64) -> Vec<Step> {
    let (number, approved) = (attempt.number(), attempt.lease().approved.is_some());
    let whole = tokens.len();
    let within = |at: Option<usize>| at.map(|at| at.min(whole));
    let approve_at = within(options.approve_at);
    // What was said and asked before the approval is not said and asked again.
    let begin = approve_at.filter(|_| approved);
    let parked = approve_at.filter(|_| !approved);
    let cut = [options.fail_after, options.truncate_after].into_iter().flatten().min();
    let end = [within(cut), parked].into_iter().flatten().min().unwrap_or(whole);
    let tool = within(options.tool_at).filter(|at| *at <= end && begin.is_none_or(|begin| *at > begin));

    let said = begin.unwrap_or(0);
    let mut steps = Vec::new();
    for (at, token) in tokens.into_iter().enumerate().take(end).skip(said) {
        steps.extend(tool.filter(|tool| *tool == at).map(|at| call_of_tool(number, at)));
        steps.push(Step::Token(Delta::Text(token)));
    }
    steps.extend(tool.filter(|tool| *tool == end).map(|at| call_of_tool(number, at)));
    let output_tokens = end.saturating_sub(said) as u64;
    let usage = Step::Now(Delta::Usage(Usage { input_tokens, output_tokens, ..Usage::default() }));
    if parked == Some(end) && cut.is_none_or(|cut| cut > end) {
        let approval_id = format!("approval-{number}");
        steps.extend([usage, Step::Now(Delta::Approval { approval_id })]);
    } else if options.fail_after.is_some() && options.fail_after == cut {
        steps.push(Step::Fail(ProviderError::Connection));
    } else if cut.is_none() {
        steps.extend([usage, Step::Now(Delta::Finish(finish))]);
    }
    steps
}

/// The call of an attempt after its first `at` tokens.
fn call_of_tool(attempt: u32, at: usize) -> Step {
    let (tool_call_id, name) = (format!("call-{attempt}-1"), "echo".to_owned());
    Step::Now(Delta::ToolCall { tool_call_id, name, arguments: json!({"after_tokens": at}) })
}

/// The tokens of the answer, and how it ends.
fn answer(options: &Options, prompt: &Prompt) -> Result<(Vec<String>, Finish), ProviderError> {
    let last = prompt.messages.iter().rev().find(|message| message.role == MessageRole::User);
    let said = last.map_or("echo", |message| message.content.as_str());
    let mut text = match (&prompt.settings.response_schema, options.tokens) {
        (Some(schema), _) => smallest(schema, said)?.to_string(),
        (None, Some(count)) => round(said, count),
        (None, None) => said.to_owned(),
    };
    let stop = prompt.settings.stop.iter().filter(|stop| !stop.is_empty());
    if let Some(end) = stop.filter_map(|stop| text.find(stop.as_str())).min() {
        text.truncate(end);
    }
    let mut tokens: Vec<_> = split(&text).into_iter().map(str::to_owned).collect();
    let most = prompt.settings.max_output_tokens.unwrap_or(u64::MAX);
    if tokens.len() as u64 > most {
        tokens.truncate(most as usize);
        return Ok((tokens, Finish::Length));
    }
    Ok((tokens, Finish::Stop))
}

/// `count` words, going round the words of `text`.
fn round(text: &str, count: usize) -> String {
    let words = text.split_whitespace().chain(text.trim().is_empty().then_some("echo"));
    words.collect::<Vec<_>>().into_iter().cycle().take(count).collect::<Vec<_>>().join(" ")
}

/// Cuts a text before the spaces of each word but the first; together the pieces are the text.
fn split(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (at, character) in text.char_indices() {
        if character.is_whitespace() && in_word {
            tokens.push(&text[start..at]);
            start = at;
        }
        in_word = !character.is_whitespace();
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

fn input_tokens(prompt: &Prompt) -> u64 {
    prompt.messages.iter().map(|message| message.content.split_whitespace().count() as u64).sum()
}
