//! `laneway journal repair`: saves, plans, and writes the journal again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use laneway_bus::async_nats::jetstream::context::DeleteStreamErrorKind;
use laneway_bus::async_nats::jetstream::stream::{Config, SubjectTransform};
use laneway_bus::{Bus, stream_config};
use laneway_contract::{Event, LEADER_LEASE_MS, ServiceName, Stream, Subject};
use laneway_journal::Frame;
use laneway_journal::clock::wall_now;
use laneway_journal::rewrite::Rewriter;
use serde::Serialize;
use tokio::sync::mpsc;

use super::backup::{self, Kind};
use super::plan::{self, Plan, Shown};
use super::raw::{self, Raw};
use super::{check, flight};
use crate::cli::RepairArgs;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::ready;

/// A leader writes at least once in this time.
const SILENCE: Duration = Duration::from_millis(LEADER_LEASE_MS + 1_000);
/// The name under which the repair leads.
const INSTANCE: &str = "laneway journal repair";
/// Epochs that the next leader is above the highest that is known: the public events may have lost the last leaders in the
/// same power loss, and whoever has heard of a later one drops every answer. Each costs a frame.
const EPOCHS_AHEAD: u64 = 32;
/// Messages that are read from the backup ahead of those that are written.
const AHEAD: usize = 64;

/// What was done, or would be.
#[derive(Serialize)]
struct Outcome {
    done: bool,
    #[serde(flatten)]
    plan: Shown,
    backup: Option<PathBuf>,
    /// The last frame, once it is done.
    last: Option<u64>,
}

pub(crate) async fn run(bus: &Bus, out: Output, args: &RepairArgs) -> Result<Exit, CliError> {
    refuse_while_running(bus, out).await?;
    let folder =
        tempfile::tempdir().map_err(|source| CliError::File { what: "a temporary folder".to_owned(), source })?;
    if let Some(file) = &args.from {
        refuse_over_a_journal(bus, file).await?;
    }
    let file = save(bus, out, args, folder.path()).await?;
    let (path, store, scratch) = (file.clone(), args.store.clone(), folder.path().join("view"));
    let made = tokio::task::spawn_blocking(move || plan::make(&path, store.as_deref(), &scratch, wall_now()));
    let plan = made.await.map_err(|error| CliError::Repair(error.to_string()))??;
    if let Some(finding) = plan.of_other_version() {
        let what = format!("{finding}: that is no damage. Use the version of laneway that wrote them");
        return Err(CliError::Repair(what));
    }
    if args.from.is_some() {
        refuse_of_another(bus, &plan, &file).await?;
    }
    let backup = (args.yes || args.from.is_some()).then(|| file.clone());
    let is_right = plan.is_whole() && flight::compare(bus, plan.audited.right.number).await?.is_empty();
    if is_right && args.from.is_none() && !check::is_unfinished(bus).await? {
        let outcome = Outcome { done: false, plan: plan.shown(), backup, last: None };
        out.reply(&outcome, |_| "nothing to repair: every frame is right, and no view has had another".to_owned())?;
        return Ok(Exit::Done);
    }
    if args.dry_run || !args.yes {
        let outcome = Outcome { done: false, plan: plan.shown(), backup, last: None };
        out.reply(&outcome, |outcome| {
            format!("{}\nnothing was changed: repeat with --yes to do it", outcome.plan.text())
        })?;
        return Ok(Exit::Done);
    }
    out.note(format!("saved in {} and read back", file.display()))?;
    let last = write(bus, out, &plan, &file).await.map_err(|error| unfinished(&error, &file))?;
    let outcome = Outcome { done: true, plan: plan.shown(), backup, last: Some(last) };
    out.reply(&outcome, |outcome| done(outcome, &file))?;
    Ok(Exit::Done)
}

fn done(outcome: &Outcome, file: &Path) -> String {
    let last = outcome.last.unwrap_or_default();
    format!(
        "{}\nrepaired: the journal ends at frame {last} and is right; what was there is in {}\nnow: remove the folder of \
         every session-store, this one too: each is rebuilt from the journal. Then start everything, workers too.",
        outcome.plan.text(),
        file.display()
    )
}

/// A repair that broke off after the stream was taken away says so, and how it is gone on with.
fn unfinished(error: &CliError, file: &Path) -> CliError {
    CliError::Repair(format!(
        "broke off: {error}. The journal is NOT repaired, and nobody can write into it. What was there is in {}: mend the \
         cause, then run: laneway journal repair --from {} --yes, with the same --store",
        file.display(),
        file.display()
    ))
}

/// Whoever writes, or would begin to, has to be stopped first.
async fn refuse_while_running(bus: &Bus, out: Output) -> Result<(), CliError> {
    let mut running = Vec::new();
    for service in [ServiceName::Scheduler, ServiceName::SessionStore, ServiceName::FlightRecorder] {
        let instances = ready::instances(bus, service).await?;
        if instances > 0 {
            running.push(format!("{instances} of {service}"));
        }
    }
    if !running.is_empty() {
        return Err(CliError::Repair(format!("these run, stop them first: {}", running.join(", "))));
    }
    let before = raw::find(bus, Stream::Journal).await?.map(|found| found.last);
    out.note(format!("waits {} s for frames of a leader that does not answer", SILENCE.as_secs()))?;
    tokio::time::sleep(SILENCE).await;
    if raw::find(bus, Stream::Journal).await?.map(|found| found.last) != before {
        let what = "frames are still written by a scheduler that does not answer: stop every scheduler first";
        return Err(CliError::Repair(what.to_owned()));
    }
    Ok(())
}

/// A backup takes the place of a journal that a repair has left unfinished, or of none.
async fn refuse_over_a_journal(bus: &Bus, file: &Path) -> Result<(), CliError> {
    let held = raw::find(bus, Stream::Journal).await?.map_or(0, |found| found.messages);
    if held == 0 || check::is_unfinished(bus).await? {
        return Ok(());
    }
    Err(CliError::Repair(format!(
        "the journal holds {held} frames, and no repair of it broke off: they would be lost under those of {}. See whether \
         anything is wrong with: laneway journal check; and repair it without --from, which saves it first",
        file.display()
    )))
}

/// Another deployment's backup, or that of another journal.
async fn refuse_of_another(bus: &Bus, plan: &Plan, file: &Path) -> Result<(), CliError> {
    let subject = bus.prefix().subject(&Subject::Journal);
    if let Some(other) = plan.subject.as_ref().filter(|other| **other != subject) {
        let what = format!("{} is of {other}, and this is {subject}: name the prefix that it is of", file.display());
        return Err(CliError::Repair(what));
    }
    // Where no frame is kept, the repair that broke off had begun a journal of its own.
    let Some(saved) = plan.audited.journal.filter(|_| plan.audited.right.number > 0) else { return Ok(()) };
    let Some(first) = raw::get(bus, Stream::Journal, 1).await? else { return Ok(()) };
    match Frame::<Event>::decode(&first.payload) {
        Ok(frame) if frame.journal_id != saved => Err(CliError::Repair(format!(
            "{} is of journal {saved}, and the repair that broke off was of journal {}: name the backup that it said",
            file.display(),
            frame.journal_id
        ))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Saves both streams; in a temporary folder where nothing is to be changed. Gives the file.
async fn save(bus: &Bus, out: Output, args: &RepairArgs, temporary: &Path) -> Result<PathBuf, CliError> {
    if let Some(file) = &args.from {
        return Ok(file.clone());
    }
    if check::is_unfinished(bus).await? {
        let what = "an earlier repair broke off, and the stream holds only a part of the journal: repeat it with --from and \
                    its backup";
        return Err(CliError::Repair(what.to_owned()));
    }
    let file = match &args.backup {
        _ if !args.yes => temporary.join("backup.ndjson"),
        Some(file) => file.clone(),
        None => PathBuf::from(format!("laneway-journal-{}.ndjson", wall_now().millis())),
    };
    backup::write(bus, out, &file).await?;
    Ok(file)
}

/// Writes both streams again. Until the very end nobody can write into the journal but this.
async fn write(bus: &Bus, out: Output, plan: &Plan, file: &Path) -> Result<u64, CliError> {
    let replicas = if plan.ends.replicas == 0 { bus.replicas() } else { plan.ends.replicas };
    let open = stream_config(bus.prefix(), Stream::Journal, replicas);
    let subject = bus.prefix().subject(&Subject::Journal);
    let side = format!("{subject}.repair");
    let transform = SubjectTransform { source: side.clone(), destination: subject };
    let closed = Config { subjects: vec![side.clone()], subject_transform: Some(transform), ..open.clone() };
    make_again(bus, &closed).await?;
    // They may be folded up to frames that are gone. The next leader takes another.
    make_again(bus, &stream_config(bus.prefix(), Stream::Snapshots, replicas)).await?;
    let mut rewriter = Rewriter::<Event>::new(bus.client().clone(), &open.name, &side, INSTANCE);
    let failed = |error: laneway_journal::rewrite::RewriteError| CliError::Repair(error.to_string());
    let mut messages = read(file, Kind::Journal, plan.audited.right.number);
    while let Some(message) = messages.next().await? {
        rewriter.keep(message.sequence, message.payload).await.map_err(failed)?;
    }
    out.note(format!("{} frames written", rewriter.position().number))?;
    // Above every epoch that a client or worker may have heard of: they take no answer of an older leader.
    let above = rewriter.epoch().max(plan.epoch) + EPOCHS_AHEAD;
    while rewriter.epoch() < above {
        rewriter.begin(wall_now()).await.map_err(failed)?;
    }
    rewriter.add(&plan.found.events, wall_now()).await.map_err(failed)?;
    rewriter.end(wall_now()).await.map_err(failed)?;
    if plan.flight_kept < plan.ends.flight {
        cut_flight(bus, plan, file, replicas).await?;
    }
    let audited = check::audit(bus, out, Vec::new()).await?;
    if !audited.findings.is_empty() || audited.right != rewriter.position() {
        return Err(CliError::Repair("what was written is not what was read back".to_owned()));
    }
    bus.jetstream().update_stream(&open).await.map_err(|error| raw::unreadable(&open.name, &error))?;
    Ok(audited.right.number)
}

/// Writes the public events again that stay. The recorder makes the others from the journal.
async fn cut_flight(bus: &Bus, plan: &Plan, file: &Path, replicas: usize) -> Result<(), CliError> {
    let config = stream_config(bus.prefix(), Stream::Flight, replicas);
    make_again(bus, &config).await?;
    let error = |error: &dyn std::fmt::Display| raw::unreadable(&config.name, error);
    let mut messages = read(file, Kind::Flight, plan.flight_kept);
    while let Some(Raw { sequence, subject, headers, payload }) = messages.next().await? {
        let published = bus.jetstream().publish_with_headers(subject, headers, payload).await;
        let acknowledged = published.map_err(|e| error(&e))?.await.map_err(|e| error(&e))?;
        if acknowledged.sequence != sequence {
            return Err(error(&format!("event {sequence} was stored as {}", acknowledged.sequence)));
        }
    }
    Ok(())
}

/// Takes a stream away, where it is there, and makes it.
async fn make_again(bus: &Bus, config: &Config) -> Result<(), CliError> {
    if let Err(error) = bus.jetstream().delete_stream(&config.name).await
        && !matches!(error.kind(), DeleteStreamErrorKind::JetStream(refusal) if refusal.code() == 404)
    {
        return Err(raw::unreadable(&config.name, &error));
    }
    let made = bus.jetstream().create_stream(config).await;
    made.map(drop).map_err(|error| raw::unreadable(&config.name, &error))
}

/// Messages of a backup, up to a sequence.
struct Messages {
    read: mpsc::Receiver<Raw>,
    reading: Option<tokio::task::JoinHandle<Result<(), CliError>>>,
}

fn read(file: &Path, kind: Kind, last: u64) -> Messages {
    let (file, (send, receive)) = (file.to_owned(), mpsc::channel(AHEAD));
    let reading = tokio::task::spawn_blocking(move || {
        let read = backup::read(&file, |found, message| {
            if found == kind && message.sequence <= last {
                let gone = |_| CliError::Repair("the writing has ended".to_owned());
                send.blocking_send(message).map_err(gone)?;
            }
            Ok(())
        });
        read.map(drop)
    });
    Messages { read: receive, reading: Some(reading) }
}

impl Messages {
    /// The next; none when the file was read to its end, and is whole.
    async fn next(&mut self) -> Result<Option<Raw>, CliError> {
        if let Some(message) = self.read.recv().await {
            return Ok(Some(message));
        }
        match self.reading.take() {
            Some(reading) => reading.await.map_err(|error| CliError::Repair(error.to_string()))?.map(|()| None),
            None => Ok(None),
        }
    }
}
