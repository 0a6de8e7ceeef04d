//! Polls a stream where no log is listening.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use tracing::Dispatch;
use tracing::dispatcher::with_default;

/// A stream whose code can log nothing, because what it would log are texts of the provider.
pub(super) struct Quiet<T> {
    inner: BoxStream<'static, T>,
}

impl<T> Quiet<T> {
    /// Wraps a stream.
    pub(super) fn new(inner: impl Stream<Item = T> + Send + 'static) -> Self {
        Self { inner: inner.boxed() }
    }
}

impl<T> Stream for Quiet<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        with_default(&Dispatch::none(), || self.inner.poll_next_unpin(context))
    }
}
