//! A journal that a newer version has raised, and every service of this one.

use bytes::Bytes;
use laneway_contract::{Event, ServiceName};
use laneway_journal::frame::FORMAT;
use laneway_journal::{Body, Frame, FrameHash};
use laneway_tests::damage::{frames, last_number, put};
use laneway_tests::stack::Stack;

const READERS: [(ServiceName, &str); 3] = [
    (ServiceName::Scheduler, "scheduler-a"),
    (ServiceName::SessionStore, "store-a"),
    (ServiceName::FlightRecorder, "recorder-a"),
];

/// The frame with which a leader raises the format behind this one.
fn raise(last: &Bytes) -> Bytes {
    let before = Frame::<Event>::decode(last).unwrap();
    let (prev, body) = (FrameHash::of(last), Body::FormatRaised { to: FORMAT + 1 });
    rmp_serde::to_vec(&Frame::<Event> { number: before.number + 1, prev, body, ..before }).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_says_what_it_reads_and_stops_before_frames_of_a_newer_format() {
    let mut stack = Stack::start("").await;
    stack.create_session("echo/default").await;
    // Two schedulers and one of each other reader: the format is raised when all that answer read the newer one. The endpoints
    // of a leader answer as well, and their process speaks for them.
    let readers = [("laneway-scheduler", 2, 3), ("laneway-session-store", 1, 1), ("laneway-flight-recorder", 1, 1)];
    for (reader, instances, answers) in readers {
        let described = stack.described(&format!("PING.{reader}"), answers).await;
        let said = described.iter().filter_map(|said| said["metadata"]["reads_format"].as_str());
        let said: Vec<String> = said.map(str::to_owned).collect();
        let expected = (vec![FORMAT.to_string(); instances], answers);
        assert_eq!((said, described.len()), expected, "{described:?}");
    }
    // As a crash: behind a leader that stopped in good order the next frame could only begin another's time.
    stack.kill9_all().await;
    let mut frames = frames(&stack.bus).await;
    frames.push(raise(frames.last().unwrap()));
    put(&stack.bus, &frames, &[]).await;
    let last = frames.len() as u64;
    for (service, name) in READERS {
        stack.start_part(service, name, &[]);
        assert_eq!(stack.ends(name).await, Some(6), "{name}");
        let log = std::fs::read_to_string(stack.log_path(name)).unwrap();
        let said = format!("newer_format: from frame {} on the journal has format {}", last + 1, FORMAT + 1);
        assert!(log.contains(&said), "{name}: not {said:?} in\n{log}");
        assert!(!log.contains("journal check"), "{name} takes it for damage:\n{log}");
    }
    assert_eq!(last_number(&stack.bus).await, last, "somebody wrote into it");
}
