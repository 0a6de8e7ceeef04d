//! `laneway doctor`: what is wrong with a deployment, and how to mend it.

mod checks;
mod monitor;

use std::fmt;

use clap::Args;
use laneway_contract::ServiceName;
use serde::Serialize;

use super::Context;
use crate::exit::{CliError, Exit};
use crate::{output, ready};

/// Arguments of `doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exits 0 when nothing is wrong, 5 when something is, 3 when there is no NATS. What cannot be seen from here \
    is a warning in the last line and leaves the exit code 0.\n\
    Whether every write is synced is seen on the monitoring port of nats-server alone, \
    which is looked for at port 8222 of its host unless --monitor names it."
)]
pub struct DoctorArgs {
    /// Only say whether this service does its work in the deployment: session-store, scheduler, worker or
    /// flight-recorder. The health check of containers.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    ready: Option<ServiceName>,
    /// Only an instance on this host: in a container, its own. A scheduler that stands by counts.
    #[arg(long, requires = "ready")]
    here: bool,
    /// The monitoring port of a nats-server, as http://127.0.0.1:8222.
    #[arg(long, value_name = "URL", conflicts_with = "ready")]
    monitor: Option<String>,
}

fn service(raw: &str) -> Result<ServiceName, String> {
    let names = || ServiceName::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    ServiceName::ALL
        .iter()
        .copied()
        .find(|name| name.as_str() == raw)
        .ok_or_else(|| format!("expected one of {}", names()))
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well as it should.
    Warning,
    /// Something does not work, or can lose data.
    Wrong,
    /// It cannot be seen from here.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
            Self::Unknown => "unknown",
        })
    }
}

/// What a check has found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    fn not_ok(check: &'static str, verdict: Verdict, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), mend: Some(mend.into()) }
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
}

pub(super) async fn run(context: &Context, args: &DoctorArgs) -> Result<Exit, CliError> {
    if let Some(service) = args.ready {
        return is_ready(context, service, args.here).await;
    }
    let client = context.client().await?;
    let findings = checks::all(&client, &context.config, args.monitor.as_deref()).await?;
    let report = Report { ok: findings.iter().all(|finding| finding.verdict != Verdict::Wrong), findings };
    context.out.reply(&report, people)?;
    Ok(if report.ok { Exit::Done } else { Exit::CheckFailed })
}

async fn is_ready(context: &Context, service: ServiceName, here: bool) -> Result<Exit, CliError> {
    let bus = context.connect().await?;
    let ready = if here {
        ready::is_here(&bus, service, &context.config).await?
    } else {
        ready::is_ready(&bus, service).await?
    };
    let answer = serde_json::json!({"service": service.as_str(), "ready": ready});
    let word = if ready { "ready" } else { "not ready" };
    context.out.reply(&answer, |_| format!("{service} is {word}"))?;
    Ok(if ready { Exit::Done } else { Exit::CheckFailed })
}

fn people(report: &Report) -> String {
    let rows = report.findings.iter().map(|f| [f.check.to_owned(), f.verdict.to_string(), f.found.clone()]);
    let mut text = output::table(["CHECK", "", "FOUND"], rows);
    let mends = report.findings.iter().filter_map(|f| Some(format!("{}: {}", f.check, f.mend.as_deref()?)));
    for paragraph in mends.chain([verdict(report)]) {
        text.push_str("\n\n");
        text.push_str(&paragraph);
    }
    text
}

/// The last line. What nobody has seen is not called right.
fn verdict(report: &Report) -> String {
    let verdict = if report.ok { "nothing is wrong" } else { "something is wrong" };
    let unknown = report.findings.iter().filter(|finding| finding.verdict == Verdict::Unknown);
    let unknown: Vec<_> = unknown.map(|finding| finding.check).collect();
    if unknown.is_empty() { verdict.to_owned() } else { format!("{verdict}; UNKNOWN: {}", unknown.join(", ")) }
}

#[cfg(test)]
mod tests;
