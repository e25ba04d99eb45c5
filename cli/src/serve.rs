//! `skein serve`, `relay` and `worker`: starts the parts, prints the address that signs a browser in, and ends them in
//! the reverse order when asked to.

use skein_relay::{Relay, RelayConfig, TlsFiles};
use skein_worker::WorkerConfig;
use tokio::sync::watch;

use crate::args::{ServeArgs, WorkerArgs};
use crate::config::Config;
use crate::failure::Failure;
use crate::place::Kept;
use crate::{print, shutdown};

/// Relay and worker in one process.
pub(crate) async fn serve(arguments: ServeArgs) -> Result<(), Failure> {
    let asked_to_end = shutdown::signal();
    let config = Config::read(arguments.config.as_deref(), arguments.model.as_deref())?;
    let mut settings = config.worker.clone();
    settings.worker.folder.get_or_insert_with(|| arguments.data.join("work"));
    let relay = start(&arguments, config).await?;
    let token = relay.mint_worker_token().await.map_err(|error| Failure::new(error.to_string()))?;
    // In the clear also if the relay speaks TLS: it doesn't leave this machine.
    let relay_url = format!("http://{}", local(&relay));
    let (stop, mut stopped) = watch::channel(false);
    let worker = skein_worker::run(WorkerConfig { relay_url, token, settings }, async move {
        // A sender that is gone means the same.
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    tokio::pin!(worker);
    let ended = tokio::select! {
        () = asked_to_end => {
            stop.send_replace(true);
            // It commits what has come before the relay goes.
            worker.await.map_err(|error| Failure::new(error.to_string()))
        }
        ended = &mut worker => match ended {
            Ok(()) => Err(Failure::new("the worker has ended")),
            Err(error) => Err(Failure::new(error.to_string())),
        },
        error = relay.failed() => Err(Failure::new(error.to_string())),
    };
    relay.shutdown().await;
    ended
}

/// A relay without a worker.
pub(crate) async fn relay(arguments: ServeArgs) -> Result<(), Failure> {
    let asked_to_end = shutdown::signal();
    let config = Config::read(arguments.config.as_deref(), arguments.model.as_deref())?;
    let relay = start(&arguments, config).await?;
    let ended = tokio::select! {
        () = asked_to_end => Ok(()),
        error = relay.failed() => Err(Failure::new(error.to_string())),
    };
    relay.shutdown().await;
    ended
}

/// A worker of a relay elsewhere.
pub(crate) async fn worker(arguments: WorkerArgs) -> Result<(), Failure> {
    let config = Config::read(arguments.config.as_deref(), arguments.model.as_deref())?;
    let Some(token) = arguments.token else {
        return Err(Failure::usage("a worker needs a token of its own: give --token, or set SKEIN_TOKEN"));
    };
    let config = WorkerConfig { relay_url: arguments.relay, token, settings: config.worker };
    skein_worker::run(config, shutdown::signal()).await.map_err(|error| Failure::new(error.to_string()))
}

/// Starts the relay, leaves its token for this user's commands, and prints the address that signs a browser in.
async fn start(arguments: &ServeArgs, config: Config) -> Result<Relay, Failure> {
    let files = arguments.tls_cert.clone().zip(arguments.tls_key.clone());
    let files = files.or_else(|| config.relay.tls_cert.zip(config.relay.tls_key));
    let public_url = arguments.public_url.clone().or(config.relay.public_url);
    let relay = RelayConfig {
        public_url: public_url.clone(),
        tls: files.map(|(cert, key)| TlsFiles { cert, key }),
        allowed_origins: config.relay.allowed_origins,
        allowed_hosts: config.relay.allowed_hosts,
        ..RelayConfig::new(arguments.listen, &arguments.data)
    };
    let relay = skein_relay::start(relay).await.map_err(|error| Failure::new(error.to_string()))?;
    for damage in relay.damage() {
        print::remark(&damage);
    }
    // For both addresses under which this user's commands may name it.
    for address in [Some(format!("http://{}", local(&relay))), public_url].into_iter().flatten() {
        let left = Kept::of(&address).map(|kept| kept.keep(relay.owner_token(), relay.workspace_document()));
        if let Some(Err(error)) = left {
            tracing::warn!(%error, "the owner's token can't be left for this user's commands: they need --token");
        }
    }
    print::line(&relay.sign_in_url())?;
    Ok(relay)
}

/// Where this machine reaches it.
fn local(relay: &Relay) -> std::net::SocketAddr {
    let mut address = relay.address();
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
