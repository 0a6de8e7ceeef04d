//! Layers, their order, and what stops a start.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &Overlay) -> Result<Config, ConfigError> {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_from(Some(written.path()), environment, flags)
}

#[test]
fn flags_are_over_variables_and_variables_over_the_file() {
    let file = "nats = 'nats://file'\nprefix = 'file'\nreplicas = 3\n[worker]\nslots = 1\nmodels = ['echo/*']\n";
    let environment = [("LANEWAY_PREFIX", "variable"), ("LANEWAY_REPLICAS", "5"), ("LANEWAY_WORKER__SLOTS", "2")];
    let mut flags = Overlay { replicas: Some(1), ..Overlay::default() };
    flags.worker.pool = Some("gpu".to_owned());
    let config = load(file, &environment, &flags).unwrap();
    assert_eq!(config.nats, "nats://file");
    assert_eq!(config.prefix.as_str(), "variable");
    assert_eq!(config.replicas, 1);
    assert_eq!(config.worker.slots, 2);
    assert_eq!(config.worker.models, Some(vec!["echo/*".to_owned()]));
    assert_eq!(config.worker.pool, Some(PoolId::parse("gpu").unwrap()));
}

#[test]
fn an_unknown_key_in_the_file_is_named_with_its_line() {
    for (file, line, key) in [
        ("nats = 'x'\nnast = 'y'\n", 2, "nast"),
        ("[worker]\n\nslots = 4\nslot = 4\n", 4, "slot"),
        ("nats = 'x'\n[limits]\nglobl = 4\n", 3, "globl"),
        ("\n[wroker]\nslots = 4\n", 2, "wroker"),
    ] {
        let error = load(file, &[], &Overlay::default()).unwrap_err();
        let text = error.to_string();
        let ConfigError::File { line: found, reason, .. } = error else { unreachable!("{text}") };
        assert_eq!(found, line, "{text}");
        assert!(reason.contains(key) && text.contains(&format!(":{line}:")), "{text}");
    }
}

#[test]
fn a_wrong_value_in_the_file_is_named_with_its_line() {
    for (file, line) in [("replicas = 'three'\n", 1), ("\nnats = \n", 2), ("nats = 'x'\nprefix = 'a.b'\n", 2)] {
        let error = load(file, &[], &Overlay::default()).unwrap_err();
        assert!(matches!(error, ConfigError::File { line: found, .. } if found == line), "{error}");
    }
}

#[test]
fn an_unknown_or_wrong_variable_is_named() {
    for (name, value) in [
        ("LANEWAY_NAST", "x"),
        ("LANEWAY_WORKER__SLOT", "1"),
        ("LANEWAY_REPLICAS", "three"),
        ("LANEWAY_PREFIX", "a.b"),
        ("LANEWAY_WORKER", "x"),
    ] {
        let error = load("", &[(name, value)], &Overlay::default()).unwrap_err();
        assert!(matches!(&error, ConfigError::Environment { variable, .. } if variable == name), "{name}: {error}");
    }
}

#[test]
fn the_key_decides_what_a_variable_is() {
    let environment = [
        ("LANEWAY_INSTANCE", "123"),
        ("LANEWAY_DATA", "true"),
        ("LANEWAY_NATS", "nats://a:4222,nats://b:4222"),
        ("LANEWAY_LOG", "json"),
        ("LANEWAY_WORKER__MODELS", "echo/*, openai/gpt-5"),
        ("LANEWAY_LIMITS__PROVIDERS__ECHO", "64"),
        ("HOME", "/nowhere"),
    ];
    let config = load("", &environment, &Overlay::default()).unwrap();
    assert_eq!(config.instance, "123");
    assert_eq!(config.data, PathBuf::from("true"));
    assert_eq!(config.nats, "nats://a:4222,nats://b:4222");
    assert_eq!(config.log, LogFormat::Json);
    assert_eq!(config.worker.models, Some(vec!["echo/*".to_owned(), "openai/gpt-5".to_owned()]));
    assert_eq!(config.limits.unwrap().provider("echo"), 64);
}

#[test]
fn a_provider_can_be_changed_in_part() {
    let file = "[providers.local]\nkind = 'openai'\nbackend = 'LOCAL'\nendpoint = 'http://file/v1/'\n\
                [providers.local.defaults.capabilities]\nstreaming = true\n";
    let environment = [("LANEWAY_PROVIDERS__LOCAL__ENDPOINT", "http://variable/v1/")];
    let config = load(file, &environment, &Overlay::default()).unwrap();
    let local = &config.providers["local"];
    assert_eq!(local.endpoint.as_deref(), Some("http://variable/v1/"));
    assert!(local.defaults.capabilities.streaming);
}

#[test]
fn the_default_server_is_named_where_a_layer_says_so() {
    let url = Config::default().nats;
    let named = |file: &str, environment: &[(&str, &str)], flags: &Overlay| {
        let config = load(file, environment, flags).unwrap();
        assert_eq!(config.nats, url);
        config.nats_is_named
    };
    let flags = Overlay { nats: Some(url.clone()), ..Overlay::default() };
    assert!(!named("replicas = 3", &[("LANEWAY_PREFIX", "acme")], &Overlay::default()));
    assert!(named(&format!("nats = '{url}'"), &[], &Overlay::default()));
    assert!(named("", &[("LANEWAY_NATS", &url)], &Overlay::default()));
    assert!(named("", &[], &flags));
    assert!(load("nats_is_named = true", &[], &Overlay::default()).is_err());
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(b"replicas = 3").unwrap();
    let named = ("LANEWAY_CONFIG".to_owned(), written.path().to_string_lossy().into_owned());
    assert_eq!(Config::load_from(None, [named], &Overlay::default()).unwrap().replicas, 3);
    let missing = ("LANEWAY_CONFIG".to_owned(), "/nowhere/laneway.toml".to_owned());
    let error = Config::load_from(None, [missing], &Overlay::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/laneway.toml"), "{error}");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (file, key) in [
        ("tls_cert = 'a'", "tls_cert"),
        ("tls_key = 'a'", "tls_cert"),
        ("creds = 'a'\nnkey = 'b'", "creds"),
        ("replicas = 2", "replicas"),
        ("worker.slots = 0", "worker.slots"),
        ("scheduler.snapshot_every_bytes = 100", "scheduler.snapshot_every_bytes"),
        ("scheduler.snapshot_every_seconds = 0", "scheduler.snapshot_every_seconds"),
        ("worker.models = []", "worker.models"),
        ("[limits.providers]\nOpenAI = 8", "limits"),
        ("[limits]\nglobal = 2000000", "limits"),
    ] {
        let error = load(file, &[], &Overlay::default()).unwrap_err();
        assert!(matches!(error, ConfigError::Invalid { key: found, .. } if found == key), "{file}: {error}");
    }
    let flags = Overlay { prefix: Some("a b".to_owned()), ..Overlay::default() };
    let error = load("", &[], &flags).unwrap_err();
    assert!(error.to_string().contains("prefix"), "{error}");
}

#[test]
fn nothing_given_is_a_whole_configuration() {
    let one = Config::load_from(None, [], &Overlay::default()).unwrap();
    let two = Config::load_from(None, [], &Overlay::default()).unwrap();
    assert_ne!(one.instance, two.instance);
    assert_eq!(one.limits, None);
    assert_eq!(one.worker.slots, 16);
    assert_eq!(one.store_path(), PathBuf::from(".laneway/store"));
}
