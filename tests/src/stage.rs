//! A relay with a bystander: whatever is done to the relay, the bystander's writes must go on being acknowledged, and
//! the relay's memory must come back.

use automerge::transaction::Transactable;
use automerge::{AutomergeError, ROOT};
use skein_engine::ids::DocumentId;

use crate::peer::Peer;
use crate::skein::{Home, Skein};

/// How much more memory than before a relay may keep once its hostile peers have gone.
const MAY_KEEP: u64 = 64 << 20;

/// See the module.
pub struct Stage {
    /// The relay.
    pub skein: Skein,
    /// A well-behaved client.
    pub bystander: Peer,
    /// The document that it writes.
    pub document: DocumentId,
    writes: i64,
    memory_before: u64,
}

impl Stage {
    /// Starts both.
    pub async fn set() -> Self {
        let skein = Home::new().start("relay", "127.0.0.1:0").await;
        let bystander = Peer::join(&skein.sync_url()).await;
        let memory_before = skein.memory().resident;
        let mut stage = Self { skein, bystander, document: DocumentId::random(), writes: 0, memory_before };
        stage.bystander_goes_on().await;
        stage
    }

    /// Another client of the same member.
    pub async fn peer(&self) -> Peer {
        Peer::join(&self.skein.sync_url()).await
    }

    /// The bystander writes, and is acknowledged.
    pub async fn bystander_goes_on(&mut self) {
        self.bystander_writes("on and on").await;
        assert!(self.skein.runs(), "{}", self.skein.home.log());
    }

    /// The bystander writes `text`, and is acknowledged.
    pub async fn bystander_writes(&mut self, text: &str) {
        self.writes += 1;
        let (count, document) = (self.writes, self.bystander.document(self.document));
        let written = document.transact::<_, _, AutomergeError>(|tx| {
            tx.put(ROOT, "text", text)?;
            tx.put(ROOT, "count", count)
        });
        written.expect("a plain write");
        self.bystander.until_acknowledged(self.document).await;
    }

    /// The bystander goes on, newcomers are served, memory has come back, nothing has panicked.
    pub async fn is_unharmed(&mut self) {
        self.bystander_goes_on().await;
        let mut newcomer = self.peer().await;
        newcomer.sync(self.document).await;
        let heads = self.bystander.document(self.document).get_heads();
        newcomer.until("a newcomer is served", self.document, |document| document.get_heads() == heads).await;
        let allowed = self.memory_before + MAY_KEEP;
        assert!(
            self.skein.memory_falls_below(allowed).await,
            "memory: {:?}, before {}, allowed {allowed}",
            self.skein.memory(),
            self.memory_before
        );
        let log = self.skein.home.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
