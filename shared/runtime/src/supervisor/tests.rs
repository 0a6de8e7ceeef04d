//! How a process ends, for each way in which a task can end.
#![allow(clippy::panic, reason = "tests")]

use super::*;

async fn until_requested(shutdown: Shutdown) -> Result<(), String> {
    shutdown.requested().await;
    Ok(())
}

#[tokio::test]
async fn a_requested_stop_drains_every_task() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone(), Duration::from_secs(5));
    supervisor.spawn("one", until_requested(shutdown.clone()));
    supervisor.spawn("two", until_requested(shutdown.clone()));
    shutdown.request();
    assert_eq!(supervisor.run().await, Outcome::Drained);
}

#[tokio::test]
async fn the_first_task_that_ends_stops_the_others() {
    type Ends = futures::future::BoxFuture<'static, Result<(), String>>;
    let endings: [(&str, Ends); 3] = [
        ("error", Box::pin(async { Err("broken".to_owned()) })),
        ("panic", Box::pin(async { panic!("broken") })),
        ("early", Box::pin(async { Ok(()) })),
    ];
    for (case, ending) in endings {
        let shutdown = Shutdown::new();
        let mut supervisor = Supervisor::new(shutdown.clone(), Duration::from_secs(5));
        supervisor.spawn("other", until_requested(shutdown.clone()));
        supervisor.spawn("critical", ending);
        assert_eq!(supervisor.run().await, Outcome::Failed, "{case}");
        assert!(shutdown.is_requested(), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_drain_is_given_up() {
    let shutdown = Shutdown::new();
    let mut supervisor = Supervisor::new(shutdown.clone(), Duration::from_secs(5));
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    supervisor.spawn("stuck", async move {
        let _held = held;
        std::future::pending::<Result<(), String>>().await
    });
    shutdown.request();
    assert_eq!(supervisor.run().await, Outcome::Failed);
    assert!(dropped.await.is_err(), "the task is still there");
}
