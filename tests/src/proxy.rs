//! A TCP proxy whose cable can be pulled out and put back.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to one address while it is plugged in.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    plugged: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// A proxy to a port of this machine, plugged in.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let plugged = Arc::new(watch::Sender::new(true));
        let state = plugged.clone();
        #[allow(clippy::disallowed_methods, reason = "tests have no runtime of ours")]
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                let mut cable = state.subscribe();
                tokio::spawn(pass(inside, to, async move { drop(cable.wait_for(|plugged| !plugged).await) }));
            }
        });
        Self { port, plugged }
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Pulls the cable: open connections break, and new ones break at once.
    pub fn cut(&self) {
        self.plugged.send_replace(false);
    }

    /// Puts the cable back.
    pub fn heal(&self) {
        self.plugged.send_replace(true);
    }
}

async fn pass(mut inside: TcpStream, to: u16, cut: impl Future<Output = ()>) {
    let through = async {
        let Ok(mut outside) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        drop(copy_bidirectional(&mut inside, &mut outside).await);
    };
    tokio::select! {
        () = cut => {}
        () = through => {}
    }
}
