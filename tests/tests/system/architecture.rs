//! The directions in which parts may depend on each other, and documents that keep up with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use laneway_contract::{Endpoint, ErrorCode};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The direct dependencies of each package of the workspace, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            let normal = all.filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

fn users(graph: &BTreeMap<String, BTreeSet<String>>, library: &str) -> Vec<String> {
    graph.iter().filter(|(_, needs)| needs.contains(library)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn each_library_has_its_owners() {
    let graph = dependencies();
    for (library, owners) in [
        ("async-nats", &["laneway-bus", "laneway-journal"][..]),
        ("fjall", &["laneway-session-store"]),
        ("genai", &["laneway-providers"]),
        ("opentelemetry_sdk", &["laneway-runtime"]),
        ("opentelemetry-otlp", &["laneway-runtime"]),
        ("laneway-providers", &["laneway-worker"][..]),
        ("laneway-engine", &["laneway-scheduler", "laneway-tests"]),
    ] {
        assert_eq!(users(&graph, library), owners, "{library}");
    }
}

#[test]
fn the_contract_knows_nobody_and_the_engine_only_the_contract() {
    let graph = dependencies();
    let ours = |name: &str| -> Vec<String> {
        graph[name].iter().filter(|dependency| dependency.starts_with("laneway")).cloned().collect()
    };
    assert_eq!(ours("laneway-contract"), Vec::<String>::new());
    assert_eq!(ours("laneway-engine"), ["laneway-contract"]);
    for part in ["journal", "bus", "providers", "runtime"] {
        for dependency in ours(&format!("laneway-{part}")) {
            let known = ["laneway-contract", "laneway-runtime"].contains(&dependency.as_str());
            assert!(known, "laneway-{part} -> {dependency}: these know nothing of each other's business");
        }
    }
    for forbidden in ["tokio", "async-nats", "futures"] {
        assert!(!graph["laneway-engine"].contains(forbidden), "{forbidden}");
    }
}

#[test]
fn services_never_depend_on_services() {
    let graph = dependencies();
    let services = ["session-store", "scheduler", "worker", "flight-recorder"].map(|name| format!("laneway-{name}"));
    for service in &services {
        for other in &services {
            assert!(!graph[service].contains(other), "{service} -> {other}");
        }
    }
}

#[test]
fn every_code_has_its_paragraph() {
    let text = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    for code in ErrorCode::ALL {
        let heading = format!("## `{code}` ({})", code.status());
        assert!(text.contains(&heading), "docs/errors.md has no {heading:?}");
    }
}

#[test]
fn every_endpoint_is_in_the_protocol() {
    let text = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    for endpoint in Endpoint::ALL {
        assert!(text.contains(&format!("`{endpoint}`")), "docs/protocol.md does not name `{endpoint}`");
    }
}

#[test]
fn every_named_test_and_file_of_the_code_map_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut named = 0;
    for part in text.split('`').skip(1).step_by(2) {
        let path = part.split("::").next().unwrap();
        if path.contains('/')
            && (path.starts_with("shared/") || path.starts_with("services/") || path.starts_with("tests/"))
        {
            assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
            if let Some((_, test)) = part.split_once("::") {
                let source = std::fs::read_to_string(root().join(path)).unwrap();
                assert!(source.contains(&format!("fn {test}(")), "{path} has no {test}");
            }
            named += 1;
        }
    }
    assert!(named > 10, "the code map names only {named} files");
}
