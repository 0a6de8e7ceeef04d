//! kill -9 of every process, at moments drawn from a seed and sometimes of two at once, under load; then a comparison of what was
//! acknowledged with what is there.

use std::time::Duration;

use laneway_contract::ServiceName;
use laneway_tests::draw::{Draw, rounds};
use laneway_tests::load::{Load, Plan};
use laneway_tests::provider::CountingProvider;
use laneway_tests::stack::Stack;

/// How often each kind of process is killed.
const ROUNDS: usize = 20;
/// The most runs at a time.
const LIMIT: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Nats,
    Leader,
    Standby,
    Store,
    Worker,
    Recorder,
}

use Victim::{Leader, Nats, Recorder, Standby, Store, Worker};

/// What was killed, and is to be started again.
enum Dead {
    Nats,
    Part(ServiceName, String),
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_any_process_is_killed_at_any_moment() {
    let mut draw = Draw::begin("crashes");
    let provider = CountingProvider::start(3, Duration::from_millis(5)).await;
    let limits = format!("[limits]\nglobal = {LIMIT}\nper_provider = {LIMIT}\nper_model = {LIMIT}\n");
    let mut stack = Stack::start(&format!("{limits}{}", provider.section("counted"))).await;
    stack.start_part(ServiceName::Worker, "worker-b", &[]);
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let plan = Plan { model_id: "counted/m".to_owned(), repeats: 3, ..Plan::default() };
    let load = Load::start(&stack, plan);
    let mut order = [Nats, Leader, Standby, Store, Worker, Recorder].repeat(rounds(ROUNDS));
    draw.shuffle(&mut order);
    while let Some(victim) = order.pop() {
        let mut blow = vec![victim];
        if draw.one_in(4) {
            blow.extend(order.pop_if(|next| *next != victim));
        }
        tokio::time::sleep(draw.up_to_ms(300)).await;
        let dead = strike(&mut stack, &blow, &mut draw).await;
        tokio::time::sleep(draw.up_to_ms(300)).await;
        for part in dead {
            match part {
                Dead::Nats => stack.nats.restart().await,
                Dead::Part(service, name) => stack.start_part(service, &name, &[]),
            }
        }
        // Else the next blow falls while the parts still recover from this one.
        if draw.one_in(3) {
            stack.ready().await;
            stack.grows(20).await;
            stack.all_run();
        }
    }
    stack.ready().await;
    stack.grows(20).await;
    let told = load.finish(&mut stack).await;
    assert!(told.iter().all(|client| !client.runs.is_empty()), "a client did nothing");
    assert!(told.iter().any(|client| !client.cancelled.is_empty()), "no client has cancelled");
    provider.limits_held(LIMIT);
    provider.nothing_ended_was_called(&told);
}

/// Kills at once whatever the blow is meant for.
async fn strike(stack: &mut Stack, blow: &[Victim], draw: &mut Draw) -> Vec<Dead> {
    // Asked once: who leads may change between two answers.
    let leader = if blow.iter().any(|victim| matches!(victim, Leader | Standby)) {
        stack.leads(|_, _| true).await.0
    } else {
        String::new()
    };
    let scheduler = |leads: bool| {
        let names = stack.running(ServiceName::Scheduler);
        let name = names.into_iter().find(|name| (*name == leader) == leads);
        Dead::Part(ServiceName::Scheduler, name.expect("two schedulers"))
    };
    let mut dead = Vec::new();
    for victim in blow {
        dead.push(match victim {
            Nats => Dead::Nats,
            Leader => scheduler(true),
            Standby => scheduler(false),
            Store => one_of(stack, ServiceName::SessionStore, draw),
            Worker => one_of(stack, ServiceName::Worker, draw),
            Recorder => one_of(stack, ServiceName::FlightRecorder, draw),
        });
    }
    for part in &dead {
        match part {
            Dead::Nats => stack.nats.kill9().await,
            Dead::Part(_, name) => stack.kill9(name).await,
        }
    }
    dead
}

fn one_of(stack: &Stack, service: ServiceName, draw: &mut Draw) -> Dead {
    Dead::Part(service, draw.pick(&stack.running(service)).clone())
}
