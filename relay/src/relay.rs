//! A running relay: its parts, put together in the order in which they need each other, and taken apart in the reverse.
//!
//! Invariant: one relay at a time uses a data folder. What is in it: `accounts.json`, `owner-token` and `worker-token`
//! (readable by their owner only), `log`, `ledger`, `blobs`, `blobs-named`.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use skein_engine::ids::{DocumentId, Scope};
use skein_engine::session::conversation::{MemberRole, WriterKind};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::accounts::{Accounts, AccountsError, Member, Throttle, Workspace};
use crate::blobs::Blobs;
use crate::blobs::sweep::Sweeper;
use crate::catalog::{Catalog, CatalogHandle};
use crate::config::{RelayConfig, RelayError};
use crate::connection::stopped;
use crate::guard::Guard;
use crate::http::App;
use crate::hub::HubHandle;
use crate::projector::ProjectorHandle;
use crate::queries::Queries;
use crate::server::Listener;
use crate::store::StoreError;
use crate::store::database::Damage;
use crate::store::ledger::Ledger;
use crate::store::log::Log;
use crate::store::repair;
use crate::{accounts, catalog, clock, commit, durable, founding, http, hub, projector, server, tls};

/// WebSockets that may be open.
const MAX_SOCKETS: usize = 16_384;
/// The file of the accounts in a data folder.
pub(crate) const ACCOUNTS: &str = "accounts.json";
/// The name of the first workspace.
const WORKSPACE: &str = "Skein";
/// How often it is kept when tokens were last used.
const KEEP_USES: Duration = Duration::from_secs(60);

/// See the module. Dropping it ends the relay without waiting; [`Relay::shutdown`] waits.
pub struct Relay {
    address: SocketAddr,
    base: String,
    accounts: Arc<Accounts>,
    workspace: Workspace,
    owner: Member,
    owner_token: String,
    worker_token: PathBuf,
    damage: Vec<Damage>,
    parts: Parts,
    // Held as long as the relay runs.
    _lock: File,
}

/// What runs.
struct Parts {
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<&'static str>>,
    hub: HubHandle,
    catalog: CatalogHandle,
    projector: ProjectorHandle,
    queries: Queries,
    log: Log,
    ledger: Ledger,
    threads: Vec<thread::JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts a relay. When it returns, requests are answered.
pub async fn start(config: RelayConfig) -> Result<Relay, RelayError> {
    let guard = Guard::new(config.public_url.as_deref(), &config.allowed_origins, &config.allowed_hosts);
    let guard = Arc::new(guard.map_err(RelayError::Address)?);
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let lock = lock(&config.data)?;
    let in_use = |source| RelayError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(in_use)?;
    let address = listener.local_addr().map_err(in_use)?;

    let data = config.data.clone();
    let opened = tokio::task::spawn_blocking(move || Opened::new(&data)).await;
    let Opened { accounts, log, ledger, blobs, workspace, owner, owner_token, damage } =
        opened.map_err(|error| RelayError::Workspace(error.to_string()))??;

    let (stop, stopped) = watch::channel(false);
    let (failing, failed) = watch::channel(None);
    let (hub, hub_mailbox) = hub::channel();
    let (catalog, catalog_mailbox) = catalog::channel();
    let to_catalog = catalog.clone();
    let (queries, querying) = Queries::open(&config.data);
    let pages = queries.clone();
    let (projector, project) = projector::runner(
        &config.data,
        log.clone(),
        ledger.clone(),
        move |row| to_catalog.projected(row),
        Some(Box::new(move |page| pages.put(page))),
    );
    let listeners = (hub.clone(), catalog.clone(), projector.clone());
    let (committer, committing) = commit::start(log.clone(), ledger.clone(), move |committed| {
        let (hub, catalog, projector) = &listeners;
        hub.committed(&committed);
        catalog.writers(committed.writers.clone());
        projector.committed(committed);
    });
    let relay_hub = hub::runner(&hub, hub_mailbox, log.clone(), ledger.clone(), committer);
    let relay_hub = relay_hub.map_err(|error| RelayError::Workspace(error.to_string()))?;
    let listing = {
        let (handle, accounts, hub) = (catalog.clone(), accounts.clone(), hub.clone());
        let (projector, log, ledger, queries) = (projector.clone(), log.clone(), ledger.clone(), queries.clone());
        let opening = move || Catalog::open(&handle, accounts, hub, projector, log, ledger, queries);
        let opened = tokio::task::spawn_blocking(opening).await;
        opened.map_err(|error| RelayError::Workspace(error.to_string()))??
    };
    let threads = [
        spawn("hub", &failing, relay_hub),
        spawn("projector", &failing, project),
        spawn("queries", &failing, querying),
    ];
    let threads = threads.into_iter().collect::<io::Result<_>>();
    let threads = threads.map_err(|error| RelayError::Workspace(error.to_string()))?;
    let (asked, read, graves, deriving) = (queries.clone(), log.clone(), ledger.clone(), projector.clone());
    tokio::task::spawn_blocking(move || match asked.catch_up(&read, &graves, &deriving) {
        Ok(0) => {}
        Ok(stale) => tracing::info!(stale, "sessions are being read for queries"),
        Err(error) => tracing::error!(%error, "what queries lack can't be found"),
    });
    let encrypted = tls.is_some();
    let sweeper = Sweeper::new(&config.data, blobs.clone(), projector.clone(), log.clone());
    let sweeping = accounts.clone();
    let app = App {
        accounts: accounts.clone(),
        attempts: Arc::new(Throttle::default()),
        triggers: Arc::default(),
        public_url: config.public_url.as_deref().map(|url| url.trim_end_matches('/').into()),
        blobs,
        hub: hub.clone(),
        catalog: catalog.clone(),
        log: log.clone(),
        ledger: ledger.clone(),
        queries: queries.clone(),
        data: config.data.as_path().into(),
        guard,
        stop: stopped.clone(),
        connections: Arc::new(AtomicU64::new(0)),
        sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
    };
    let tasks = vec![
        tokio::spawn(watched("catalog", &failing, listing.run(catalog_mailbox))),
        tokio::spawn(watched("store", &failing, async { _ = committing.await })),
        tokio::spawn(keep_uses(accounts.clone(), stopped.clone())),
        tokio::spawn(sweeper.run(move || workspaces(&sweeping), stopped.clone())),
        tokio::spawn(watched(
            "listener",
            &failing,
            server::serve(Listener { listener, tls }, http::router(app), stopped),
        )),
    ];
    let parts = Parts { stop, failed, hub, catalog, projector, queries, log, ledger, threads, tasks };
    let relay = Relay {
        address,
        base: base(config.public_url.as_deref(), encrypted, address),
        accounts,
        workspace,
        owner,
        owner_token,
        worker_token: config.data.join("worker-token"),
        damage,
        parts,
        _lock: lock,
    };
    founding::plant(&relay.parts.hub, &relay.accounts.seeds()).await.map_err(RelayError::Workspace)?;
    Ok(relay)
}

impl Relay {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The owner's token, as in `owner-token` in the data folder.
    pub fn owner_token(&self) -> &str {
        &self.owner_token
    }

    /// The document of the first workspace.
    pub fn workspace_document(&self) -> DocumentId {
        self.workspace.document
    }

    /// An address that signs one browser in as the owner, within ten minutes. Each call makes another.
    pub fn sign_in_url(&self) -> String {
        let (code, _) = self.accounts.code(clock::now(), &self.owner.id, None);
        format!("{}/#/sign-in?code={}", self.base, code.reveal())
    }

    /// The token of this relay's own worker, as in `worker-token` in the data folder; made at the first call.
    pub async fn mint_worker_token(&self) -> Result<String, RelayError> {
        let (accounts, owner, path) = (self.accounts.clone(), self.owner.id.clone(), self.worker_token.clone());
        let minting = move || token_in(&path, &accounts, &owner, "worker", WriterKind::Worker);
        tokio::task::spawn_blocking(minting).await.map_err(|error| RelayError::Workspace(error.to_string()))?
    }

    /// What this start found wrong with its stores, a sentence each for whoever runs the relay.
    pub fn damage(&self) -> impl Iterator<Item = String> {
        self.damage.iter().map(Damage::to_string)
    }

    /// Where broken stores were moved to at this start: new ones were begun, and devices fill them again.
    pub fn moved_aside(&self) -> impl Iterator<Item = &Path> {
        self.damage.iter().filter_map(|damage| match damage {
            Damage::MovedAside(path) => Some(path.as_path()),
            Damage::Lost { .. } => None,
        })
    }

    /// Waits until a part of the relay has failed, which none should: the process is better started anew.
    pub async fn failed(&self) -> RelayError {
        let mut failed = self.parts.failed.clone();
        match failed.wait_for(Option::is_some).await.map(|part| *part) {
            Ok(Some(part)) => RelayError::Failed(part),
            Ok(None) | Err(_) => RelayError::Failed("last part"),
        }
    }

    /// Ends all connections, makes everything durable and lets go of the data folder.
    pub async fn shutdown(mut self) {
        self.parts.stop();
        let (threads, tasks) = (std::mem::take(&mut self.parts.threads), std::mem::take(&mut self.parts.tasks));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // One that panicked has said so.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
        for task in tasks {
            let _ = task.await;
        }
        let (log, ledger) = (self.parts.log.clone(), self.parts.ledger.clone());
        let _ = tokio::task::spawn_blocking(move || {
            log.close();
            ledger.close();
        })
        .await;
    }
}

impl Parts {
    fn stop(&self) {
        self.stop.send_replace(true);
        self.hub.stop();
        self.catalog.stop();
        self.projector.stop();
        self.queries.stop();
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What was found in the data folder, or made there.
struct Opened {
    accounts: Arc<Accounts>,
    log: Log,
    ledger: Ledger,
    blobs: Blobs,
    workspace: Workspace,
    owner: Member,
    owner_token: String,
    damage: Vec<Damage>,
}

impl Opened {
    fn new(data: &Path) -> Result<Self, RelayError> {
        let Stores { accounts, log, ledger, damage } = Stores::open(data)?;
        let folder = data.join("blobs");
        let blobs = Blobs::open(&folder).map_err(|source| RelayError::Data { path: folder, source })?;
        if accounts.workspaces().is_empty() {
            let user = std::env::var("USER").ok().and_then(|user| accounts::name(&user).ok());
            let founded = founding::workspace(WORKSPACE, user.as_deref().unwrap_or("Owner"));
            let (workspace, owner, seeds) = founded.map_err(RelayError::Workspace)?;
            let found = accounts.found(workspace, owner, &seeds);
            found.map_err(|error| RelayError::Workspace(error.to_string()))?;
        }
        let nobody = || RelayError::Accounts { path: data.join(ACCOUNTS), reason: "it names no owner".to_owned() };
        let workspace = accounts.workspaces().into_iter().next().ok_or_else(nobody)?;
        let owner = accounts.members(&workspace.id).into_iter().find(|member| member.role == MemberRole::Owner);
        let owner = owner.ok_or_else(nobody)?;
        let accounts = Arc::new(accounts);
        let owner_token = token_in(&data.join("owner-token"), &accounts, &owner.id, "owner-token", WriterKind::Member)?;
        Ok(Self { accounts, log, ledger, blobs, workspace, owner, owner_token, damage })
    }
}

/// What a data folder holds of accounts and documents.
pub(crate) struct Stores {
    pub(crate) accounts: Accounts,
    pub(crate) log: Log,
    pub(crate) ledger: Ledger,
    pub(crate) damage: Vec<Damage>,
}

impl Stores {
    /// Opens all of it. A ledger that was lost is written again at once, since only the opening that finds the damage
    /// knows of it. Blocks.
    pub(crate) fn open(data: &Path) -> Result<Self, RelayError> {
        let path = data.join(ACCOUNTS);
        let accounts = Accounts::open(&path).map_err(|error| match error {
            AccountsError::Io(source) => RelayError::Data { path: path.clone(), source },
            other => RelayError::Accounts { path: path.clone(), reason: other.to_string() },
        })?;
        let (log, log_damage) = Log::open(&data.join("log"))?;
        let (ledger, ledger_damage) = Ledger::open(&data.join("ledger"))?;
        let lost = ledger_damage.is_some();
        let damage = log_damage.into_iter().chain(ledger_damage).collect();
        let stores = Self { accounts, log, ledger, damage };
        if lost {
            stores.write_again()?;
        }
        Ok(stores)
    }

    /// Who wrote what, in a ledger that lost it.
    fn write_again(&self) -> Result<(), StoreError> {
        repair::writers(&self.log, &self.ledger, &self.scopes(), |principal| {
            let relay = founding::relay_writer();
            if *principal == relay.principal { Some(relay) } else { self.accounts.writer(principal) }
        })
    }

    /// Every scope, workspaces first.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        let workspaces = self.accounts.workspaces();
        let members = workspaces.iter().flat_map(|workspace| self.accounts.everyone(&workspace.id));
        let members: Vec<Scope> = members.map(|member| member.scope()).collect();
        workspaces.iter().map(Workspace::scope).chain(members).collect()
    }

    /// Closes the stores. Blocks.
    pub(crate) fn close(&self) {
        self.log.close();
        self.ledger.close();
    }
}

/// The token in a file, if it is good; else a new one, left there.
fn token_in(
    path: &Path,
    accounts: &Accounts,
    member: &str,
    name: &str,
    kind: WriterKind,
) -> Result<String, RelayError> {
    if let Ok(text) = std::fs::read_to_string(path)
        && accounts
            .caller(clock::now(), text.trim())
            .is_some_and(|caller| caller.kind == kind && caller.member.id == member)
    {
        return Ok(text.trim().to_owned());
    }
    let minted = accounts.mint(clock::now(), member, name, kind, false);
    let token = minted.map_err(|error| RelayError::Workspace(error.to_string()))?.token;
    durable::replace(path, format!("{}\n", token.reveal()).as_bytes())
        .map_err(|source| RelayError::Data { path: path.to_owned(), source })?;
    Ok(token.reveal().to_owned())
}

/// Makes the data folder if there is none, and takes it for this process.
pub(crate) fn lock(data: &Path) -> Result<File, RelayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RelayError::Data { path, source }
    };
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(data).map_err(failed(data))?;
    let path = data.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RelayError::Locked(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
    }
}

/// Keeps when tokens were last used, now and then and at the end.
async fn keep_uses(accounts: Arc<Accounts>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::time::timeout(KEEP_USES, stopped(&mut stop)).await.is_ok();
        let keeping = accounts.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeping.keep_uses()).await {
            tracing::warn!("{error}");
        }
        if stopping {
            return;
        }
    }
}

/// Ids and scopes of all workspaces.
fn workspaces(accounts: &Accounts) -> Vec<(String, Scope)> {
    accounts.workspaces().into_iter().map(|workspace| (workspace.id.clone(), workspace.scope())).collect()
}

/// Where a browser on this machine, or at the public address, finds the relay. No slash at its end.
fn base(public_url: Option<&str>, encrypted: bool, address: SocketAddr) -> String {
    match public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let ip = match address.ip() {
                ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                ip => ip,
            };
            let scheme = if encrypted { "https" } else { "http" };
            format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
        }
    }
}

/// Says that a part has ended, however it ends.
struct Sentinel(&'static str, watch::Sender<Option<&'static str>>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.1.send_replace(Some(self.0));
    }
}

fn spawn(
    name: &'static str,
    failing: &watch::Sender<Option<&'static str>>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let sentinel = Sentinel(name, failing.clone());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _sentinel = sentinel;
        run();
    })
}

fn watched(
    name: &'static str,
    failing: &watch::Sender<Option<&'static str>>,
    run: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let sentinel = Sentinel(name, failing.clone());
    async move {
        let _sentinel = sentinel;
        run.await;
    }
}
