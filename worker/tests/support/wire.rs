//! The wire between a worker and its relay, which a test can cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Wire {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut is_cut = is_cut.clone();
                if *is_cut.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        _ = is_cut.changed() => {}
                        () = carry(socket, target) => {}
                    }
                });
            }
        });
        Self { address, cut }
    }

    /// Ends every connection, and refuses new ones until [`Wire::mend`].
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn carry(mut socket: TcpStream, target: SocketAddr) {
    if let Ok(mut other) = TcpStream::connect(target).await {
        // Either end may hang up.
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut other).await;
    }
}
