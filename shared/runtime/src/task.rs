//! The one place where tasks are started.

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Starts a task that carries the current span. A panic in it is logged with its name, also when nobody joins it.
#[allow(clippy::disallowed_methods, reason = "this is the function that the ban points to")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let watched = async move {
        let _named = Named(name);
        future.await
    };
    tokio::spawn(watched.in_current_span())
}

/// Logs the name of the task in which a panic unwinds.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "task panicked");
        }
    }
}
