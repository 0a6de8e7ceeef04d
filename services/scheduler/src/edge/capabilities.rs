//! What a run asks of its model, against what the table says the model can do.

use laneway_contract::{ApiError, Catalog, ErrorCode, Estimate, Generation, GenerationSettings, ModelId};
use serde_json::json;

/// The longest answer that is expected of a run that does not say how long it may be, in tokens.
const EXPECTED_OUTPUT: u64 = 4_096;

/// What a run asks of its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    structured_output: bool,
    thinking: bool,
    output_tokens: Option<u64>,
}

impl Needs {
    /// What these settings ask for.
    pub(crate) fn of(generation: &Generation) -> Self {
        Self {
            structured_output: generation.response_schema.is_some(),
            thinking: generation.reasoning_effort.is_some(),
            output_tokens: generation.max_output_tokens,
        }
    }

    /// What settings that were stored ask for.
    pub(crate) fn of_settings(generation: &GenerationSettings) -> Self {
        Self {
            structured_output: generation.response_schema.is_some(),
            thinking: generation.reasoning_effort.is_some(),
            output_tokens: generation.max_output_tokens,
        }
    }

    /// What a reservation for the run is made of, beside its window.
    pub(crate) fn estimate(&self, catalog: &Catalog, model_id: &ModelId) -> Estimate {
        let model = catalog.model(model_id);
        let limit = model.and_then(|model| model.output_limit);
        let expected = limit.map_or(EXPECTED_OUTPUT, |limit| limit.min(EXPECTED_OUTPUT));
        Estimate {
            output_tokens: self.output_tokens.unwrap_or(expected),
            input_usd_per_million: model.and_then(|model| model.input_usd_per_million),
            output_usd_per_million: model.and_then(|model| model.output_usd_per_million),
        }
    }

    /// Whether a model can do all of it: never silently degraded.
    pub(crate) fn check(&self, catalog: &Catalog, model_id: &ModelId) -> Result<(), ApiError> {
        let Some(model) = catalog.model(model_id) else {
            let provider = model_id.provider();
            return Err(ApiError::new(
                ErrorCode::UnknownModel,
                format!("this deployment knows no provider {provider}: it is configured under [providers]"),
            )
            .with_details(json!({"path": "model_id", "provider": provider})));
        };
        let can = model.capabilities;
        let asked = [
            ("generation.response_schema", "structured output", self.structured_output && !can.structured_output),
            ("generation.reasoning_effort", "thinking", self.thinking && !can.thinking),
        ];
        if let Some((path, capability, _)) = asked.iter().find(|(_, _, lacking)| *lacking) {
            return Err(ApiError::new(
                ErrorCode::UnsupportedCapability,
                format!("{model_id} has no {capability}: leave {path} out, or use another model"),
            )
            .with_details(json!({"path": path, "capability": capability})));
        }
        match (self.output_tokens, model.output_limit) {
            (Some(asked), Some(limit)) if asked > limit => Err(ApiError::new(
                ErrorCode::ExceedsLimit,
                format!("{model_id} gives at most {limit} tokens, generation.max_output_tokens is {asked}"),
            )
            .with_details(json!({"path": "generation.max_output_tokens", "max": limit}))),
            _ => Ok(()),
        }
    }
}
