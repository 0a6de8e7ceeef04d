//! The monitoring port of nats-server: plain HTTP, one question.

use std::time::Duration;

use laneway_bus::async_nats::ServerAddr;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The port that nats-server's documentation gives to monitoring.
const PORT: u16 = 8222;

/// What the port says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which server it is.
    pub(super) server_id: String,
    /// Whether it syncs every write of JetStream.
    pub(super) sync_always: bool,
}

/// Where the port may be of the servers behind a NATS URL.
pub(super) fn likely_urls(nats: &str) -> Vec<String> {
    let hosts = nats.split(',').filter_map(|url| url.trim().parse::<ServerAddr>().ok());
    let url = |address: ServerAddr| {
        let host = address.host();
        if host.contains(':') && !host.starts_with('[') {
            format!("http://[{host}]:{PORT}")
        } else {
            format!("http://{host}:{PORT}")
        }
    };
    hosts.map(url).collect()
}

/// Asks the port.
pub(super) async fn look(url: &str) -> Result<Seen, String> {
    let host = url.strip_prefix("http://").ok_or("expected a URL as http://127.0.0.1:8222")?.trim_end_matches('/');
    let text = tokio::time::timeout(PATIENCE, get(host, "/varz")).await;
    let text = text.map_err(|_| format!("{url} did not answer"))?.map_err(|error| format!("{url}: {error}"))?;
    read(&text).ok_or_else(|| format!("{url} is no monitoring port of a nats-server with JetStream"))
}

async fn get(host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    // HTTP 1.0: the body ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Reads what we need out of a reply.
pub(super) fn read(reply: &str) -> Option<Seen> {
    let (_, body) = reply.split_once("\r\n\r\n")?;
    let varz: Value = serde_json::from_str(body).ok()?;
    let config = varz.get("jetstream")?.get("config")?.as_object()?;
    let sync_always = config.get("sync_always").and_then(Value::as_bool).unwrap_or(false);
    Some(Seen { server_id: varz.get("server_id")?.as_str()?.to_owned(), sync_always })
}
