//! A TCP proxy whose cable can be pulled out, can lose or hold back what goes through it, and can be put back.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the process says to the server.
    ToServer,
    /// What the server says to the process.
    FromServer,
}

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    #[default]
    Open,
    /// They are lost, and no side is told. A connection that has lost any breaks when the flow changes.
    Lost,
    /// They wait until the flow changes.
    Held,
    /// Each piece of up to 16 KiB waits for so long.
    Slow(Duration),
}

/// Passes connections on to one address while it is plugged in.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    cable: Arc<watch::Sender<Cable>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cable {
    cut: bool,
    to_server: Flow,
    from_server: Flow,
}

impl Cable {
    const fn flow(&self, way: Way) -> Flow {
        match way {
            Way::ToServer => self.to_server,
            Way::FromServer => self.from_server,
        }
    }
}

impl Proxy {
    /// A proxy to a port of this machine, plugged in.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cable = Arc::new(watch::Sender::new(Cable::default()));
        let state = cable.clone();
        #[allow(clippy::disallowed_methods, reason = "tests have no runtime of ours")]
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                tokio::spawn(pass(inside, to, state.subscribe()));
            }
        });
        Self { port, cable }
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Pulls the cable: open connections break, and new ones break at once.
    pub fn cut(&self) {
        self.cable.send_modify(|cable| cable.cut = true);
    }

    /// Changes what becomes of the bytes of one direction.
    pub fn flow(&self, way: Way, flow: Flow) {
        self.cable.send_modify(|cable| match way {
            Way::ToServer => cable.to_server = flow,
            Way::FromServer => cable.from_server = flow,
        });
    }

    /// Puts the cable back, and everything passes again.
    pub fn heal(&self) {
        self.cable.send_replace(Cable::default());
    }
}

async fn pass(inside: TcpStream, to: u16, mut cable: watch::Receiver<Cable>) {
    let pumps = cable.clone();
    let through = async {
        let Ok(outside) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        let (from_process, to_process) = inside.into_split();
        let (from_server, to_server) = outside.into_split();
        tokio::select! {
            () = pump(from_process, to_server, pumps.clone(), Way::ToServer) => {}
            () = pump(from_server, to_process, pumps, Way::FromServer) => {}
        }
    };
    tokio::select! {
        _ = cable.wait_for(|cable| cable.cut) => {}
        () = through => {}
    }
}

/// Passes one direction on until a side closes, or a flow that lost bytes changes: what comes behind a hole is nonsense.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cable: watch::Receiver<Cable>, way: Way) {
    let (mut buffer, mut holed) = (vec![0; 16 * 1024], false);
    loop {
        let read = tokio::select! {
            _ = cable.wait_for(|cable| cable.flow(way) != Flow::Lost), if holed => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        if cable.wait_for(|cable| cable.flow(way) != Flow::Held).await.is_err() {
            return;
        }
        let flow = cable.borrow().flow(way);
        match flow {
            Flow::Lost => {
                holed = true;
                continue;
            }
            Flow::Slow(pause) => sleep(pause).await,
            Flow::Open | Flow::Held => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
