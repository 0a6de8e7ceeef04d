//! The checks, one after the other.

use std::time::Duration;

use laneway_bus::Bus;
use laneway_contract::{ServiceName, SnapshotView, StatusReply};
use laneway_runtime::config::Config;

use super::monitor;
use super::{Finding, Verdict};
use crate::client::Client;
use crate::exit::CliError;
use crate::{nats_child, output, ready};

/// The oldest nats-server that has all we use: major and minor number.
const OLDEST_SERVER: (u32, u32) = (2, 14);
/// Our largest frames and bodies between services, in bytes, fit into this.
const MIN_PAYLOAD: usize = 1024 * 1024;
/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn all(client: &Client, config: &Config, monitor: Option<&str>) -> Result<Vec<Finding>, CliError> {
    let bus = client.bus();
    let mut findings = server(bus);
    let jetstream = jetstream(bus).await;
    let has_jetstream = jetstream.verdict == Verdict::Ok;
    findings.push(jetstream);
    findings.push(sync(bus, config, monitor).await);
    if has_jetstream {
        findings.extend(streams(bus).await);
    }
    let status = client.status(PATIENCE).await;
    findings.push(match &status {
        Ok(status) => leader(status),
        Err(error) => Finding::not_ok(
            "leader",
            Verdict::Wrong,
            format!("no scheduler leads: {}", error.message),
            "start `laneway serve scheduler` (or `laneway up`); where one runs, its log says what it waits for",
        ),
    });
    findings.push(standing(bus, ServiceName::SessionStore, "sessions cannot be created or read").await?);
    findings.push(standing(bus, ServiceName::FlightRecorder, "no public events are written; none is lost").await?);
    findings.push(workers(bus).await?);
    if let Ok(status) = &status {
        findings.push(queue(status));
        findings.push(snapshot(status));
    }
    Ok(findings)
}

fn server(bus: &Bus) -> Vec<Finding> {
    let info = bus.client().server_info();
    let found = format!("{} {} at {}:{}", info.server_name, info.version, info.host, info.port);
    let version = if is_new_enough(&info.version) {
        Finding::ok("nats-server", found)
    } else {
        let (major, minor) = OLDEST_SERVER;
        Finding::not_ok("nats-server", Verdict::Wrong, found, format!("use nats-server {major}.{minor} or newer"))
    };
    let payload = if info.max_payload >= MIN_PAYLOAD {
        Finding::ok("max_payload", format!("{} bytes", info.max_payload))
    } else {
        Finding::not_ok(
            "max_payload",
            Verdict::Wrong,
            format!("{} bytes", info.max_payload),
            format!("set max_payload to {MIN_PAYLOAD} (1MB) or more: frames of the journal may be that large"),
        )
    };
    vec![version, payload]
}

/// Whether a version such as `2.15.1` is at least the oldest one.
pub(super) fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST_SERVER,
        _ => false,
    }
}

async fn jetstream(bus: &Bus) -> Finding {
    let mend = "start nats-server with a jetstream block and a store_dir, and let this account use it";
    match tokio::time::timeout(PATIENCE, bus.jetstream().query_account()).await {
        Ok(Ok(account)) => {
            Finding::ok("JetStream", format!("{} streams, {} bytes stored", account.streams, account.storage))
        }
        Ok(Err(error)) => Finding::not_ok("JetStream", Verdict::Wrong, error.to_string(), mend),
        Err(_) => Finding::not_ok("JetStream", Verdict::Wrong, "no answer", mend),
    }
}

async fn sync(bus: &Bus, config: &Config, monitor: Option<&str>) -> Finding {
    const MEND: &str = "set `sync_interval: always` in the jetstream block of every nats-server: without it, an \
        acknowledged write is lost when the power fails";
    let synced = |sync_always| {
        if sync_always {
            Finding::ok("sync", "every write is synced")
        } else {
            Finding::not_ok("sync", Verdict::Wrong, "writes are synced now and then", MEND)
        }
    };
    if let Some(url) = monitor {
        return match monitor::look(url).await {
            Ok(seen) => synced(seen.sync_always),
            Err(error) => Finding::not_ok("sync", Verdict::Unknown, error, "check the URL given with --monitor"),
        };
    }
    let server = bus.client().server_info();
    if nats_child::name_in(&config.data).is_some_and(|name| name == server.server_name) {
        return Finding::ok("sync", "every write is synced (the server of `laneway up`)");
    }
    let likely = monitor::likely_urls(&config.nats);
    for url in &likely {
        // Whatever answers there may be another server.
        if let Ok(seen) = monitor::look(url).await
            && seen.server_id == server.server_id
        {
            return synced(seen.sync_always);
        }
    }
    Finding::not_ok(
        "sync",
        Verdict::Unknown,
        format!("the server does not say it at {}", likely.join(", ")),
        format!("look with --monitor http://HOST:PORT (the server's `http` port), or into its configuration: {MEND}"),
    )
}

async fn streams(bus: &Bus) -> Vec<Finding> {
    let (missing, differences) = match tokio::time::timeout(PATIENCE, laneway_bus::compare_streams(bus)).await {
        Ok(Ok(compared)) => compared,
        Ok(Err(error)) => {
            return vec![Finding::not_ok("streams", Verdict::Wrong, error.to_string(), "see docs/operations.md")];
        }
        Err(_) => {
            let mend = "a stream has no leader: see `nats stream report`, and start the missing nats-servers";
            return vec![Finding::not_ok("streams", Verdict::Wrong, "no answer about them", mend)];
        }
    };
    if missing.is_empty() && differences.is_empty() {
        return vec![Finding::ok("streams", "all there, with the right settings")];
    }
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|stream| bus.prefix().stream(*stream)).collect();
        let mend = "start the services, which make them, or run `laneway provision --apply`";
        findings.push(Finding::not_ok("streams", Verdict::Wrong, format!("missing: {}", names.join(", ")), mend));
    }
    if !differences.is_empty() {
        let found: Vec<_> = differences.iter().map(ToString::to_string).collect();
        let mend = "a stream that is there is never altered from here: set what differs with `nats stream edit`, or start \
            everything with the --replicas that the streams have";
        findings.push(Finding::not_ok("streams", Verdict::Warning, found.join("\n"), mend));
    }
    findings
}

fn leader(status: &StatusReply) -> Finding {
    let found = format!("{}, epoch {}, journal at {}", status.leader, status.epoch, status.journal_seq);
    Finding::ok("leader", found)
}

async fn standing(bus: &Bus, service: ServiceName, without: &str) -> Result<Finding, CliError> {
    let check = service.as_str();
    Ok(match ready::instances(bus, service).await? {
        0 => Finding::not_ok(
            check,
            Verdict::Wrong,
            format!("none: {without}"),
            format!("start `laneway serve {service}`"),
        ),
        1 => Finding::ok(check, "1 instance"),
        more => Finding::ok(check, format!("{more} instances")),
    })
}

async fn workers(bus: &Bus) -> Result<Finding, CliError> {
    let workers = ready::workers(bus).await?;
    if workers.is_empty() {
        let mend = "start `laneway serve worker`: until then runs stay queued as no_worker";
        return Ok(Finding::not_ok("workers", Verdict::Wrong, "none", mend));
    }
    let one = |worker: &laneway_contract::Announcement| {
        format!("{} (pool {}, {} slots): {}", worker.worker_id, worker.pool, worker.slots, worker.models.join(" "))
    };
    Ok(Finding::ok("workers", workers.iter().map(one).collect::<Vec<_>>().join("; ")))
}

/// What the next start begins with.
fn snapshot(status: &StatusReply) -> Finding {
    let frames = |behind: u64| status.journal_seq.saturating_sub(behind);
    let found = match &status.snapshot {
        Some(SnapshotView { journal_seq, taken_at, bytes }) => format!(
            "at frame {journal_seq}, {} old, {bytes} bytes; a start reads it and {} frames",
            output::span(status.time.millis_since(*taken_at)),
            frames(*journal_seq),
        ),
        None => format!("none yet; a start reads all {} frames", frames(0)),
    };
    Finding::ok("snapshot", found)
}

fn queue(status: &StatusReply) -> Finding {
    let queued: u64 = status.queued.values().sum();
    let executing: u32 = status.workers.iter().map(|worker| worker.executing).sum();
    let global = status.limits.global;
    let found = format!("{queued} queued, {executing} executing, limit {global}, {} sessions", status.sessions);
    if queued > 0 && status.workers.is_empty() {
        let mend = "the leader hears no worker: start one, and see that it uses the same --prefix and account";
        return Finding::not_ok("runs", Verdict::Wrong, found, mend);
    }
    Finding::ok("runs", found)
}
