//! Requests and replies, carried out by the real handlers of the endpoints.

use std::pin::Pin;

use laneway_bus::Refusal;
use laneway_contract::*;
use laneway_engine::Command;

use crate::desk::{Answered, Desk};
use crate::edge::{self, Change, KnownArtifacts};
use crate::endpoints::runs::{Submitted, cancel_live, submitted};
use crate::endpoints::{attempts, inside, sessions};

/// What an actor asks of the leader.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Create(PreparedSession),
    /// With the id of the session that is made where the run names none: at the edge, so another one at each try.
    Submit(Box<SubmitRun>, SessionId),
    Append(PreparedAppend),
    Cancel(CancelRuns),
    Change(ChangeSession, Change),
    Decide(DecideRun),
    Limits(ChangeLimits),
    Budget(SetBudget),
    Claim(ClaimAttempt),
    Renew(RenewAttempt),
    Report(ReportAttempt),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Created(SessionId),
    Submitted { run: RunId, live: Option<Box<RunView>>, ended: Option<Box<RunRecord>>, repeated: bool, seq: u64 },
    Appended(AppendReply),
    Cancelled(Vec<CancelledRun>, u64),
    Changed(Box<SessionReply>),
    Decided(u64),
    Limited(u64),
    Budgeted(u64),
    Claimed(Box<ClaimReply>),
    Renewed(RenewReply),
    Reported(ReportReply),
}

pub(super) type Answer = Result<Reply, Refusal>;
pub(super) type Handler = Pin<Box<dyn Future<Output = Answer>>>;

/// The handler of a request.
pub(super) fn handle(desk: Desk, request: Request) -> Handler {
    Box::pin(async move {
        Ok(match request {
            Request::Create(request) => Reply::Created(inside::create(desk, request).await?.session.session_id),
            Request::Submit(request, session) => submit(&desk, *request, session).await?,
            Request::Append(request) => Reply::Appended(inside::append(desk, request).await?),
            Request::Cancel(request) => {
                let (runs, _, seq) = cancel_live(&desk, &edge::cancel(request)?.0).await?;
                Reply::Cancelled(runs.into_values().collect(), seq)
            }
            Request::Change(request, change) => {
                Reply::Changed(Box::new(sessions::change(desk, request, change).await?))
            }
            Request::Decide(request) => {
                let command = Command::Decide(edge::decide(request)?);
                Reply::Decided(desk.decide(command, |_| Ok(())).await?.journal_seq)
            }
            Request::Limits(request) => {
                let command = Command::SetLimits(Box::new(edge::change_limits(request)?));
                Reply::Limited(desk.decide(command, |_| Ok(())).await?.journal_seq)
            }
            Request::Budget(request) => {
                let command = Command::SetBudget(edge::set_budget(request)?);
                Reply::Budgeted(desk.decide(command, |_| Ok(())).await?.journal_seq)
            }
            Request::Claim(request) => Reply::Claimed(Box::new(attempts::claim(desk, request).await?)),
            Request::Renew(request) => Reply::Renewed(attempts::renew(desk, request).await?),
            Request::Report(request) => Reply::Reported(attempts::report(desk, request).await?),
        })
    })
}

/// As `runs.submit`, without a store replica, and with a wait that has no end of its own.
async fn submit(desk: &Desk, request: SubmitRun, session: SessionId) -> Answer {
    let mut prepared = desk.edge().submit(request, &KnownArtifacts::new(), None)?;
    if let Some(new) = &mut prepared.submit.new_session {
        new.session_id = session;
    }
    let Answered { body, journal_seq: seq } = submitted(desk, prepared).await?;
    let Submitted { run_id: run, live, end, repeated } = body;
    let Some(end) = end else {
        return Ok(Reply::Submitted { run, live: live.map(Box::new), ended: None, repeated, seq });
    };
    // The leadership may end first; the caller asks the next leader.
    let ended = end.await.map_err(|_| Refusal::Silent)?;
    let record = Box::new(ended.ending.record.clone());
    Ok(Reply::Submitted { run, live: None, ended: Some(record), repeated, seq: ended.journal_seq })
}
