//! Threads and artifacts.

use fjall::{Database, KeyspaceCreateOptions};
use laneway_contract::{ApiError, Artifact, ErrorCode, Event, Format, MessageRole, ReadMessages};
use serde_json::json;

use crate::testing::*;

fn thread(contents: &[&str]) -> World {
    let mut world = World::new();
    world.commit(vec![created(session(1, 1)), created(session(2, 2))]);
    for (at, content) in contents.iter().enumerate() {
        world.commit(appended(message(1, at as u64 + 1, MessageRole::User, content), content).to_vec());
    }
    world.commit(appended(message(2, 1, MessageRole::User, "another's"), "another's").to_vec());
    world
}

fn asked(body: &serde_json::Value) -> ReadMessages {
    let mut request = json!({"session_id": session_id(1)});
    request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

#[test]
fn ranges_of_a_thread() {
    let world = thread(&["a", "b", "c", "d"]);
    let check = |body: serde_json::Value, expected: &[u64], next: Option<u64>| {
        let page = world.read().read_messages(&asked(&body), Format::Json).unwrap();
        let found: Vec<_> = page.messages.iter().map(|view| view.message.seq).collect();
        assert_eq!((found.as_slice(), page.next_seq), (expected, next), "{body}");
        assert!(page.messages.iter().all(|view| view.content.is_none()), "{body}");
    };
    check(json!({}), &[1, 2, 3, 4], None);
    check(json!({"from_seq": 2, "to_seq": 3}), &[2, 3], None);
    check(json!({"from_seq": 5}), &[], None);
    check(json!({"limit": 3}), &[1, 2, 3], Some(4));
    check(json!({"limit": 4}), &[1, 2, 3, 4], None);
    check(json!({"to_seq": 2, "limit": 2}), &[1, 2], None);
}

#[test]
fn content_is_given_where_it_is_asked_for() {
    let world = thread(&["a", "b"]);
    let page = world.read().read_messages(&asked(&json!({"with_content": true})), Format::Json).unwrap();
    let contents: Vec<_> = page.messages.iter().map(|view| view.content.as_deref()).collect();
    assert_eq!(contents, [Some("a"), Some("b")]);
}

#[test]
fn bytes_that_are_no_text_are_not_given_as_text() {
    let mut world = World::new();
    let mut image = message(1, 1, MessageRole::User, "x");
    image.content_type = "image/png".to_owned();
    let odd = Artifact { bytes: vec![0xff].into(), id: hash_key().artifact_id(&[0xff]), ..artifact("") };
    let mut broken = message(1, 2, MessageRole::User, "");
    broken.content_artifact_id = odd.id;
    let said = [image, broken].map(|message| Event::MessageAppended(Box::new(message)));
    world.commit([vec![created(session(1, 1)), stored("x"), Event::ArtifactStored(odd)], said.to_vec()].concat());
    let page = world.read().read_messages(&asked(&json!({"with_content": true})), Format::Json).unwrap();
    assert!(page.messages.iter().all(|view| view.content.is_none()) && page.messages.len() == 2);
}

#[test]
fn refused_ranges() {
    let world = thread(&["a"]);
    let check = |body: serde_json::Value, code: ErrorCode, path: &str| {
        let error = ApiError::from(world.read().read_messages(&asked(&body), Format::Json).unwrap_err());
        assert_eq!((error.code, error.details["path"].as_str().unwrap_or_default()), (code, path));
    };
    check(json!({"from_seq": 0}), ErrorCode::BadRequest, "from_seq");
    check(json!({"from_seq": 3, "to_seq": 2}), ErrorCode::BadRequest, "to_seq");
    check(json!({"limit": 0}), ErrorCode::BadRequest, "limit");
    check(json!({"session_id": session_id(3)}), ErrorCode::NotFound, "");
}

#[test]
fn a_page_ends_before_it_is_too_large() {
    let texts: Vec<_> = (0..8).map(|n| format!("{n}").repeat(200_000)).collect();
    let world = thread(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut next, mut found, mut pages) = (Some(1), Vec::new(), 0);
    while let Some(from_seq) = next {
        let request = asked(&json!({"from_seq": from_seq, "with_content": true}));
        let page = world.read().read_messages(&request, Format::Json).unwrap();
        assert!(Format::Json.encode(&page).unwrap().len() <= laneway_contract::MAX_BODY_BYTES);
        found.extend(page.messages.into_iter().map(|view| view.content.unwrap()));
        (next, pages) = (page.next_seq, pages + 1);
    }
    assert_eq!((found, pages), (texts, 3));
}

#[test]
fn a_message_too_large_for_any_page_is_given_without_its_content() {
    let large = "\u{1}".repeat(500_000);
    let world = thread(&[&large, "b"]);
    let request = asked(&json!({"with_content": true}));
    let page = world.read().read_messages(&request, Format::Json).unwrap();
    let contents: Vec<_> = page.messages.iter().map(|view| view.content.as_deref()).collect();
    assert_eq!(contents, [None, Some("b")]);
    let page = world.read().read_messages(&request, Format::MessagePack).unwrap();
    assert_eq!(page.messages[0].content.as_deref(), Some(large.as_str()));
}

#[test]
fn artifacts_come_as_text_as_base64_or_as_bytes() {
    let mut world = World::new();
    let image = Artifact {
        id: hash_key().artifact_id(&[0xff, 0]),
        content_type: "image/png".to_owned(),
        bytes: vec![0xff, 0].into(),
        ..artifact("")
    };
    world.commit(vec![stored("hi"), Event::ArtifactStored(image.clone())]);
    let reading = world.read();
    let text = reading.get_artifact(artifact("hi").id, Format::Json).unwrap();
    assert_eq!((text.text.as_deref(), text.base64, text.size), (Some("hi"), None, 2));
    assert_eq!(reading.get_artifact(image.id, Format::Json).unwrap().base64.as_deref(), Some("/wA="));
    let packed = reading.get_artifact(image.id, Format::MessagePack).unwrap();
    assert_eq!((packed.bytes, packed.base64), (Some(image.bytes), None));
    let error = ApiError::from(reading.get_artifact(artifact("no").id, Format::Json).unwrap_err());
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[test]
fn an_artifact_too_large_for_json_is_refused_with_the_way_out() {
    let large = "\u{1}".repeat(500_000);
    let mut world = World::new();
    world.commit(vec![stored(&large)]);
    let error = ApiError::from(world.read().get_artifact(artifact(&large).id, Format::Json).unwrap_err());
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    assert!(error.message.contains("MessagePack"));
    assert!(world.read().get_artifact(artifact(&large).id, Format::MessagePack).is_ok());
}

#[test]
fn altered_bytes_are_found_and_named() {
    let mut world = thread(&["the truth"]);
    world.writer().sync().unwrap();
    let folder = world.close();
    let database = Database::builder(folder.path()).open().unwrap();
    let artifacts = database.keyspace("artifacts", KeyspaceCreateOptions::default).unwrap();
    let id = artifact("the truth").id;
    let value = artifacts.get(id.as_bytes()).unwrap().unwrap();
    let altered = Artifact { bytes: "the lie".into(), ..rmp_serde::from_slice(&value).unwrap() };
    artifacts.insert(id.as_bytes(), rmp_serde::to_vec(&altered).unwrap()).unwrap();
    drop((artifacts, database));
    let (view, _writer) = crate::view::View::open(folder.path()).unwrap();
    let reading = view.read().unwrap();
    for error in [
        ApiError::from(reading.get_artifact(id, Format::Json).unwrap_err()),
        ApiError::from(reading.read_messages(&asked(&json!({"with_content": true})), Format::Json).unwrap_err()),
    ] {
        assert_eq!((error.code, &error.details["artifact_id"]), (ErrorCode::Internal, &json!(id)));
        assert!(!error.message.contains("lie"));
    }
    let without = reading.read_messages(&asked(&json!({})), Format::Json).unwrap();
    assert_eq!(without.messages.len(), 1, "metadata is still read");
}
