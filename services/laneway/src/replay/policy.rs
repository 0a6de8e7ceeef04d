//! The policy file: a configuration with its `[limits]`, and rules that give runs another lane or priority.

use std::path::Path;

use laneway_contract::{Lane, Limits};
use laneway_engine::Submit;
use laneway_runtime::config::Config;
use serde::Deserialize;
use toml::{Table, Value};

use crate::exit::CliError;

/// The highest number of priority that a submit may have.
const MAX_PRIORITY: u32 = 1_000;

/// What is to be tried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// In place of all limits that held; none keeps them with their changes.
    pub(crate) limits: Option<Limits>,
    /// The first that matches a run decides about it.
    pub(crate) rules: Vec<Rule>,
}

/// What becomes of some runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(rename = "match", default)]
    which: Match,
    set: Set,
}

/// Which runs. All that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    lane: Option<Lane>,
    /// `owner/key`, or `owner` for all keys of an owner.
    fairness_key: Option<String>,
    /// `provider/model`, or `provider/*`.
    model: Option<String>,
    group: Option<String>,
}

/// What they get instead.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    lane: Option<Lane>,
    priority: Option<u32>,
}

impl Policy {
    /// Reads a file. A configuration of the scheduler is one: what is neither `limits` nor `rules` changes nothing here.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CliError::File { what: path.display().to_string(), source })?;
        Self::parse(&text).map_err(|reason| CliError::Usage(format!("{}: {reason}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut table: Table = toml::from_str(text).map_err(|error| one_line(&error))?;
        let rules = table.remove("rules").unwrap_or(Value::Array(Vec::new()));
        let rules = Vec::<Rule>::deserialize(rules).map_err(|error| format!("rules: {}", one_line(&error)))?;
        let limits = Config::deserialize(Value::Table(table)).map_err(|error| one_line(&error))?.limits;
        limits.as_ref().map_or(Ok(()), Limits::check).map_err(|reason| format!("limits: {reason}"))?;
        rules.iter().try_for_each(Rule::check).map_err(|reason| format!("rules: {reason}"))?;
        if limits.is_none() && rules.is_empty() {
            return Err("has neither [limits] nor [[rules]], so there is nothing to try out".to_owned());
        }
        Ok(Self { limits, rules })
    }

    /// The run as the policy has it submitted.
    pub(crate) fn change(&self, submit: &mut Submit) {
        if let Some(rule) = self.rules.iter().find(|rule| rule.which.holds(submit)) {
            submit.lane = rule.set.lane.unwrap_or(submit.lane);
            submit.priority = rule.set.priority.unwrap_or(submit.priority);
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let Set { lane, priority } = self.set;
        if lane.is_none() && priority.is_none() {
            return Err("set names neither lane nor priority".to_owned());
        }
        if priority.is_some_and(|priority| priority > MAX_PRIORITY) {
            return Err(format!("priority must be 0 to {MAX_PRIORITY}"));
        }
        Ok(())
    }
}

impl Match {
    fn holds(&self, submit: &Submit) -> bool {
        let key = submit.fairness_key.as_deref().unwrap_or_default();
        let owner = key.split_once('/').map_or(key, |(owner, _)| owner);
        let model = submit.model_id.as_ref();
        self.lane.is_none_or(|lane| lane == submit.lane)
            && self.fairness_key.as_ref().is_none_or(|wanted| wanted == key || wanted == owner)
            && self.group.as_ref().is_none_or(|group| Some(group) == submit.concurrency_group.as_ref())
            && self.model.as_ref().is_none_or(|wanted| {
                model.is_some_and(|model| {
                    let provider = wanted.strip_suffix("/*");
                    wanted == model.as_str() || provider.is_some_and(|provider| provider == model.provider())
                })
            })
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rules of a text, for the tests of the model.
#[cfg(test)]
pub(crate) fn rules(text: &str) -> Vec<Rule> {
    Policy::parse(text).map(|policy| policy.rules).unwrap_or_default()
}

#[cfg(test)]
mod tests;
