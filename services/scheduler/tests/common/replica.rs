//! A store replica in memory: ended runs and artifacts, folded from the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use laneway_bus::{Bus, Incoming, Refusal, Route, Service};
use laneway_contract::*;
use laneway_journal::{Body, Follower, Position};
use tokio::sync::watch;

#[derive(Default)]
struct View {
    runs: BTreeMap<RunId, RunRecord>,
    artifacts: BTreeMap<ArtifactId, Artifact>,
}

#[derive(Clone)]
struct Replica {
    view: Arc<Mutex<View>>,
    applied: watch::Receiver<u64>,
}

pub(super) async fn run(bus: Bus) {
    let stream = bus.prefix().stream(Stream::Journal);
    let view = Arc::new(Mutex::new(View::default()));
    let (applied, seen) = watch::channel(0);
    let replica = Replica { view: view.clone(), applied: seen };
    let (records, artifacts) = (replica.clone(), replica);
    let routes = vec![
        Route::new(Endpoint::StoreRecord, move |incoming| record(records.clone(), incoming)),
        Route::new(Endpoint::ArtifactsGet, move |incoming| artifact(artifacts.clone(), incoming)),
    ];
    let _service = Service::start(&bus, ServiceName::SessionStore, "session-store", routes).await.unwrap();
    let mut follower = Follower::<Event>::new(bus.client().clone(), &stream, Position::START);
    loop {
        let batch = follower.next_batch(64).await.unwrap();
        for committed in batch {
            if let Body::Turns(turns) = committed.frame.body {
                let mut view = view.lock().unwrap();
                for event in turns.into_iter().flat_map(|turn| turn.events) {
                    match event {
                        Event::RunSettled { run, .. } => drop(view.runs.insert(run.run_id, *run)),
                        Event::ArtifactStored(artifact) => drop(view.artifacts.insert(artifact.id, artifact)),
                        _ => {}
                    }
                }
            }
            applied.send_replace(committed.position.number);
        }
    }
}

async fn record(mut replica: Replica, incoming: Incoming<AskStore>) -> Result<StoreAnswer, Refusal> {
    let AskStore { min_seq, ask } = incoming.body;
    replica.applied.wait_for(|applied| *applied >= min_seq).await.map_err(|_| Refusal::Silent)?;
    let view = replica.view.lock().unwrap();
    Ok(match ask {
        StoreQuestion::Run { run_id, with_output } => {
            let run = view.runs.get(&run_id).cloned();
            let id = run.as_ref().and_then(|run| run.status.output_artifact_id).filter(|_| with_output);
            let text = |id| String::from_utf8(view.artifacts[&id].bytes.to_vec()).unwrap();
            StoreAnswer { runs: run.into_iter().collect(), output: id.map(text), ..StoreAnswer::default() }
        }
        StoreQuestion::Runs { session_id, state, limit, before } => {
            let runs = view.runs.values().rev().filter(|run| before.is_none_or(|before| run.run_id < before));
            let runs = runs.filter(|run| session_id.is_none_or(|id| id == run.session_id));
            let runs = runs.filter(|run| state.is_none_or(|state| state == run.status.state));
            StoreAnswer { runs: runs.take(limit as usize).cloned().collect(), ..StoreAnswer::default() }
        }
        StoreQuestion::Session { .. } | StoreQuestion::Registry(_) => StoreAnswer::default(),
    })
}

async fn artifact(mut replica: Replica, incoming: Incoming<GetArtifact>) -> Result<ArtifactReply, Refusal> {
    let GetArtifact { artifact_id, min_seq } = incoming.body;
    replica.applied.wait_for(|applied| Some(*applied) >= min_seq).await.map_err(|_| Refusal::Silent)?;
    let view = replica.view.lock().unwrap();
    let Some(found) = view.artifacts.get(&artifact_id) else {
        return Err(ApiError::new(ErrorCode::NotFound, "no artifact").into());
    };
    Ok(ArtifactReply {
        artifact_id,
        content_type: found.content_type.clone(),
        size: found.bytes.len() as u64,
        text: None,
        base64: None,
        bytes: Some(found.bytes.clone()),
    })
}
