//! Known providers and models: capabilities, limits and prices. Data, loaded by scheduler and worker alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::ModelId;
use crate::money::MicroUsd;
use crate::run::Usage;
use crate::vocabulary::Backend;

/// The table that comes with this version.
const BUILT_IN: &str = include_str!("catalog.toml");

/// What the deployment knows of providers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// By the part of a model id before the slash.
    pub providers: BTreeMap<String, ProviderSpec>,
}

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Built in, deterministic.
    Echo,
    /// Chat completions as OpenAI has them, at OpenAI or elsewhere.
    Openai,
}

/// A provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSpec {
    /// How it is spoken to.
    pub kind: ProviderKind,
    /// Where its models run.
    pub backend: Backend,
    /// The base of its URLs, as `http://127.0.0.1:8080/v1/`. Default: the provider's own.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The environment variable of the worker that holds the API key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The file, on the worker, that holds the API key.
    #[serde(default)]
    pub api_key_file: Option<String>,
    /// What its models can do unless `models` says otherwise.
    pub defaults: ModelSpec,
    /// Single models, by the part of a model id after the slash.
    #[serde(default)]
    pub models: BTreeMap<String, ModelSpec>,
}

/// A model, or the defaults of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tokens that its context holds.
    #[serde(default)]
    pub context_window: Option<u64>,
    /// Tokens that it gives at most.
    #[serde(default)]
    pub output_limit: Option<u64>,
    /// US dollars per million input tokens.
    #[serde(default)]
    pub input_usd_per_million: Option<MicroUsd>,
    /// US dollars per million output tokens.
    #[serde(default)]
    pub output_usd_per_million: Option<MicroUsd>,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Sends its answer piece by piece.
    pub streaming: bool,
    /// Asks for tools.
    pub tool_calling: bool,
    /// Follows a JSON schema.
    pub structured_output: bool,
    /// Takes a conversation.
    pub multi_turn: bool,
    /// Reads images.
    pub vision: bool,
    /// Thinks before it answers.
    pub thinking: bool,
}

impl Catalog {
    /// The table that comes with this version.
    pub fn built_in() -> Result<Self, toml::de::Error> {
        toml::from_str(BUILT_IN)
    }

    /// This table with providers of the configuration added or replaced.
    #[must_use]
    pub fn with(mut self, overrides: BTreeMap<String, ProviderSpec>) -> Self {
        self.providers.extend(overrides);
        self
    }

    /// The provider of a model.
    #[must_use]
    pub fn provider(&self, model: &ModelId) -> Option<&ProviderSpec> {
        self.providers.get(model.provider())
    }

    /// The model, or its provider's defaults; none when the provider is not known.
    #[must_use]
    pub fn model(&self, model: &ModelId) -> Option<&ModelSpec> {
        let provider = self.provider(model)?;
        Some(provider.models.get(model.model()).unwrap_or(&provider.defaults))
    }

    /// What a usage costs, where the price is known.
    #[must_use]
    pub fn cost(&self, model: &ModelId, usage: &Usage) -> Option<MicroUsd> {
        let spec = self.model(model)?;
        let part = |tokens: u64, price: MicroUsd| u128::from(tokens) * u128::from(price.0);
        let sum = part(usage.input_tokens, spec.input_usd_per_million?)
            .checked_add(part(usage.output_tokens, spec.output_usd_per_million?))?;
        u64::try_from(sum.div_ceil(1_000_000)).ok().map(MicroUsd)
    }
}
