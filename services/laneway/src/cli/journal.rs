//! `laneway journal …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Context;
use crate::exit::{CliError, Exit};
use crate::journal::{check, repair};

/// Verbs about the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Reads the whole journal and says what is wrong with which frames. Changes nothing.
    ///
    /// Numbers, hashes, journal, epochs, times and every event; then whether the public events, the stores that run, and
    /// the store in a folder have had the same frames.
    Check {
        /// Also compare the store in this folder, which must not run.
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
    },
    /// Cuts a damaged journal back to the frames that are right, and brings back what a store still holds beyond them.
    ///
    /// Stop everything first. Without --yes it says what would be done, and changes nothing.
    Repair(RepairArgs),
}

/// Arguments of `journal repair`.
#[derive(Args, Debug)]
pub struct RepairArgs {
    /// The folder of the store that has come farthest; the journal alone is kept without one.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// The file that everything is saved in before [default: laneway-journal-TIME.ndjson in this folder].
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(crate) backup: Option<PathBuf>,
    /// Begin with such a file instead of the streams: after a repair that broke off.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Only say what would be kept, brought back and lost.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do it.
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(super) async fn run(context: &Context, command: JournalCommand) -> Result<Exit, CliError> {
    let bus = context.connect().await?;
    match command {
        JournalCommand::Check { store } => {
            let report = check::run(&bus, context.out, store).await?;
            context.out.reply(&report, check::Report::text)?;
            Ok(if report.is_whole() { Exit::Done } else { Exit::CheckFailed })
        }
        JournalCommand::Repair(args) => Box::pin(repair::run(&bus, context.out, &args)).await,
    }
}
