//! Commands fit one request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use laneway_bus::MAX_INSIDE_BYTES;
use laneway_contract::{ErrorCode, Fingerprint, Format, MAX_BODY_BYTES, PreparedAppend};

use super::forward::overflow;
use crate::testing::*;

fn append(contents: &[usize]) -> PreparedAppend {
    let texts = contents.iter().enumerate().map(|(at, size)| at.to_string().repeat(*size));
    let artifacts = texts.map(|text| artifact(&text)).collect();
    let (messages, key) = (Vec::new(), "k".to_owned());
    PreparedAppend {
        session_id: session_id(1),
        messages,
        artifacts,
        key,
        fingerprint: Fingerprint(1),
        expected_tail: None,
        said: Vec::new(),
    }
}

#[test]
fn the_largest_contents_go_ahead_until_the_rest_fits() {
    let mut command = append(&[300_000, 400_000, 10, 350_000]);
    let mut ahead = Vec::new();
    while let Some(artifact) = overflow(&mut command).unwrap() {
        assert!(artifact.bytes.len() <= MAX_BODY_BYTES);
        ahead.push(artifact.bytes.len());
    }
    assert_eq!((ahead, command.artifacts.len()), (vec![400_000], 3));
    assert!(Format::MessagePack.encode(&command).unwrap().len() <= MAX_INSIDE_BYTES);
}

#[test]
fn a_command_that_fits_stays_whole() {
    let mut command = append(&[MAX_BODY_BYTES - 1024]);
    assert_eq!(overflow(&mut command).unwrap(), None);
}

#[test]
fn what_never_fits_is_refused() {
    let mut command = append(&[]);
    command.key = "k".repeat(MAX_INSIDE_BYTES);
    assert_eq!(overflow(&mut command).unwrap_err().code, ErrorCode::PayloadTooLarge);
}
