//! A provider without a model: it says the last USER message back, word by word, and fails when told to.
//!
//! Everything it does is decided by the model name behind the slash, the prompt and the attempt's number, so that the
//! same run always gives the same answer. The name is `default`, or options with commas between:
//!
//! | option | meaning |
//! |---|---|
//! | `delay=MS` | wait this long before each token |
//! | `tokens=N` | say N tokens, going round the words as often as needed; not with a schema |
//! | `fail=N` | the first N attempts fail with HTTP status 500 |
//! | `fail_after=N` | every attempt loses its connection after N tokens |
//! | `truncate_after=N` | every attempt's stream ends after N tokens without a finish reason |
//! | `tool_at=N` | every attempt asks for the tool `echo` after N tokens, and goes on with its answer |
//! | `approve_at=N` | every attempt asks for an approval after N tokens; with the approval it goes on from there |
//! | `rate_limit=MS` | the first attempt is refused with 429 and asked to wait this long |
//! | `hang` | nothing ever comes |
//! | `name=TEXT` | nothing; tells models apart |
//!
//! A token is a word with the space before it. Without a USER message the answer is `echo`. The answer ends at a stop
//! sequence or after `max_output_tokens` tokens (`length`); with a schema it is the smallest value of that schema. What is
//! asked for after N tokens is asked for at the end of an answer that has fewer, and a tool before an approval.

mod options;
mod schema;
mod script;

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::stream::{self, StreamExt};

use crate::attempt::Attempt;
use crate::delta::DeltaStream;
use crate::prompt::Prompt;
use crate::provider::Provider;
use options::Options;
use script::{Step, script};

/// The built-in provider.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Provider for Echo {
    fn call(&self, attempt: &Attempt, prompt: Prompt) -> DeltaStream {
        let options = match Options::parse(attempt.model_id().model()) {
            Ok(options) => options,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let delay = Duration::from_millis(options.delay_ms);
        let steps = script(&options, attempt, &prompt);
        stream::iter(steps)
            .then(move |step| async move {
                match step {
                    Step::Token(delta) => {
                        if !delay.is_zero() {
                            tokio::time::sleep(delay).await;
                        }
                        Ok(delta)
                    }
                    Step::Now(delta) => Ok(delta),
                    Step::Fail(error) => Err(error),
                    Step::Hang => futures::future::pending().await,
                }
            })
            .boxed()
    }
}
