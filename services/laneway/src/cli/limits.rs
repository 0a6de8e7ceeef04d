//! `laneway limits …`.

use std::collections::BTreeMap;

use clap::Subcommand;
use laneway_contract::{ChangeLimits, Endpoint, GetLimits, LimitName, LimitRow, LimitsReply, MAX_PAGE};

use super::Context;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output;

/// Verbs about limits.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Shows each limit with what is taken of it.
    Show,
    /// Changes limits, all or none; what runs goes on.
    #[command(
        after_help = "Names: global, per_provider, per_model, provider:NAME, model:PROVIDER/MODEL, group:NAME, weight:LANE, and\n\
        requests_per_minute:, requests_burst:, tokens_per_minute:, tokens_burst: each with provider:NAME or model:PROVIDER/MODEL."
    )]
    Set {
        /// As provider:openai=5; NAME= takes the limit away, which brings back the default.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = change)]
        changes: Vec<Change>,
    },
}

/// A change of one limit; without a value, the limit is taken away.
type Change = (LimitName, Option<u64>);

/// A change on the command line. Names of models may hold `=`, so the last one counts.
fn change(raw: &str) -> Result<Change, String> {
    let (name, value) = raw.rsplit_once('=').ok_or("expected NAME=VALUE, or NAME= to take the limit away")?;
    let name = LimitName::parse(name).map_err(|error| error.to_string())?;
    if value.is_empty() {
        return Ok((name, None));
    }
    let value = value.parse().map_err(|_| format!("{value} is no whole number"))?;
    name.check(value)?;
    Ok((name, Some(value)))
}

pub(super) async fn run(context: &Context, command: LimitsCommand) -> Result<Exit, CliError> {
    let reply: LimitsReply = match command {
        LimitsCommand::Show => show(&context.client().await?).await?,
        LimitsCommand::Set { changes } => {
            let request = ChangeLimits { changes: by_name(changes)?, actor: context.actor.clone() };
            context.client().await?.ask(Endpoint::LimitsSet, &request).await?
        }
    };
    context.out.reply(&reply, |reply| table(&reply.limits))?;
    Ok(Exit::Done)
}

/// All of them, page by page.
async fn show(client: &Client) -> Result<LimitsReply, CliError> {
    let mut all = LimitsReply { limits: Vec::new(), cursor: None, journal_seq: 0 };
    loop {
        let request = GetLimits { limit: Some(MAX_PAGE), cursor: all.cursor.take() };
        let page: LimitsReply = client.ask(Endpoint::LimitsGet, &request).await?;
        all.limits.extend(page.limits);
        (all.cursor, all.journal_seq) = (page.cursor, page.journal_seq);
        if all.cursor.is_none() {
            return Ok(all);
        }
    }
}

fn by_name(changes: Vec<Change>) -> Result<BTreeMap<String, Option<u64>>, CliError> {
    let mut all = BTreeMap::new();
    for (name, value) in changes {
        if all.insert(name.to_string(), value).is_some() {
            return Err(CliError::Usage(format!("{name} was given twice")));
        }
    }
    Ok(all)
}

fn table(limits: &[LimitRow]) -> String {
    output::table(
        ["LIMIT", "VALUE", "TAKEN", "ONLY FOR PRIMARY", "IN ITS BUCKET"],
        limits.iter().map(|row| {
            [
                row.name.clone(),
                output::or_dash(row.value),
                output::or_dash(row.used),
                output::or_dash(row.reserve),
                output::or_dash(row.level),
            ]
        }),
    )
}

#[cfg(test)]
mod tests;
