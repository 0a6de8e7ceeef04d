//! `run explain`, `run decide` and `run retry`: what holds a run, what to do with one that waits, and another try.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use clap::{ArgGroup, Args};
use laneway_contract::{
    Actor, DecideRun, Decision, Endpoint, ExplainReply, ExplainRun, Hold, JobState, RetriedRun, RetryReply, RetryRuns,
    RunId, RunReply, SessionId, Timestamp, WaitReason,
};

use crate::cli::Context;
use crate::cli::request::time;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output;

/// The most runs of one request, and the rows of one page.
const PAGE: u32 = 200;
/// How long one page may take: its runs are submitted one after the other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `run decide`.
#[derive(Args, Debug)]
pub struct DecideArgs {
    /// The run.
    run: RunId,
    /// approve (go on with the attempt that asked), retry (make another attempt), fail or cancel.
    #[arg(value_name = "DECISION")]
    decision: Decision,
    /// The approval that is meant; refused when the run waits for another one.
    #[arg(long, value_name = "ID")]
    approval: Option<String>,
    /// Why, at most 128 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Arguments of `run retry`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("which").required(true).multiple(true).args(["runs", "session", "state", "error_code", "ended_after"]),
    after_help = "A run that was retried before is not retried again: its row shows the run that tries it. Another --key does.\n\
    Exits 0 when every run is tried again, 1 when one could not be."
)]
pub struct RetryArgs {
    /// These runs; or name them by the flags.
    #[arg(value_name = "RUN", conflicts_with_all = ["session", "state", "error_code", "ended_after"])]
    runs: Vec<RunId>,
    /// Runs of this session.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Runs that are failed or poisoned [default: both].
    #[arg(long, value_parser = failed)]
    state: Option<JobState>,
    /// Runs that failed with this code, as rate_limited.
    #[arg(long, value_name = "CODE")]
    error_code: Option<String>,
    /// Runs that ended at this time or later, as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    ended_after: Option<Timestamp>,
    /// Only say which runs it would be.
    #[arg(long)]
    dry_run: bool,
    /// Makes another retry of a run that was retried before.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

fn failed(raw: &str) -> Result<JobState, String> {
    match raw.parse() {
        Ok(state @ (JobState::Failed | JobState::Poisoned)) => Ok(state),
        Ok(_) | Err(_) => Err("expected failed or poisoned".to_owned()),
    }
}

pub(super) async fn explain(context: &Context, client: &Client, run_id: RunId) -> Result<Exit, CliError> {
    let reply: ExplainReply = client.ask(Endpoint::RunsExplain, &ExplainRun { run_id }).await?;
    context.out.reply(&reply, explanation)?;
    Ok(Exit::Done)
}

/// The summary, what holds the run, and the command that would start it.
pub(super) fn explanation(reply: &ExplainReply) -> String {
    let explanation = &reply.explanation;
    let mut parts = vec![explanation.summary.clone()];
    if !explanation.holds.is_empty() {
        parts.push(holds_table(&explanation.holds));
    }
    if let Some(time) = explanation.earliest_start {
        parts.push(format!("not before {time}"));
    }
    if let Some(counterfactual) = &explanation.counterfactual {
        parts.push(format!("to start it now:\n  {}", limits_command(&counterfactual.changes)));
    }
    parts.join("\n\n")
}

/// One row for each hold, and below it one for each further run that has a part of it.
fn holds_table(holds: &[Hold]) -> String {
    let rows = holds.iter().flat_map(|hold| {
        let [why, name, level, needs, until] = [
            hold.reason.to_string(),
            hold.name.clone(),
            level(hold),
            output::or_dash(hold.needs),
            output::or_dash(hold.until),
        ];
        let mut holders = hold.holders.iter().map(|holder| (holder.run_id.to_string(), output::or_dash(holder.since)));
        let (run, since) = holders.next().unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
        let first = [why, name, level, needs, until, run, since];
        let more = holders.map(|(run, since)| {
            let [why, name, level, needs, until] = <[String; 5]>::default();
            [why, name, level, needs, until, run, since]
        });
        std::iter::once(first).chain(more).collect::<Vec<_>>()
    });
    output::table(["WHY", "WHAT", "LEVEL", "NEEDS", "UNTIL", "HELD BY", "SINCE"], rows)
}

/// How much of a limit is taken, or how much of a bucket or budget is left.
fn level(hold: &Hold) -> String {
    let is_amount =
        matches!(hold.reason, WaitReason::RequestsPerMinute | WaitReason::TokensPerMinute | WaitReason::Budget);
    match (hold.level, hold.limit) {
        (Some(level), Some(limit)) if is_amount => format!("{level} of {limit} left"),
        (Some(level), Some(limit)) => format!("{level} of {limit}"),
        (Some(level), None) => level.to_string(),
        (None, Some(limit)) => format!("of {limit}"),
        (None, None) => "-".to_owned(),
    }
}

/// The command line that makes these changes.
fn limits_command(changes: &BTreeMap<String, u64>) -> String {
    let changes = changes.iter().map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}"))));
    format!("laneway limits set{}", changes.collect::<String>())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/=@+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

pub(super) async fn decide(context: &Context, client: &Client, args: DecideArgs) -> Result<Exit, CliError> {
    let request = DecideRun {
        run_id: args.run,
        decision: args.decision,
        approval_id: args.approval,
        actor: context.actor.clone(),
        reason: args.reason,
    };
    let reply: RunReply = client.ask(Endpoint::RunsDecide, &request).await?;
    context.out.reply(&reply, |reply| format!("{} is {}", reply.run.run_id, reply.run.status.state))?;
    Ok(Exit::Done)
}

pub(super) async fn retry(context: &Context, client: &Client, args: RetryArgs) -> Result<Exit, CliError> {
    let dry_run = args.dry_run;
    let mut rows = Vec::new();
    // What was done before a page was refused is shown too.
    let done = all_pages(context, client, args, &mut rows).await;
    if !context.out.is_json() && (done.is_ok() || !rows.is_empty()) {
        context.out.line(retried(&rows, dry_run))?;
    }
    done?;
    let codes: BTreeSet<_> = rows.iter().filter_map(|row| Some(row.error.as_ref()?.code.as_str())).collect();
    if codes.is_empty() {
        return Ok(Exit::Done);
    }
    let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
    context.out.note(format!("error: some runs cannot be tried again: {codes}"))?;
    Ok(Exit::Refused)
}

async fn all_pages(
    context: &Context,
    client: &Client,
    args: RetryArgs,
    rows: &mut Vec<RetriedRun>,
) -> Result<(), CliError> {
    let mut requests = retry_requests(args, &context.actor);
    while let Some(request) = requests.pop_front() {
        let bus = client.bus();
        let reply: RetryReply = bus.request_within(Endpoint::RunsRetry, &request, PATIENCE, PATIENCE).await?;
        if context.out.is_json() {
            context.out.value(&reply)?;
        }
        // A cursor that does not move would never end.
        if reply.cursor.is_some() && reply.cursor != request.cursor {
            requests.push_front(RetryRuns { cursor: reply.cursor, ..request });
        }
        rows.extend(reply.runs);
    }
    Ok(())
}

/// The named runs in pages, or the first page of the filter.
pub(super) fn retry_requests(args: RetryArgs, actor: &Actor) -> VecDeque<RetryRuns> {
    let RetryArgs { runs, session, state, error_code, ended_after, dry_run, key } = args;
    let request = RetryRuns {
        run_ids: None,
        session_id: session,
        state,
        error_code,
        ended_after,
        limit: None,
        cursor: None,
        dry_run,
        key,
        actor: actor.clone(),
    };
    if runs.is_empty() {
        return VecDeque::from([RetryRuns { limit: Some(PAGE), ..request }]);
    }
    let pages = runs.chunks(PAGE as usize);
    pages.map(|page| RetryRuns { run_ids: Some(page.to_vec()), ..request.clone() }).collect()
}

pub(super) fn retried(rows: &[RetriedRun], dry_run: bool) -> String {
    if rows.is_empty() {
        return "no run to try again".to_owned();
    }
    let table = output::table(
        ["RUN", "TRIED AGAIN AS", ""],
        rows.iter().map(|row| {
            let remark = match &row.error {
                Some(error) => format!("{}: {}", error.code, error.message),
                None if row.repeated => "was retried before".to_owned(),
                None if dry_run => "would be tried again".to_owned(),
                None => String::new(),
            };
            [row.run_id.to_string(), output::or_dash(row.retried_as), remark]
        }),
    );
    if dry_run { format!("{table}\n\nnothing was done: leave --dry-run out") } else { table }
}
