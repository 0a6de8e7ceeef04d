//! `laneway budget …`.

use std::fmt::Display;

use clap::{Args, Subcommand};
use laneway_contract::{BudgetReply, Endpoint, GetBudget, MicroUsd, SessionId, SetBudget};

use super::Context;
use super::request::usd;
use crate::exit::{CliError, Exit};
use crate::output;

/// Verbs about budgets.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Shows a budget with what was used and what running calls have reserved.
    Show {
        /// Whose.
        #[command(flatten)]
        owner: Owner,
    },
    /// Sets both amounts of a budget. What is left out is not bounded.
    Set {
        /// Whose.
        #[command(flatten)]
        owner: Owner,
        /// The most input and output tokens [default: not bounded].
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
        /// The most US dollars, as 2.50 [default: not bounded].
        #[arg(long, value_name = "X", value_parser = usd)]
        usd: Option<MicroUsd>,
    },
}

/// Exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Owner {
    /// The budget of this session.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// The budget of this work packet, over all its sessions.
    #[arg(long, value_name = "ID")]
    wp: Option<String>,
}

pub(super) async fn run(context: &Context, command: BudgetCommand) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let reply: BudgetReply = match command {
        BudgetCommand::Show { owner } => {
            let request = GetBudget { session_id: owner.session, wp_id: owner.wp };
            client.ask(Endpoint::BudgetsGet, &request).await?
        }
        BudgetCommand::Set { owner, tokens, usd } => {
            let actor = context.actor.clone();
            let request = SetBudget { session_id: owner.session, wp_id: owner.wp, tokens, usd, actor };
            client.ask(Endpoint::BudgetsSet, &request).await?
        }
    };
    context.out.reply(&reply, people)?;
    Ok(Exit::Done)
}

fn people(reply: &BudgetReply) -> String {
    let (tokens, usd) = (&reply.tokens, &reply.usd);
    let left = |limit: Option<u64>, used: u64, reserved: u64| {
        limit.map(|limit| limit.saturating_sub(used).saturating_sub(reserved))
    };
    let tokens_left = left(tokens.limit, tokens.used, tokens.reserved);
    let usd_left = left(usd.limit.map(|limit| limit.0), usd.used.0, usd.reserved.0).map(MicroUsd);
    let rows = [
        row("tokens", tokens.limit, tokens.used, tokens.reserved, tokens_left),
        row("US dollars", usd.limit, usd.used, usd.reserved, usd_left),
    ];
    format!("{}\n\n{}", reply.owner, output::table(["", "LIMIT", "USED", "RESERVED", "LEFT"], rows))
}

fn row<T: Display>(name: &str, limit: Option<T>, used: T, reserved: T, left: Option<T>) -> [String; 5] {
    let limit = limit.map_or_else(|| "not bounded".to_owned(), |limit| limit.to_string());
    [name.to_owned(), limit, used.to_string(), reserved.to_string(), output::or_dash(left)]
}

#[cfg(test)]
mod tests;
