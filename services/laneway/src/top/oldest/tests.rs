//! Lists of many lengths, with ids of every kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use laneway_contract::Lane;

use super::*;
use crate::top::model::tests::run;

const ROWS: usize = 3;

/// A page as the scheduler gives it: below the cursor, newest first.
fn page(all: &[u128], below: Option<RunId>) -> RunPage {
    let mut ids: Vec<u128> = all.iter().copied().filter(|id| below.is_none_or(|below| run_id(*id) < below)).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let cursor = (ids.len() > ROWS).then(|| run_id(ids[ROWS - 1]));
    ids.truncate(ROWS);
    let runs = ids.into_iter().map(|id| RunView { run_id: run_id(id), ..run(0, 0, Lane::Primary) }).collect();
    RunPage { runs, cursor, journal_seq: 1 }
}

/// The oldest that are found, and the pages that it took.
async fn find(oldest: &mut Oldest, all: &[u128]) -> (Vec<u128>, usize) {
    let mut pages = 0;
    let list = async |below| {
        pages += 1;
        Ok(page(all, below))
    };
    let found = oldest.find(list).await.unwrap();
    (found.into_iter().map(|run| run.run_id.uuid().as_u128()).collect(), pages)
}

/// The id of a run that was submitted at this millisecond.
fn at(millis: u128, random: u128) -> u128 {
    (millis << 80) | (7 << 76) | random
}

#[tokio::test]
async fn the_oldest_are_found_in_a_list_of_any_length_and_soon_with_one_page() {
    let start = 1_790_000_000_000;
    for count in [0, 1, 3, 4, 1_000] {
        let all: Vec<u128> = (0..count).map(|n| at(start + n * 700, n)).collect();
        let mut oldest = Oldest::default();
        let lowest = all.first().copied();
        let looks = 6;
        for look in 0..looks {
            let (found, pages) = find(&mut oldest, &all).await;
            assert!(pages <= PAGES);
            if look == looks - 1 {
                assert_eq!(found.iter().min().copied(), lowest, "{count}");
                assert!(pages <= 1, "{count} runs took {pages} pages");
            }
        }
    }
}

#[tokio::test]
async fn what_has_ended_or_come_below_is_noticed() {
    let start = 1_790_000_000_000;
    let mut all: Vec<u128> = (0..500).map(|n| at(start + n * 700, n)).collect();
    let mut oldest = Oldest::default();
    let settled = async |oldest: &mut Oldest, all: &[u128]| {
        let mut found = Vec::new();
        for _ in 0..10 {
            found = find(oldest, all).await.0;
        }
        found.into_iter().min()
    };
    assert_eq!(settled(&mut oldest, &all).await, Some(all[0]));
    all.drain(..100);
    assert_eq!(settled(&mut oldest, &all).await, Some(all[0]));
    // Callers choose ids: these begin with no time.
    all.insert(0, 5);
    assert_eq!(settled(&mut oldest, &all).await, Some(5));
    all.clear();
    assert_eq!(settled(&mut oldest, &all).await, None);
}
