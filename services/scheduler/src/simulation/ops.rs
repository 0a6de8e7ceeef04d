//! What clients ask for.

use std::collections::BTreeMap;

use bytes::Bytes;
use laneway_contract::*;
use laneway_engine::Question;

use super::api::Request;
use super::facts::Place;
use super::weather::rate;
use super::world::World;
use crate::edge::Change;

const MODELS: [&str; 3] = ["echo/a", "echo/b", "ollama/c"];
/// Two keys of one owner, and one of another.
const KEYS: [&str; 3] = ["owner/key", "owner/other", "other/key"];
/// A work packet that sessions share.
const PACKET: &str = "packet";

impl World {
    pub(super) fn do_something(&mut self) {
        let request = match self.rng.range(0, 48) {
            0..=3 => Some(self.create()),
            4..=18 => Some(self.submit()),
            19..=24 => self.append(),
            25..=28 => self.cancel(),
            29..=32 => self.change(),
            33..=35 => self.decide(),
            36..=37 => Some(self.limits()),
            44..=45 if self.weather.budgets => Some(self.budget()),
            38..=41 => return self.again(),
            42 => return self.conflicts(),
            43 => return self.asks_for_nothing(),
            _ => None,
        };
        if let Some(request) = request {
            self.client_wants(request);
        }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.range(0, n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.rng.range(0, all.len() as u64) as usize])
    }

    fn model(&mut self) -> ModelId {
        ModelId::parse(MODELS[self.rng.range(0, 3) as usize]).unwrap()
    }

    fn create(&mut self) -> Request {
        let (session_id, model_id) = (SessionId::from_uuid(self.uuid()), self.model());
        let fields = SessionFields {
            wp_id: self.packet(),
            budget_tokens: self.tokens(),
            budget_usd: self.usd(),
            ..SessionFields::of_model(model_id)
        };
        let fingerprint = Fingerprint(u128::from(self.rng.next()));
        let (messages, artifacts, said) = (Vec::new(), Vec::new(), self.prepared(session_id, None));
        Request::Create(PreparedSession { session_id, fields, messages, artifacts, fingerprint, said })
    }

    fn submit(&mut self) -> Request {
        let sessions = self.client.sessions.clone();
        let session_id = self.of(&sessions).filter(|_| self.rng.per_mille(800));
        let (run_id, message_id) = (RunId::from_uuid(self.uuid()), MessageId::from_uuid(self.uuid()));
        let own = session_id.is_none() || self.one_in(3);
        let model_id = own.then(|| self.model());
        let later = laneway_journal::testing::EPOCH_MS + self.now as i64;
        let lane = Lane::ALL[self.rng.range(0, 4) as usize];
        let on_busy = if self.one_in(2) { OnBusy::Enqueue } else { OnBusy::ALL[self.rng.range(0, 4) as usize] };
        let timeout_ms = [500, 5_000, 60_000][self.rng.range(0, 3) as usize];
        let mut fields = serde_json::json!({
            "run_id": run_id,
            "session_id": session_id,
            "model_id": model_id,
            "input": [{"message_id": message_id, "content": "question"}],
            "lane": lane,
            "priority": self.rng.range(0, 2),
            "on_busy": on_busy,
            "max_retries": self.rng.range(0, 4),
            "timeout_ms": timeout_ms,
            "wait": self.one_in(4),
        });
        let amounts = self.amounts(session_id.is_none());
        let key = KEYS[self.rng.range(0, 3) as usize];
        let mut sometimes = |name: &str, n: u64, value: serde_json::Value| {
            if self.rng.range(0, n) == 0 {
                fields[name] = value;
            }
        };
        for (name, value) in amounts {
            sometimes(name, 2, value);
        }
        sometimes("cancellation_token", 6, "token".into());
        sometimes("concurrency_group", 4, "group".into());
        sometimes("fairness_key", 2, key.into());
        sometimes("queue_timeout_ms", 12, 4_000.into());
        sometimes("not_before", 12, serde_json::json!(Timestamp::from_millis(later + 5_000)));
        sometimes("deadline", 12, serde_json::json!(Timestamp::from_millis(later + 20_000)));
        Request::Submit(Box::new(serde_json::from_value(fields).unwrap()), SessionId::from_uuid(self.uuid()))
    }

    /// What a submit says of tokens and money, where that matters.
    fn amounts(&mut self, new_session: bool) -> Vec<(&'static str, serde_json::Value)> {
        let mut amounts = Vec::new();
        if self.weather.rates || self.weather.budgets {
            amounts.push(("estimated_tokens", self.rng.range(1, 2_000).into()));
            amounts.push(("estimated_tokens", self.rng.range(1, 500).into()));
        }
        if self.weather.budgets {
            amounts.push(("estimated_cost_usd", serde_json::json!(MicroUsd(self.rng.range(1, 2_000)))));
            if new_session {
                amounts.push(("budget_tokens", self.rng.range(1, 10_000).into()));
                amounts.push(("wp_id", PACKET.into()));
            }
        }
        amounts
    }

    fn tokens(&mut self) -> Option<u64> {
        (self.weather.budgets && self.one_in(2)).then(|| self.rng.range(1, 10_000))
    }

    fn usd(&mut self) -> Option<MicroUsd> {
        (self.weather.budgets && self.one_in(3)).then(|| MicroUsd(self.rng.range(1, 10_000)))
    }

    fn packet(&mut self) -> Option<String> {
        (self.weather.budgets && self.one_in(2)).then(|| PACKET.to_owned())
    }

    fn budget(&mut self) -> Request {
        let sessions = self.client.sessions.clone();
        let session = self.of(&sessions).filter(|_| self.rng.per_mille(400));
        let owner = session.map_or(BudgetOwner::WorkPacket(PACKET.to_owned()), BudgetOwner::Session);
        let (tokens, usd) = (self.tokens(), self.usd());
        budgeted(owner, tokens, usd)
    }

    fn append(&mut self) -> Option<Request> {
        let sessions = self.client.sessions.clone();
        let (session_id, key) = (self.of(&sessions)?, self.uuid().to_string());
        self.append_to(session_id, key)
    }

    /// What was answered once, maybe long ago.
    fn again(&mut self) {
        let ops: Vec<u64> = self.client.ops.iter().filter(|(_, op)| op.is_repeatable()).map(|(id, _)| *id).collect();
        if let Some(id) = self.of(&ops) {
            self.client_repeats(id);
        }
    }

    /// Another append under a key that is taken.
    fn conflicts(&mut self) {
        let ops = self.client.ops.values().filter(|op| op.is_repeatable());
        let appends = ops.filter_map(|op| if let Request::Append(append) = &op.request { Some(append) } else { None });
        let taken: Vec<_> = appends.map(|append| (append.session_id, append.key.clone())).collect();
        let places: Vec<usize> = (0..taken.len()).collect();
        let Some((session_id, key)) = self.of(&places).map(|place| taken[place].clone()) else { return };
        if let Some(request) = self.append_to(session_id, key) {
            self.client_expects(request, Some(ErrorCode::IdempotencyConflict));
        }
    }

    /// An append or two to a session that never was.
    fn asks_for_nothing(&mut self) {
        let session_id = SessionId::from_uuid(self.uuid());
        for _ in 0..self.rng.range(1, 4) {
            let key = self.uuid().to_string();
            if let Some(request) = self.append_to(session_id, key) {
                self.client_expects(request, Some(ErrorCode::NotFound));
            }
        }
    }

    /// What a replica sends along that has prepared a command, if one has.
    fn prepared(&mut self, session_id: SessionId, key: Option<&String>) -> Vec<StoreSaid> {
        let question = Question { session_id, key: key.cloned() };
        let store = self.rng.range(0, 2 * self.stores.len() as u64) as usize;
        self.stores.get(store).map(|store| store.says(&question)).into_iter().collect()
    }

    fn append_to(&mut self, session_id: SessionId, key: String) -> Option<Request> {
        let text = Bytes::from_static(b"more");
        let id = self.facts.state().hash_key()?.artifact_id(&text);
        let content_type = "text/plain; charset=utf-8".to_owned();
        let artifact =
            Artifact { id, content_type: content_type.clone(), enc: "none".to_owned(), key_id: None, bytes: text };
        let count = self.rng.range(1, 4);
        let draft = |message_id| MessageDraft {
            message_id,
            role: MessageRole::User,
            content: id,
            content_type: content_type.clone(),
            size: 4,
            token_count: None,
            tool_call_id: None,
            attachments: Vec::new(),
            source: Source::Caller,
            finish: None,
        };
        let messages = (0..count).map(|_| draft(MessageId::from_uuid(self.uuid()))).collect();
        let fingerprint = Fingerprint(u128::from(self.rng.next()));
        let (artifacts, said) = (vec![artifact], self.prepared(session_id, Some(&key)));
        let expected_tail = None;
        let append = PreparedAppend { session_id, messages, artifacts, key, fingerprint, expected_tail, said };
        Some(Request::Append(append))
    }

    fn cancel(&mut self) -> Option<Request> {
        let (runs, sessions) = (self.client.runs.clone(), self.client.sessions.clone());
        let live: Vec<RunId> = self.facts.runs.keys().copied().collect();
        let (mut run_id, mut session_id, mut cancellation_token) = (None, None, None);
        match self.rng.range(0, 8) {
            0 => cancellation_token = Some("token".to_owned()),
            1 => session_id = Some(self.of(&sessions)?),
            2 => run_id = Some(self.of(&runs)?),
            _ => run_id = Some(self.of(&live)?),
        }
        let reason = "simulated".to_owned();
        Some(Request::Cancel(CancelRuns {
            run_id,
            session_id,
            cancellation_token,
            submitted_before: None,
            actor: person(),
            reason,
            wait: false,
            wait_ms: None,
        }))
    }

    fn change(&mut self) -> Option<Request> {
        let sessions = self.client.sessions.clone();
        let session_id = self.of(&sessions)?;
        let change = match self.rng.range(0, 10) {
            0..=3 => Change::Pause,
            4..=7 => Change::Resume,
            _ => [Change::Complete, Change::Fail, Change::Cancel][self.rng.range(0, 3) as usize],
        };
        let interrupt = change == Change::Pause && self.one_in(2);
        let cancel_runs = matches!(change, Change::Complete) && self.one_in(2);
        Some(changed(session_id, change, cancel_runs, interrupt))
    }

    fn decide(&mut self) -> Option<Request> {
        let parked = self.facts.runs.iter().filter(|(_, run)| run.place == Place::Parked);
        let parked: Vec<RunId> = parked.map(|(id, _)| *id).collect();
        let run_id = self.of(&parked)?;
        let decision = Decision::ALL[self.rng.range(0, 4) as usize];
        Some(decided(run_id, decision))
    }

    fn limits(&mut self) -> Request {
        if self.weather.rates && self.one_in(2) {
            let (name, value) = rate(&mut self.rng);
            let value = self.rng.per_mille(700).then_some(value);
            return Request::Limits(ChangeLimits {
                changes: BTreeMap::from([(name.to_string(), value)]),
                actor: person(),
            });
        }
        let (name, value) = match self.rng.range(0, 5) {
            0 => ("global", Some(self.rng.range(1, 7))),
            1 => ("per_provider", Some(self.rng.range(1, 5))),
            2 => ("per_model", Some(self.rng.range(1, 4))),
            3 => ("provider:echo", self.rng.per_mille(700).then(|| self.rng.range(1, 5))),
            _ => ("group:group", self.rng.per_mille(700).then(|| self.rng.range(1, 3))),
        };
        Request::Limits(ChangeLimits { changes: BTreeMap::from([(name.to_owned(), value)]), actor: person() })
    }
}

pub(super) fn person() -> laneway_contract::Actor {
    laneway_contract::Actor { id: "somebody".to_owned(), kind: ActorKind::Person }
}

pub(super) fn changed(session_id: SessionId, change: Change, cancel_runs: bool, interrupt: bool) -> Request {
    let (actor, reason) = (person(), "simulated".to_owned());
    Request::Change(ChangeSession { session_id, actor, reason, cancel_runs, interrupt }, change)
}

pub(super) fn decided(run_id: RunId, decision: Decision) -> Request {
    let (actor, reason) = (person(), "simulated".to_owned());
    Request::Decide(DecideRun { run_id, decision, approval_id: None, actor, reason })
}

pub(super) fn budgeted(owner: BudgetOwner, tokens: Option<u64>, usd: Option<MicroUsd>) -> Request {
    let (session_id, wp_id) = match owner {
        BudgetOwner::Session(id) => (Some(id), None),
        BudgetOwner::WorkPacket(id) => (None, Some(id)),
    };
    Request::Budget(SetBudget { session_id, wp_id, tokens, usd, actor: person() })
}
