//! `laneway replay`: a recorded journal folded again, and a model of what other limits would have done.

use std::path::{Path, PathBuf};

use clap::Args;
use laneway_contract::Timestamp;

use super::Context;
use super::request::time;
use crate::exit::{CliError, Exit};
use crate::replay::compare::{self, Comparison};
use crate::replay::past::Past;
use crate::replay::policy::Policy;
use crate::replay::source::Source;
use crate::replay::view::StateView;
use crate::replay::workload::Recorder;
use crate::replay::{model, picture, report};

/// Arguments of `replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without --policy it shows the state: sessions, runs, limits and what holds, buckets, budgets, and why each first run waits.
With --policy it shows a model of what was recorded: the same arrivals, durations and usage, decided again by the engine under
other limits, and next to it the record and the model under the limits as they were, whose distance is the model's own error.

A policy is a configuration of the scheduler with its [limits], which replace all that held, and may have rules:
  [[rules]]                                     # the first that matches a run decides
  match = { lane = \"BACKGROUND\", fairness_key = \"nightly\", model = \"openai/*\", group = \"g\" }   # all that is given
  set = { lane = \"SUBAGENT\", priority = 20 }    # one or both

Ends with exit code 7, and names the frame, where the journal or recording is not whole.")]
pub struct ReplayArgs {
    /// `nats` for the journal of the deployment, or a recording that --save has made.
    #[arg(long, value_name = "JOURNAL")]
    from: PathBuf,
    /// Fold up to this time, as 2026-01-31T12:00:00Z [default: the end].
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// With --from nats: write the frames that are read to this file. It holds the content of messages.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Decide again under the limits and rules of this file.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// With --policy: the slots of every pool of workers [default: what the journal shows].
    #[arg(long, value_name = "N", requires = "policy", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    slots: Option<u32>,
    /// With --policy: how many fairness keys to show, those that waited longest first.
    #[arg(long, value_name = "N", requires = "policy", default_value_t = 10)]
    keys: usize,
    /// With --policy: write the comparison as a picture to this file.
    #[arg(long, value_name = "FILE", requires = "policy")]
    svg: Option<PathBuf>,
}

/// What `--from` calls the deployment's own journal.
const DEPLOYMENT: &str = "nats";

pub(super) async fn run(context: &Context, args: &ReplayArgs) -> Result<Exit, CliError> {
    let policy = args.policy.as_deref().map(Policy::read).transpose()?;
    let mut source = open(context, args).await?;
    let mut past = Past::new(args.until, policy.as_ref().map(|_| Recorder::default()));
    while let Some(committed) = source.next().await? {
        if !past.take(committed)? {
            break;
        }
    }
    if let (Some(frames), Some(path)) = (source.finish()?, &args.save) {
        context.out.note(format!("{frames} frames are saved in {}", path.display()))?;
    }
    match (policy, past.recorder.take()) {
        (Some(policy), Some(recorder)) => compare_with(context, args, &policy, &past, recorder)?,
        (Some(_) | None, _) => context.out.reply(&StateView::of(&past), StateView::text)?,
    }
    Ok(Exit::Done)
}

async fn open(context: &Context, args: &ReplayArgs) -> Result<Source, CliError> {
    if args.from == Path::new(DEPLOYMENT) {
        let bus = context.connect().await?;
        return Source::stream(&bus, args.save.as_deref(), context.out).await;
    }
    if args.save.is_some() {
        return Err(CliError::Usage("--save goes with --from nats: a recording is a file already".to_owned()));
    }
    Source::file(&args.from, context.out)
}

fn compare_with(
    context: &Context,
    args: &ReplayArgs,
    policy: &Policy,
    past: &Past,
    recorder: Recorder,
) -> Result<(), CliError> {
    let (work, pools) = (recorder.finish(), past.pools.known());
    let as_it_was = model::run(&work, &pools, args.slots, None);
    let other = model::run(&work, &pools, args.slots, Some(policy));
    let comparison: Comparison = compare::compare(&work, past.position.number, &as_it_was, &other, args.keys);
    let comparison = comparison.with_pools(&pools, args.slots);
    let name = args.policy.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if let Some(file) = &args.svg {
        let failed = |source| CliError::File { what: file.display().to_string(), source };
        std::fs::write(file, picture::picture(&comparison, &name)).map_err(failed)?;
    }
    Ok(context.out.reply(&comparison, |comparison| report::text(comparison, &name))?)
}
