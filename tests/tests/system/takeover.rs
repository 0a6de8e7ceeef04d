//! Leaders that leave under load, as clients see it. What is fast enough is for the bench to say: it prints the same figures.

use laneway_tests::draw::{Draw, rounds};
use laneway_tests::stack::Stack;
use laneway_tests::streams::{each_epoch_begins_once, frames};
use laneway_tests::submits::{Leaves, Submits, each_completed_once};

#[tokio::test(flavor = "multi_thread")]
async fn submits_go_on_and_none_is_lost_however_a_leader_leaves() {
    let mut draw = Draw::begin("takeover");
    let mut stack = Stack::start("[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n").await;
    let mut submits = Submits::start(&stack, 8).await;
    let mut order = [Leaves::Kill9, Leaves::Stop, Leaves::Freeze].repeat(rounds(2));
    draw.shuffle(&mut order);
    for how in order {
        let gap = submits.survive(&mut stack, how).await;
        println!("{how:?}: {} ms without an answer", gap.as_millis());
        stack.all_run();
    }
    let accepted = submits.finish().await;
    stack.idle().await;
    let frames = frames(&stack.bus, stack.journal_seq().await).await;
    each_epoch_begins_once(&frames);
    each_completed_once(&accepted, &frames);
}
