//! A scheduler that begins with a snapshot knows what one knows that read every frame; what cannot be used is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Scheduler, World, submit, within};
use futures::TryStreamExt;
use laneway_bus::async_nats::HeaderMap;
use laneway_bus::ensure_streams;
use laneway_contract::*;
use laneway_journal::{Fault, Loss};
use laneway_scheduler::{SchedulerError, SnapshotSchedule};
use tracing_subscriber::fmt::MakeWriter;

/// A snapshot after every few runs.
const OFTEN: SnapshotSchedule =
    SnapshotSchedule { every_bytes: 16 * 1_024, every: Duration::from_hours(1), pause: Duration::ZERO, rest: 0 };

/// What was logged in this test. Its tasks are all on its own thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The lines since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

struct Deployment {
    world: World,
    log: Log,
    /// Keeps the log coming here as long as it lives.
    #[expect(dead_code, reason = "held to be dropped")]
    logging: tracing::subscriber::DefaultGuard,
    submitted: Vec<SubmitRun>,
}

impl Deployment {
    async fn start() -> Self {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        Self { world: World::start().await, log, logging, submitted: Vec::new() }
    }

    async fn scheduler(&self, instance: &str) -> Scheduler {
        self.world.scheduler_as(instance, None, OFTEN).await
    }

    async fn submit_one(&mut self) {
        let request = submit(&format!("run {}", self.submitted.len()));
        self.world.submit(&request).await;
        self.submitted.push(request);
    }

    /// Submits until the journal has so many snapshots more; the newest.
    async fn until_snapshots(&mut self, count: usize) -> SnapshotView {
        let mut seen = BTreeSet::new();
        within(async {
            loop {
                self.submit_one().await;
                let Some(snapshot) = self.world.status().await.snapshot else { continue };
                seen.insert(snapshot.journal_seq);
                if seen.len() == count {
                    return snapshot;
                }
            }
        })
        .await
    }

    /// Every submit is known, with its first answer.
    async fn everything_is_known(&self) {
        for request in &self.submitted {
            assert!(self.world.submit(request).await.repeated, "a run that was acknowledged is not known");
        }
    }

    /// The objects in the stream, with their chunks.
    async fn objects(&self) -> BTreeSet<(SnapshotName, u32)> {
        let bus = &self.world.bus;
        let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Snapshots)).await.unwrap();
        let subjects = stream.info_with_subjects(bus.prefix().all(Family::Snapshots)).await.unwrap();
        let object = |subject: &str| {
            let Subject::Snapshot { object, chunk } = bus.prefix().parse_subject(subject).unwrap() else {
                panic!("{subject}")
            };
            (object, chunk)
        };
        subjects.map_ok(|(subject, _)| object(&subject)).try_collect().await.unwrap()
    }

    /// Puts other bytes in the place of an object's first.
    async fn change(&self, object: SnapshotName) {
        let subject = Subject::Snapshot { object, chunk: 0 };
        self.world.bus.publish_stored(&subject, HeaderMap::new(), "other bytes".into()).await.unwrap();
    }

    /// Deletes the messages of an object.
    async fn delete(&self, object: SnapshotName) {
        let bus = &self.world.bus;
        let stream = bus.jetstream().get_stream(bus.prefix().stream(Stream::Snapshots)).await.unwrap();
        stream.purge().filter(bus.prefix().snapshot(object)).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_begins_with_the_newest_snapshot_and_nothing_is_lost() {
    let mut deployment = Deployment::start().await;
    let first = deployment.scheduler("first").await;
    let mut worker = deployment.world.worker("w1", 4).await;
    let snapshot = deployment.until_snapshots(1).await;
    // Claimed before the next snapshot, reported under the next leader, which knows of the claim from it alone.
    let dispatch = worker.dispatch().await;
    let claim = worker.claim(&dispatch).await.unwrap();
    let newer = deployment.until_snapshots(2).await;
    assert!(newer.journal_seq > snapshot.journal_seq && newer.bytes > 0);
    deployment.log.take();
    first.kill().await;

    let second = deployment.scheduler("second").await;
    let status = deployment.world.status().await;
    let log = deployment.log.take();
    assert!(log.contains("begins with a snapshot"), "{log}");
    assert!(!log.contains("a snapshot cannot be used"), "{log}");
    assert!(status.snapshot.is_some_and(|shown| shown.journal_seq >= newer.journal_seq));
    deployment.everything_is_known().await;
    worker.report(&claim, "late", AttemptResult::Completed { finish: Finish::Stop }).await.unwrap();
    let mut ended = BTreeSet::from([claim.run_id]);
    while ended.len() < deployment.submitted.len() {
        assert!(ended.insert(worker.answer_one("answer").await), "a run was executed twice");
    }
    second.stop().await;
}

#[tokio::test]
async fn the_newest_two_are_kept() {
    let mut deployment = Deployment::start().await;
    let scheduler = deployment.scheduler("one").await;
    let newest = deployment.until_snapshots(4).await;
    let names = within(async {
        loop {
            let names: BTreeSet<SnapshotName> = deployment.objects().await.into_iter().map(|(name, _)| name).collect();
            // The one that is being written now may be there, too.
            if names.iter().filter(|name| name.number <= newest.journal_seq).count() <= 2 {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(names.iter().any(|name| name.number >= newest.journal_seq), "{names:?}");
    scheduler.stop().await;
}

#[tokio::test]
async fn one_that_did_not_come_to_its_end_is_deleted_before_the_next_is_written() {
    let mut deployment = Deployment::start().await;
    let scheduler = deployment.scheduler("one").await;
    let newest = deployment.until_snapshots(1).await.journal_seq;
    let left = SnapshotName { number: newest + 1, nonce: 1 };
    deployment.change(left).await;
    let next = within(async {
        loop {
            deployment.submit_one().await;
            let objects = deployment.objects().await;
            if let Some((next, _)) = objects.iter().find(|(name, _)| name.number > left.number) {
                return (*next, objects.contains(&(left, 0)));
            }
        }
    });
    let (next, is_left) = next.await;
    assert!(!is_left, "{next} is written beside {left}, which nothing names");
    scheduler.stop().await;
}

#[tokio::test]
async fn one_that_cannot_be_used_is_left_for_the_one_before_and_then_for_the_first_frame() {
    let mut deployment = Deployment::start().await;
    let scheduler = deployment.scheduler("one").await;
    let journaled = deployment.until_snapshots(2).await.journal_seq;
    scheduler.stop().await;
    // One that was begun meanwhile is nobody's.
    let names = deployment.objects().await.into_iter().map(|(name, _)| name);
    let names: BTreeSet<SnapshotName> = names.filter(|name| name.number <= journaled).collect();
    let [older, newest] = Vec::from_iter(names)[..] else { panic!("two are kept") };

    deployment.change(newest).await;
    deployment.log.take();
    let scheduler = deployment.world.scheduler("two").await;
    deployment.everything_is_known().await;
    let log = deployment.log.take();
    assert!(log.contains(&format!("snapshot {newest} is not the one that was written: it was changed")), "{log}");
    assert!(log.contains("begins with a snapshot") && log.contains(&format!("snapshot={}", older.number)), "{log}");
    // What a start could not use is replaced at once.
    within(async {
        while deployment.world.status().await.snapshot.is_none_or(|shown| shown.journal_seq <= newest.number) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    scheduler.stop().await;

    for (name, _) in deployment.objects().await {
        deployment.delete(name).await;
    }
    deployment.log.take();
    let scheduler = deployment.world.scheduler("three").await;
    deployment.everything_is_known().await;
    let log = deployment.log.take();
    assert!(log.contains("message 0 of snapshot") && log.contains("is missing"), "{log}");
    assert!(log.contains("the journal is read from its first frame"), "{log}");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_journal_that_ends_before_its_snapshots_has_lost_frames() {
    let mut deployment = Deployment::start().await;
    let scheduler = deployment.scheduler("one").await;
    deployment.submit_one().await;
    scheduler.stop().await;
    let bus = &deployment.world.bus;
    let journal = bus.jetstream().get_stream(bus.prefix().stream(Stream::Journal)).await.unwrap();
    let end = journal.cached_info().state.last_sequence;
    deployment.change(SnapshotName { number: end + 10, nonce: 1 }).await;
    let error = deployment.scheduler("two").await.ended().await.unwrap_err();
    let SchedulerError::Journal(fault) = error else { panic!("{error}") };
    assert_eq!(fault, Fault::DataLoss { first: end + 1, last: end + 10, loss: Loss::Missing });
}

#[tokio::test]
async fn no_journal_is_begun_where_snapshots_are_left() {
    let deployment = Deployment::start().await;
    ensure_streams(&deployment.world.bus).await.unwrap();
    deployment.change(SnapshotName { number: 7, nonce: 1 }).await;
    let error = deployment.scheduler("one").await.ended().await.unwrap_err();
    let SchedulerError::Journal(fault) = error else { panic!("{error}") };
    assert_eq!(fault, Fault::DataLoss { first: 1, last: 7, loss: Loss::Missing });
}
