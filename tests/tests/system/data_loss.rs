//! A journal that lost frames, or holds others: every service stops and says so, `journal check` names it, and
//! `journal repair` brings back what a store still holds.

use std::path::Path;

use laneway_bus::async_nats::jetstream::stream::{Config, SubjectTransform};
use laneway_bus::stream_config;
use laneway_contract::{Endpoint, ServiceName, Stream};
use laneway_tests::damage::{Damage, frames, last_number};
use laneway_tests::stack::{Stack, binary};
use serde_json::{Value, json};
use tokio::process::Command;

/// The exit code of a service whose journal is damaged.
const DAMAGED: i32 = 7;

const SERVICES: [(ServiceName, &str); 3] = [
    (ServiceName::Scheduler, "scheduler-a"),
    (ServiceName::SessionStore, "store-a"),
    (ServiceName::FlightRecorder, "recorder-a"),
];

/// A deployment with a thread of six messages, the last of them by a caller. Gives the session.
async fn with_a_thread(stack: &Stack) -> String {
    let session = stack.create_session("echo/default").await;
    for n in 0..2 {
        let run = json!({"session_id": session, "input": format!("question {n}"), "wait": true});
        assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["done"], true);
    }
    for n in 0..2 {
        append(stack, &session, &format!("note {n}")).await;
    }
    recorded(stack).await;
    session
}

async fn append(stack: &Stack, session: &str, text: &str) -> Value {
    let body = json!({"session_id": session, "messages": [{"content": text}], "idempotency_key": text});
    stack.must(Endpoint::SessionsAppend, body).await
}

/// Waits until the public events reach to the last message.
async fn recorded(stack: &Stack) {
    for _ in 0..100 {
        let events = laneway_tests::streams::flight(&stack.bus).await;
        let messages =
            events.iter().filter(|event| String::from_utf8_lossy(event).contains("\"session.message\"")).count();
        if messages >= 6 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the public events do not come\n{}", stack.logs());
}

/// Ends everything in good order, so that what a view holds is on its disk.
async fn stop_all(stack: &mut Stack) {
    for name in ["worker-a", "scheduler-b", "scheduler-a", "store-a", "recorder-a"] {
        assert_eq!(stack.terminate(name).await, Some(0), "{name}");
    }
}

/// Whether a service has ended as one whose journal is damaged, naming frames and the next command.
async fn assert_stops(stack: &mut Stack, name: &str, damage: Damage, frames: &str) {
    let code = stack.ends(name).await;
    let log = std::fs::read_to_string(stack.log_path(name)).unwrap();
    let said = log.lines().rev().find(|line| line.contains("run: laneway journal check"));
    assert_eq!(code, Some(DAMAGED), "{name}, {damage:?}: {log}");
    let said = said.unwrap_or_else(|| panic!("{name}, {damage:?}: {log}"));
    assert!(said.contains(frames), "{name}, {damage:?}: not {frames:?}: {said}");
}

/// Whether a service that starts reads what is damaged.
fn finds(service: ServiceName, damage: Damage) -> bool {
    match damage {
        Damage::CutShort | Damage::Emptied | Damage::Hole | Damage::Swapped => true,
        // It says that the leader has gone: no public event comes from it, and only the store has had it.
        Damage::LastChanged => service == ServiceName::SessionStore,
        // A recorder goes on behind the last event; a scheduler, and a store without a view, read from the start.
        Damage::Changed | Damage::Unreadable => service != ServiceName::FlightRecorder,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_stops_each_service_at_its_start() {
    for damage in Damage::ALL {
        let mut stack = Stack::start("").await;
        with_a_thread(&stack).await;
        stop_all(&mut stack).await;
        let last = damage.befall(&stack.bus).await;
        let finders = SERVICES.iter().filter(|(service, _)| finds(*service, damage));
        for (service, name) in finders.clone() {
            let is_early = matches!(damage, Damage::Changed | Damage::Unreadable);
            if is_early && *service == ServiceName::SessionStore {
                std::fs::remove_dir_all(stack.data_path(name)).unwrap();
            }
            stack.start_part(*service, name, &[]);
        }
        let said = match damage {
            Damage::CutShort => format!("frames {} to ", last / 2 + 1),
            Damage::Emptied => "frames 1 to ".to_owned(),
            Damage::Hole => "frames 5 to 6 of the journal are missing".to_owned(),
            Damage::Swapped | Damage::LastChanged => "are not those that were read before".to_owned(),
            Damage::Changed => "frames 4 to 5 of the journal do not fit together".to_owned(),
            Damage::Unreadable => "frames 4 to 4 of the journal cannot be read".to_owned(),
        };
        for (_, name) in finders {
            assert_stops(&mut stack, name, damage, &said).await;
        }
        assert!(last_number(&stack.bus).await <= last, "{damage:?}: somebody wrote into it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_stops_each_service_while_it_runs() {
    for damage in Damage::ALL {
        // Frames that all have had are read again for a snapshot alone.
        if matches!(damage, Damage::Changed | Damage::Unreadable) {
            continue;
        }
        let mut stack = Stack::start("").await;
        with_a_thread(&stack).await;
        damage.befall(&stack.bus).await;
        for name in ["scheduler-a", "scheduler-b", "store-a", "recorder-a"] {
            // A leader reads no frame: it notices a stream that is another, and not one frame of it.
            if damage == Damage::LastChanged && name.starts_with("scheduler") {
                continue;
            }
            assert_stops(&mut stack, name, damage, "of the journal").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_stops_when_the_fold_for_its_snapshot_meets_damage() {
    let mut stack = Stack::start("[scheduler]\nsnapshot_every_bytes = 65536\n").await;
    let session = with_a_thread(&stack).await;
    Damage::Changed.befall(&stack.bus).await;
    for n in 0..200 {
        let (key, content) = (format!("filler {n}"), format!("{n:01024}"));
        let body = json!({"session_id": session, "messages": [{"content": content}], "idempotency_key": key});
        // Whoever leads next takes a snapshot as well, and then nobody is left.
        if stack.ask(Endpoint::SessionsAppend, body).await.is_err() {
            break;
        }
    }
    for name in ["scheduler-a", "scheduler-b"] {
        assert_stops(&mut stack, name, Damage::Changed, "frames 4 to 5 of the journal do not fit together").await;
    }
}

/// A verb about the journal: its exit code, and what it says as JSON.
async fn journal(stack: &Stack, args: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(binary())
        .args(stack.flags())
        .args(["--json", "journal"])
        .args(args)
        .current_dir(stack.dir())
        .output()
        .await
        .unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn store_folder(stack: &Stack) -> String {
    stack.data_path("store-a").join("store").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_frames_of_each_kind_of_damage() {
    for (damage, kind) in [
        (Damage::CutShort, "cut_off"),
        (Damage::Emptied, "cut_off"),
        (Damage::Hole, "missing"),
        (Damage::Swapped, "replaced"),
        (Damage::LastChanged, "replaced"),
        (Damage::Changed, "changed"),
        (Damage::Unreadable, "unreadable"),
    ] {
        let mut stack = Stack::start("").await;
        with_a_thread(&stack).await;
        let (code, right, error) = journal(&stack, &["check"]).await;
        assert_eq!((code, &right["ok"]), (Some(0), &json!(true)), "{right} {error}");
        assert!(right["views"].as_array().unwrap().len() >= 2, "public events and the store that runs: {right}");
        stop_all(&mut stack).await;
        let last = damage.befall(&stack.bus).await;
        let (code, found, error) = journal(&stack, &["check", "--store", &store_folder(&stack)]).await;
        assert_eq!(code, Some(5), "{damage:?}: {found} {error}");
        // A view that has had the frame tells of it as well.
        let first = found["findings"].as_array().unwrap().iter().find(|finding| finding["damage"] == kind);
        let first = first.unwrap_or_else(|| panic!("{damage:?}: {found}"));
        assert_eq!(first["repairable"], true, "{found}");
        let range = (first["first"].as_u64().unwrap(), first["last"].as_u64().unwrap());
        let expected = match damage {
            Damage::CutShort => (last / 2 + 1, last),
            Damage::Emptied => (1, last),
            Damage::Hole => (5, 6),
            // From the first: also what no view tells of is another journal's.
            Damage::Swapped => (1, range.1),
            Damage::LastChanged => (last, last),
            Damage::Changed | Damage::Unreadable => (4, 4),
        };
        assert_eq!(range, expected, "{damage:?}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_brings_back_what_a_store_holds_of_a_journal_that_was_cut_short() {
    let mut stack = Stack::start("").await;
    let session = with_a_thread(&stack).await;
    let (code, _, refused) = journal(&stack, &["repair", "--yes"]).await;
    assert_eq!(code, Some(6), "{refused}");
    assert!(refused.contains("stop them first") && refused.contains("scheduler"), "{refused}");
    let thread = stack.thread(&session).await;
    let runs = stack.must(Endpoint::RunsList, json!({"session_id": session})).await["runs"].clone();
    stop_all(&mut stack).await;

    let (_, right, _) = journal(&stack, &["check"]).await;
    let epoch = right["last_epoch"].as_u64().unwrap();

    // Everything behind the first frames, so that the session itself is gone.
    let whole = frames(&stack.bus).await;
    laneway_tests::damage::put(&stack.bus, &whole[..2], &[]).await;
    let store = store_folder(&stack);
    let (code, plan, error) = journal(&stack, &["repair", "--store", &store]).await;
    assert_eq!((code, &plan["done"], &plan["frames_kept"]), (Some(0), &json!(false), &json!(2)), "{plan} {error}");
    assert_eq!((&plan["sessions"], &plan["messages"], &plan["runs"]), (&json!(1), &json!(6), &json!(2)), "{plan}");
    assert_eq!(frames(&stack.bus).await, whole[..2], "nothing was changed");

    let (code, done, error) =
        journal(&stack, &["repair", "--store", &store, "--yes", "--backup", "saved.ndjson"]).await;
    assert_eq!((code, &done["done"]), (Some(0), &json!(true)), "{done} {error}");
    assert!(stack.dir().join("saved.ndjson").exists());
    assert_eq!(frames(&stack.bus).await[..2], whole[..2], "byte for byte");
    let (code, right, error) = journal(&stack, &["check"]).await;
    assert_eq!(code, Some(0), "{right} {error}");
    assert_eq!(right["last_epoch"], epoch + 32, "above leaders that no public event names any more: {right}");

    // The store that was salvaged is of before: it says so, and is rebuilt.
    stack.start_part(ServiceName::SessionStore, "store-a", &[]);
    assert_stops(&mut stack, "store-a", Damage::CutShort, "of the journal").await;
    std::fs::remove_dir_all(Path::new(&store)).unwrap();
    stack.start_all().await;
    assert_eq!(stack.thread(&session).await, thread, "once, and in order");
    let again = stack.must(Endpoint::RunsList, json!({"session_id": session})).await["runs"].clone();
    assert_eq!(again, runs);
    let repeated = append(&stack, &session, "note 1").await;
    assert_eq!(repeated["repeated"], true, "the key came back: {repeated}");
    append(&stack, &session, "note 2").await;
    let run = json!({"session_id": session, "input": "and on", "wait": true});
    assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["done"], true);
    assert_eq!(stack.thread(&session).await.len(), thread.len() + 3);
    let verified = Command::new(binary()).args(stack.flags()).args(["events", "verify"]).output().await.unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_brings_a_thread_back_after_each_kind_of_damage() {
    for damage in [Damage::Hole, Damage::Changed, Damage::Unreadable, Damage::Swapped, Damage::Emptied] {
        let mut stack = Stack::start("").await;
        let session = with_a_thread(&stack).await;
        let thread = stack.thread(&session).await;
        stop_all(&mut stack).await;
        damage.befall(&stack.bus).await;
        let store = store_folder(&stack);
        let (code, done, error) = journal(&stack, &["repair", "--store", &store, "--yes"]).await;
        assert_eq!((code, &done["done"]), (Some(0), &json!(true)), "{damage:?}: {done} {error}");
        for nothing in ["lost_runs", "lost_runs_with_input", "broken_threads", "left_out_sessions", "left_out_keys"] {
            assert_eq!(done[nothing], json!([]), "{damage:?}: {done}");
        }
        let (code, right, error) = journal(&stack, &["check"]).await;
        assert_eq!(code, Some(0), "{damage:?}: {right} {error}");
        std::fs::remove_dir_all(Path::new(&store)).unwrap();
        stack.start_all().await;
        assert_eq!(stack.thread(&session).await, thread, "{damage:?}");
        append(&stack, &session, "and on").await;
        assert_eq!(stack.thread(&session).await.len(), thread.len() + 1, "{damage:?}");
    }
}

/// Leaves the journal as a repair that broke off before its last step.
async fn close(stack: &Stack) {
    let open = stream_config(stack.bus.prefix(), Stream::Journal, 1);
    let side = format!("{}.repair", open.subjects[0]);
    let transform = SubjectTransform { source: side.clone(), destination: open.subjects[0].clone() };
    let closed = Config { subjects: vec![side], subject_transform: Some(transform), ..open };
    stack.bus.jetstream().update_stream(&closed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_an_unfinished_repair_alone() {
    let mut stack = Stack::start("").await;
    let session = with_a_thread(&stack).await;
    let thread = stack.thread(&session).await;
    stop_all(&mut stack).await;
    let whole = frames(&stack.bus).await;
    laneway_tests::damage::put(&stack.bus, &whole[..2], &[]).await;
    let store = store_folder(&stack);
    let first = ["repair", "--store", &store, "--yes", "--backup", "saved.ndjson"];
    let (code, _, error) = journal(&stack, &first).await;
    assert_eq!(code, Some(0), "{error}");
    close(&stack).await;
    let (code, found, error) = journal(&stack, &["check"]).await;
    assert_eq!((code, &found["unfinished_repair"]), (Some(5), &json!(true)), "{found} {error}");
    let (code, _, refused) = journal(&stack, &["repair", "--store", &store, "--yes"]).await;
    assert_eq!(code, Some(6), "{refused}");
    assert!(refused.contains("repeat it with --from"), "{refused}");

    let from = ["repair", "--store", &store, "--from", "saved.ndjson", "--yes"];
    let (code, done, error) = journal(&stack, &from).await;
    assert_eq!((code, &done["done"]), (Some(0), &json!(true)), "{done} {error}");
    let (code, right, error) = journal(&stack, &["check"]).await;
    assert_eq!(code, Some(0), "{right} {error}");

    // Once more, as somebody does who finds the command in the history of a shell.
    let repaired = frames(&stack.bus).await;
    let (code, _, refused) = journal(&stack, &from).await;
    assert_eq!(code, Some(6), "{refused}");
    assert!(refused.contains("no repair of it broke off"), "{refused}");
    assert_eq!(frames(&stack.bus).await, repaired);
    std::fs::remove_dir_all(Path::new(&store)).unwrap();
    stack.start_all().await;
    assert_eq!(stack.thread(&session).await, thread);

    stop_all(&mut stack).await;
    Damage::Swapped.befall(&stack.bus).await;
    close(&stack).await;
    let other = frames(&stack.bus).await;
    let (code, _, refused) = journal(&stack, &from).await;
    assert_eq!(code, Some(6), "{refused}");
    assert!(refused.contains("is of journal"), "{refused}");
    assert_eq!(frames(&stack.bus).await, other);
}
