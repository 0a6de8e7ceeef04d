//! What `run submit` and `ask` say about a run's turn: when, before whom, and how much it may use.

use clap::Args;
use laneway_contract::{Lane, OnBusy, Timestamp};

use super::request::{Draft, time};
use crate::exit::CliError;

/// When a run takes its turn. Times are written as 2026-01-31T12:00:00Z.
#[derive(Args, Debug)]
#[command(next_help_heading = "Scheduling")]
pub(super) struct ScheduleArgs {
    /// PRIMARY, SUBAGENT, BACKGROUND or VALIDATION [default: PRIMARY].
    #[arg(long)]
    lane: Option<Lane>,
    /// 0 to 1,000; 0 is the most urgent [default: 50].
    #[arg(long, value_name = "N")]
    priority: Option<u32>,
    /// Concurrency group: a shared limit.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Whose turn it counts for, as owner or owner/key [default: the session's work packet, else its root session].
    #[arg(long, value_name = "KEY")]
    fairness_key: Option<String>,
    /// When the session has a run already: ENQUEUE, REJECT, INTERRUPT (cancel the current one, then run) or
    /// REPLACE_QUEUED (cancel those that wait) [default: ENQUEUE].
    #[arg(long, value_name = "POLICY")]
    on_busy: Option<OnBusy>,
    /// Not before this time, as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<Timestamp>,
    /// Give up at this time, all attempts and waiting together.
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Timestamp>,
    /// Give up when not dispatched within this many milliseconds.
    #[arg(long, value_name = "MS")]
    queue_timeout_ms: Option<u64>,
    /// The most input and output tokens of all its calls together; what was produced is kept.
    #[arg(long, value_name = "N")]
    max_tokens_budget: Option<u64>,
}

impl ScheduleArgs {
    /// Puts what was given into a submit.
    pub(super) fn put_into(self, draft: &mut Draft) -> Result<(), CliError> {
        draft
            .set("lane", self.lane)?
            .set("priority", self.priority)?
            .set("concurrency_group", self.group)?
            .set("fairness_key", self.fairness_key)?
            .set("on_busy", self.on_busy)?
            .set("not_before", self.not_before)?
            .set("deadline", self.deadline)?
            .set("queue_timeout_ms", self.queue_timeout_ms)?
            .set("max_tokens_budget", self.max_tokens_budget)?;
        Ok(())
    }
}
