//! Who may come in: the workspace, its members, their tokens; tickets and sign-in codes, which live in memory.
//!
//! Tokens, tickets and codes are 256 or 128 random bits, and are known here by their SHA-256 alone: on disk there is
//! nothing to steal, and what a lookup's timing could tell is of the hash, which nobody can steer. The file
//! `accounts.json` is replaced whole and is durable before anything is answered.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skein_engine::ids::{DocumentId, Principal, Scope, Timestamp, random_bytes, random_id};
use skein_engine::session::conversation::{MemberRole, Writer, WriterKind};

use crate::durable;

/// Milliseconds in which a ticket must be used.
const TICKET_MS: u64 = 30_000;
/// Milliseconds in which a sign-in code must be used.
const CODE_MS: u64 = 10 * 60_000;
/// Milliseconds for which a used or expired code is told from an unknown one.
const CODE_REMEMBERED_MS: u64 = 24 * 3_600_000;
/// Tickets that may be open at a time; the oldest goes.
const MAX_TICKETS: usize = 10_000;

/// A workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workspace {
    /// 22 letters.
    pub id: String,
    /// As shown.
    pub name: String,
    /// Its own document.
    pub document: DocumentId,
}

impl Workspace {
    /// Where its documents belong.
    pub fn scope(&self) -> Scope {
        Scope::from(format!("w/{}", self.id))
    }
}

/// A member of a workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// 22 letters.
    pub id: String,
    /// The workspace's id.
    pub workspace: String,
    /// As shown.
    pub name: String,
    /// What they may do.
    pub role: MemberRole,
    /// Their profile document.
    pub profile: DocumentId,
}

impl Member {
    /// Where their own documents belong.
    pub fn scope(&self) -> Scope {
        Scope::from(format!("m/{}", self.id))
    }
}

/// A token, without the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// 22 letters.
    pub id: String,
    /// SHA-256 of the token, hex.
    pub hash: String,
    /// The member for whom it acts.
    pub member: String,
    /// As shown in lists: "Firefox on laptop".
    pub name: String,
    /// What holds it.
    pub kind: WriterKind,
    /// When it was made.
    pub created: Timestamp,
}

/// A document that the relay made: its first change, so that the same one can be put back into an empty log. (Another
/// first change would make its containers twice, and one side's content would be hidden.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Where it belongs.
    pub scope: Scope,
    /// The document.
    pub document: DocumentId,
    /// Its first change.
    pub change: Bytes,
}

/// Who speaks, as their token says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace.
    pub workspace: Workspace,
    /// The member.
    pub member: Member,
    /// What kind of token.
    pub kind: WriterKind,
    /// Who it is in the record of writers: the member, or the worker's token.
    pub principal: Principal,
}

impl Caller {
    /// For the record of writers.
    pub fn writer(&self) -> Writer {
        Writer { principal: self.principal.clone(), kind: self.kind, role: self.member.role }
    }

    /// Whether they may change nothing but their own profile.
    pub fn read_only(&self) -> bool {
        self.member.role == MemberRole::Viewer
    }
}

/// Why a sign-in code is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Somebody signed in with it.
    #[error(
        "this sign-in code was already used; open the address that the relay prints at its start, or run `skein pair`, for another"
    )]
    Used,
    /// Its ten minutes are over.
    #[error(
        "this sign-in code has expired; open the address that the relay prints at its start, or run `skein pair`, for another"
    )]
    Expired,
    /// Never heard of, or from before a restart.
    #[error(
        "this sign-in code is not known here (a code is good until the relay restarts); `skein pair` gives another"
    )]
    Unknown,
}

/// Why accounts could not be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The disk.
    #[error("accounts can't be saved: {0}")]
    Io(#[from] std::io::Error),
    /// Its content.
    #[error("{0}")]
    Content(String),
    /// There is no such member.
    #[error("there is no member {0}")]
    NoMember(String),
}

/// See the module.
pub struct Accounts {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    book: Book,
    /// Token's hash → index in the book.
    by_hash: HashMap<[u8; 32], usize>,
    tickets: HashMap<[u8; 32], (Timestamp, Caller)>,
    codes: HashMap<[u8; 32], Code>,
}

struct Code {
    member: String,
    expires: Timestamp,
    used: bool,
}

/// The file.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Book {
    version: u32,
    workspaces: Vec<Workspace>,
    members: Vec<Member>,
    tokens: Vec<Token>,
    seeds: Vec<SavedSeed>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SavedSeed {
    scope: Scope,
    document: DocumentId,
    /// Base64.
    change: String,
}

/// A token, ticket or code in the clear, which exists only on its way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    fn random<const N: usize>(prefix: &str) -> Self {
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random_bytes::<N>())))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Accounts {
    /// Reads the file, or begins with nobody if there is none.
    pub fn open(path: &Path) -> Result<Self, AccountsError> {
        let book = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| AccountsError::Content(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Book { version: 1, ..Book::default() },
            Err(error) => return Err(error.into()),
        };
        if book.version != 1 {
            return Err(AccountsError::Content(format!("it is of version {}, this relay reads 1", book.version)));
        }
        let mut inner = Inner { book, by_hash: HashMap::new(), tickets: HashMap::new(), codes: HashMap::new() };
        inner.index()?;
        Ok(Self { path: path.to_owned(), inner: Mutex::new(inner) })
    }

    /// Makes a workspace with its owner, in one step with the first changes of their documents.
    pub fn found(&self, workspace: Workspace, owner: Member, seeds: &[Seed]) -> Result<(), AccountsError> {
        self.change(|book| {
            book.workspaces.push(workspace);
            book.members.push(owner);
            book.seeds.extend(seeds.iter().map(|seed| SavedSeed {
                scope: seed.scope.clone(),
                document: seed.document,
                change: STANDARD.encode(&seed.change),
            }));
            Ok(())
        })
    }

    /// All workspaces, oldest first.
    pub fn workspaces(&self) -> Vec<Workspace> {
        self.lock().book.workspaces.clone()
    }

    /// The members of a workspace, oldest first.
    pub fn members(&self, workspace: &str) -> Vec<Member> {
        self.lock().book.members.iter().filter(|member| member.workspace == workspace).cloned().collect()
    }

    /// The documents that this relay made.
    pub fn seeds(&self) -> Vec<Seed> {
        let inner = self.lock();
        let seeds = inner.book.seeds.iter().filter_map(|seed| {
            let change = STANDARD.decode(&seed.change).ok()?.into();
            Some(Seed { scope: seed.scope.clone(), document: seed.document, change })
        });
        seeds.collect()
    }

    /// Makes a token for a member. Durable on return.
    pub fn mint(&self, now: Timestamp, member: &str, name: &str, kind: WriterKind) -> Result<Secret, AccountsError> {
        let secret = Secret::random::<32>("skein_");
        let token = Token {
            id: random_id(),
            hash: hex::encode(hash(secret.reveal())),
            member: member.to_owned(),
            name: name.chars().take(100).collect(),
            kind,
            created: now,
        };
        self.change(|book| {
            if !book.members.iter().any(|known| known.id == member) {
                return Err(AccountsError::NoMember(member.to_owned()));
            }
            book.tokens.push(token);
            Ok(())
        })?;
        Ok(secret)
    }

    /// Whose token this is.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let inner = self.lock();
        let token = &inner.book.tokens[*inner.by_hash.get(&hash(token))?];
        let member = inner.book.members.iter().find(|member| member.id == token.member)?.clone();
        let workspace = inner.book.workspaces.iter().find(|workspace| workspace.id == member.workspace)?.clone();
        let principal = match token.kind {
            WriterKind::Worker => Principal::from(token.id.as_str()),
            _ => Principal::from(member.id.as_str()),
        };
        Some(Caller { workspace, member, kind: token.kind, principal })
    }

    /// Who a principal of the record of writers is, as of now.
    pub fn writer(&self, principal: &Principal) -> Option<Writer> {
        let inner = self.lock();
        let worker = inner.book.tokens.iter().find(|token| token.id == principal.as_str());
        let (member, kind) = match worker {
            Some(token) => (token.member.as_str(), token.kind),
            None => (principal.as_str(), WriterKind::Member),
        };
        let role = inner.book.members.iter().find(|known| known.id == member)?.role;
        Some(Writer { principal: principal.clone(), kind, role })
    }

    /// A ticket that opens one socket for this caller, within 30 s.
    pub fn ticket(&self, now: Timestamp, caller: Caller) -> Secret {
        let secret = Secret::random::<32>("");
        let mut inner = self.lock();
        inner.tickets.retain(|_, (expires, _)| *expires > now);
        if inner.tickets.len() >= MAX_TICKETS
            && let Some(oldest) = inner.tickets.iter().min_by_key(|(_, (expires, _))| *expires).map(|(hash, _)| *hash)
        {
            inner.tickets.remove(&oldest);
        }
        inner.tickets.insert(hash(secret.reveal()), (now.plus_ms(TICKET_MS), caller));
        secret
    }

    /// Takes a ticket: it opens nothing a second time.
    pub fn redeem(&self, now: Timestamp, ticket: &str) -> Option<Caller> {
        let (expires, caller) = self.lock().tickets.remove(&hash(ticket))?;
        (expires > now).then_some(caller)
    }

    /// A code that signs one browser in as this member, within ten minutes.
    pub fn code(&self, now: Timestamp, member: &str) -> Secret {
        let secret = Secret::random::<16>("");
        let mut inner = self.lock();
        inner.codes.retain(|_, code| code.expires.plus_ms(CODE_REMEMBERED_MS) > now);
        let code = Code { member: member.to_owned(), expires: now.plus_ms(CODE_MS), used: false };
        inner.codes.insert(hash(secret.reveal()), code);
        secret
    }

    /// Exchanges a code for the token of a new device.
    pub fn pair(&self, now: Timestamp, code: &str, name: &str) -> Result<Result<Secret, CodeError>, AccountsError> {
        let member = {
            let mut inner = self.lock();
            match inner.codes.get_mut(&hash(code)) {
                None => return Ok(Err(CodeError::Unknown)),
                Some(code) if code.used => return Ok(Err(CodeError::Used)),
                Some(code) if code.expires <= now => return Ok(Err(CodeError::Expired)),
                Some(code) => {
                    code.used = true;
                    code.member.clone()
                }
            }
        };
        let minted = self.mint(now, &member, name, WriterKind::Member);
        if minted.is_err()
            && let Some(code) = self.lock().codes.get_mut(&hash(code))
        {
            code.used = false;
        }
        minted.map(Ok)
    }

    /// Changes the book: on disk first, then in memory.
    fn change(&self, change: impl FnOnce(&mut Book) -> Result<(), AccountsError>) -> Result<(), AccountsError> {
        let mut inner = self.lock();
        let mut book = inner.book.clone();
        change(&mut book)?;
        let text = serde_json::to_vec_pretty(&book).map_err(|error| AccountsError::Content(error.to_string()))?;
        durable::replace(&self.path, &text)?;
        inner.book = book;
        inner.index()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn index(&mut self) -> Result<(), AccountsError> {
        self.by_hash.clear();
        for (index, token) in self.book.tokens.iter().enumerate() {
            let mut hash = [0; 32];
            hex::decode_to_slice(&token.hash, &mut hash)
                .map_err(|_| AccountsError::Content(format!("the hash of token {} is no SHA-256", token.id)))?;
            self.by_hash.insert(hash, index);
        }
        Ok(())
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    struct World {
        folder: tempfile::TempDir,
        accounts: Accounts,
        owner: String,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&folder.path().join("accounts.json")).unwrap();
        let workspace = Workspace { id: random_id(), name: "Skein".into(), document: DocumentId::random() };
        let owner = Member {
            id: random_id(),
            workspace: workspace.id.clone(),
            name: "Ada".into(),
            role: MemberRole::Owner,
            profile: DocumentId::random(),
        };
        let seed =
            Seed { scope: workspace.scope(), document: workspace.document, change: Bytes::from_static(b"change") };
        let id = owner.id.clone();
        accounts.found(workspace, owner, &[seed]).unwrap();
        World { folder, accounts, owner: id }
    }

    #[test]
    fn a_token_is_known_after_a_reopen_and_is_not_on_disk() {
        let world = world();
        let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member).unwrap();
        let path = world.folder.path().join("accounts.json");
        assert!(!std::fs::read_to_string(&path).unwrap().contains(token.reveal()));
        let reopened = Accounts::open(&path).unwrap();
        let caller = reopened.caller(token.reveal()).unwrap();
        assert_eq!((caller.member.name.as_str(), caller.principal.as_str()), ("Ada", world.owner.as_str()));
        assert_eq!(reopened.seeds(), world.accounts.seeds());
        assert_eq!(&reopened.seeds()[0].change[..], b"change");
    }

    #[test]
    fn no_other_token_lets_in() {
        let world = world();
        let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member).unwrap();
        for wrong in ["", "skein_", &token.reveal()[..token.reveal().len() - 1], &format!("{}x", token.reveal())] {
            assert!(world.accounts.caller(wrong).is_none(), "{wrong}");
        }
        assert!(matches!(world.accounts.mint(NOW, "nobody", "x", WriterKind::Member), Err(AccountsError::NoMember(_))));
    }

    #[test]
    fn a_worker_is_its_token_not_its_member() {
        let world = world();
        let token = world.accounts.mint(NOW, &world.owner, "worker", WriterKind::Worker).unwrap();
        let writer = world.accounts.caller(token.reveal()).unwrap().writer();
        assert_eq!(writer.kind, WriterKind::Worker);
        assert_ne!(writer.principal.as_str(), world.owner);
    }

    #[test]
    fn a_ticket_opens_one_socket_within_thirty_seconds() {
        let world = world();
        let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member).unwrap();
        let caller = world.accounts.caller(token.reveal()).unwrap();
        let ticket = world.accounts.ticket(NOW, caller.clone());
        assert!(world.accounts.redeem(NOW.plus_ms(29_999), ticket.reveal()).is_some());
        assert!(world.accounts.redeem(NOW.plus_ms(29_999), ticket.reveal()).is_none());
        let late = world.accounts.ticket(NOW, caller);
        assert!(world.accounts.redeem(NOW.plus_ms(30_000), late.reveal()).is_none());
    }

    #[test]
    fn a_code_signs_in_once_and_says_why_it_does_not() {
        let world = world();
        let pair = |now, code: &str| world.accounts.pair(now, code, "Firefox").unwrap();
        let code = world.accounts.code(NOW, &world.owner);
        let token = pair(NOW.plus_ms(1), code.reveal()).unwrap();
        assert_eq!(world.accounts.caller(token.reveal()).unwrap().kind, WriterKind::Member);
        assert_eq!(pair(NOW.plus_ms(2), code.reveal()), Err(CodeError::Used));
        let late = world.accounts.code(NOW, &world.owner);
        assert_eq!(pair(NOW.plus_ms(CODE_MS), late.reveal()), Err(CodeError::Expired));
        assert_eq!(pair(NOW, "made-up"), Err(CodeError::Unknown));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.json");
        for content in ["", "{", "{\"version\": 9, \"workspaces\": [], \"members\": [], \"tokens\": [], \"seeds\": []}"]
        {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(Accounts::open(&path), Err(AccountsError::Content(_))));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}
