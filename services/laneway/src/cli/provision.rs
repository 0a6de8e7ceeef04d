//! `laneway provision`: every stream and consumer, shown or made.

use clap::Args;
use laneway_bus::async_nats::jetstream::consumer::pull;
use laneway_bus::async_nats::jetstream::stream::Config;
use laneway_bus::{Bus, StreamDifference};
use laneway_contract::{PoolId, Stream};
use serde_json::{Value, json};

use super::Context;
use crate::exit::{CliError, Exit};
use crate::output;

/// Arguments of `provision`.
#[derive(Args, Debug)]
#[command(
    after_help = "The services make what is missing by themselves; this is for accounts in which they may not.\n\
    A stream that is there with other settings is never altered: the difference is shown, and the exit code is 5."
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
    let bus = context.connect().await?;
    let mut pools = args.pools.clone();
    pools.extend(context.config.worker.pool.clone());
    let (missing, differences) = if args.apply {
        let differences = laneway_bus::ensure_streams(&bus).await?;
        laneway_bus::ensure_intake_consumer(&bus).await?;
        for pool in &pools {
            laneway_bus::ensure_pool_consumer(&bus, pool).await?;
        }
        (Vec::new(), differences)
    } else {
        laneway_bus::compare_streams(&bus).await?
    };
    let consumers = consumers(&bus, &pools);
    if context.out.is_json() {
        context.out.value(&as_json(&bus, &missing, &differences, &consumers))?;
    } else {
        context.out.line(stream_table(&bus, &missing, &differences))?;
        context.out.line("")?;
        context.out.line(consumer_table(&consumers))?;
        differences.iter().try_for_each(|difference| context.out.line(format!("\ndifferent: {difference}")))?;
        if !args.apply && !missing.is_empty() {
            context.out.note("\nmake what is missing with: laneway provision --apply")?;
        }
    }
    Ok(if differences.is_empty() { Exit::Done } else { Exit::CheckFailed })
}

/// The consumers with the streams they read.
fn consumers(bus: &Bus, pools: &[PoolId]) -> Vec<(String, pull::Config)> {
    let name = |stream| bus.prefix().stream(stream);
    let intake = (name(Stream::Intake), laneway_bus::intake_consumer_config());
    let pools = pools.iter().map(|pool| (name(Stream::Dispatch), laneway_bus::pool_consumer_config(bus, pool)));
    std::iter::once(intake).chain(pools).collect()
}

fn config(bus: &Bus, stream: Stream) -> Config {
    laneway_bus::stream_config(bus.prefix(), stream, bus.replicas())
}

fn as_json(
    bus: &Bus,
    missing: &[Stream],
    differences: &[StreamDifference],
    consumers: &[(String, pull::Config)],
) -> Value {
    let streams: Vec<_> = Stream::ALL.iter().map(|stream| json!(config(bus, *stream))).collect();
    let names: Vec<_> = missing.iter().map(|stream| bus.prefix().stream(*stream)).collect();
    let different: Vec<_> = differences
        .iter()
        .map(|d| json!({"stream": d.stream, "setting": d.setting, "found": d.found, "expected": d.expected}))
        .collect();
    let consumers: Vec<_> =
        consumers.iter().map(|(stream, config)| json!({"stream": stream, "config": config})).collect();
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

fn consumer_table(consumers: &[(String, pull::Config)]) -> String {
    let rows = consumers.iter().map(|(stream, config)| {
        [
            config.durable_name.clone().unwrap_or_default(),
            stream.clone(),
            if config.filter_subject.is_empty() { "-".to_owned() } else { config.filter_subject.clone() },
            output::span(config.ack_wait.as_millis() as u64),
            config.max_ack_pending.to_string(),
        ]
    });
    output::table(["CONSUMER", "STREAM", "FILTER", "ACK WAIT", "MAX PENDING"], rows)
}
