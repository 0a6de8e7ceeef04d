//! Power loss of a store: what its disk had not written yet is gone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use laneway_contract::ServiceName;
use laneway_tests::draw::{Draw, rounds};
use laneway_tests::fold::Fold;
use laneway_tests::load::{Load, Plan};
use laneway_tests::stack::Stack;

const STORE: &str = "store-a";
const READY: &str = "\"ready\"";
const DAMAGED: &str = "remove it, and it is rebuilt from the journal";
/// What a disk writes at once.
const PAGE: u64 = 4_096;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_log_was_cut_anywhere_is_again_what_the_journal_says() {
    let mut draw = Draw::begin("power");
    let mut stack = Stack::start("[limits]\nglobal = 16\nper_provider = 16\nper_model = 16\n").await;
    // It answers while the other is down.
    stack.start_part(ServiceName::SessionStore, "store-b", &[]);
    let load = Load::start(&stack, Plan { padding: 1_000, ..Plan::default() });
    let mut fold = Fold::default();
    let folder = stack.data_path(STORE).join("store");
    let mut kept = 0;
    for case in 0..rounds(20) {
        // Else it dies while it reads the journal again.
        if !draw.one_in(4) {
            stack.grows(draw.below(100)).await;
        }
        stack.kill9(STORE).await;
        let cut = cut_log(&folder, &mut draw);
        println!("case {case}: {cut}");
        let end = stack.journal_seq().await;
        if comes_up(&mut stack).await {
            kept += 1;
        } else {
            println!("case {case}: its folder is removed, as it says");
            std::fs::remove_dir_all(&folder).unwrap();
            assert!(comes_up(&mut stack).await, "without a folder\n{}", stack.logs());
        }
        assert_eq!(stack.terminate(STORE).await, Some(0), "{}", stack.logs());
        let at = fold.is_what_is_in(&stack.bus, &folder).await;
        assert!(at.number >= end, "it said that it was ready at {}, before {end}", at.number);
        stack.start_part(ServiceName::SessionStore, STORE, &[]);
    }
    load.finish(&mut stack).await;
    assert!(kept > 0, "no store came up with what was left to it");
}

/// Starts the store. False when it ends, having said that its folder can be made again.
async fn comes_up(stack: &mut Stack) -> bool {
    let (ready, damaged) = (stack.said(STORE, READY), stack.said(STORE, DAMAGED));
    stack.start_part(ServiceName::SessionStore, STORE, &[]);
    for _ in 0..3_000 {
        if stack.said(STORE, READY) > ready {
            return true;
        }
        if !stack.ended().is_empty() {
            assert_eq!(stack.end_of(STORE).await, Some(6), "{}", stack.logs());
            assert!(stack.said(STORE, DAMAGED) > damaged, "it does not say what to do\n{}", stack.logs());
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it neither comes up nor ends\n{}", stack.logs());
}

/// Loses something of the newest file of the log of the database, at a byte that is drawn; what it did.
fn cut_log(folder: &Path, draw: &mut Draw) -> String {
    let path = newest_log(folder);
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    // The file is longer than what is written in it.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    let back = if draw.one_in(2) { end.min(64 * 1024) } else { end };
    let from = end - draw.below(back + 1);
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    // A file system gives back less, zeros, or zeros in the place of a page that it had not written before later ones.
    let how = match draw.below(3) {
        0 => {
            file.set_len(from).unwrap();
            "nothing from"
        }
        kind => {
            let length = if kind == 1 { end - from } else { (end - from).min(PAGE) };
            file.seek(SeekFrom::Start(from)).unwrap();
            file.write_all(&vec![0; length as usize]).unwrap();
            if kind == 1 { "zeros from" } else { "a page of zeros at" }
        }
    };
    format!("{end} bytes of {}, {how} {from}", path.file_name().unwrap().display())
}

/// The files of the log are called by their numbers.
fn newest_log(folder: &Path) -> PathBuf {
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "jnl") && number(path).is_some());
    logs.max_by_key(number).expect("a log of the database")
}
