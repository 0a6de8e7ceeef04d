//! Cursors of lists: opaque, and of use only with the filters that they came with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use laneway_contract::{HashKey, ListSessions};

use super::ReadError;
use crate::view::{MOMENT_BYTES, Moment};

/// Bytes of the seal.
const SEAL_BYTES: usize = 16;

/// A cursor that goes on behind `last`.
pub(super) fn write(key: &HashKey, filter: &ListSessions, last: Moment) -> Result<String, ReadError> {
    let mut bytes = last.as_bytes().to_vec();
    bytes.extend_from_slice(&seal(key, filter, last)?);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Where a cursor goes on, if this deployment wrote it for the same filters.
pub(super) fn read(key: &HashKey, filter: &ListSessions, cursor: &str) -> Result<Moment, ReadError> {
    let foreign = || ReadError::Malformed {
        field: "cursor",
        expected: "must be the cursor of the page before, sent with the same filters".to_owned(),
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
    let (moment, sealed) = bytes.split_first_chunk::<MOMENT_BYTES>().ok_or_else(foreign)?;
    let last = Moment::from_bytes(*moment);
    if seal(key, filter, last)? == sealed { Ok(last) } else { Err(foreign()) }
}

fn seal(key: &HashKey, filter: &ListSessions, last: Moment) -> Result<[u8; SEAL_BYTES], ReadError> {
    let filters = (filter.state, &filter.wp_id, &filter.role, &filter.labels);
    let mut sealed = b"sessions.list cursor".to_vec();
    sealed.extend_from_slice(last.as_bytes());
    sealed.extend_from_slice(&crate::compact(&filters).map_err(ReadError::Encoding)?);
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&key.artifact_id(&sealed).as_bytes()[..SEAL_BYTES]);
    Ok(seal)
}
