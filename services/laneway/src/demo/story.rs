//! What happens on the stage: three sessions at once, one question behind another, and a cancel in mid-stream.

use std::cell::{Cell, RefCell};

use laneway_contract::{
    Actor, CancelRuns, CreateSession, Endpoint, Format, Generation, Input, RunId, RunReply, SessionId, SessionReply,
    SubmitRun,
};
use serde_json::json;
use tokio::sync::Notify;

use super::lines::Lines;
use super::stage::Stage;
use crate::cli::Context;
use crate::exit::CliError;
use crate::follow::{self, Heard, Rest};
use crate::output;

/// Tokens of one answer.
const MAX_OUTPUT_TOKENS: u64 = 120;
/// Pieces after which the answer that is cancelled has begun well.
const CANCEL_AFTER: u32 = 25;

/// A session with what is asked in it.
struct Part {
    letter: char,
    role: &'static str,
    questions: &'static [&'static str],
    cancelled: bool,
}

const PARTS: [Part; 3] = [
    Part {
        letter: 'A',
        role: "storyteller",
        questions: &["Tell me a short story about a lighthouse keeper and a lost ship.", "Give your story a title."],
        cancelled: false,
    },
    Part {
        letter: 'B',
        role: "explainer",
        questions: &["Explain in a few sentences how clouds turn into rain."],
        cancelled: false,
    },
    Part {
        letter: 'C',
        role: "novelist",
        questions: &["Write a long story about a dragon who collects old books and never lends one."],
        cancelled: true,
    },
];

/// A session that was played, and the end of each of its runs.
pub(super) struct Played {
    /// Its letter on the screen.
    pub(super) letter: char,
    /// The session.
    pub(super) session_id: SessionId,
    /// Its runs in the order of their submits.
    pub(super) runs: Vec<RunReply>,
}

/// Plays all parts at once.
pub(super) async fn play(context: &Context, stage: &Stage) -> Result<Vec<Played>, CliError> {
    let theatre = Theatre { context, stage, lines: RefCell::default() };
    let [a, b, c] = &PARTS;
    let (a, b, c) = tokio::try_join!(theatre.play(a), theatre.play(b), theatre.play(c))?;
    Ok(vec![a, b, c])
}

struct Theatre<'a> {
    context: &'a Context,
    stage: &'a Stage,
    lines: RefCell<Lines>,
}

impl Theatre<'_> {
    async fn play(&self, part: &Part) -> Result<Played, CliError> {
        let letter = part.letter;
        let session_id = self.create(part).await?;
        let mut asked = Vec::new();
        // All questions of a session are asked at once: the second waits in the queue until the first is answered.
        for question in part.questions {
            let run_id = RunId::generate();
            let chunks = self.stage.client.tokens(run_id).await?;
            self.say(letter, &format!("» {question}"))?;
            self.stage.client.submit(&submit(session_id, run_id, question)).await?;
            asked.push((run_id, chunks));
        }
        let mut runs = Vec::new();
        for (run_id, chunks) in asked {
            let begun = Notify::new();
            let pieces = Cell::new(0);
            let shown = follow::to_end(&self.stage.client, run_id, chunks, |_, heard| {
                pieces.set(pieces.get() + u32::from(matches!(heard, Heard::Text(_))));
                if pieces.get() == CANCEL_AFTER {
                    begun.notify_one();
                }
                self.hear(letter, heard)
            });
            let cancel = async {
                if part.cancelled {
                    begun.notified().await;
                    self.cancel(letter, run_id).await?;
                }
                Ok::<_, CliError>(())
            };
            let (reply, reader) = unless_ended(shown, cancel).await?;
            if let Rest::More(rest) = reader.rest(reply.output.as_deref().unwrap_or_default()) {
                self.hear(letter, Heard::Text(rest.to_owned()))?;
            }
            self.finish(letter, &reply)?;
            runs.push(reply);
        }
        Ok(Played { letter, session_id, runs })
    }

    async fn create(&self, part: &Part) -> Result<SessionId, CliError> {
        let request = json!({
            "session_id": SessionId::generate().to_string(),
            "model_id": self.stage.model.as_str(),
            "memory_policy": "SESSION_SCOPED",
            "role": part.role,
            "instructions": "You answer in plain English.",
            "wp_id": "demo",
        });
        let request: CreateSession = Format::Json.decode(request.to_string().as_bytes())?;
        let reply: SessionReply = self.stage.client.ask(Endpoint::SessionsCreate, &request).await?;
        Ok(reply.session.session_id)
    }

    async fn cancel(&self, letter: char, run_id: RunId) -> Result<(), CliError> {
        let actor = Actor { id: "demo".to_owned(), ..self.context.actor.clone() };
        self.say(letter, "✂ cancelled in mid-stream")?;
        let cancel = CancelRuns::of_run(run_id, actor, "seen enough".to_owned());
        self.stage.client.cancel(&cancel).await?;
        Ok(())
    }

    fn hear(&self, letter: char, heard: Heard) -> Result<(), CliError> {
        match heard {
            Heard::Text(text) => {
                let full = self.lines.borrow_mut().take(letter, &text);
                full.iter().try_for_each(|line| self.say(letter, line))
            }
            Heard::Begun { .. } | Heard::Thinking(_) | Heard::ToolCall { .. } | Heard::Ended { .. } => Ok(()),
        }
    }

    fn finish(&self, letter: char, reply: &RunReply) -> Result<(), CliError> {
        let rest = self.lines.borrow_mut().end(letter);
        rest.iter().try_for_each(|line| self.say(letter, line))?;
        let status = &reply.run.status;
        let waited = output::or_dash(status.queue_wait_ms.map(output::span));
        let tokens = status.usage.output_tokens;
        self.say(letter, &format!("■ {}, {tokens} tokens, waited {waited} in the queue", status.state))
    }

    fn say(&self, letter: char, line: &str) -> Result<(), CliError> {
        Ok(self.context.out.line(format!("{} │ {line}", coloured(self.context, letter)))?)
    }
}

/// The letter of a session, in its colour where there are colours.
pub(super) fn coloured(context: &Context, letter: char) -> String {
    if !context.out.is_terminal() {
        return letter.to_string();
    }
    let colour = match letter {
        'A' => 36,
        'B' => 33,
        _ => 35,
    };
    format!("\x1b[1;{colour}m{letter}\x1b[0m")
}

fn submit(session_id: SessionId, run_id: RunId, question: &str) -> SubmitRun {
    SubmitRun {
        run_id: Some(run_id),
        session_id: Some(session_id),
        input: Some(Input::Text(question.to_owned())),
        generation: Generation {
            max_output_tokens: Some(MAX_OUTPUT_TOKENS),
            temperature: Some(0.7),
            ..Generation::default()
        },
        job_kind: None,
        model_id: None,
        backend: None,
        lane: None,
        priority: None,
        concurrency_group: None,
        fairness_key: None,
        on_busy: None,
        max_retries: None,
        retry_backoff: None,
        timeout_ms: None,
        cancellation_token: None,
        not_before: None,
        deadline: None,
        queue_timeout_ms: None,
        max_tokens_budget: None,
        estimated_cost_usd: None,
        estimated_tokens: None,
        role: None,
        instructions: None,
        wp_id: None,
        mt_id: None,
        work_profile_id: None,
        target_entity_ids: None,
        parameter_class: None,
        execution_mode: None,
        memory_policy: None,
        labels: None,
        budget_tokens: None,
        budget_usd: None,
        wait: false,
        wait_ms: None,
        with_content: None,
    }
}

/// The output of `main`; `side` runs beside it and is dropped with it, unless it fails first.
async fn unless_ended<T>(
    main: impl Future<Output = Result<T, CliError>>,
    side: impl Future<Output = Result<(), CliError>>,
) -> Result<T, CliError> {
    let side = async {
        match side.await {
            Ok(()) => std::future::pending().await,
            Err(error) => Err(error),
        }
    };
    tokio::select! {
        ended = main => ended,
        failed = side => failed,
    }
}
