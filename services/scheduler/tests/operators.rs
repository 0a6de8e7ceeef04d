//! What people ask one scheduler on a real nats-server: why a run waits, limits, budgets, decisions, and another try.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{Worker, World, actor, submit};
use laneway_contract::*;
use serde::Serialize;

/// Asks for what is refused.
async fn refused<Q: Serialize>(world: &World, endpoint: Endpoint, request: &Q) -> ApiError {
    world.ask::<_, serde_json::Value>(endpoint, request).await.unwrap_err()
}

async fn set(world: &World, changes: &[(&str, Option<u64>)]) -> Result<LimitsReply, ApiError> {
    let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    world.ask(Endpoint::LimitsSet, &ChangeLimits { changes, actor: actor() }).await
}

async fn row(world: &World, name: &str) -> Option<LimitRow> {
    let reply: LimitsReply = world.ask(Endpoint::LimitsGet, &GetLimits::default()).await.unwrap();
    reply.limits.into_iter().find(|row| row.name == name)
}

fn failed(code: &str) -> AttemptResult {
    let (code, message) = (code.to_owned(), "refused".to_owned());
    let class = ErrorClass::InvalidRequest;
    AttemptResult::Failed { error: RunError { code, message, class, retryable: false, retry_after_ms: None } }
}

async fn claim_next(worker: &mut Worker) -> ClaimReply {
    let dispatch = worker.dispatch().await;
    worker.claim(&dispatch).await.unwrap()
}

/// Takes the next dispatch and reports this.
async fn end_one(worker: &mut Worker, result: AttemptResult) -> ClaimReply {
    let claim = claim_next(worker).await;
    worker.report(&claim, "part", result).await.unwrap();
    claim
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_says_who_holds_a_run_and_what_would_start_it() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    set(&world, &[("model:echo/default", Some(1))]).await.unwrap();
    let mut worker = world.worker("w1", 4).await;
    let first = world.submit(&submit("first")).await.run;
    let claim = claim_next(&mut worker).await;
    assert_eq!(claim.run_id, first.run_id);
    let second = world.submit(&submit("second")).await.run.run_id;
    let third = world.submit(&submit("third")).await.run.run_id;
    let explain = async |run_id| -> Explanation {
        let reply: ExplainReply = world.ask(Endpoint::RunsExplain, &ExplainRun { run_id }).await.unwrap();
        assert_eq!(reply.run_id, run_id);
        assert!(reply.journal_seq > 0);
        reply.explanation
    };
    let explained = explain(second).await;
    assert_eq!((explained.state, explained.lane, explained.place), (JobState::Queued, Lane::Primary, Some(1)));
    assert_eq!(explain(third).await.place, Some(2));
    let [hold] = &explained.holds[..] else { panic!("{explained:?}") };
    assert_eq!((explained.reason, hold.reason), (WaitReason::Model, WaitReason::Model));
    assert_eq!((hold.name.as_str(), hold.limit, hold.level), ("model:echo/default", Some(1), Some(1)));
    assert_eq!(hold.holders.iter().map(|holder| holder.run_id).collect::<Vec<_>>(), [first.run_id]);
    let other = explained.counterfactual.unwrap();
    assert_eq!(other.changes, BTreeMap::from([("model:echo/default".to_owned(), 2)]));
    assert!(explained.summary.contains(&other.text), "{}", explained.summary);
    assert_eq!(explain(first.run_id).await.state, JobState::Running);
    // What it says would start the run does start it.
    let changes: Vec<_> = other.changes.iter().map(|(name, value)| (name.as_str(), Some(*value))).collect();
    set(&world, &changes).await.unwrap();
    assert_eq!(worker.dispatch().await.run_id, second);

    worker.report(&claim, "hi", AttemptResult::Completed { finish: Finish::Stop }).await.unwrap();
    let ended = refused(&world, Endpoint::RunsExplain, &ExplainRun { run_id: first.run_id }).await;
    assert_eq!((ended.code, &ended.details["state"]), (ErrorCode::RunTerminal, &serde_json::json!("completed")));
    let unknown = refused(&world, Endpoint::RunsExplain, &ExplainRun { run_id: RunId::generate() }).await;
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_and_changed_while_runs_go_on() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 4).await;
    world.submit(&SubmitRun { concurrency_group: Some("free".to_owned()), ..submit("run") }).await;
    claim_next(&mut worker).await;
    let at = |name: &str, value, used, reserve| {
        Some(LimitRow { name: name.to_owned(), value: Some(value), used, reserve: Some(reserve), level: None })
    };
    assert_eq!(row(&world, "global").await, at("global", 8, Some(1), 2));
    assert_eq!(row(&world, "per_provider").await, at("per_provider", 4, None, 1));
    // In use, with the limit of every provider and model.
    assert_eq!(row(&world, "provider:echo").await, at("provider:echo", 4, Some(1), 1));
    assert_eq!(row(&world, "model:echo/default").await, at("model:echo/default", 2, Some(1), 0));
    let free = LimitRow { name: "group:free".to_owned(), value: None, used: Some(1), reserve: None, level: None };
    assert_eq!(row(&world, "group:free").await, Some(free), "a group without a limit has no number");
    // Page by page the same.
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let request = GetLimits { limit: Some(2), cursor };
        let page: LimitsReply = world.ask(Endpoint::LimitsGet, &request).await.unwrap();
        assert!(page.limits.len() <= 2);
        names.extend(page.limits.into_iter().map(|row| row.name));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let all = ["global", "group:free", "model:echo/default", "per_model", "per_provider", "provider:echo"];
    assert_eq!(names, all);

    let changed = [
        ("global", Some(0)),
        ("group:nightly", Some(4)),
        ("tokens_per_minute:model:echo/default", Some(600)),
        ("tokens_burst:model:echo/default", Some(700)),
        ("weight:BACKGROUND", Some(2)),
    ];
    let reply = set(&world, &changed).await.unwrap();
    let of = |name: &str| reply.limits.iter().find(|row| row.name == name).cloned();
    assert_eq!(of("global"), at("global", 0, Some(1), 0), "lowering kills nothing");
    assert_eq!(of("group:nightly"), at("group:nightly", 4, Some(0), 1));
    let rate = of("tokens_per_minute:model:echo/default").unwrap();
    assert_eq!((rate.value, rate.level, rate.used), (Some(600), Some(700), None));
    assert_eq!(of("weight:BACKGROUND").unwrap().value, Some(2));
    let names: Vec<_> = reply.limits.iter().map(|row| row.name.as_str()).collect();
    let mut expected = changed.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(names, expected, "what was changed, by name");
    let back: Vec<_> = changed.iter().map(|(name, _)| (*name, None)).collect();
    set(&world, &back).await.unwrap();
    assert_eq!(world.status().await.limits, Limits::default());

    // All or none.
    let error = set(&world, &[("global", Some(9)), ("weight:PRIMARY", Some(0))]).await.unwrap_err();
    assert_eq!(
        (error.code, &error.details["path"]),
        (ErrorCode::BadRequest, &serde_json::json!("changes.weight:PRIMARY"))
    );
    assert_eq!(world.status().await.limits.global, 8);
    for n in 0..10 {
        let names: Vec<_> = (0..100).map(|m| format!("group:g{n}-{m}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
        let result = set(&world, &many).await;
        // With the three that always are, the tenth hundred is too many.
        assert_eq!(result.map_err(|error| error.code).err(), (n == 9).then_some(ErrorCode::BadRequest));
    }
    assert_eq!(world.status().await.limits.groups.len(), 900);
    let error = set(&world, &[("secret words", Some(1))]).await.unwrap_err();
    assert!(error.code == ErrorCode::BadRequest && !error.to_string().contains("secret words"), "{error}");
    let unknown = serde_json::json!({"changes": {"global": 1}, "actor": actor(), "force": true});
    assert_eq!(refused(&world, Endpoint::LimitsSet, &unknown).await.code, ErrorCode::UnknownField);
}

/// A session that lives on, with a model that its runs do not name.
async fn session(world: &World, budget_tokens: Option<u64>) -> SessionId {
    let made = world.submit(&submit("to be like")).await.run;
    let cancel = CancelRuns::of_run(made.run_id, actor(), String::new());
    world.ask::<_, CancelReply>(Endpoint::RunsCancel, &cancel).await.unwrap();
    let fields = SessionFields {
        role: "r".to_owned(),
        wp_id: Some("wp".to_owned()),
        budget_tokens,
        ..SessionFields::of_model(made.fields.model_id)
    };
    let (session_id, messages, artifacts) = (SessionId::generate(), Vec::new(), Vec::new());
    let (fingerprint, said) = (Fingerprint(7), Vec::new());
    let request = PreparedSession { session_id, fields, messages, artifacts, fingerprint, said };
    world.ask::<_, SessionReply>(Endpoint::LeaderCreate, &request).await.unwrap();
    session_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_what_it_has_no_room_for() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let session_id = session(&world, Some(100)).await;
    let mut worker = world.worker("w1", 4).await;
    // The estimate is that of the session's model: nothing else says how long an answer may be.
    let request = SubmitRun { session_id: Some(session_id), model_id: None, ..submit("eight by") };
    let run_id = world.submit(&request).await.run.run_id;
    world.until(run_id, |run| run.status.reason == WaitReason::Budget).await;
    let explained: ExplainReply = world.ask(Endpoint::RunsExplain, &ExplainRun { run_id }).await.unwrap();
    let hold = &explained.explanation.holds[0];
    assert_eq!((hold.reason, hold.needs), (WaitReason::Budget, Some(4_098)));
    assert_eq!(hold.name, format!("session:{session_id}"));

    let get = GetBudget { session_id: Some(session_id), wp_id: None };
    let budget: BudgetReply = world.ask(Endpoint::BudgetsGet, &get).await.unwrap();
    assert_eq!(budget.owner, format!("session:{session_id}"));
    assert_eq!(budget.tokens, BudgetLine { limit: Some(100), used: 0, reserved: 0 });
    assert_eq!(budget.usd.limit, None);
    let raise = SetBudget { session_id: Some(session_id), wp_id: None, tokens: Some(5_000), usd: None, actor: actor() };
    let budget: BudgetReply = world.ask(Endpoint::BudgetsSet, &raise).await.unwrap();
    assert_eq!(budget.tokens, BudgetLine { limit: Some(5_000), used: 0, reserved: 4_098 });
    assert_eq!(worker.answer_one("answer").await, run_id);
    let budget: BudgetReply = world.ask(Endpoint::BudgetsGet, &get).await.unwrap();
    assert_eq!(budget.tokens, BudgetLine { limit: Some(5_000), used: 2, reserved: 0 });

    let wp = SetBudget {
        session_id: None,
        wp_id: Some("wp".to_owned()),
        tokens: None,
        usd: Some(MicroUsd(7)),
        actor: actor(),
    };
    let budget: BudgetReply = world.ask(Endpoint::BudgetsSet, &wp).await.unwrap();
    assert_eq!((budget.owner.as_str(), budget.usd.limit), ("wp:wp", Some(MicroUsd(7))));
    let nobody = GetBudget { session_id: Some(SessionId::generate()), wp_id: None };
    assert_eq!(refused(&world, Endpoint::BudgetsGet, &nobody).await.code, ErrorCode::NotFound);
    let both = GetBudget { wp_id: Some("wp".to_owned()), ..get };
    assert_eq!(refused(&world, Endpoint::BudgetsGet, &both).await.code, ErrorCode::BadRequest);
    let nobody = SetBudget { session_id: Some(SessionId::generate()), ..raise };
    assert_eq!(refused(&world, Endpoint::BudgetsSet, &nobody).await.code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_about_a_run_that_waits_for_one() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 4).await;
    let request = SubmitRun { max_tokens_budget: Some(50), ..submit("run") };
    let run_id = world.submit(&request).await.run.run_id;
    let decide = |decision| DecideRun { run_id, decision, approval_id: None, actor: actor(), reason: "r".to_owned() };
    let early = refused(&world, Endpoint::RunsDecide, &decide(Decision::Fail)).await;
    assert_eq!(early.code, ErrorCode::Busy);
    let asks = || AttemptResult::AwaitingApproval { approval_id: "a1".to_owned() };
    let first = end_one(&mut worker, asks()).await;
    assert_eq!((first.approved.as_deref(), first.tokens_left), (None, Some(50)));
    let run = world.get(run_id).await.run;
    assert_eq!((run.status.state, run.status.approval_id.as_deref()), (JobState::AwaitingUser, Some("a1")));
    let other = DecideRun { approval_id: Some("a2".to_owned()), ..decide(Decision::Approve) };
    assert_eq!(refused(&world, Endpoint::RunsDecide, &other).await.code, ErrorCode::Busy);

    let meant = DecideRun { approval_id: Some("a1".to_owned()), ..other };
    let reply: RunReply = world.ask(Endpoint::RunsDecide, &meant).await.unwrap();
    assert!(!reply.done && !reply.run.status.state.is_terminal(), "{reply:?}");
    let second = end_one(&mut worker, asks()).await;
    assert_eq!((second.attempt, second.approved.as_deref()), (first.attempt, Some("a1")), "the same attempt goes on");
    assert!(second.epoch > first.epoch);
    assert_eq!(second.tokens_left, Some(48));

    let reply: RunReply = world.ask(Endpoint::RunsDecide, &decide(Decision::Fail)).await.unwrap();
    assert!(reply.done && reply.run.status.state == JobState::Failed, "{reply:?}");
    assert_eq!(reply.run.status.error.unwrap().code, "decided");
    let late = refused(&world, Endpoint::RunsDecide, &decide(Decision::Cancel)).await;
    assert_eq!(late.code, ErrorCode::RunTerminal);
    let unknown = DecideRun { run_id: RunId::generate(), ..decide(Decision::Retry) };
    assert_eq!(refused(&world, Endpoint::RunsDecide, &unknown).await.code, ErrorCode::NotFound);
    let nobody = DecideRun { actor: Actor { id: String::new(), kind: ActorKind::Person }, ..decide(Decision::Retry) };
    assert_eq!(refused(&world, Endpoint::RunsDecide, &nobody).await.code, ErrorCode::BadRequest);
}

fn retry(run_ids: Option<Vec<RunId>>) -> RetryRuns {
    RetryRuns {
        run_ids,
        session_id: None,
        state: None,
        error_code: None,
        ended_after: None,
        limit: None,
        cursor: None,
        dry_run: false,
        key: None,
        actor: actor(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_failed_is_tried_again_once() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 1).await;
    let instructions = Some(Content::Text("be kind".to_owned()));
    let request = SubmitRun { instructions, lane: Some(Lane::Validation), ..submit("run") };
    let old = world.submit(&request).await.run;
    end_one(&mut worker, failed("bad")).await;
    let completed = world.submit(&submit("fine")).await.run.run_id;
    worker.answer_one("fine").await;
    let unknown = RunId::generate();

    let ask = async |request: &RetryRuns| -> RetryReply { world.ask(Endpoint::RunsRetry, request).await.unwrap() };
    let all = retry(Some(vec![old.run_id, completed, unknown]));
    let dry = ask(&RetryRuns { dry_run: true, ..all.clone() }).await;
    let row = |reply: &RetryReply, id| reply.runs.iter().find(|row| row.run_id == id).cloned().unwrap();
    assert!(dry.dry_run && row(&dry, old.run_id).retried_as.is_none());
    let reply = ask(&all).await;
    assert_eq!(reply.runs.len(), 3);
    assert_eq!(row(&reply, completed).error.unwrap().code, ErrorCode::RunTerminal);
    assert_eq!(row(&reply, unknown).error.unwrap().code, ErrorCode::NotFound);
    let first = row(&reply, old.run_id);
    let new = first.retried_as.unwrap();
    assert!(!first.repeated && first.error.is_none() && new != old.run_id);
    let run = world.get(new).await.run;
    assert_eq!((run.status.retry_of, run.fields.lane), (Some(old.run_id), Lane::Validation));
    assert_ne!(run.session_id, old.session_id, "its session has ended");
    assert_eq!(run.fields.input[0].content, old.fields.input[0].content);

    let again = row(&ask(&all).await, old.run_id);
    assert_eq!((again.retried_as, again.repeated), (Some(new), true));
    let dry = row(&ask(&RetryRuns { dry_run: true, ..all.clone() }).await, old.run_id);
    assert_eq!((dry.retried_as, dry.repeated), (Some(new), true));
    assert_eq!(worker.answer_one("now").await, new);
    let again = row(&ask(&all).await, old.run_id);
    assert_eq!((again.retried_as, again.repeated), (Some(new), true), "also when it has ended");
    let keyed = row(&ask(&RetryRuns { key: Some("k".to_owned()), ..all }).await, old.run_id);
    assert!(!keyed.repeated && keyed.retried_as != Some(new));
    assert_eq!(Some(worker.answer_one("now").await), keyed.retried_as);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_finds_what_has_failed_page_by_page() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let mut worker = world.worker("w1", 1).await;
    let mut bad = Vec::new();
    for n in 0..5 {
        let run = world.submit(&submit(&format!("run {n}"))).await.run.run_id;
        end_one(&mut worker, failed(if n == 2 { "other" } else { "bad" })).await;
        if n != 2 {
            bad.push(run);
        }
    }
    bad.reverse();
    let filter = RetryRuns { error_code: Some("bad".to_owned()), limit: Some(3), ..retry(None) };
    let dry = RetryRuns { dry_run: true, ..filter.clone() };
    let page: RetryReply = world.ask(Endpoint::RunsRetry, &dry).await.unwrap();
    assert_eq!(page.runs.iter().map(|row| row.run_id).collect::<Vec<_>>(), bad[..3]);
    let next = RetryRuns { cursor: page.cursor, ..filter.clone() };
    let page: RetryReply = world.ask(Endpoint::RunsRetry, &next).await.unwrap();
    assert_eq!(page.runs.iter().map(|row| row.run_id).collect::<Vec<_>>(), bad[3..]);
    assert_eq!(page.cursor, None);
    assert!(page.runs[0].retried_as.is_some());
    let ended = world.get(bad[0]).await.run.status.ended_at.unwrap();
    let late = RetryRuns { ended_after: Some(ended), dry_run: true, ..filter };
    let page: RetryReply = world.ask(Endpoint::RunsRetry, &late).await.unwrap();
    assert_eq!(page.runs.iter().map(|row| row.run_id).collect::<Vec<_>>(), bad[..1]);
    assert_eq!(refused(&world, Endpoint::RunsRetry, &retry(None)).await.code, ErrorCode::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_has_no_more_time_than_its_run() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    let now = world.status().await.time;
    let deadline = now.plus_millis(8_000);
    let request = SubmitRun { deadline: Some(deadline), ..submit("run") };
    let run_id = world.submit(&request).await.run.run_id;
    let mut worker = world.worker("w1", 1).await;
    let claim = claim_next(&mut worker).await;
    assert!(claim.run_id == run_id && claim.timeout_ms <= 8_000, "{}", claim.timeout_ms);
    // The run's end is told as the end of the attempt's time.
    let mut told = None;
    while told.is_none() {
        told = worker.renew(&claim).await.unwrap().stop;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(told, Some(Stop::Timeout));
    worker.report(&claim, "part", AttemptResult::Stopped { stop: Stop::Timeout }).await.unwrap();
    let run = world.ended(run_id).await.run;
    assert_eq!((run.status.state, run.status.error.unwrap().code.as_str()), (JobState::Failed, "deadline_exceeded"));
    let past = SubmitRun { deadline: Some(now), ..submit("late") };
    let error = refused(&world, Endpoint::RunsSubmit, &past).await;
    assert_eq!((error.code, &error.details["path"]), (ErrorCode::BadRequest, &serde_json::json!("deadline")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_rate_starts_when_it_is_its_time() {
    let world = World::start().await;
    let _scheduler = world.scheduler("one").await;
    // One at once, and the next after a second.
    set(&world, &[("requests_per_minute:provider:echo", Some(60)), ("requests_burst:provider:echo", Some(1))])
        .await
        .unwrap();
    let mut worker = world.worker("w1", 4).await;
    let first = world.submit(&submit("first")).await.run.run_id;
    assert_eq!(worker.answer_one("answer").await, first);
    let second = world.submit(&submit("second")).await.run.run_id;
    assert_eq!(worker.answer_one("answer").await, second);
    let at = |run: RunView| run.status.dispatched_at.unwrap();
    let (first, second) = (at(world.get(first).await.run), at(world.get(second).await.run));
    assert!(second.millis_since(first) >= 1_000, "{}", second.millis_since(first));
}
