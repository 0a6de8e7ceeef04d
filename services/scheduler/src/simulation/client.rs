//! Clients: each request is sent under its key until it is answered, sometimes again after that.

use std::collections::BTreeMap;

use laneway_bus::Refusal;
use laneway_contract::*;

use super::api::{Answer, Reply, Request};
use super::world::{Actor, What, World};

/// In the calm nothing is unavailable more often than this.
const MAX_UNAVAILABLE: u32 = 20;

/// A request and what became of it.
pub(super) struct Op {
    pub(super) request: Request,
    /// The sending under way.
    asked: Option<u64>,
    /// The first answer: a repeat gets no other.
    answer: Option<Reply>,
    /// It is to be refused, and how.
    refusal: Option<ErrorCode>,
    /// How often it was unavailable in the calm.
    unavailable: u32,
    /// It wants no more answers.
    done: bool,
}

impl Op {
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it has a key and was answered.
    pub(super) fn is_repeatable(&self) -> bool {
        let keyed = matches!(self.request, Request::Create(_) | Request::Submit(..) | Request::Append(_));
        self.done && keyed && self.answer.is_some()
    }
}

/// All clients.
#[derive(Default)]
pub(super) struct Client {
    pub(super) ops: BTreeMap<u64, Op>,
    pub(super) sessions: Vec<SessionId>,
    pub(super) runs: Vec<RunId>,
    highest: Epoch,
}

impl Client {
    /// Whether something is still to be answered.
    pub(super) fn waits(&self) -> bool {
        self.ops.values().any(|op| !op.done)
    }
}

impl World {
    pub(super) fn client_does(&mut self, what: What) {
        match what {
            What::Act if !self.calm() => {
                self.do_something();
                let again = self.now + self.rng.range(10, 700);
                self.at(again, Actor::Client, What::Act);
            }
            What::Care => self.care(),
            What::Reply { ticket, epoch, outcome } if epoch >= self.client.highest => {
                self.client.highest = epoch;
                self.client_hears(ticket, *outcome);
            }
            What::NoReply { ticket } => {
                let asked = self.client.ops.iter().find(|(_, op)| op.asked == Some(ticket)).map(|(id, _)| *id);
                if let Some(id) = asked {
                    self.client_asks(id);
                }
            }
            _ => {}
        }
    }

    pub(super) fn client_wants(&mut self, request: Request) {
        self.client_expects(request, None);
    }

    /// Asks for what is to be refused, if so.
    pub(super) fn client_expects(&mut self, request: Request, refusal: Option<ErrorCode>) {
        let id = self.next_ticket();
        self.client.ops.insert(id, Op { request, asked: None, answer: None, refusal, unavailable: 0, done: false });
        self.client_asks(id);
    }

    /// Asks once more for what was answered, maybe long ago.
    pub(super) fn client_repeats(&mut self, id: u64) {
        self.client.ops.get_mut(&id).unwrap().done = false;
        self.client_asks(id);
    }

    fn client_asks(&mut self, id: u64) {
        let session = SessionId::from_uuid(self.uuid());
        let mut request = self.client.ops[&id].request.clone();
        if let Request::Submit(_, made) = &mut request {
            *made = session;
        }
        let ticket = self.ask(Actor::Client, request);
        self.client.ops.get_mut(&id).unwrap().asked = Some(ticket);
    }

    fn client_hears(&mut self, ticket: u64, outcome: Answer) {
        let Some(id) = self.client.ops.iter().find(|(_, op)| op.asked == Some(ticket)).map(|(id, _)| *id) else {
            return;
        };
        let calm = self.calm();
        let again = !calm && self.rng.per_mille(150);
        let op = self.client.ops.get_mut(&id).unwrap();
        op.asked = None;
        match outcome {
            Ok(reply) => {
                assert_eq!(op.refusal, None, "{:?} is answered", op.request);
                match &op.answer {
                    Some(first) => {
                        self.seen.repeats += 1;
                        is_the_same(&op.request, first, &reply);
                    }
                    None => self.client.learns(id, &reply),
                }
                let op = self.client.ops.get_mut(&id).unwrap();
                op.done = !again;
                op.answer.get_or_insert(reply);
                if again {
                    self.client_asks(id);
                }
            }
            // As the bus does: it may be available later.
            Err(Refusal::Error(error)) if error.code == ErrorCode::Unavailable => {
                self.seen.unavailable += 1;
                op.unavailable += u32::from(calm);
                assert!(op.unavailable <= MAX_UNAVAILABLE, "{:?} is always {error}", op.request);
                self.client_asks(id);
            }
            Err(Refusal::Error(error)) => {
                if let Some(refusal) = op.refusal {
                    assert_eq!(error.code, refusal, "{error} to {:?}", op.request);
                    self.seen.conflicts += u64::from(refusal == ErrorCode::IdempotencyConflict);
                    self.seen.nowhere += u64::from(refusal == ErrorCode::NotFound);
                }
                let keyed = matches!(op.request, Request::Create(_) | Request::Submit(..) | Request::Append(_));
                assert!(!keyed || op.answer.is_none(), "an answered request is refused when it is repeated: {error}");
                op.done = true;
            }
            Err(Refusal::Silent) => {}
        }
    }
}

impl Client {
    fn learns(&mut self, id: u64, reply: &Reply) {
        match (&self.ops[&id].request, reply) {
            (_, Reply::Created(session)) => self.sessions.push(*session),
            (_, Reply::Submitted { run, .. }) => self.runs.push(*run),
            _ => {}
        }
    }
}

/// A repeat under a key gets the first answer, as far as that does not change with time.
fn is_the_same(request: &Request, first: &Reply, again: &Reply) {
    match (first, again) {
        (Reply::Created(first), Reply::Created(again)) => assert_eq!(first, again, "{request:?}"),
        (Reply::Appended(first), Reply::Appended(again)) => {
            let place = |reply: &AppendReply| (reply.session_id, reply.first_seq, reply.last_seq);
            assert_eq!(place(first), place(again), "SESS-6: a repeated append is another one");
            assert!(again.repeated, "SESS-6: a repeated append is taken for a new one");
        }
        (Reply::Submitted { live, .. }, Reply::Submitted { live: live_again, repeated, .. }) => {
            assert!(*repeated, "a repeated submit is taken for a new one");
            if let (Some(first), Some(again)) = (live, live_again) {
                let made = |run: &RunView| (run.run_id, run.session_id, run.status.submitted_at);
                assert_eq!(made(first), made(again), "a repeated submit is another run");
            }
        }
        _ => {}
    }
}
