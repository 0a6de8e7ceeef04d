//! `laneway journal check`: reads, and changes nothing.

use std::path::{Path, PathBuf};

use laneway_bus::{Bus, stream_config};
use laneway_contract::{Event, Stream, Timestamp};
use laneway_journal::Position;
use laneway_journal::audit::{Audit, Audited, Damage, Finding, Witness};
use laneway_session_store::salvage;
use serde::Serialize;

use super::flight::{self, Sources};
use super::raw;
use crate::exit::CliError;
use crate::output::{Output, or_dash};
use crate::ready;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    journal_id: Option<String>,
    frames: u64,
    events: u64,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
    first_epoch: u64,
    last_epoch: u64,
    /// The last number that the stream has given.
    last: u64,
    /// The journal is right from its start up to this frame.
    right_up_to: u64,
    /// A repair broke off: the stream takes no frames.
    unfinished_repair: bool,
    findings: Vec<Found>,
    views: Vec<View>,
    /// Public events that are not those of their frames.
    flight: Vec<flight::Difference>,
}

/// Damage, and what can be done about it.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    #[serde(flatten)]
    finding: Finding,
    /// The finding in words.
    message: String,
    repairable: bool,
    repair: String,
}

/// How far a view has come.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    number: u64,
    hash: String,
}

impl View {
    fn of(witness: &Witness) -> Self {
        let Position { number, hash } = witness.position;
        Self { name: witness.name.to_string(), number, hash: hash.to_string() }
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub(crate) const fn is_whole(&self) -> bool {
        self.ok
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        for found in &self.findings {
            lines.push(format!("{}\n  {}", found.message, found.repair));
        }
        lines.extend(self.flight.iter().map(ToString::to_string));
        if self.unfinished_repair {
            lines.push(
                "a repair broke off: no scheduler can write. Go on with: laneway journal repair --from FILE --yes, with \
                 its backup"
                    .to_owned(),
            );
        }
        lines.extend(self.views.iter().map(|view| format!("{}: has had frame {}", view.name, view.number)));
        let verdict = if self.ok {
            "ok".to_owned()
        } else {
            format!("NOT right: kept by a repair are frames 1 to {}", self.right_up_to)
        };
        lines.push(format!(
            "journal {}: {} frames, {} events, {} to {}, epochs {} to {}: {verdict}",
            or_dash(self.journal_id.as_ref()),
            self.frames,
            self.events,
            or_dash(self.first_time),
            or_dash(self.last_time),
            self.first_epoch,
            self.last_epoch,
        ));
        lines.join("\n")
    }
}

/// Checks the journal, and what views have had of it.
pub(crate) async fn run(bus: &Bus, out: Output, store: Option<PathBuf>) -> Result<Report, CliError> {
    // IMPORTANT: before the journal is read, so that no view is ahead of what is read of one that goes on.
    let mut sources = Sources::default();
    raw::each(bus, Stream::Flight, 1, out, |event| {
        sources.take(&event);
        Ok(())
    })
    .await?;
    let mut witnesses = sources.witnesses();
    let recorded = witnesses.last().cloned();
    let stores = stores(bus, store.as_deref()).await?;
    let mut views: Vec<_> = recorded.iter().chain(&stores).map(View::of).collect();
    // Of each how far it has come.
    views.dedup_by(|later, earlier| {
        let is_same = later.name == earlier.name;
        if is_same {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    witnesses.extend(stores);
    let audited = audit(bus, out, witnesses).await?;
    let flight = flight::compare(bus, audited.right.number).await?;
    let unfinished_repair = is_unfinished(bus).await?;
    let findings: Vec<_> = audited.findings.iter().map(|finding| found(finding, audited.right)).collect();
    Ok(Report {
        ok: findings.is_empty() && flight.is_empty() && !unfinished_repair,
        journal_id: audited.journal.map(|id| id.to_string()),
        frames: audited.frames,
        events: audited.events,
        first_time: audited.first_time,
        last_time: audited.last_time,
        first_epoch: audited.first_epoch,
        last_epoch: audited.last_epoch,
        last: audited.last,
        right_up_to: audited.right.number,
        unfinished_repair,
        findings,
        views,
        flight,
    })
}

/// Reads the stream from its first frame to its last.
pub(super) async fn audit(bus: &Bus, out: Output, witnesses: Vec<Witness>) -> Result<Audited, CliError> {
    let mut audit = Audit::<Event>::new(witnesses);
    let last = raw::each(bus, Stream::Journal, 1, out, |message| {
        audit.take(message.sequence, &message.payload);
        Ok(())
    });
    let last = last.await?;
    Ok(audit.finish(last))
}

/// Whether the stream is one that a repair has begun to write and not opened.
pub(super) async fn is_unfinished(bus: &Bus) -> Result<bool, CliError> {
    let expected = stream_config(bus.prefix(), Stream::Journal, 1).subjects;
    let found = raw::find(bus, Stream::Journal).await?;
    Ok(found.is_some_and(|found| found.config.subjects != expected))
}

/// What the stores that run, and the one in a folder, have had.
async fn stores(bus: &Bus, store: Option<&Path>) -> Result<Vec<Witness>, CliError> {
    let mut witnesses = Vec::new();
    for (name, position) in ready::positions(bus).await? {
        witnesses.push(Witness { name: format!("the session-store on {name}").into(), position });
    }
    if let Some(folder) = store {
        witnesses.extend(store_witnesses(folder, look(folder).await?));
    }
    witnesses.retain(|witness| witness.position != Position::START);
    Ok(witnesses)
}

/// What a store in a folder has had.
pub(super) fn store_witnesses(folder: &Path, held: salvage::Held) -> Vec<Witness> {
    let name: std::sync::Arc<str> = format!("the store in {}", folder.display()).into();
    let mut positions = vec![held.synced, held.applied];
    positions.dedup();
    positions.retain(|position| position.number > 0);
    positions.into_iter().map(|position| Witness { name: name.clone(), position }).collect()
}

/// Where the store in a folder stands.
async fn look(folder: &Path) -> Result<salvage::Held, CliError> {
    let folder = folder.to_owned();
    let look = tokio::task::spawn_blocking(move || salvage::look(&folder));
    let looked = look.await.map_err(|error| CliError::Store(error.to_string()))?;
    looked.map_err(|error| CliError::Store(error.to_string()))
}

pub(super) fn found(finding: &Finding, right: Position) -> Found {
    let number = right.number;
    let cut = format!(
        "laneway journal repair keeps frames 1 to {number}; with --store DIR it brings back what that store holds beyond"
    );
    let (repairable, repair) = match &finding.damage {
        Damage::OtherFormat { .. } => (false, "no damage: run the version of laneway that wrote them".to_owned()),
        Damage::CutOff { witness } | Damage::Replaced { witness } if witness.contains("store") => {
            (true, format!("{cut}. After a repair: this store is older, remove its folder, and it is rebuilt"))
        }
        Damage::CutOff { .. }
        | Damage::Replaced { .. }
        | Damage::Missing
        | Damage::Changed
        | Damage::Unreadable
        | Damage::Disordered
        | Damage::OtherJournal { .. } => (true, cut),
    };
    Found { finding: finding.clone(), message: finding.to_string(), repairable, repair }
}
