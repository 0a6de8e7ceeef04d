//! A store replica by hand: what it says of a session after any number of events.

use laneway_contract::*;

use crate::Question;

/// What a replica says that has applied these events and no others.
pub(super) fn said(journal: &[(Timestamp, Event)], question: &Question) -> StoreSaid {
    let id = question.session_id;
    let (mut read_at, mut creation, mut record) = (0, None, None);
    let mut key = question.key.as_ref().map_or(KeySaid::NotAsked, |_| KeySaid::Absent);
    for (_, event) in journal {
        match event {
            Event::SessionCreated { session, .. } if session.session_id == id => creation = Some((**session).clone()),
            Event::SessionLoaded { session, .. } if session.session_id == id => record = None,
            Event::SessionsEvicted { number, sessions } => {
                read_at = *number;
                record = sessions.iter().find(|session| session.session_id == id).cloned().or(record);
            }
            Event::KeysEvicted { number, .. } => read_at = *number,
            Event::AppendKeyTaken { session_id, key: taken, fingerprint, first_seq, last_seq }
                if *session_id == id && question.key.as_ref() == Some(taken) =>
            {
                let (fingerprint, first_seq, last_seq) = (*fingerprint, *first_seq, *last_seq);
                key = KeySaid::Taken(KeyAnswer { fingerprint, first_seq, last_seq });
            }
            _ => {}
        }
    }
    let session = match (creation, record) {
        (None, _) => SessionSaid::Absent,
        (Some(_), None) => SessionSaid::Held,
        (Some(creation), Some(record)) => SessionSaid::Evicted(Box::new(StoredSession { creation, record })),
    };
    StoreSaid { session_id: id, read_at, session, key }
}
