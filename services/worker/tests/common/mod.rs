//! A nats-server, and a scheduler and a session store that do what a test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    reason = "a test helper, of which no test uses all"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use laneway_bus::async_nats::{HeaderMap, Subscriber};
use laneway_bus::{Bus, ConnectOptions, Refusal, Route, Service, ensure_streams};
use laneway_contract::{
    Announcement, ApiError, AttemptResult, Catalog, Chunk, ClaimAttempt, ClaimReply, DispatchMessage, Endpoint,
    ErrorCode, Family, Finish, Format, GenerationSettings, JobState, MessageRole, ModelId, Piece, PoolId, Prefix,
    ReadWindow, RenewAttempt, RenewReply, ReportAttempt, ReportReply, RunId, ServiceName, SessionId, Stop, Subject,
    Timestamp, WindowMessage, WindowPage, WorkerId,
};
use laneway_runtime::Shutdown;
use laneway_worker::{WorkerConfig, WorkerError, run};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Every wait of a test ends in this time.
pub const BOUND: Duration = Duration::from_secs(20);
/// The epoch of every claim.
pub const EPOCH: u64 = 7;

/// The output of a future that must end within the bound.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("the end of the wait within its bound")
}

struct Server {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> (Self, u16) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let start = |program: &Path| {
            Command::new(program)
                .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
                .arg(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let in_tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/nats-server");
        let child = start(Path::new("nats-server")).or_else(|_| start(&in_tools));
        (Self { child: child.expect("nats-server in PATH or in .tools/bin"), _folder: folder }, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the scheduler and the store answer.
#[derive(Clone)]
pub struct Answers {
    /// To a claim.
    pub claim: Result<(), ErrorCode>,
    /// To a renewal.
    pub renew: Result<RenewReply, ErrorCode>,
    /// To the next reports, before they are taken.
    pub report_errors: Vec<ErrorCode>,
    /// Whether every report is left without an answer that counts.
    pub reports_are_lost: bool,
    /// Whether the store answers.
    pub store_is_there: bool,
    /// The user's message.
    pub said: String,
    /// The model of every run.
    pub model: ModelId,
    /// Time of an attempt.
    pub timeout_ms: u64,
    /// Tokens that a run may still use.
    pub tokens_left: Option<u64>,
    /// The approval that was given.
    pub approved: Option<String>,
}

/// Everything that a worker talks to.
pub struct World {
    pub bus: Bus,
    pub answers: Arc<Mutex<Answers>>,
    pub claims: UnboundedReceiver<ClaimAttempt>,
    pub renewals: UnboundedReceiver<RenewAttempt>,
    pub reports: UnboundedReceiver<ReportAttempt>,
    pub announcements: Subscriber,
    pub pool: PoolId,
    shutdown: Shutdown,
    worker: Option<JoinHandle<Result<(), WorkerError>>>,
    _services: Vec<Service>,
    _server: Server,
}

impl World {
    /// A world with one worker of these slots, whose runs are of this echo model.
    pub async fn start(model: &str, slots: u32) -> Self {
        Self::start_with(model, slots, |config| config).await
    }

    /// As [`World::start`], with changes to the worker's settings.
    pub async fn start_with(model: &str, slots: u32, change: impl FnOnce(WorkerConfig) -> WorkerConfig) -> Self {
        let (server, port) = Server::start();
        let connect = |name: &str| {
            let options = ConnectOptions::new(format!("nats://127.0.0.1:{port}"), Prefix::default(), name);
            within(Box::pin(Bus::connect(options)))
        };
        let bus = connect("test").await.unwrap();
        within(Box::pin(ensure_streams(&bus))).await.unwrap();
        let answers = Arc::new(Mutex::new(Answers {
            claim: Ok(()),
            renew: Ok(RenewReply { stop: None }),
            report_errors: Vec::new(),
            reports_are_lost: false,
            store_is_there: true,
            said: "one two three".to_owned(),
            model: ModelId::parse(model).unwrap(),
            timeout_ms: 60_000,
            tokens_left: None,
            approved: None,
        }));
        let (claimed, claims) = unbounded_channel();
        let (renewed, renewals) = unbounded_channel();
        let (reported, reports) = unbounded_channel();
        let leader = vec![claim(&answers, claimed), renew(&answers, renewed), report(&answers, reported)];
        let services = vec![
            Service::start(&bus, ServiceName::Scheduler, "leader-1", leader).await.unwrap(),
            Service::start(&bus, ServiceName::SessionStore, "store", vec![window(&answers)]).await.unwrap(),
        ];
        let announcements = bus.subscribe(bus.prefix().all(Family::Workers)).await.unwrap();
        bus.flush().await.unwrap();

        let pool = PoolId::parse("pool-of-the-test").unwrap();
        let config = WorkerConfig::new(WorkerId::parse("worker-1").unwrap(), slots, Catalog::built_in().unwrap());
        let config = change(WorkerConfig { pool: Some(pool.clone()), ..config });
        let shutdown = Shutdown::new();
        let worker = laneway_runtime::spawn("worker", run(connect("worker").await.unwrap(), config, shutdown.clone()));
        Self {
            bus,
            answers,
            claims,
            renewals,
            reports,
            announcements,
            pool,
            shutdown,
            worker: Some(worker),
            _services: services,
            _server: server,
        }
    }

    /// Changes what is answered.
    pub fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    /// Dispatches a run.
    pub async fn dispatch(&self) -> RunId {
        let run_id = RunId::generate();
        let dispatch = DispatchMessage { run_id, session_id: SessionId::generate(), dispatch_no: 1 };
        let body = Format::MessagePack.encode(&dispatch).unwrap();
        let subject = Subject::Dispatch(self.pool.clone());
        within(self.bus.publish_stored(&subject, HeaderMap::new(), body.into())).await.unwrap();
        run_id
    }

    /// The token stream of all runs.
    pub async fn tokens(&self) -> Subscriber {
        let tokens = self.bus.subscribe(self.bus.prefix().all(Family::Tokens)).await.unwrap();
        self.bus.flush().await.unwrap();
        tokens
    }

    /// The next announcement with this many slots.
    pub async fn announced(&mut self, slots: u32) -> Announcement {
        loop {
            let message = within(self.announcements.next()).await.unwrap();
            let announcement: Announcement = Format::MessagePack.decode(&message.payload).unwrap();
            if announcement.slots == slots {
                return announcement;
            }
        }
    }

    /// Asks the worker to stop.
    pub fn stop(&self) {
        self.shutdown.request();
    }

    /// Waits for the worker's end.
    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        within(self.worker.take().unwrap()).await.unwrap()
    }

    /// Waits until no dispatch waits for its acknowledgement or its worker.
    pub async fn all_dispatches_acknowledged(&self) {
        within(async {
            let mut consumer = laneway_bus::ensure_pool_consumer(&self.bus, &self.pool).await.unwrap();
            loop {
                let info = consumer.info().await.unwrap();
                if info.num_ack_pending == 0 && info.num_pending == 0 {
                    return;
                }
            }
        })
        .await;
    }
}

/// The next chunk of a token stream.
pub async fn chunk(tokens: &mut Subscriber) -> Chunk {
    serde_json::from_slice(&within(tokens.next()).await.unwrap().payload).unwrap()
}

/// Waits for the first text of a token stream.
pub async fn first_text(tokens: &mut Subscriber) {
    while !matches!(chunk(tokens).await.piece, Piece::Text(_)) {}
}

fn refuse(code: ErrorCode) -> Refusal {
    Refusal::Error(ApiError::new(code, "as the test says"))
}

fn claim(answers: &Arc<Mutex<Answers>>, claimed: UnboundedSender<ClaimAttempt>) -> Route {
    let answers = answers.clone();
    Route::new(Endpoint::AttemptsClaim, move |request: laneway_bus::Incoming<ClaimAttempt>| {
        let answers = answers.lock().unwrap().clone();
        claimed.send(request.body.clone()).unwrap();
        let reply = ClaimReply {
            run_id: request.body.run_id,
            session_id: SessionId::generate(),
            attempt: 1,
            epoch: EPOCH,
            model_id: answers.model,
            generation: GenerationSettings::default(),
            timeout_ms: answers.timeout_ms,
            submitted_at: Timestamp::ZERO,
            dispatched_at: Timestamp::ZERO,
            traceparent: None,
            tokens_left: answers.tokens_left,
            approved: answers.approved,
            journal_seq: 3,
        };
        async move { answers.claim.map(|()| reply).map_err(refuse) }
    })
}

fn renew(answers: &Arc<Mutex<Answers>>, renewed: UnboundedSender<RenewAttempt>) -> Route {
    let answers = answers.clone();
    Route::new(Endpoint::AttemptsRenew, move |request: laneway_bus::Incoming<RenewAttempt>| {
        let answer = answers.lock().unwrap().renew.clone();
        renewed.send(request.body).unwrap();
        async move { answer.map_err(refuse) }
    })
}

fn report(answers: &Arc<Mutex<Answers>>, reported: UnboundedSender<ReportAttempt>) -> Route {
    let answers = answers.clone();
    Route::new(Endpoint::AttemptsReport, move |request: laneway_bus::Incoming<ReportAttempt>| {
        let mut answers = answers.lock().unwrap();
        let error = answers.report_errors.pop().or(answers.reports_are_lost.then_some(ErrorCode::Unavailable));
        let state = state_after(&request.body);
        reported.send(request.body).unwrap();
        async move { error.map_or(Ok(ReportReply { state, repeated: false }), |code| Err(refuse(code))) }
    })
}

fn state_after(report: &ReportAttempt) -> JobState {
    match report.outcome.as_ref().map(|outcome| &outcome.result) {
        None => JobState::Running,
        Some(AttemptResult::AwaitingApproval { .. }) => JobState::AwaitingUser,
        Some(AttemptResult::Completed { finish: Finish::Budget }) => JobState::Failed,
        Some(AttemptResult::Completed { .. }) => JobState::Completed,
        Some(AttemptResult::Stopped { stop: Stop::Cancel }) => JobState::Cancelled,
        Some(AttemptResult::Stopped { .. } | AttemptResult::Failed { .. } | AttemptResult::HandedBack) => {
            JobState::Queued
        }
    }
}

fn window(answers: &Arc<Mutex<Answers>>) -> Route {
    let answers = answers.clone();
    Route::new(Endpoint::SessionsWindow, move |request: laneway_bus::Incoming<ReadWindow>| {
        let answers = answers.lock().unwrap().clone();
        async move {
            let ReadWindow { epoch, from_seq, min_seq, .. } = request.body;
            assert_eq!((epoch, min_seq), (EPOCH, 3));
            if !answers.store_is_there {
                return Err(refuse(ErrorCode::Unavailable));
            }
            // Two pages, so that a worker has to ask for the second.
            let (role, content, next_seq) = match from_seq {
                None => (MessageRole::System, "be brief".to_owned(), Some(2)),
                Some(2) => (MessageRole::User, answers.said, None),
                Some(_) => return Err(refuse(ErrorCode::NotFound)),
            };
            Ok(WindowPage { messages: vec![message(role, content)], next_seq, journal_seq: 3 })
        }
    })
}

fn message(role: MessageRole, content: String) -> WindowMessage {
    WindowMessage { role, content: Some(content), redacted: false, tool_call_id: None, attachments: Vec::new() }
}
