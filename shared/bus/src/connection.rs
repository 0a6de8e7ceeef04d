//! The connection of a process to NATS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, Event, HeaderMap, ServerAddr, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use laneway_contract::{Epoch, Prefix, Subject};
use laneway_runtime::config::Config;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::BusError;
use crate::bundle::Bundles;
use crate::waiting::Waiting;

/// A connection is given up when the server does not answer a ping in twice this time.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// One try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One wait for an acknowledgement of JetStream, or an answer of its API.
const JETSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages whose acknowledgement is still out, of one connection.
const MAX_ACKS_IN_FLIGHT: usize = 5_000;

/// How to reach NATS, and under which names.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The URL; several are separated by commas. `user:password@` or `token@` before the host of one counts for all.
    pub url: String,
    /// The first token of every subject.
    pub prefix: Prefix,
    /// The name of the client, as `nats server report connections` shows it.
    pub name: String,
    /// A credentials file.
    pub creds: Option<PathBuf>,
    /// A file with an `NKey` seed.
    pub nkey: Option<PathBuf>,
    /// A file with the certificates that the server is checked against.
    pub tls_ca: Option<PathBuf>,
    /// The client certificate; with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The key of the client certificate.
    pub tls_key: Option<PathBuf>,
    /// Replicas of the streams.
    pub replicas: usize,
}

impl ConnectOptions {
    /// Without credentials and TLS, one replica.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: Prefix, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix,
            name: name.into(),
            creds: None,
            nkey: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            replicas: 1,
        }
    }

    /// What the configuration says; the client is called `laneway-<part>`.
    #[must_use]
    pub fn from_config(config: &Config, part: &str) -> Self {
        Self {
            creds: config.creds.clone(),
            nkey: config.nkey.clone(),
            tls_ca: config.tls_ca.clone(),
            tls_cert: config.tls_cert.clone(),
            tls_key: config.tls_key.clone(),
            replicas: config.replicas,
            ..Self::new(config.nats.clone(), config.prefix.clone(), format!("{}-{part}", config.prefix.as_str()))
        }
    }

    fn addresses(&self) -> Result<Vec<ServerAddr>, BusError> {
        // IMPORTANT: all of it is shown or nothing: a piece may end in the middle of a password.
        let hint = if self.url.contains('@') && self.url.contains(',') {
            "; a comma in a user or a password is written %2C"
        } else {
            ""
        };
        let refused = |error: std::io::Error| BusError::Url { url: shown(&self.url), reason: format!("{error}{hint}") };
        let parse = |url: &str| url.trim().parse().map_err(refused);
        self.url.split(',').map(parse).collect()
    }

    async fn client_options(
        &self,
        addresses: &[ServerAddr],
        told: Told,
    ) -> Result<async_nats::ConnectOptions, BusError> {
        let mut options = identified(addresses)
            .name(&self.name)
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .max_reconnects(None)
            // Asked before the first try too, which waits for nothing.
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => Duration::ZERO,
                tries => Duration::from_millis((25 << tries.min(6)).min(1_000)),
            })
            .event_callback(move |event| {
                log_event(&event);
                told.take(&event);
                std::future::ready(())
            });
        if let Some(path) = &self.creds {
            options = options
                .credentials_file(path)
                .await
                .map_err(|source| BusError::Credentials { path: path.clone(), source })?;
        }
        if let Some(path) = &self.nkey {
            let seed =
                std::fs::read_to_string(path).map_err(|source| BusError::Credentials { path: path.clone(), source })?;
            options = options.nkey(seed.trim().to_owned());
        }
        if let Some(path) = &self.tls_ca {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        Ok(options)
    }
}

/// As whom the URLs say that this is.
fn identified(addresses: &[ServerAddr]) -> async_nats::ConnectOptions {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let options = async_nats::ConnectOptions::new();
    match addresses.iter().find_map(|address| Some((address.username()?, address.password()))) {
        Some((user, Some(password))) => options.user_and_password(plain(user), plain(password)),
        Some((token, None)) => options.token(plain(token)),
        None => options,
    }
}

/// A URL, or several with commas between, as it may be shown: without what its user keeps secret.
#[must_use]
pub fn shown(url: &str) -> String {
    let one = |url: &str| match (url.rsplit_once('@'), url.split_once("://")) {
        (Some((_, host)), Some((scheme, _))) => format!("{scheme}://{host}"),
        (Some((_, host)), None) => host.to_owned(),
        (None, _) => url.to_owned(),
    };
    // Where a piece has no scheme the comma before it may be in a password.
    if url.split(',').all(|piece| piece.contains("://")) {
        url.split(',').map(one).collect::<Vec<_>>().join(",")
    } else {
        one(url)
    }
}

/// What the client has told, for those who wait for it.
#[derive(Clone)]
struct Told {
    connections: watch::Sender<u64>,
    dropped: watch::Sender<u64>,
}

impl Told {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these are waited for")]
    fn take(&self, event: &Event) {
        match event {
            Event::Connected => self.connections.send_modify(|count| *count += 1),
            Event::SlowConsumer(_) => self.dropped.send_modify(|count| *count += 1),
            _ => {}
        }
    }
}

/// Hears which leaders begin. Old words, which a slow server may bring late, change nothing.
async fn listen(mut words: Subscriber, leading: watch::Sender<Epoch>) {
    while let Some(word) = words.next().await {
        let epoch = std::str::from_utf8(&word.payload).ok().and_then(|text| text.parse().ok());
        leading.send_if_modified(|newest| match epoch {
            Some(epoch) if epoch > *newest => {
                *newest = epoch;
                true
            }
            Some(_) | None => false,
        });
    }
}

fn log_event(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Draining | Event::Closed => tracing::debug!("connection to NATS {event}"),
        Event::Disconnected
        | Event::LameDuckMode
        | Event::SlowConsumer(_)
        | Event::ServerError(_)
        | Event::ClientError(_) => tracing::warn!("connection to NATS: {event}"),
    }
}

/// The connection. A clone is the same connection.
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    jetstream: jetstream::Context,
    prefix: Prefix,
    replicas: usize,
    highest_epoch: AtomicU64,
    connections: watch::Receiver<u64>,
    dropped: watch::Receiver<u64>,
    bundles: Bundles,
    leaders: watch::Receiver<Epoch>,
    _listening: AbortOnDrop,
}

/// Ends with the last clone of a bus: the subscription would keep the connection open.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bus {
    /// Connects, waiting for NATS as long as it takes and logging every few seconds what it waits for.
    /// Fails only on what waiting cannot mend: a wrong URL, an unreadable file.
    pub async fn connect(options: ConnectOptions) -> Result<Self, BusError> {
        let addresses = options.addresses()?;
        let mut waiting = Waiting::new(format!("NATS at {}", shown(&options.url)));
        let (connections_told, connections) = watch::channel(0);
        let (dropped_told, dropped) = watch::channel(0);
        let told = Told { connections: connections_told, dropped: dropped_told };
        let client = loop {
            let client_options = options.client_options(&addresses, told.clone()).await?;
            // On the heap: 16 KB would lie in the future of every caller.
            match Box::pin(client_options.connect(&addresses[..])).await {
                Ok(client) => break client,
                Err(error) => waiting.after(&error).await,
            }
        };
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(JETSTREAM_TIMEOUT)
            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let ConnectOptions { prefix, replicas, .. } = options;
        let subject = prefix.subject(&Subject::Leading);
        let words = client.subscribe(subject.clone()).await;
        let words = words.map_err(|source| BusError::Subscribe { subject, source })?;
        let (leading, leaders) = watch::channel(0);
        let listening = AbortOnDrop(laneway_runtime::spawn("leaders", listen(words, leading)));
        let inner = Inner {
            client,
            jetstream,
            prefix,
            replicas,
            highest_epoch: AtomicU64::new(0),
            connections,
            dropped,
            bundles: Bundles::default(),
            leaders,
            _listening: listening,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The first token of every subject.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// The client itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// JetStream.
    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.inner.jetstream
    }

    /// Replicas of the streams.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.inner.replicas
    }

    /// Requests of this process that wait to be sent together.
    pub(crate) fn bundles(&self) -> &Bundles {
        &self.inner.bundles
    }

    /// Counts connections of this client: changes at every reconnect.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.inner.connections.clone()
    }

    /// Counts messages that came faster than this client took them and were lost; at least, since in a storm the client does
    /// not tell of each.
    #[must_use]
    pub fn dropped(&self) -> watch::Receiver<u64> {
        self.inner.dropped.clone()
    }

    /// Changes when a leader says that it begins to answer. What was asked before went to one that is gone. Only a hint: the
    /// word may be lost.
    pub(crate) fn leaders(&self) -> watch::Receiver<Epoch> {
        let mut leaders = self.inner.leaders.clone();
        leaders.mark_unchanged();
        leaders
    }

    /// Takes note of a leader's epoch. False when a higher one was seen before, so that what came with this one is void.
    #[allow(clippy::must_use_candidate, reason = "also called to take note only")]
    pub fn observe_epoch(&self, epoch: Epoch) -> bool {
        self.inner.highest_epoch.fetch_max(epoch, Ordering::AcqRel) <= epoch
    }

    /// The highest leader epoch seen so far; 0 before the first.
    #[must_use]
    pub fn highest_epoch(&self) -> Epoch {
        self.inner.highest_epoch.load(Ordering::Acquire)
    }

    /// Publishes without waiting for anybody.
    pub async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        Ok(self.client().publish(self.prefix().subject(subject), payload).await?)
    }

    /// Publishes into a stream and waits until it is stored: the sequence.
    pub async fn publish_stored(&self, subject: &Subject, headers: HeaderMap, payload: Bytes) -> Result<u64, BusError> {
        self.publish_pending(subject, headers, payload).await?.stored().await
    }

    /// Publishes into a stream and asks for no acknowledgement: what is published later under the next expected sequence and is
    /// acknowledged, says that this was stored.
    pub async fn publish_unasked(&self, subject: &Subject, headers: HeaderMap, payload: Bytes) -> Result<(), BusError> {
        Ok(self.client().publish_with_headers(self.prefix().subject(subject), headers, payload).await?)
    }

    /// Publishes into a stream; the acknowledgement is waited for later, so that many can be in flight in order.
    /// Waits while there are 5,000 of them.
    pub async fn publish_pending(
        &self,
        subject: &Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PendingAck, BusError> {
        let subject = self.prefix().subject(subject);
        Ok(PendingAck(self.jetstream().publish_with_headers(subject, headers, payload).await?))
    }

    /// Subscribes to a subject or a filter.
    pub async fn subscribe(&self, filter: String) -> Result<Subscriber, BusError> {
        let subject = filter.clone();
        self.client().subscribe(filter).await.map_err(|source| BusError::Subscribe { subject, source })
    }

    /// Waits until everything published so far has left the process.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client().flush().await.map_err(|_| BusError::Closed)
    }

    /// Ends every subscription, delivers what has arrived, and closes the connection.
    pub async fn drain(&self) -> Result<(), BusError> {
        self.client().drain().await.map_err(|_| BusError::Closed)
    }
}

/// A message that was published into a stream and is not acknowledged yet.
#[derive(Debug)]
pub struct PendingAck(jetstream::context::PublishAckFuture);

impl PendingAck {
    /// Waits until the message is stored: its sequence.
    pub async fn stored(self) -> Result<u64, BusError> {
        Ok(self.0.await?.sequence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use laneway_contract::Prefix;

    use super::{ConnectOptions, shown};

    #[test]
    fn a_url_is_shown_without_what_is_secret() {
        for (url, expected) in [
            ("nats://host:4222", "nats://host:4222"),
            ("nats://user:secret@host", "nats://host"),
            ("secret@host", "host"),
            ("tls://user:secret@one:1,tls://user:se@cret@two", "tls://one:1,tls://two"),
            ("one:4222,two:4222", "one:4222,two:4222"),
            ("nats://user:sec,ret@host", "nats://host"),
            ("nats://user:s,ecr,et@host,nats://other", "nats://host,nats://other"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn a_comma_in_a_password_is_refused_and_the_password_is_not_said() {
        let options = ConnectOptions::new("nats://user:sec,ret@host", Prefix::default(), "test");
        let said = options.addresses().unwrap_err().to_string();
        assert!(!said.contains("sec") && !said.contains("ret@") && said.contains("%2C"), "{said}");
    }
}
