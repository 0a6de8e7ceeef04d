//! What a reply says is in the journal when it leaves.

use laneway_bus::Refusal;
use laneway_contract::*;

use super::api::{Answer, Reply, Request};
use super::world::World;

impl World {
    /// Looks at a reply as it leaves.
    pub(super) fn check_reply(&self, index: usize, request: &Request, outcome: &Answer) {
        match outcome {
            Ok(reply) => self.is_true(request, reply),
            Err(Refusal::Error(error)) => {
                assert_ne!(error.code, ErrorCode::Internal, "a fault: {error} to {request:?}");
                match error.code {
                    ErrorCode::Unavailable => self.stores_were_silent(index, error),
                    ErrorCode::NotFound => self.is_nowhere(request),
                    _ => {}
                }
            }
            Err(Refusal::Silent) => {}
        }
    }

    fn is_true(&self, request: &Request, reply: &Reply) {
        let facts = &self.facts;
        match (request, reply) {
            (Request::Create(_), Reply::Created(id)) => assert!(facts.sessions.contains_key(id), "{id} is not made"),
            (Request::Submit(request, _), Reply::Submitted { run, ended, seq, .. }) => {
                assert_eq!(request.run_id, Some(*run));
                facts.is_stored(*seq);
                let known = facts.runs.contains_key(run) || facts.ended.contains_key(run);
                assert!(known, "{run} is acknowledged and not in the journal");
                if let Some(ended) = ended {
                    assert_eq!(facts.ended.get(run), Some(&**ended), "the end of {run} is told and not in the journal");
                }
            }
            (Request::Append(request), Reply::Appended(reply)) => {
                facts.is_stored(reply.journal_seq);
                let place = reply.first_seq as usize - 1..reply.last_seq as usize;
                let there = facts.sessions[&request.session_id].thread.get(place);
                let sent: Vec<MessageId> = request.messages.iter().map(|message| message.message_id).collect();
                assert_eq!(there, Some(&sent[..]), "SESS-6: an append is acknowledged and not in the journal");
            }
            (Request::Claim(request), Reply::Claimed(reply)) => {
                let claim = facts.claims.get(&(request.run_id, reply.epoch));
                let told = (&request.worker_id, request.claim_id, request.dispatch_no);
                let stored = claim.map(|claim| (&claim.worker, claim.claim_id, claim.dispatch_no));
                assert_eq!(stored, Some(told), "a claim of {} is granted and not in the journal", request.run_id);
                facts.is_stored(reply.journal_seq);
            }
            (Request::Report(request), Reply::Reported(_)) => {
                let taken = facts.claims[&(request.run_id, request.epoch)].reports;
                let (run, epoch, no) = (request.run_id, request.epoch, request.report_no);
                assert!(taken > no, "report {no} of {run} in epoch {epoch} is taken and not in the journal");
                let thread = &facts.sessions[&self.session_of(run)].thread;
                let there = request.messages.iter().all(|message| thread.contains(&message.message_id));
                assert!(there, "SESS-6: a report is acknowledged and its messages are not in the journal");
            }
            (Request::Cancel(_), Reply::Cancelled(rows, seq)) => {
                facts.is_stored(*seq);
                for CancelledRun { run_id, .. } in rows {
                    let ended = facts.ended.contains_key(run_id);
                    let asked = facts.runs.get(run_id).is_some_and(|run| run.stop.is_some_and(|(_, cancel)| cancel));
                    assert!(ended || asked, "SCHED-4: {run_id} is cancelled for its caller and not in the journal");
                }
            }
            (_, Reply::Changed(reply)) => facts.is_stored(reply.journal_seq),
            (_, Reply::Decided(seq) | Reply::Limited(seq) | Reply::Budgeted(seq)) => facts.is_stored(*seq),
            (_, Reply::Renewed(_)) => {}
            (request, reply) => panic!("{reply:?} answers {request:?}"),
        }
    }

    /// Whoever sends these knows the session by an answer.
    fn is_nowhere(&self, request: &Request) {
        let named = match request {
            Request::Append(request) => Some(request.session_id),
            Request::Submit(request, _) => request.session_id,
            Request::Change(request, _) => Some(request.session_id),
            Request::Budget(request) => request.session_id,
            _ => None,
        };
        let known = named.is_some_and(|id| self.facts.sessions.contains_key(&id));
        assert!(!known, "{named:?} is not found, and is in the journal: {request:?}");
    }

    fn session_of(&self, run: RunId) -> SessionId {
        let live = self.facts.runs.get(&run).map(|run| run.session);
        live.or_else(|| self.facts.ended.get(&run).map(|run| run.session_id)).unwrap()
    }
}
