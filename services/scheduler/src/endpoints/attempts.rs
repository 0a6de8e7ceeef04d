//! `attempts.claim`, `renew` and `report`: what workers ask.

use laneway_bus::Refusal;
use laneway_contract::{
    ApiError, ClaimAttempt, ClaimReply, ErrorCode, RenewAttempt, RenewReply, ReportAttempt, ReportReply, RunId,
};
use laneway_engine::{Claim, Command, Phase};

use crate::desk::{Answered, Desk, Scene};

pub(crate) async fn claim(desk: Desk, request: ClaimAttempt) -> Result<ClaimReply, Refusal> {
    let ClaimAttempt { run_id, dispatch_no, worker_id, claim_id } = request;
    let command = Command::Claim(Claim { run_id, dispatch_no, worker_id, claim_id });
    let answered = desk.decide(command, move |scene| lease(scene, run_id)).await?;
    let Answered { mut body, journal_seq } = answered;
    body.journal_seq = journal_seq;
    Ok(body)
}

/// The lease of a run that was just claimed, or was before by the same claim.
fn lease(scene: &mut Scene<'_>, run_id: RunId) -> Result<ClaimReply, ApiError> {
    let over = || ApiError::new(ErrorCode::StaleEpoch, format!("the claim of run {run_id} is over"));
    let run = scene.state.run(run_id).ok_or_else(over)?;
    let Phase::Running { stop_at, stop, .. } = &run.phase else { return Err(over()) };
    let (record, status) = (&run.record, &run.record.status);
    let stop_at = record.fields.deadline.map_or(*stop_at, |deadline| deadline.min(*stop_at));
    if scene.repeated && stop.is_none() {
        // The worker counts its bound from the sending that was answered, which is this one.
        scene.hints.give_lease(run_id, status.epoch, scene.now);
    }
    Ok(ClaimReply {
        run_id,
        session_id: record.session_id,
        attempt: status.attempt,
        epoch: status.epoch,
        model_id: record.fields.model_id.clone(),
        generation: record.fields.generation.clone(),
        timeout_ms: stop_at.millis_since(scene.now),
        submitted_at: status.submitted_at,
        dispatched_at: status.dispatched_at.unwrap_or(status.submitted_at),
        traceparent: record.fields.traceparent.clone(),
        tokens_left: run.tokens_left(),
        approved: status.approval_id.clone(),
        journal_seq: 0,
    })
}

pub(crate) async fn renew(desk: Desk, request: RenewAttempt) -> Result<RenewReply, Refusal> {
    Ok(desk.look(move |scene| scene.renew(&request)).await?.body)
}

pub(crate) async fn report(desk: Desk, request: ReportAttempt) -> Result<ReportReply, Refusal> {
    let report = desk.edge().report(request)?;
    let run_id = report.run_id;
    let state = move |scene: &mut Scene<'_>| {
        let live = scene.state.run(run_id).map(|run| run.record.status.state);
        let state = live.or_else(|| scene.state.ended_run(run_id).map(|run| run.state));
        let state = state.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("no run {run_id}")))?;
        Ok(ReportReply { state, repeated: scene.repeated })
    };
    Ok(desk.decide(Command::Report(Box::new(report)), state).await?.body)
}
