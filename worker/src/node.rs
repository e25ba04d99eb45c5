//! The worker as a whole: it follows the catalog, and attends to each session that has work it can serve, several at a
//! time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use skein_client::{Client, ClientConfig, Event};
use skein_engine::device::{Keeps, Notice};
use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::{Status, WriterKind};
use skein_engine::wire::catalog::{Offer, ToRelay};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::attend::{Context, attend};
use crate::config::{ConfigError, Settings};
use crate::day::Days;
use crate::link::Link;
use crate::providers::transport::Transport;
use crate::tasks;
use crate::tools::registry::Registry;

/// A session where nothing could be done is looked at again after so long, twice as long each time, at most
/// [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A model that no worker offers may be on its way (a worker restarts); after so long its turn fails.
const UNSERVED: Duration = Duration::from_secs(10);
/// The most sessions attended to at a time; others wait their turn.
const MOST: usize = 256;
/// How often it is looked who waits for that.
const TICK: Duration = Duration::from_millis(500);

/// What a worker needs.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The relay's address: `http(s)://…`, or host and port.
    pub relay_url: String,
    /// A worker's token.
    pub token: String,
    /// The operator's word.
    pub settings: Settings,
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The replica can't be opened, or the relay turns it away for good.
    #[error("{0}")]
    Relay(String),
    /// The token is a person's.
    #[error("this token belongs to no worker: make one with `skein token add NAME --worker`")]
    NotAWorker,
}

/// Runs until `shutdown` is done, or the relay turns it away for good. A relay that can't be reached is tried again.
///
/// At shutdown every model's connection is cut, what came is committed, and the runs are left to be taken up again.
pub async fn run(config: WorkerConfig, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
    config.settings.check()?;
    let transport = Transport::default();
    let client = Client::open(ClientConfig {
        relay: config.relay_url.clone(),
        token: Some(config.token.clone()),
        data: None,
        keeps: Keeps::Opened,
        offline: false,
    });
    let client = client.await.map_err(|error| WorkerError::Relay(error.to_string()))?;
    let mut notices = client.notices();
    let link = Arc::new(Link::new(client));
    let (stop, stopping) = watch::channel(false);
    let registry = Arc::new(Registry::new(&config.settings));
    registry.start();
    let days = Arc::new(Days::new(config.settings.worker.zone()));
    let settings = Arc::new(config.settings);
    let context = Context { link: link.clone(), transport, settings, registry, days, stopping };
    let firing = tokio::spawn(tasks::run(link.clone(), context.stopping.clone()));
    let mut node = Node {
        context,
        offered: None,
        attended: JoinSet::new(),
        tasks: HashMap::new(),
        busy: BTreeSet::new(),
        again: BTreeMap::new(),
        unserved: BTreeMap::new(),
    };
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            event = notices.next() => match event {
                Some(event) => {
                    link.notice(&event);
                    if let Err(error) = node.noticed(&event) {
                        break Err(error);
                    }
                }
                None => break Ok(()),
            },
            Some(done) = node.attended.join_next_with_id() => node.done(done),
            _ = tick.tick() => {
                if let skein_client::Link::Down(problem) = link.client().link()
                    && problem.is_final
                {
                    break Err(WorkerError::Relay(problem.to_string()));
                }
                // The relay may have greeted the replica before its notices were listened to, and integrations come and go.
                let news = node.offered.as_ref().is_some_and(|offered| {
                    offered.integrations != node.context.registry.offered_integrations()
                });
                if let Err(error) = node.greet(news) {
                    break Err(error);
                }
                node.look_again();
            }
        }
    };
    stop.send_replace(true);
    firing.abort();
    let client = link.client().clone();
    let ending = async {
        loop {
            tokio::select! {
                done = node.attended.join_next() => if done.is_none() { break },
                // Answers and acknowledgements still come in.
                event = notices.next() => match event {
                    Some(event) => link.notice(&event),
                    None => break,
                },
            }
        }
    };
    // A session that hangs must not hang the process: its lease lapses.
    let _ = tokio::time::timeout(Duration::from_secs(5), ending).await;
    node.attended.abort_all();
    client.close().await;
    result
}

struct Node {
    context: Context,
    /// What the relay knows on this connection to be offered.
    offered: Option<Offer>,
    attended: JoinSet<bool>,
    tasks: HashMap<Id, DocumentId>,
    /// Sessions attended to.
    busy: BTreeSet<DocumentId>,
    /// Sessions where nothing could be done, though something is due: when to look again, and how long was waited.
    again: BTreeMap<DocumentId, (Instant, Duration)>,
    /// Sessions that need a model that no connected worker offers, since when.
    unserved: BTreeMap<DocumentId, Instant>,
}

impl Node {
    fn noticed(&mut self, event: &Event) -> Result<(), WorkerError> {
        match event {
            Event::Notice(Notice::Summary(session)) => self.consider(*session),
            Event::Notice(Notice::Workspace) => return self.greet(true),
            Event::Notice(Notice::Sync) => return self.greet(false),
            Event::Notice(Notice::Purged { .. }) => self.sweep(),
            Event::Missed => {
                self.sweep();
                self.consider_all();
                return self.greet(true);
            }
            Event::Notice(_) => {}
        }
        Ok(())
    }

    /// A connection that has just been greeted hears what this worker offers; a later one, if that has changed and it is
    /// to be looked at `again`.
    fn greet(&mut self, again: bool) -> Result<(), WorkerError> {
        let link = &self.context.link;
        let (welcome, identity) = link.read(|device, _| (device.is_welcome(), device.identity().cloned()));
        if !welcome {
            self.offered = None;
            return Ok(());
        }
        if self.offered.is_some() && !again {
            return Ok(());
        }
        let Some(identity) = identity.filter(|identity| identity.kind == WriterKind::Worker) else {
            return Err(WorkerError::NotAWorker);
        };
        let workspace = link.read(|device, _| device.workspace());
        let registry = &self.context.registry;
        let offer = Offer {
            models: self.context.settings.models(),
            tools: registry.offered_tools(&workspace, Some(identity.workspace_document)),
            integrations: registry.offered_integrations(),
        };
        if self.offered.as_ref() != Some(&offer) {
            link.tell_relay(&ToRelay::Offer(offer.clone()));
            self.offered = Some(offer);
            self.sweep();
            self.consider_all();
        }
        Ok(())
    }

    /// Lets go of what tools have kept of purged sessions.
    fn sweep(&self) {
        let Context { link, registry, .. } = &self.context;
        registry.sweep(|session| link.read(|device, _| device.is_purged(session)));
    }

    fn consider_all(&mut self) {
        let sessions = self.context.link.read(|device, now| device.summaries(now));
        sessions.into_iter().for_each(|summary| self.consider(summary.id));
    }

    fn consider(&mut self, session: DocumentId) {
        // News are a reason to look again at once, but not in a circle.
        let rests = self.again.get(&session).is_some_and(|(at, waited)| Instant::now() + *waited < *at + AGAIN);
        if self.offered.is_none() || rests || self.busy.contains(&session) || !self.has_work(session) {
            return;
        }
        if self.busy.len() >= MOST {
            self.again.insert(session, (Instant::now() + AGAIN, AGAIN));
        } else {
            self.attend(session);
        }
    }

    /// Whether the list says that something is due here that is this worker's to do: what it can serve, and after a
    /// while what nobody can, so that it ends with a reason instead of waiting for ever.
    fn has_work(&mut self, session: DocumentId) -> bool {
        let settings = &self.context.settings;
        let due = self.context.link.read(|device, now| {
            let summary = device.summary(now, session)?;
            let (leases, _) = device.leases(session);
            if summary.deleted_at.is_some() || leases.live.is_some() {
                return None;
            }
            let streams = summary.beneath.unwrap_or(summary.status) == Status::Streaming;
            let model = match summary.work {
                Some(due) => due.model,
                // The list has not heard yet that its lease has run out.
                None if streams => None,
                None => return None,
            };
            let offered =
                device.offers().iter().any(|offer| offer.models.iter().any(|one| Some(one) == model.as_ref()));
            Some((settings.serves(model.as_deref()), offered))
        });
        match due {
            Some((false, false)) => {
                let since = *self.unserved.entry(session).or_insert_with(Instant::now);
                since.elapsed() >= UNSERVED
            }
            due => {
                self.unserved.remove(&session);
                due.is_some_and(|(serves, _)| serves)
            }
        }
    }

    fn attend(&mut self, session: DocumentId) {
        self.busy.insert(session);
        let context = self.context.clone();
        let task = self.attended.spawn(async move { attend(&context, session).await });
        self.tasks.insert(task.id(), session);
    }

    fn done(&mut self, done: Result<(Id, bool), JoinError>) {
        let (task, did) = match done {
            Ok(done) => done,
            Err(error) => {
                // A panic is a bug of ours; the session's lease lapses, and it is looked at again later.
                tracing::error!(%error, "attending to a session ended badly");
                (error.id(), false)
            }
        };
        let Some(session) = self.tasks.remove(&task) else { return };
        self.busy.remove(&session);
        if did {
            self.again.remove(&session);
            self.consider(session);
        } else if self.has_work(session) {
            let waited = self.again.get(&session).map_or(AGAIN, |(_, waited)| (*waited * 2).min(LONGEST));
            self.again.insert(session, (Instant::now() + waited, waited));
        } else {
            self.again.remove(&session);
        }
    }

    fn look_again(&mut self) {
        let now = Instant::now();
        let due: BTreeSet<DocumentId> =
            self.again.iter().filter(|(_, (at, _))| *at <= now).map(|(session, _)| *session).collect();
        let unserved = self.unserved.iter().filter(|(_, since)| since.elapsed() >= UNSERVED);
        let due: BTreeSet<DocumentId> = unserved.map(|(session, _)| *session).chain(due).collect();
        for session in due {
            if !self.has_work(session) {
                self.again.remove(&session);
            } else {
                self.consider(session);
            }
        }
    }
}
