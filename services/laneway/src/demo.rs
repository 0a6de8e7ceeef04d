//! `laneway demo`: the main job in front of the user, from nothing, and nothing left behind.

mod history;
mod lines;
mod model_server;
mod stage;
mod story;

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Context, on_signals};
use crate::exit::{CliError, Exit};
use stage::Stage;

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Use the built-in echo provider instead of a real model.
    #[arg(long)]
    pub echo: bool,
    /// Keep the data in this folder [default: a temporary one, which is removed].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The Python that the model server is installed in.
    #[arg(long, value_name = "PROGRAM", default_value = ".tools/venv/bin/python")]
    pub python: PathBuf,
    /// The program that serves the model.
    #[arg(long, value_name = "FILE", default_value = "deploy/model_server.py")]
    pub model_server: PathBuf,
}

const NEXT: &str = "\
Try next:
  laneway up                               starts it all, with its data in .laneway/; then, in a second terminal:
  laneway ask echo/default 'hello there'   one question, the answer while it comes
  laneway session create echo/default
  laneway run list                         what waits, runs and has ended
  laneway events tail                      everything that happens
  laneway doctor                           what is wrong, and how to mend it
  nats req laneway.runs.submit '{\"model_id\":\"echo/default\",\"input\":\"hello\",\"wait\":true}'";

pub(crate) async fn run(context: &Context, args: &DemoArgs) -> Result<Exit, CliError> {
    let signals = on_signals()?;
    context.out.line("Laneway: durable sessions and a scheduler for model calls, on top of NATS.\n\nStarting")?;
    let Some((stage, mut backstage)) = Box::pin(stage::build(context, args, &signals)).await? else {
        return interrupted(context);
    };
    let told = tokio::select! {
        told = tell(context, &stage) => Some(told),
        broken = backstage.broken() => Some(Err(broken)),
        () = signals.requested() => None,
    };
    // Closes our connection, so that it does not miss the server.
    drop(stage);
    backstage.stop().await;
    match told {
        Some(Ok(())) => {
            context.out.line(format!("\nEverything was stopped again.\n\n{NEXT}"))?;
            Ok(Exit::Done)
        }
        Some(Err(error)) => Err(error),
        None => interrupted(context),
    }
}

fn interrupted(context: &Context) -> Result<Exit, CliError> {
    context.out.note("\ninterrupted: everything was stopped")?;
    Ok(Exit::Interrupted)
}

async fn tell(context: &Context, stage: &Stage) -> Result<(), CliError> {
    let out = context.out;
    stage.ready(context).await?;
    out.line("\nThree sessions at once; A asks a second question at once, which waits its turn; C is cancelled\n")?;
    let played = Box::pin(story::play(context, stage)).await?;
    out.line("\nThe runs\n")?;
    out.line(history::runs(&played))?;
    out.line("\nThe threads, as they are stored\n")?;
    history::threads(context, stage, &played).await?;
    out.line("\nThe events\n")?;
    history::events(context, stage, &played).await
}
