//! Faults are counted, not deliveries; what is known is bounded; a message is in one hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn faults_are_counted_and_not_deliveries() {
    let memory = Memory::default();
    for _ in 0..50 {
        drop(memory.take(7).unwrap());
    }
    assert_eq!(memory.take(7).unwrap().fault(), 1, "a delivery was counted as a fault");
    assert_eq!(memory.take(7).unwrap().fault(), 2);
    memory.take(7).unwrap().forget();
    assert_eq!(memory.take(7).unwrap().fault(), 1);
}

#[test]
fn a_message_is_in_one_hand() {
    let memory = Memory::default();
    let first = memory.take(7).unwrap();
    assert!(memory.take(7).is_none() && memory.is_in_hand(7));
    assert_eq!(memory.seen(), BTreeSet::from([7]));
    assert_eq!(memory.seen(), BTreeSet::from([7]), "it is still in hand");
    drop(first);
    assert!(!memory.is_in_hand(7));
    assert_eq!(memory.seen(), BTreeSet::new());
}

#[test]
fn letters_that_are_not_kept_are_tried_less_and_less_often() {
    let memory = Memory::default();
    let waits: Vec<_> = (0..9).map(|_| memory.take(7).unwrap().back_off().as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
}

#[test]
fn what_is_known_is_bounded() {
    let memory = Memory::default();
    for seq in 1..=MAX_KNOWN as u64 + 10 {
        memory.put(seq, seq);
    }
    assert_eq!(memory.inner().known.len(), MAX_KNOWN);
    assert_eq!((memory.body_at(1), memory.body_at(11)), (None, Some(11)));
}
