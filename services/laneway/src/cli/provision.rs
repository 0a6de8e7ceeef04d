//! `laneway provision`: every stream and consumer, shown or made.

use clap::Args;
use laneway_bus::async_nats::jetstream::consumer::pull;
use laneway_bus::async_nats::jetstream::stream::Config;
use laneway_bus::{Bus, StreamDifference};
use laneway_contract::{Catalog, PoolId, Stream};
use laneway_worker::WorkerConfig;
use serde_json::{Value, json};

use super::Context;
use crate::exit::{CliError, Exit};
use crate::{output, services};

/// Arguments of `provision`.
#[derive(Args, Debug)]
#[command(
    after_help = "The services make what is missing by themselves; this is for accounts in which they may not.\n\
    The consumer of the pool that a worker with this configuration and these API keys is of is among them.\n\
    What is there with other settings is never altered: the difference is shown, and the exit code is 5."
)]
pub struct ProvisionArgs {
    /// Show every stream and consumer, and whether it is there.
    #[arg(long, conflicts_with = "apply", required_unless_present = "apply")]
    print: bool,
    /// Make what is missing.
    #[arg(long)]
    apply: bool,
    /// Also the consumer of this pool of workers; may be given again.
    #[arg(long = "pool", value_name = "NAME", value_parser = PoolId::parse)]
    pools: Vec<PoolId>,
}

pub(super) async fn run(context: &Context, args: &ProvisionArgs) -> Result<Exit, CliError> {
    let pools = pools(context, &args.pools)?;
    let bus = context.connect().await?;
    if args.apply {
        laneway_bus::ensure_streams(&bus).await?;
        laneway_bus::ensure_intake_consumer(&bus).await?;
        for pool in &pools {
            laneway_bus::ensure_pool_consumer(&bus, pool).await?;
        }
    }
    let (missing, mut differences) = laneway_bus::compare_streams(&bus).await?;
    let consumers = consumers(&bus, &pools).await?;
    differences.extend(consumers.iter().flat_map(|consumer| consumer.differences.iter().flatten().cloned()));
    let is_complete = missing.is_empty() && consumers.iter().all(|consumer| consumer.differences.is_some());
    if context.out.is_json() {
        context.out.value(&as_json(&bus, &missing, &differences, &consumers))?;
    } else {
        context.out.line(stream_table(&bus, &missing, &differences))?;
        context.out.line("")?;
        context.out.line(consumer_table(&bus, &consumers))?;
        differences.iter().try_for_each(|difference| context.out.line(format!("\ndifferent: {difference}")))?;
        if !is_complete {
            context.out.note("\nmake what is missing with: laneway provision --apply")?;
        }
    }
    Ok(if differences.is_empty() { Exit::Done } else { Exit::CheckFailed })
}

/// The pools that were named, and that of a worker with this configuration.
fn pools(context: &Context, named: &[PoolId]) -> Result<Vec<PoolId>, CliError> {
    let config = &context.config;
    let usage = |error: &dyn std::error::Error| CliError::Usage(error.to_string());
    let catalog = Catalog::built_in().map_err(|error| usage(&error))?.with(config.providers.clone());
    let worker_id = services::worker_id(&config.instance).map_err(CliError::Usage)?;
    let base = WorkerConfig::new(worker_id, config.worker.slots, catalog);
    let worker = WorkerConfig { pool: config.worker.pool.clone(), models: config.worker.models.clone(), ..base };
    let mut pools = named.to_vec();
    pools.push(laneway_worker::pool(&worker).map_err(|error| usage(&error))?);
    pools.sort_unstable();
    pools.dedup();
    Ok(pools)
}

/// A consumer as it should be, and how it is.
struct Consumer {
    stream: Stream,
    expected: pull::Config,
    /// None where it is missing.
    differences: Option<Vec<StreamDifference>>,
}

impl Consumer {
    const fn state(&self) -> &'static str {
        match &self.differences {
            None => "missing",
            Some(differences) if differences.is_empty() => "as it should be",
            Some(_) => "different",
        }
    }
}

async fn consumers(bus: &Bus, pools: &[PoolId]) -> Result<Vec<Consumer>, CliError> {
    let pools = pools.iter().map(|pool| (Stream::Dispatch, laneway_bus::pool_consumer_config(bus, pool)));
    let mut consumers = Vec::new();
    for (stream, expected) in std::iter::once((Stream::Intake, laneway_bus::intake_consumer_config())).chain(pools) {
        let differences = laneway_bus::compare_consumer(bus, stream, &expected).await?;
        consumers.push(Consumer { stream, expected, differences });
    }
    Ok(consumers)
}

fn config(bus: &Bus, stream: Stream) -> Config {
    laneway_bus::stream_config(bus.prefix(), stream, bus.replicas())
}

fn as_json(bus: &Bus, missing: &[Stream], differences: &[StreamDifference], consumers: &[Consumer]) -> Value {
    let streams: Vec<_> = Stream::ALL.iter().map(|stream| json!(config(bus, *stream))).collect();
    let names: Vec<_> = missing.iter().map(|stream| bus.prefix().stream(*stream)).collect();
    let different: Vec<_> = differences
        .iter()
        .map(|d| json!({"stream": d.stream, "setting": d.setting, "found": d.found, "expected": d.expected}))
        .collect();
    let consumer = |consumer: &Consumer| {
        let stream = bus.prefix().stream(consumer.stream);
        json!({"stream": stream, "config": consumer.expected, "state": consumer.state()})
    };
    let consumers: Vec<_> = consumers.iter().map(consumer).collect();
    json!({"streams": streams, "consumers": consumers, "missing": names, "differences": different})
}

fn stream_table(bus: &Bus, missing: &[Stream], differences: &[StreamDifference]) -> String {
    let rows = Stream::ALL.iter().map(|stream| {
        let config = config(bus, *stream);
        let state = if missing.contains(stream) {
            "missing"
        } else if differences.iter().any(|difference| difference.stream == config.name) {
            "different"
        } else {
            "as it should be"
        };
        let age = match config.max_age.as_millis() {
            0 => "-".to_owned(),
            millis => output::span(millis as u64),
        };
        [
            config.name,
            config.subjects.join(" "),
            word(&config.storage),
            word(&config.retention),
            age,
            config.num_replicas.to_string(),
            state.to_owned(),
        ]
    });
    output::table(["STREAM", "SUBJECTS", "STORAGE", "RETENTION", "MAX AGE", "REPLICAS", "STATE"], rows)
}

/// A setting as NATS writes it.
fn word(value: &impl serde::Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

fn consumer_table(bus: &Bus, consumers: &[Consumer]) -> String {
    let rows = consumers.iter().map(|consumer| {
        let config = &consumer.expected;
        [
            config.durable_name.clone().unwrap_or_default(),
            bus.prefix().stream(consumer.stream),
            if config.filter_subject.is_empty() { "-".to_owned() } else { config.filter_subject.clone() },
            output::span(config.ack_wait.as_millis() as u64),
            config.max_ack_pending.to_string(),
            consumer.state().to_owned(),
        ]
    });
    output::table(["CONSUMER", "STREAM", "FILTER", "ACK WAIT", "MAX PENDING", "STATE"], rows)
}
