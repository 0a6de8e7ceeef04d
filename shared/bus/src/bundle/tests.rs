#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn parts_come_back_in_their_order() {
    let parts: [&[u8]; 3] = [b"one", b"", b"three"];
    let read = read_parts(write_parts(&parts), 3).unwrap();
    assert_eq!(read, parts);
}

#[test]
fn what_is_no_bundle_is_refused() {
    let body = write_parts(&[b"one", b"two"]);
    let check = |body: Bytes, count| assert_eq!(read_parts(body, count), None);
    check(body.clone(), 1);
    check(body.clone(), 3);
    check(body.slice(..body.len() - 1), 2);
    check(Bytes::from_static(&[0, 0, 1]), 1);
    check(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1]), 1);
    let many = vec![&b"x"[..]; MAX_PARTS + 1];
    check(write_parts(&many), many.len());
}

#[test]
fn answers_are_bodies_errors_or_to_be_asked_for_alone() {
    let large = vec![7; MAX_INSIDE_BYTES - 512];
    let errors = [ErrorCode::StaleEpoch, ErrorCode::Unavailable].map(|code| Err(ApiError::new(code, "no")));
    let answers: Vec<_> = errors.into_iter().chain([Ok(b"a".to_vec()), Ok(large), Ok(b"b".to_vec())]).collect();
    let body = Bytes::from(write_answers(answers));
    assert!(body.len() <= MAX_INSIDE_BYTES);
    let read = read_answers(&body, 5).unwrap();
    assert!(matches!(&read[0], Some(Reply::Refused(error)) if error.code == ErrorCode::StaleEpoch));
    assert!(matches!(&read[1], Some(Reply::Again(error)) if error.code == ErrorCode::Unavailable));
    assert!(matches!(&read[2], Some(Reply::Answered(_, body)) if body == "a"));
    assert!(read[3].is_none());
    assert!(matches!(&read[4], Some(Reply::Answered(_, body)) if body == "b"));
    assert!(read_answers(&body, 4).is_none());
    assert!(read_answers(&body.slice(..body.len() - 1), 5).is_none());
}

#[test]
fn what_waits_is_taken_in_bounded_bundles_and_who_gave_up_is_left_out() {
    let bundles = Bundles::default();
    let endpoint = Endpoint::AttemptsClaim;
    let mut told = Vec::new();
    let mut push = |size: usize| {
        let (tell, answer) = oneshot::channel();
        told.push(answer);
        bundles.push(endpoint, Part { body: vec![0; size].into(), tell })
    };
    // Two messages may be under way; whoever comes later waits for one of them.
    assert_eq!([push(1), push(2), push(3)], [true, true, false]);
    push(MAX_BYTES);
    push(5);
    told.remove(1);
    let sizes = || bundles.next(endpoint).map(|parts| parts.iter().map(|part| part.body.len()).collect::<Vec<_>>());
    assert_eq!(sizes(), Some(vec![1, 3]));
    assert_eq!(sizes(), Some(vec![MAX_BYTES]), "a large one goes alone");
    assert_eq!(sizes(), Some(vec![5]));
    assert_eq!((sizes(), sizes()), (None, None), "both are done");
}

#[test]
fn what_a_service_does_not_know_is_sent_one_by_one_for_a_minute() {
    let (bundles, now) = (Bundles::default(), Instant::now());
    bundles.not_taken(Endpoint::SessionsWindow, now);
    let taken = |endpoint, seconds| bundles.are_taken(endpoint, now + Duration::from_secs(seconds));
    assert!(!taken(Endpoint::SessionsWindow, 59) && taken(Endpoint::SessionsWindow, 60));
    assert!(taken(Endpoint::AttemptsClaim, 0));
}
