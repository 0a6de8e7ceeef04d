//! `laneway run …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use laneway_contract::{
    CancelReceipt, CancelRuns, DEFAULT_WAIT_MS, Endpoint, GetRun, JobState, ListRuns, ModelId, RetryBackoff, RunId,
    RunPage, RunReply, SessionId, SubmitRun, Timestamp,
};

use super::request::{Draft, text_argument};
use super::schedule::ScheduleArgs;
use super::{Context, stream};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output;
use decisions::{DecideArgs, RetryArgs};

mod decisions;

/// Verbs about runs.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Queues a run.
    Submit(Box<SubmitArgs>),
    /// Lists runs, newest first.
    List(ListArgs),
    /// Shows one run.
    Show {
        /// The run.
        run: RunId,
    },
    /// Shows the answer of a run while it comes, from its start.
    Watch {
        /// The run.
        run: RunId,
    },
    /// Waits for the end of a run and shows its answer.
    Wait {
        /// The run.
        run: RunId,
        /// Milliseconds to wait at most, up to 600,000.
        #[arg(long, value_name = "MS", default_value_t = DEFAULT_WAIT_MS)]
        wait_ms: u64,
    },
    /// Cancels a run, the runs of a session, or all runs with a token.
    Cancel(CancelArgs),
    /// Says what holds a run, who holds that, and what would start it now.
    Explain {
        /// The run.
        run: RunId,
    },
    /// Decides about a run that is stalled or awaiting_user.
    Decide(DecideArgs),
    /// Tries failed and poisoned runs again, each as a new run that names the old one.
    Retry(RetryArgs),
}

/// Arguments of `run submit`.
#[derive(Args, Debug)]
pub struct SubmitArgs {
    /// What is asked; `-` reads it from stdin.
    input: Option<String>,
    /// The session; without one, a session is made for this run.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// The model; required without a session.
    #[arg(long, value_parser = ModelId::parse)]
    model: Option<ModelId>,
    /// The run's id, which makes a repeat safe [default: a new one].
    #[arg(long, value_name = "ID")]
    run_id: Option<RunId>,
    /// Retries after the first attempt, at most 20 [default: 3].
    #[arg(long)]
    max_retries: Option<u32>,
    /// EXPONENTIAL or FIXED [default: EXPONENTIAL].
    #[arg(long)]
    retry_backoff: Option<RetryBackoff>,
    /// Milliseconds of one attempt [default: 120000].
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// Cancelling by this token cancels every run that carries it.
    #[arg(long)]
    cancellation_token: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[arg(long)]
    temperature: Option<f64>,
    /// The most tokens of the answer.
    #[arg(long)]
    max_output_tokens: Option<u64>,
    /// The whole request as a JSON file, `-` for stdin; flags win over it.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Wait for the end and show the answer.
    #[arg(long)]
    wait: bool,
    /// With --wait: milliseconds to wait at most, up to 600,000 [default: 30000].
    #[arg(long, value_name = "MS", requires = "wait")]
    wait_ms: Option<u64>,
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// Arguments of `run list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only this session's.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Only this state, as queued or completed.
    #[arg(long)]
    state: Option<JobState>,
    /// Rows, at most 1,000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the page before ended.
    #[arg(long, value_name = "RUN")]
    cursor: Option<RunId>,
}

/// Arguments of `run cancel`.
#[derive(Args, Debug)]
pub struct CancelArgs {
    #[command(flatten)]
    which: Which,
    /// Why, at most 128 bytes.
    #[arg(long, default_value = "")]
    reason: String,
    /// Wait until all of them have ended, and show each step of the way.
    #[arg(long)]
    wait: bool,
}

/// Exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// The run.
    run: Option<RunId>,
    /// The runs of this session, which goes on.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// All runs with this cancellation token.
    #[arg(long)]
    token: Option<String>,
}

pub(super) async fn run(context: &Context, command: RunCommand) -> Result<Exit, CliError> {
    let client = context.client().await?;
    match command {
        RunCommand::Submit(args) => submit(context, &client, *args).await,
        RunCommand::List(args) => list(context, &client, args).await,
        RunCommand::Show { run } => {
            let reply: RunReply = client.ask(Endpoint::RunsGet, &GetRun { run_id: run }).await?;
            context.out.reply(&reply, |reply| output::fields(&reply.run))?;
            Ok(Exit::Done)
        }
        RunCommand::Watch { run } => {
            // Asked first, so that an unknown run is an error and no endless silence.
            let _known: RunReply = client.ask(Endpoint::RunsGet, &GetRun { run_id: run }).await?;
            let chunks = client.tokens_from_start(run).await?;
            let reply = stream::show(context, &client, run, chunks).await?;
            stream::summary(context, &reply)
        }
        RunCommand::Wait { run, wait_ms } => answer(context, &client.wait(run, wait_ms, true).await?),
        RunCommand::Cancel(args) => cancel(context, &client, args).await,
        RunCommand::Explain { run } => decisions::explain(context, &client, run).await,
        RunCommand::Decide(args) => decisions::decide(context, &client, args).await,
        RunCommand::Retry(args) => decisions::retry(context, &client, args).await,
    }
}

async fn submit(context: &Context, client: &Client, args: SubmitArgs) -> Result<Exit, CliError> {
    let request = submit_request(args)?;
    let reply = client.submit(&request).await?;
    if request.wait {
        return answer(context, &reply);
    }
    context.out.reply(&reply, |reply| reply.run.run_id.to_string())?;
    Ok(Exit::Done)
}

/// The request of `run submit`. Its id is fixed here, so that sending it again is safe.
fn submit_request(args: SubmitArgs) -> Result<SubmitRun, CliError> {
    let mut draft = Draft::from_file(args.request.as_deref())?;
    let input = args.input.as_deref().map(text_argument).transpose()?;
    draft
        .set("input", input)?
        .set("session_id", args.session)?
        .set("model_id", args.model)?
        .set("run_id", args.run_id)?
        .set("max_retries", args.max_retries)?
        .set("retry_backoff", args.retry_backoff)?
        .set("timeout_ms", args.timeout_ms)?
        .set("cancellation_token", args.cancellation_token)?
        .set_in("generation", "temperature", args.temperature)?
        .set_in("generation", "max_output_tokens", args.max_output_tokens)?
        .set("wait", args.wait.then_some(true))?
        .set("wait_ms", args.wait_ms)?
        .default_to("run_id", RunId::generate().to_string());
    args.schedule.put_into(&mut draft)?;
    draft.read()
}

fn answer(context: &Context, reply: &RunReply) -> Result<Exit, CliError> {
    if context.out.is_json() {
        context.out.value(reply)?;
        return Ok(stream::exit_of(reply));
    }
    if let Some(output) = &reply.output {
        context.out.line(output.trim_end())?;
    }
    stream::summary(context, reply)
}

async fn list(context: &Context, client: &Client, args: ListArgs) -> Result<Exit, CliError> {
    let request =
        ListRuns { session_id: args.session, state: args.state, limit: Some(args.limit), cursor: args.cursor };
    let page: RunPage = client.ask(Endpoint::RunsList, &request).await?;
    context.out.reply(&page, |page| output::runs_table(&page.runs))?;
    if let Some(cursor) = &page.cursor {
        context.out.note(format!("more with --cursor {cursor}"))?;
    }
    Ok(Exit::Done)
}

async fn cancel(context: &Context, client: &Client, args: CancelArgs) -> Result<Exit, CliError> {
    let request = CancelRuns {
        run_id: args.which.run,
        session_id: args.which.session,
        cancellation_token: args.which.token,
        submitted_before: None,
        actor: context.actor.clone(),
        reason: args.reason,
        wait: args.wait,
        wait_ms: None,
    };
    let reply = client.cancel(&request).await?;
    context.out.reply(&reply, |reply| {
        if reply.runs.is_empty() {
            return "no run to cancel".to_owned();
        }
        let rows = reply.runs.iter().map(|run| {
            let receipt = run.receipt.as_ref();
            let said = match receipt {
                None => "had ended without a cancel",
                Some(receipt) if receipt.too_late => "too late, the answer came first",
                Some(receipt) if receipt.settled_at.is_some() => "cancelled",
                Some(_) => "its worker is stopping",
            };
            let [told, closed, settled, billed] = receipt.map(steps).unwrap_or_default();
            [run.run_id.to_string(), run.state.to_string(), said.to_owned(), told, closed, settled, billed]
        });
        output::table(["RUN", "STATE", "CANCEL", "WORKER TOLD", "PROVIDER CLOSED", "SETTLED", "TOKENS BILLED"], rows)
    })?;
    Ok(Exit::Done)
}

/// How long after the request each step of a cancel came, and what was billed.
fn steps(receipt: &CancelReceipt) -> [String; 4] {
    let after = |at: Option<Timestamp>| {
        at.map_or_else(String::new, |at| format!("+{} ms", at.millis_since(receipt.requested_at)))
    };
    let settled = if receipt.too_late { "before".to_owned() } else { after(receipt.settled_at) };
    let billed = match receipt.billed {
        Some(usage) => usage.total().to_string(),
        None if receipt.settled_at.is_some() && !receipt.too_late => "unknown".to_owned(),
        None => String::new(),
    };
    [after(receipt.worker_told_at), after(receipt.provider_closed_at), settled, billed]
}

#[cfg(test)]
mod tests;
