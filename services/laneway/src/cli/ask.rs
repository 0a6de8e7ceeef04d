//! `laneway ask`: one question, the answer while it comes.

use clap::Args;
use laneway_contract::{CancelRuns, Generation, Input, ModelId, RunId, SessionId, SubmitRun};

use super::request::{Draft, text_argument};
use super::schedule::ScheduleArgs;
use super::{Context, stream};
use crate::client::Client;
use crate::exit::{CliError, Exit};

/// Arguments of `ask`.
#[derive(Args, Debug)]
#[command(after_help = "Ctrl-C cancels the run. The answer goes to stdout, everything else to stderr.\n\
    Exits 0 when the answer is complete, 4 when the run failed or was cancelled.")]
pub struct AskArgs {
    /// The model, as echo/default or openai/gpt-5.
    #[arg(value_parser = ModelId::parse)]
    model: ModelId,
    /// The question; `-` reads it from stdin.
    prompt: String,
    /// Ask inside this session, with all that was said in it.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// What the model is told before the question; for a question without a session.
    #[arg(long, value_name = "TEXT", conflicts_with = "session")]
    instructions: Option<String>,
    /// The most tokens of the answer.
    #[arg(long, value_name = "N")]
    max_output_tokens: Option<u64>,
    /// Sampling temperature, 0 to 2.
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    #[command(flatten)]
    schedule: ScheduleArgs,
}

pub(super) async fn run(context: &Context, args: AskArgs) -> Result<Exit, CliError> {
    let run_id = RunId::generate();
    let request = request(args, run_id)?;
    let client = context.client().await?;
    let chunks = client.tokens(run_id).await?;
    client.submit(&request).await?;
    tokio::select! {
        reply = stream::show(context, &client, run_id, chunks) => stream::summary(context, &reply?),
        _ = tokio::signal::ctrl_c() => interrupted(context, &client, run_id).await,
    }
}

async fn interrupted(context: &Context, client: &Client, run_id: RunId) -> Result<Exit, CliError> {
    client.cancel(&CancelRuns::of_run(run_id, context.actor.clone(), "interrupted".to_owned())).await?;
    context.out.note(format!("\ncancelled run {run_id}"))?;
    Ok(Exit::Interrupted)
}

fn request(args: AskArgs, run_id: RunId) -> Result<SubmitRun, CliError> {
    let generation = Generation {
        max_output_tokens: args.max_output_tokens,
        temperature: args.temperature,
        ..Generation::default()
    };
    let mut draft = Draft::default();
    draft
        .set("run_id", Some(run_id))?
        .set("model_id", Some(args.model))?
        .set("session_id", args.session)?
        .set("instructions", args.instructions)?
        .set("input", Some(Input::Text(text_argument(&args.prompt)?)))?
        .set("generation", Some(generation))?;
    args.schedule.put_into(&mut draft)?;
    draft.read()
}
