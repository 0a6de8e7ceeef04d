//! Waiting for what a test is about, with bounds.

use std::time::{Duration, Instant};

use laneway_contract::Endpoint;
use serde_json::json;
use tokio::time::sleep;

use crate::stack::Stack;

/// How long anything may take before a test fails. A session whose worker was lost waits 30 s for the lease.
const LIMIT: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Stack {
    /// Waits for a leader of this kind; its name and epoch.
    pub async fn leads(&self, is_it: impl Fn(&str, u64) -> bool) -> (String, u64) {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Ok(status) = self.ask(Endpoint::Status, json!({})).await {
                let (name, epoch) = (status["leader"].as_str(), status["epoch"].as_u64());
                let (name, epoch) = (name.expect("a name").to_owned(), epoch.expect("an epoch"));
                if is_it(&name, epoch) {
                    return (name, epoch);
                }
            }
            sleep(LOOK_EVERY).await;
        }
        panic!("nobody leads as it should\n{}", self.logs());
    }

    /// The number of the last frame, as soon as somebody knows it.
    pub async fn journal_seq(&self) -> u64 {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Ok(status) = self.ask(Endpoint::Status, json!({})).await {
                return status["journal_seq"].as_u64().expect("a number");
            }
            sleep(LOOK_EVERY).await;
        }
        panic!("nobody leads\n{}", self.logs());
    }

    /// Waits until so many more frames are written.
    pub async fn grows(&self, frames: u64) {
        let (begun, before) = (Instant::now(), self.journal_seq().await);
        while begun.elapsed() < LIMIT {
            if self.journal_seq().await > before + frames {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        panic!("the load does not go on behind frame {before}\n{}", self.logs());
    }

    /// Waits until no run is queued or executes.
    pub async fn idle(&self) {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let status = self.must(Endpoint::Status, json!({})).await;
            let lanes = status["queued"].as_object().expect("lanes");
            if lanes.values().all(|queued| queued == 0) && status["in_use"]["global"] == 0 {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        panic!("runs do not end\n{}", self.logs());
    }

    /// How often the log of a part has this text.
    #[must_use]
    pub fn said(&self, part: &str, text: &str) -> usize {
        std::fs::read_to_string(self.log_path(part)).expect("a log").matches(text).count()
    }

    /// Waits until the log of a part has this text more than `before` times.
    pub async fn says(&self, part: &str, text: &str, before: usize) {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if self.said(part, text) > before {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        panic!("{part} does not say {text:?}\n{}", self.logs());
    }
}
