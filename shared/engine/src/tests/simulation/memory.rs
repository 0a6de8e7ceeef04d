//! The same simulation with little memory: sessions, keys and ended runs are given up all the time, store replicas lag,
//! and what they say comes late. A twin that folds the same events and gives nothing up is what everything has to be like.

use super::super::replica;
use super::*;
use crate::memory::Givable;

/// Longer than anything is held that nobody needs.
const LONG_MS: i64 = 700_000;
/// Reads of one command that may lag or come late; those after it do not, so that every command is decided.
const UNSURE: u32 = 6;

/// What a simulation with little memory needs.
pub(super) struct Tight {
    draw: Draw,
    /// The state of somebody who forgets nothing.
    twin: State,
    /// What every replica keeps that has applied all.
    stored: BTreeMap<SessionId, EvictedSession>,
    appends: BTreeMap<(SessionId, String), Fingerprint>,
    submitted: Vec<RunId>,
    all: Vec<SessionId>,
    fresh: u32,
    /// Sessions that were loaded, and reads that came too late.
    pub(super) loaded: u64,
    pub(super) refused: u64,
}

impl Tight {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draw: Draw(seed ^ 0x6d65_6d6f_7279),
            twin: State::default(),
            stored: BTreeMap::new(),
            appends: BTreeMap::new(),
            submitted: Vec::new(),
            all: Vec::new(),
            fresh: 0,
            loaded: 0,
            refused: 0,
        }
    }

    /// At most 10 sessions, 20 keys and 40 ended runs.
    pub(super) fn limits(&mut self) -> MemoryLimits {
        let (sessions, keys) = (self.draw.next(11) as usize, self.draw.next(21) as usize);
        let ended_runs = 10 + self.draw.next(31) as usize;
        MemoryLimits { sessions, keys, ended_runs, ..MemoryLimits::default() }
    }

    pub(super) fn fold(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::SessionsEvicted { sessions, .. } => {
                for session in sessions {
                    let before = self.stored.insert(session.session_id, session.clone());
                    assert!(before.is_none(), "{} is given up twice", session.session_id);
                }
            }
            Event::SessionLoaded { session, .. } => {
                self.loaded += 1;
                assert!(self.stored.remove(&session.session_id).is_some(), "{} is loaded twice", session.session_id);
            }
            Event::KeysEvicted { .. } | Event::RunsForgotten { .. } => {}
            Event::SessionCreated { session, .. } => {
                assert!(!self.all.contains(&session.session_id), "{} is made twice", session.session_id);
                self.all.push(session.session_id);
                self.twin.apply(event, at);
            }
            Event::AppendKeyTaken { session_id, key, fingerprint, .. } => {
                let before = self.appends.insert((*session_id, key.clone()), *fingerprint);
                assert!(before.is_none(), "{session_id} takes {key} twice");
                self.twin.apply(event, at);
            }
            Event::RunQueued { run, .. } => {
                self.submitted.push(run.run_id);
                self.twin.apply(event, at);
            }
            _ => self.twin.apply(event, at),
        }
    }

    /// Whether nothing of it was kept anywhere that should not have been.
    pub(super) fn reserved(&self, id: SessionId) -> (u64, MicroUsd) {
        let (tokens, usd) = self.twin.session_budget(id).unwrap().lines();
        (tokens.reserved, usd.reserved)
    }
}

impl Simulation {
    fn tight(&mut self) -> &mut Tight {
        self.tight.as_mut().expect("a simulation with little memory")
    }

    /// Reads what memory lacks, at times from a replica that lags, while others go on.
    pub(super) fn run_reading(&mut self, command: &Command) -> Result<Vec<Event>, ApiError> {
        let (mut said, mut tries) = (Vec::new(), 0);
        loop {
            while let Some(question) = self.world.state.needs_read(command, &said) {
                tries += 1;
                assert!(tries < 30, "seed {}: reads without end for {command:?}", self.seed);
                let whole = self.world.journal.len();
                let unsure = tries < UNSURE;
                let applied = if unsure && self.tight().draw.one_in(3) {
                    self.tight().draw.next(whole as u64 + 1) as usize
                } else {
                    whole
                };
                let answer = replica::said(&self.world.journal[..applied], &question);
                if unsure && self.tight().draw.one_in(3) {
                    self.meanwhile(question.session_id);
                }
                self.world.bring(&mut said, answer);
                self.fold();
            }
            if tries > 0 && tries < UNSURE && self.tight().draw.one_in(4) {
                let id = said.last().map(|said: &StoreSaid| said.session_id);
                self.meanwhile(id.expect("something was said"));
                tries += 1;
            }
            let result = self.world.run_with(command, &said);
            self.fold();
            match result {
                Err(error) if error.code == ErrorCode::Unavailable => self.tight().refused += 1,
                done => return done,
            }
        }
    }

    /// Somebody else appends to the session; then it is given up again.
    fn meanwhile(&mut self, id: SessionId) {
        self.tight().fresh += 1;
        let key = format!("meanwhile {}", self.tight().fresh);
        let command = self.append_command(id, &key, 1);
        drop(self.world.run(&command));
        if self.tight().draw.one_in(2) {
            self.world.give_up_all();
        } else {
            self.world.tick();
        }
        self.fold();
    }

    fn append_command(&mut self, session_id: SessionId, key: &str, print: u128) -> Command {
        Command::Append(Box::new(Append {
            session_id,
            messages: vec![self.world.draft(MessageRole::User, key)],
            artifacts: Vec::new(),
            key: key.to_owned(),
            fingerprint: Fingerprint(print),
            expected_tail: None,
        }))
    }

    pub(super) fn memory_step(&mut self) {
        match self.tight().draw.next(10) {
            0..=4 => self.append(),
            5 => self.create_again(),
            6 => self.submit_again(),
            7 => self.spawn(),
            8 => drop(self.world.advance(LONG_MS)),
            _ => drop(self.world.tick()),
        }
        self.world.tick();
        self.fold();
        self.check_memory();
    }

    /// Under few keys, so that most are repeats or conflicts.
    fn append(&mut self) {
        let Tight { draw, all, .. } = self.tight();
        let Some(id) = draw.of(all) else { return };
        let (key, print) = (format!("k{}", draw.next(4)), u128::from(draw.next(3)));
        let first = self.tight().appends.get(&(id, key.clone())).copied();
        let command = self.append_command(id, &key, print);
        let result = self.run_reading(&command);
        let seed = self.seed;
        let closed = self.tight().twin.session(id).is_some_and(Session::is_closed);
        match (first, result) {
            (Some(first), Ok(events)) => {
                assert_eq!(first, Fingerprint(print), "seed {seed}: a conflict was taken for a repeat");
                assert!(events.is_empty(), "seed {seed}: a repeat was appended");
            }
            (Some(first), Err(error)) => {
                assert_ne!(first, Fingerprint(print), "seed {seed}: a repeat was refused: {error}");
                assert_eq!(error.code, ErrorCode::IdempotencyConflict, "seed {seed}");
            }
            (None, Ok(events)) => assert!(!events.is_empty(), "seed {seed}: an append was taken for a repeat"),
            (None, Err(error)) => {
                assert_eq!((error.code, closed), (ErrorCode::SessionTerminal, true), "seed {seed}: {error}");
            }
        }
    }

    fn create_again(&mut self) {
        let (sessions, seed) = (self.sessions.clone(), self.seed);
        let Some(id) = self.tight().draw.of(&sessions) else { return };
        let print = u128::from(1 + self.tight().draw.next(2));
        let session =
            NewSession { session_id: id, fields: fields(Mode::SessionPersistent, "echo/a"), messages: Vec::new() };
        let fingerprint = Fingerprint(print);
        let command = Command::Create(Box::new(Create { session, artifacts: Vec::new(), fingerprint }));
        match self.run_reading(&command) {
            Ok(events) => assert!(events.is_empty() && print == 1, "seed {seed}: a session was made again"),
            Err(error) => {
                assert_eq!((error.code, print), (ErrorCode::IdempotencyConflict, 2), "seed {seed}: {error}");
            }
        }
    }

    /// A run that is remembered is the same run, whatever became of its session.
    fn submit_again(&mut self) {
        let Tight { draw, submitted, .. } = self.tight();
        let Some(run_id) = draw.of(submitted) else { return };
        if self.world.state.run(run_id).is_none() && self.world.state.ended_run(run_id).is_none() {
            return;
        }
        let all = self.tight().all.clone();
        let session = self.tight().draw.of(&all);
        let submit = Submit { run_id, ..self.world.submit_command(session) };
        let result = self.run_reading(&Command::Submit(Box::new(submit)));
        assert_eq!(result, Ok(Vec::new()), "seed {}: a run was submitted again", self.seed);
    }

    fn spawn(&mut self) {
        let Tight { draw, all, .. } = self.tight();
        let Some(parent) = draw.of(all) else { return };
        let mut create = self.world.create_command(Mode::SessionPersistent, "echo/a");
        create.session.fields.parent_session_id = Some(parent);
        let id = create.session.session_id;
        let result = self.run_reading(&Command::Create(Box::new(create)));
        let closed = self.tight().twin.session(parent).is_some_and(Session::is_closed);
        match result {
            Ok(_) => self.sessions.push(id),
            Err(error) => {
                assert_eq!((error.code, closed), (ErrorCode::SessionTerminal, true), "seed {}: {error}", self.seed);
            }
        }
    }

    /// What is held or kept is what nobody has forgotten, and no more is held than may be.
    fn check_memory(&self) {
        let (state, seed) = (&self.world.state, self.seed);
        let Some(Tight { twin, stored, all, .. }) = &self.tight else { return };
        for id in all {
            let expected = twin.session(*id).expect("the twin forgets nothing");
            let known = match (state.session(*id), stored.get(id)) {
                (Some(session), None) => {
                    assert_eq!(session.record(), expected.record(), "seed {seed}");
                    assert_eq!(session.budget, expected.budget, "seed {seed}");
                    session.evicted()
                }
                (None, Some(record)) => {
                    assert!(!expected.has_runs(), "seed {seed}: {id} was given up with a live run");
                    record.clone()
                }
                (held, _) => panic!("seed {seed}: {id} is held ({}) and kept, or neither", held.is_some()),
            };
            assert_eq!(known, expected.evicted(), "seed {seed}");
        }
        assert_eq!(state.live_session_count(), twin.live_session_count(), "seed {seed}");
        let limits = &self.world.hints.memory;
        let Givable { sessions, keys, runs } = &state.givable;
        let held = (sessions.len() <= limits.sessions, keys.len() <= limits.keys, runs.len() <= limits.ended_runs);
        assert_eq!(held, (true, true, true), "seed {seed}: more is held than may be");
        let idle = |id: &&SessionId| state.session(**id).is_some_and(|session| !session.has_runs());
        assert_eq!(sessions.len(), all.iter().filter(idle).count(), "seed {seed}: the index of sessions is off");
        let taken: usize = all.iter().filter_map(|id| state.session(*id)).map(|session| session.keys.len()).sum();
        assert_eq!(keys.len(), taken, "seed {seed}: the index of keys is off");
    }
}
