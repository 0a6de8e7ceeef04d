# Recipes of the project. `./dev` finds or installs what they need and runs them: `./dev test` is `just test`.
#
# All build the whole workspace and never one package, so that dependencies are compiled once, with one set of features.
# Tests that need more than nats-server are ignored unless asked for; the names of those with containers begin with `compose`.

# One build serves demo, tests, images and bench: optimised, with overflow checks, and static, so that the very binary that
# was tested runs in an empty image.
export CARGO_BUILD_TARGET := env("CARGO_BUILD_TARGET", `rustc -vV | sed -n 's/^host: //p'`)
export RUSTFLAGS := env("RUSTFLAGS", if os() == "linux" { "-C target-feature=+crt-static" } else { "" })
export PATH := justfile_directory() / ".tools/bin:" + env("PATH")

laneway := env("CARGO_TARGET_DIR", justfile_directory() / "target") / CARGO_BUILD_TARGET / "ci/laneway"

# Lists the recipes.
@default:
    just --list --unsorted

# The main job in front of you, with a small real model; `--echo` without it.
[no-exit-message]
demo *ARGS:
    @cargo build --profile ci --workspace --bins
    @{{ laneway }} demo {{ ARGS }}

# All tests that need nothing but nats-server.
test: build
    cargo test --profile ci --workspace

# All tests: with the `nats` CLI, with small disks that are full (needs root) and with containers. Fails, naming what is
# missing, where they cannot run.
test-all: _nats-cli _jq _nats-py _docker test images
    cargo test --profile ci --workspace --tests -- --ignored --skip simulation::endless

# Ten times as much of what can go wrong as `just test` does: 200 times kill -9 of each process and as many power losses of the
# store, frozen processes, cables that fail, servers of a cluster that die, full disks, changes of the leader. Needs root, for the small disks;
# `just long 100` does a hundred times as much. Each test prints its seed; `TEST_SEED=N` draws the same again.
long TIMES="10": build
    TEST_TIMES={{ TIMES }} cargo test --profile ci --workspace --test system -- --include-ignored --nocapture --test-threads 2 crashes:: frozen:: cuts:: cluster:: power:: full_disk:: takeover::

# The main job from outside through the published port of compose.yaml.
test-compose: images
    cargo test --profile ci --workspace --tests -- --ignored compose

# Simulates the engine and the whole scheduler in turns, without end, until a rule is broken; `just simulate --seed N` plays one seed.
simulate *ARGS:
    #!/bin/sh
    set -eu
    TEST_SEED="{{ trim_start_match(replace(ARGS, "--seed", ""), " ") }}" TEST_ROUND=0
    export TEST_SEED TEST_ROUND
    while :; do
        cargo test --profile ci --workspace --lib -- --ignored --nocapture simulation::endless
        [ -z "$TEST_SEED" ] || exit 0
        TEST_ROUND=$((TEST_ROUND + 1))
    done

# How far anybody gets from a fair share: the figures of docs/scheduling.md.
fairness:
    cargo test --profile ci --workspace --lib -- --nocapture fairness::

# What the engine alone decides in a second with up to a million queued runs; also in target/bench/engine.json.
bench-engine:
    cargo bench --profile ci --workspace --bench engine

# How long a scheduler takes to start with a million ended runs and 100,000 live ones; also in target/bench/start.json.
bench-start: build
    cargo bench --profile ci --workspace --bench start

# What the system does in a second, next to the raw limits of this machine; also in target/bench/service.json.
bench: build
    cargo bench --profile ci --workspace --bench service

# The binary and all tests.
build:
    cargo build --profile ci --workspace --all-targets

# Formats the code; `just fmt --check` only says what is not formatted.
fmt *ARGS:
    cargo fmt --all {{ ARGS }}

# Clippy; warnings are errors.
lint:
    cargo clippy --profile ci --workspace --all-targets -- -D warnings

# The documentation of all crates; warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --profile ci --workspace --no-deps

# Images from the binary that was built here, for tests: laneway:dev and laneway-nats:dev. Needs no registry.
images: _docker build
    deploy/images {{ laneway }}

_nats-cli:
    @command -v nats >/dev/null || { echo "just: no nats CLI here: GOBIN=$PWD/.tools/bin go install github.com/nats-io/natscli/nats@v0.5.1" >&2; exit 1; }

_jq:
    @command -v jq >/dev/null || { echo "just: no jq here: apt-get install jq" >&2; exit 1; }

_nats-py:
    @.tools/venv/bin/python -c 'import nats' 2>/dev/null || .tools/venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r deploy/tools/clients.txt

_docker:
    @docker info >/dev/null 2>&1 || { echo "just: no Docker daemon here: apt-get install docker.io, and start dockerd" >&2; exit 1; }
    @docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1 || { echo "just: no docker-compose here: apt-get install docker-compose" >&2; exit 1; }
