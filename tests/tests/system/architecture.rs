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
        ("opentelemetry", &["laneway-runtime"]),
        ("opentelemetry_sdk", &["laneway-runtime"]),
        ("opentelemetry-otlp", &["laneway-runtime"]),
        ("tracing-opentelemetry", &[]),
        // Whoever calls a provider does so behind genai; the one question of `doctor` to a monitoring port needs no client.
        ("reqwest", &[]),
        ("hyper", &[]),
        ("hyper-util", &[]),
        ("ureq", &[]),
        ("laneway-providers", &["laneway-worker"][..]),
        ("laneway-engine", &["laneway", "laneway-scheduler", "laneway-tests"]),
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

/// The sources below a folder, without those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["tests.rs", "test_support.rs", "testing.rs"].contains(&name)
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_attempt_is_made_by_a_claim_only() {
    let all = [sources(&root().join("shared")), sources(&root().join("services"))].concat();
    let makes = |path: &&PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        // Up to its own tests, which play the scheduler.
        text.split("#[cfg(test)]").next().unwrap().contains("Attempt::claimed(")
    };
    let found: Vec<_> = all.iter().filter(makes).map(|path| path.strip_prefix(root()).unwrap()).collect();
    assert_eq!(found, [Path::new("services/worker/src/attempt/claim.rs")]);
}

#[test]
fn every_invariant_names_its_test() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut invariants = 0;
    for paragraph in text.split("Invariant: ").skip(1) {
        // It ends where the list or the paragraph does.
        let invariant = paragraph.split("\n\n").next().unwrap().split("\n- ").next().unwrap();
        let named = invariant.split('`').skip(1).step_by(2).any(|part| part.contains(".rs::"));
        assert!(named, "an invariant without a test: {invariant}");
        invariants += 1;
    }
    assert!(invariants > 15, "only {invariants} invariants");
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
                // Of an item that is no function nothing could be run.
                assert!(source.contains(&format!("fn {test}(")), "{path} has no {test}");
                let (before, _) = source.split_once(&format!("fn {test}(")).unwrap();
                let attributes = before.rsplit("\n\n").next().unwrap();
                assert!(
                    attributes.contains("test]") || attributes.contains("#[tokio::test"),
                    "{path}::{test} is no test"
                );
            }
            named += 1;
        }
    }
    assert!(named > 10, "the code map names only {named} files");
}
