//! The wire between a worker and its relay, which a test can cut, or hold in part.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Wire {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    hold: watch::Sender<bool>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (hold, is_held) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (mut is_cut, is_held) = (is_cut.clone(), is_held.clone());
                if *is_cut.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        _ = is_cut.changed() => {}
                        () = carry(socket, target, is_held) => {}
                    }
                });
            }
        });
        Self { address, cut, hold }
    }

    /// Ends every connection, and refuses new ones until [`Wire::mend`].
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets nothing pass on `/catalog` any more, in either direction, without ending it.
    pub fn hold_catalog(&self) {
        self.hold.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn carry(socket: TcpStream, target: SocketAddr, is_held: watch::Receiver<bool>) {
    let Ok(other) = TcpStream::connect(target).await else { return };
    let (mut from_worker, mut to_worker) = socket.into_split();
    let (mut from_relay, mut to_relay) = other.into_split();
    let mut head = [0; 64];
    let Ok(read) = from_worker.read(&mut head).await else { return };
    let catalog = head[..read].starts_with(b"GET /catalog");
    if to_relay.write_all(&head[..read]).await.is_err() {
        return;
    }
    let held = catalog.then_some(is_held);
    tokio::select! {
        () = pump(&mut from_worker, &mut to_relay, held.clone()) => {}
        () = pump(&mut from_relay, &mut to_worker, held) => {}
    }
}

/// Until either end hangs up; while it is held, nothing passes and nothing ends.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut held: Option<watch::Receiver<bool>>,
) {
    let mut bytes = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if let Some(held) = &mut held
            && held.wait_for(|held| !held).await.is_err()
        {
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
