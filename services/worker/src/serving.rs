//! What a worker serves: its providers, the models that it announces, and its pool.

use std::collections::BTreeMap;

use laneway_contract::{Catalog, ModelId, PoolId};
use laneway_providers::{AnyProvider, BuildError, ReadEnv};

use crate::config::WorkerConfig;

/// Why a worker cannot serve what its configuration says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServingError {
    /// A name that is no `provider/model` or `provider/*`.
    #[error("worker.models: {model} must be provider/model, or provider/* for all models of a provider")]
    NotAModel {
        /// The name.
        model: String,
    },
    /// A model of a provider that the catalog does not have.
    #[error("worker.models: {model} is of a provider that is neither built in nor under [providers]")]
    UnknownProvider {
        /// The model.
        model: String,
    },
    /// A provider that cannot be called from here.
    #[error("providers.{provider}: {reason}")]
    Unusable {
        /// The provider.
        provider: String,
        /// Why not.
        reason: BuildError,
    },
    /// No provider at all can be called.
    #[error("none of the configured providers can be called from here")]
    Nothing,
}

/// What a worker serves.
#[derive(Debug)]
pub(crate) struct Serving {
    providers: BTreeMap<String, AnyProvider>,
    /// As announced, sorted.
    pub(crate) models: Vec<String>,
    /// Workers of the same models share it.
    pub(crate) pool: PoolId,
}

impl Serving {
    /// Builds the providers that the configuration asks for, or all that can be called.
    pub(crate) fn new(config: &WorkerConfig, env: ReadEnv<'_>) -> Result<Self, ServingError> {
        let (providers, models) = match &config.models {
            Some(models) => named(models, &config.catalog, env)?,
            None => all_usable(&config.catalog, env)?,
        };
        let models = sorted(models);
        let pool = config.pool.clone().unwrap_or_else(|| pool_of(&models));
        Ok(Self { providers, models, pool })
    }

    /// The pool of such a worker, also where its models cannot be called from here.
    pub(crate) fn pool(config: &WorkerConfig, env: ReadEnv<'_>) -> Result<PoolId, ServingError> {
        match (&config.pool, &config.models) {
            (Some(pool), _) => Ok(pool.clone()),
            (None, Some(models)) => Ok(pool_of(&sorted(models.clone()))),
            (None, None) => Ok(Self::new(config, env)?.pool),
        }
    }

    /// The provider of a model.
    pub(crate) fn provider(&self, model: &ModelId) -> Option<&AnyProvider> {
        self.providers.get(model.provider())
    }
}

type Built = (BTreeMap<String, AnyProvider>, Vec<String>);

fn named(models: &[String], catalog: &Catalog, env: ReadEnv<'_>) -> Result<Built, ServingError> {
    let mut providers = BTreeMap::new();
    for model in models {
        let id = ModelId::parse(model).map_err(|_| ServingError::NotAModel { model: model.clone() })?;
        let name = id.provider();
        if providers.contains_key(name) {
            continue;
        }
        let spec = catalog.provider(&id).ok_or_else(|| ServingError::UnknownProvider { model: model.clone() })?;
        let provider = AnyProvider::build(spec, env)
            .map_err(|reason| ServingError::Unusable { provider: name.to_owned(), reason })?;
        providers.insert(name.to_owned(), provider);
    }
    Ok((providers, models.to_vec()))
}

fn all_usable(catalog: &Catalog, env: ReadEnv<'_>) -> Result<Built, ServingError> {
    let mut providers = BTreeMap::new();
    for (name, spec) in &catalog.providers {
        match AnyProvider::build(spec, env) {
            Ok(provider) => {
                providers.insert(name.clone(), provider);
            }
            Err(reason) => tracing::info!(provider = name, %reason, "not served"),
        }
    }
    if providers.is_empty() {
        return Err(ServingError::Nothing);
    }
    let models = providers.keys().map(|name| format!("{name}/*")).collect();
    Ok((providers, models))
}

fn sorted(mut models: Vec<String>) -> Vec<String> {
    models.sort_unstable();
    models.dedup();
    models
}

/// A name that is the same wherever the same models are served.
fn pool_of(models: &[String]) -> PoolId {
    let hash = blake3::hash(models.join("\n").as_bytes()).to_hex();
    let name = format!("pool-{}", hash.chars().take(12).collect::<String>());
    PoolId::parse(&name).unwrap_or_else(|_| unreachable!("hexadecimal digits are a name"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use laneway_contract::{Catalog, ModelId, PoolId, WorkerId};
    use secrecy::SecretString;

    use super::{Serving, ServingError};
    use crate::config::WorkerConfig;

    fn config(models: Option<&[&str]>) -> WorkerConfig {
        let models = models.map(|models| models.iter().map(|model| (*model).to_owned()).collect());
        WorkerConfig { models, ..WorkerConfig::new(WorkerId::parse("w").unwrap(), 1, Catalog::built_in().unwrap()) }
    }

    #[test]
    fn by_default_all_that_can_be_called_is_served() {
        let without = Serving::new(&config(None), &|_| None).unwrap();
        assert_eq!(without.models, ["echo/*"]);
        assert!(without.provider(&ModelId::parse("openai/gpt-5").unwrap()).is_none());
        let with = Serving::new(&config(None), &|_| Some(SecretString::from("key"))).unwrap();
        assert_eq!(with.models, ["echo/*", "openai/*"]);
        assert_ne!(without.pool, with.pool);
    }

    #[test]
    fn a_pool_follows_from_the_models() {
        let pool = |models: &[&str]| Serving::new(&config(Some(models)), &|_| None).unwrap().pool;
        assert_eq!(pool(&["echo/a", "echo/b"]), pool(&["echo/b", "echo/a", "echo/a"]));
        assert_ne!(pool(&["echo/a", "echo/b"]), pool(&["echo/a"]));
        let named = PoolId::parse("gpu").unwrap();
        let config = WorkerConfig { pool: Some(named.clone()), ..config(None) };
        assert_eq!(Serving::new(&config, &|_| None).unwrap().pool, named);
    }

    #[test]
    fn a_pool_is_known_also_where_its_models_cannot_be_called() {
        for models in [None, Some(&["echo/b", "echo/a"][..])] {
            let config = config(models);
            assert_eq!(Serving::pool(&config, &|_| None).unwrap(), Serving::new(&config, &|_| None).unwrap().pool);
        }
        let key = |_: &str| Some(SecretString::from("key"));
        let elsewhere = config(Some(&["openai/gpt-5"]));
        assert_eq!(Serving::pool(&elsewhere, &|_| None).unwrap(), Serving::new(&elsewhere, &key).unwrap().pool);
    }

    #[test]
    fn what_is_asked_for_must_be_possible() {
        let refuse = |model: &str| Serving::new(&config(Some(&[model])), &|_| None).unwrap_err();
        assert!(matches!(refuse("echo"), ServingError::NotAModel { .. }));
        assert!(matches!(refuse("nobody/m"), ServingError::UnknownProvider { .. }));
        assert!(matches!(refuse("openai/gpt-5"), ServingError::Unusable { .. }));
    }
}
