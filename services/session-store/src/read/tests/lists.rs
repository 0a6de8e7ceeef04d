//! Sessions and ended runs.

use laneway_contract::{
    ApiError, AskStore, ErrorClass, ErrorCode, Event, Format, JobState, ListSessions, MessageRole, RunError,
    SessionState, StoreQuestion,
};
use serde_json::json;

use crate::testing::*;

fn list(world: &World, filter: serde_json::Value) -> Vec<u128> {
    let mut request: ListSessions = serde_json::from_value(filter).unwrap();
    let mut found = Vec::new();
    loop {
        let page = world.read().list_sessions(&request, Format::Json).unwrap();
        found.extend(page.sessions.iter().map(|session| session.session_id.uuid().as_u128() - 0x5e55_0000));
        request.cursor = page.cursor;
        if request.cursor.is_none() {
            return found;
        }
    }
}

/// Nine sessions, made in the order of falling ids.
fn nine() -> World {
    let mut world = World::new();
    for n in 1..10_u128 {
        let mut made = session(n, 100 - n as i64);
        made.fields.role = if n % 2 == 0 { "coder" } else { "validator" }.to_owned();
        made.fields.wp_id = (n < 4).then(|| "wp".to_owned());
        made.fields.labels.insert("team".to_owned(), format!("t{}", n % 3));
        world.commit(vec![created(made)]);
    }
    world.commit(vec![changed(5, SessionState::Created, SessionState::Active, 200)]);
    world.commit(vec![changed(5, SessionState::Active, SessionState::Idle, 210)]);
    world
}

#[test]
fn sessions_are_listed_oldest_first_whatever_the_filter_and_the_page() {
    let world = nine();
    let check = |filter: serde_json::Value, expected: &[u128]| {
        for limit in [1, 2, 100] {
            let mut filter = filter.clone();
            filter["limit"] = json!(limit);
            assert_eq!(list(&world, filter.clone()), expected, "{filter}");
        }
    };
    check(json!({}), &[9, 8, 7, 6, 5, 4, 3, 2, 1]);
    check(json!({"state": "CREATED"}), &[9, 8, 7, 6, 4, 3, 2, 1]);
    check(json!({"state": "ACTIVE"}), &[]);
    check(json!({"state": "IDLE"}), &[5]);
    check(json!({"wp_id": "wp"}), &[3, 2, 1]);
    check(json!({"wp_id": "w"}), &[]);
    check(json!({"role": "coder"}), &[8, 6, 4, 2]);
    check(json!({"labels": {"team": "t0"}}), &[9, 6, 3]);
    check(json!({"labels": {"team": "t0"}, "role": "coder", "state": "CREATED"}), &[6]);
    check(json!({"labels": {"team": "t0", "other": "x"}}), &[]);
}

#[test]
fn a_cursor_is_of_use_only_as_it_came_and_with_its_filters() {
    let world = nine();
    let first = ListSessions { limit: Some(2), ..ListSessions::default() };
    let cursor = world.read().list_sessions(&first, Format::Json).unwrap().cursor.unwrap();
    let check = |cursor: String, role: Option<&str>| {
        let request = ListSessions { cursor: Some(cursor), role: role.map(str::to_owned), ..ListSessions::default() };
        let error = ApiError::from(world.read().list_sessions(&request, Format::Json).unwrap_err());
        assert_eq!((error.code, &error.details["path"]), (ErrorCode::BadRequest, &json!("cursor")));
    };
    for at in 0..cursor.len() {
        let mut altered = cursor.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        check(String::from_utf8(altered).unwrap(), None);
    }
    check(String::new(), None);
    check("*".to_owned(), None);
    check(cursor[..cursor.len() - 1].to_owned(), None);
    check(cursor, Some("coder"));
}

#[test]
fn a_list_ends_early_before_it_is_too_large_for_a_reply() {
    let mut world = World::new();
    for n in 0..400 {
        let mut made = session(n, n as i64);
        made.fields.target_entity_ids = Some(vec!["\u{1}".repeat(128); 8]);
        world.commit(vec![created(made)]);
    }
    let request = ListSessions { limit: Some(1_000), ..ListSessions::default() };
    for format in [Format::Json, Format::MessagePack] {
        let page = world.read().list_sessions(&request, format).unwrap();
        assert!(format.encode(&page).unwrap().len() <= laneway_contract::MAX_BODY_BYTES);
        assert_eq!(page.cursor.is_some(), format == Format::Json);
    }
    assert_eq!(list(&world, json!({"limit": 1000})), (0..400).collect::<Vec<_>>());
}

#[test]
fn limits_out_of_range_are_refused() {
    let world = World::new();
    for limit in [0, 1_001] {
        let request = ListSessions { limit: Some(limit), ..ListSessions::default() };
        let error = ApiError::from(world.read().list_sessions(&request, Format::Json).unwrap_err());
        assert_eq!((error.code, &error.details["path"]), (ErrorCode::BadRequest, &json!("limit")));
    }
}

#[test]
fn filters_longer_than_anything_stored_are_refused() {
    let world = nine();
    let long = "x".repeat(100_000);
    let check = |filter: serde_json::Value, path: &str| {
        let request: ListSessions = serde_json::from_value(filter).unwrap();
        let error = ApiError::from(world.read().list_sessions(&request, Format::Json).unwrap_err());
        assert_eq!((error.code, &error.details["path"]), (ErrorCode::BadRequest, &json!(path)));
    };
    check(json!({"wp_id": long}), "wp_id");
    check(json!({"role": long}), "role");
    check(json!({"labels": {long.as_str(): "x"}}), "labels");
    check(json!({"labels": {"x": long}}), "labels");
    assert_eq!(list(&world, json!({"wp_id": "x".repeat(128)})), [] as [u128; 0]);
}

#[test]
fn a_session_is_its_creation_its_status_and_its_tail() {
    let mut world = World::new();
    world.commit(vec![created(session(1, 5))]);
    let get = |world: &World| world.read().get_session(session_id(1)).unwrap().session;
    let new = get(&world);
    assert_eq!((new.status.state, new.status.since, new.updated_at), (SessionState::Created, at(5), at(5)));
    world.commit(vec![changed(1, SessionState::Created, SessionState::Idle, 30)]);
    world.commit(appended(message(1, 1, MessageRole::User, "hi"), "hi").to_vec());
    let idle = get(&world);
    assert_eq!((idle.status.state, idle.status.messages_count, idle.status.total_tokens), (SessionState::Idle, 1, 5));
    assert_eq!((idle.created_at, idle.updated_at), (at(5), at(30)));
    world.commit(appended(message(1, 40, MessageRole::User, "ho"), "ho").to_vec());
    assert_eq!(get(&world).updated_at, at(40));
    world.commit(vec![Event::SessionPauseSet {
        session_id: session_id(1),
        paused: true,
        actor: laneway_contract::Actor::runtime(),
        reason: String::new(),
    }]);
    assert!(get(&world).status.paused);
    assert_eq!(get(&world).fields, session(1, 5).fields);
    let error = ApiError::from(world.read().get_session(session_id(2)).unwrap_err());
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[test]
fn ended_runs_are_found_by_session_and_state_newest_first() {
    let mut world = World::new();
    for n in 1..=6 {
        let state = if n % 3 == 0 { JobState::Failed } else { JobState::Completed };
        world.commit(vec![settled(run(n % 2, n, state))]);
    }
    let ask = |session: Option<u128>, state: Option<JobState>, limit: u32, before: Option<u128>| {
        let ask = StoreQuestion::Runs { session_id: session.map(session_id), state, limit, before: before.map(run_id) };
        let answer = world.read().ask(&AskStore { min_seq: 0, ask }, Format::MessagePack).unwrap();
        answer.runs.iter().map(|run| run.run_id.uuid().as_u128() - 0x0bee_0000).collect::<Vec<_>>()
    };
    assert_eq!(ask(None, None, 10, None), [6, 5, 4, 3, 2, 1]);
    assert_eq!(ask(None, None, 2, Some(5)), [4, 3]);
    assert_eq!(ask(Some(1), None, 10, None), [5, 3, 1]);
    assert_eq!(ask(None, Some(JobState::Failed), 10, None), [6, 3]);
    assert_eq!(ask(Some(1), Some(JobState::Failed), 10, Some(9)), [3]);
    assert_eq!(ask(Some(7), None, 10, None), [] as [u128; 0]);
}

#[test]
fn an_ended_run_comes_with_the_text_of_its_answer() {
    let mut world = World::new();
    let mut answered = run(1, 1, JobState::Completed);
    answered.status.output_artifact_id = Some(artifact("42").id);
    let mut failed = run(1, 2, JobState::Failed);
    failed.status.error = Some(Box::new(RunError {
        code: "provider_error".to_owned(),
        message: "the provider failed".to_owned(),
        class: ErrorClass::Server,
        retryable: true,
        retry_after_ms: None,
    }));
    let large = "\u{1}".repeat(200 * 1024);
    let mut long = run(1, 3, JobState::Completed);
    long.status.output_artifact_id = Some(artifact(&large).id);
    world.commit(vec![stored("42"), settled(answered.clone()), settled(failed.clone()), stored(&large), settled(long)]);
    let ask = |n: u128, with_output: bool| {
        let ask = StoreQuestion::Run { run_id: run_id(n), with_output };
        world.read().ask(&AskStore { min_seq: 0, ask }, Format::MessagePack).unwrap()
    };
    let found = ask(1, true);
    assert_eq!((found.runs, found.output.as_deref()), (vec![answered], Some("42")));
    assert_eq!(ask(1, false).output, None);
    assert_eq!(ask(2, true).runs, vec![failed]);
    assert_eq!(ask(3, true).output, None, "too large for a reply in JSON");
    assert!(ask(4, true).runs.is_empty());
}
