//! The cables between the parts and NATS: pulled out, losing what goes one way, holding it back, slow; under load.

use std::collections::BTreeMap;
use std::time::Duration;

use laneway_contract::{LEADER_LEASE_MS, ServiceName};
use laneway_tests::draw::{Draw, rounds};
use laneway_tests::load::{Load, Plan};
use laneway_tests::provider::CountingProvider;
use laneway_tests::proxy::{Flow, Proxy, Way};
use laneway_tests::stack::Stack;

/// The most runs at a time.
const LIMIT: u32 = 5;

/// A cut is over before anybody notices, or a leader's lease runs out.
const CUTS_MS: [u64; 2] = [300, LEADER_LEASE_MS + 2_000];

/// Whose cable is at fault. The leader's name is not known before.
const CABLES: [&str; 5] = ["leader", "standby", "store-a", "worker-a", "recorder-a"];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    OneWay(Flow),
}

const FAULTS: [Fault; 4] = [
    Fault::Cut,
    Fault::OneWay(Flow::Lost),
    Fault::OneWay(Flow::Held),
    Fault::OneWay(Flow::Slow(Duration::from_millis(20))),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_cables_fail() {
    let mut draw = Draw::begin("cuts");
    let provider = CountingProvider::start(8, Duration::from_millis(25)).await;
    let limits = format!("[limits]\nglobal = {LIMIT}\nper_provider = {LIMIT}\nper_model = {LIMIT}\n");
    let mut stack = Stack::bare(&format!("{limits}{}", provider.section("counted"))).await;
    let mut cables = BTreeMap::new();
    for name in ["scheduler-a", "scheduler-b", "store-a", "worker-a", "recorder-a"] {
        let proxy = Proxy::start(stack.nats.port()).await;
        stack.route(name, proxy.url());
        cables.insert(name.to_owned(), proxy);
    }
    stack.start_all().await;
    // These have cables that hold, so that the load goes on.
    stack.start_part(ServiceName::Worker, "worker-b", &[]);
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let load = Load::start(&stack, Plan { model_id: "counted/m".to_owned(), repeats: 8, ..Plan::default() });
    stack.grows(20).await;
    let faults = FAULTS.iter().flat_map(|fault| CABLES.map(|cable| (cable, *fault)));
    let mut order = faults.collect::<Vec<_>>().repeat(rounds(1));
    draw.shuffle(&mut order);
    for (cable, fault) in order {
        let leader = stack.leads(|_, _| true).await.0;
        let proxy = match cable {
            "leader" => &cables[&leader],
            "standby" => &cables[if leader == "scheduler-a" { "scheduler-b" } else { "scheduler-a" }],
            name => &cables[name],
        };
        match fault {
            Fault::Cut => proxy.cut(),
            Fault::OneWay(flow) => proxy.flow(*draw.pick(&[Way::ToServer, Way::FromServer]), flow),
        }
        tokio::time::sleep(Duration::from_millis(*draw.pick(&CUTS_MS)) + draw.up_to_ms(200)).await;
        proxy.heal();
        stack.ready().await;
        stack.grows(20).await;
        stack.all_run();
    }
    let told = load.finish(&mut stack).await;
    provider.limits_held(LIMIT);
    provider.nothing_ended_was_called(&told);
}
