//! The ways to reach NATS: a key, a password, TLS with certificates on both sides, another prefix. Each with a whole conversation.

use laneway_bus::async_nats;
use laneway_contract::{Endpoint, Stream};
use laneway_tests::access::Access;
use laneway_tests::stack::{Stack, binary};
use serde_json::json;
use tokio::process::Command;

/// Every part comes in, a run goes through all of them, and the command line comes in, too.
async fn check(access: Access) -> Stack {
    let mut stack = Stack::bare_with("", access).await;
    stack.start_all().await;
    let session = stack.create_session("echo/default").await;
    let run = json!({"session_id": session, "input": "hello you", "wait": true});
    assert_eq!(stack.must(Endpoint::RunsSubmit, run).await["output"], "hello you");
    for verb in [&["ask", "echo/default", "from the command line"][..], &["doctor"], &["events", "verify"]] {
        let output = Command::new(binary()).args(stack.flags()).args(verb).output().await.unwrap();
        assert!(output.status.success(), "{verb:?}: {output:?}");
    }
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_nkey() {
    let stack = check(Access::nkey()).await;
    async_nats::connect(stack.nats.url()).await.expect_err("nobody else is let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_or_a_token_in_the_url() {
    for access in [Access::password(), Access::token()] {
        let stack = check(access).await;
        async_nats::connect(stack.nats.url()).await.expect_err("nobody else is let in");
        let logs = stack.logs();
        assert!(!logs.contains("cr@t") && !logs.contains("cr%40t"), "{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls() {
    let stack = check(Access::tls()).await;
    async_nats::connect(stack.nats.url()).await.expect_err("the authority is not known to everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_another_prefix() {
    let stack = check(Access::prefixed("acme")).await;
    assert_eq!(stack.bus.prefix().stream(Stream::Journal), "ACME_JOURNAL");
    let usual = async_nats::jetstream::new(stack.bus.client().clone()).get_stream("LANEWAY_JOURNAL").await;
    usual.expect_err("nothing has the usual name");
    for subject in ["laneway.status", "acme.status"] {
        let reply = stack.bus.client().request(subject, "".into()).await;
        assert_eq!(reply.is_ok(), subject.starts_with("acme"), "{subject}");
    }
}
