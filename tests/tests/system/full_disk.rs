//! Full disks: nothing acknowledged is lost, the logs say what is wrong, and all goes on when there is room again.
//!
//! The disks are small ones of the test's own, so these need root and are ignored unless asked for.

use std::time::Duration;

use laneway_contract::ServiceName;
use laneway_tests::access::Access;
use laneway_tests::fold::Fold;
use laneway_tests::load::{Load, Plan};
use laneway_tests::nats::{NatsServer, Settings};
use laneway_tests::stack::Stack;
use laneway_tests::tmpfs::Tmpfs;

const CONFIG: &str = "[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n";

/// Fills the disk of nats-server under load and makes room again.
async fn nats_is_full(jetstream: &str, why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount(&folder.path().join("data"), 24);
    let nats = NatsServer::start_in(folder, Settings { jetstream, ..Settings::default() }).await;
    let mut stack = Stack::around(nats, CONFIG, Access::plain()).await;
    // Goes before the folder that it is mounted in.
    let disk = disk;
    stack.start_all().await;
    let (leader, _) = stack.leads(|_, _| true).await;
    let load = Load::start(&stack, Plan { padding: 32 * 1024, ..Plan::default() });
    // Whether it is the disk only nats-server knows.
    let full = async {
        while !stack.nats.log().contains(why) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), full).await.expect("the load fills the disk");
    stack.says(&leader, "the server does not take a frame", 0).await;
    disk.resize(2_048);
    // nats-server itself looks at its disk only when it starts.
    stack.nats.restart().await;
    stack.ready().await;
    stack.grows(20).await;
    load.finish(&mut stack).await;
}

/// What nats-server does by itself: it takes no more than a part of the disk.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small disk: needs root"]
async fn nothing_acknowledged_is_lost_when_nats_has_no_room_left() {
    nats_is_full("", "JetStream file resource limits exceeded").await;
}

/// Writes fail.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small disk: needs root"]
async fn nothing_acknowledged_is_lost_when_the_disk_of_nats_is_full() {
    nats_is_full("max_file_store: 1TB", "no space left on device").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small disk: needs root"]
async fn a_store_on_a_full_disk_stops_and_goes_on_when_there_is_room() {
    let mut stack = Stack::bare(CONFIG).await;
    let disk = Tmpfs::mount(&stack.data_path("store-a"), 16);
    stack.start_all().await;
    // It answers while the other is down.
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let load = Load::start(&stack, Plan::default());
    stack.grows(20).await;
    let filler = std::fs::write(stack.data_path("store-a").join("filler"), vec![7; 64 * 1024 * 1024]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    // What it says comes before its end.
    stack.says("store-a", "No space left on device", 0).await;
    assert_eq!(stack.end_of("store-a").await, Some(6), "{}", stack.logs());
    disk.resize(2_048);
    let ready = stack.said("store-a", "\"ready\"");
    stack.start_part(ServiceName::SessionStore, "store-a", &[]);
    stack.says("store-a", "\"ready\"", ready).await;
    stack.grows(20).await;
    assert_eq!(stack.terminate("store-a").await, Some(0), "{}", stack.logs());
    Fold::default().is_what_is_in(&stack.bus, &stack.data_path("store-a").join("store")).await;
    load.finish(&mut stack).await;
}
