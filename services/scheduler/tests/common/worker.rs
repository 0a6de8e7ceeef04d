//! A worker by hand: it announces itself, takes dispatches, and claims and reports when the test says so.

use std::time::Duration;

use futures::StreamExt;
use laneway_bus::{Bus, ensure_pool_consumer};
use laneway_contract::*;
use laneway_runtime::Shutdown;
use tokio::sync::mpsc;

use super::within;

pub struct Worker {
    bus: Bus,
    id: WorkerId,
    dispatches: mpsc::UnboundedReceiver<DispatchMessage>,
    stop: Shutdown,
}

impl Worker {
    pub(super) fn start(bus: Bus, name: &str, slots: u32) -> Self {
        let (id, pool) = (WorkerId::parse(name).unwrap(), PoolId::parse("hands").unwrap());
        let stop = Shutdown::new();
        let announcement =
            Announcement { worker_id: id.clone(), pool: pool.clone(), models: vec!["echo/*".into()], slots };
        laneway_runtime::spawn("announce", announce(bus.clone(), announcement, stop.clone()));
        let (sender, dispatches) = mpsc::unbounded_channel();
        laneway_runtime::spawn("take", take(bus.clone(), pool, sender, stop.clone()));
        Self { bus, id, dispatches, stop }
    }

    pub async fn dispatch(&mut self) -> DispatchMessage {
        within(self.dispatches.recv()).await.unwrap()
    }

    pub async fn claim(&self, dispatch: &DispatchMessage) -> Result<ClaimReply, ApiError> {
        let (run_id, dispatch_no) = (dispatch.run_id, dispatch.dispatch_no);
        let request =
            ClaimAttempt { run_id, dispatch_no, worker_id: self.id.clone(), claim_id: u64::from(dispatch_no) };
        within(self.bus.request(Endpoint::AttemptsClaim, &request)).await
    }

    pub async fn renew(&self, claim: &ClaimReply) -> Result<RenewReply, ApiError> {
        let request = RenewAttempt { run_id: claim.run_id, epoch: claim.epoch, output_tokens: 1 };
        within(self.bus.request(Endpoint::AttemptsRenew, &request)).await
    }

    pub async fn report(
        &self,
        claim: &ClaimReply,
        answer: &str,
        result: AttemptResult,
    ) -> Result<ReportReply, ApiError> {
        self.send(&Self::report_of(claim, answer, result)).await
    }

    pub fn report_of(claim: &ClaimReply, answer: &str, result: AttemptResult) -> ReportAttempt {
        let message = ProducedMessage {
            message_id: MessageId::generate(),
            role: MessageRole::Assistant,
            content: answer.to_owned(),
            token_count: Some(1),
            tool_call_id: None,
            finish: Some(Finish::Stop),
        };
        let outcome = Outcome {
            result,
            usage: Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() },
            cost_usd: None,
            first_token_after_ms: Some(1),
            told_after_ms: None,
            closed_after_ms: None,
            issues: Vec::new(),
        };
        let (run_id, epoch) = (claim.run_id, claim.epoch);
        ReportAttempt { run_id, epoch, report_no: 0, messages: vec![message], outcome: Some(outcome) }
    }

    pub async fn send(&self, report: &ReportAttempt) -> Result<ReportReply, ApiError> {
        within(self.bus.request(Endpoint::AttemptsReport, report)).await
    }

    /// Takes the next dispatch and answers it.
    pub async fn answer_one(&mut self, answer: &str) -> RunId {
        loop {
            let dispatch = self.dispatch().await;
            // A dispatch may come twice: the claim decides.
            let Ok(claim) = self.claim(&dispatch).await else { continue };
            let report = self.report(&claim, answer, AttemptResult::Completed { finish: Finish::Stop }).await.unwrap();
            assert!(report.state.is_terminal());
            return claim.run_id;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.request();
    }
}

async fn announce(bus: Bus, announcement: Announcement, stop: Shutdown) {
    let subject = Subject::Worker(announcement.worker_id.clone());
    let body = Format::MessagePack.encode(&announcement).unwrap();
    while !stop.is_requested() {
        bus.publish(&subject, body.clone().into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn take(bus: Bus, pool: PoolId, dispatches: mpsc::UnboundedSender<DispatchMessage>, stop: Shutdown) {
    while !stop.is_requested() {
        let consumer = ensure_pool_consumer(&bus, &pool).await.unwrap();
        let batch = consumer.batch().max_messages(16).expires(Duration::from_millis(300)).messages().await;
        let Ok(mut batch) = batch else { continue };
        while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(1), batch.next()).await {
            let dispatch = Format::MessagePack.decode(&message.payload).unwrap();
            message.ack().await.unwrap();
            if dispatches.send(dispatch).is_err() {
                return;
            }
        }
    }
}
