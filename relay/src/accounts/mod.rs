//! Who may come in: workspaces, their members, the members' tokens, and what lets in once.
//!
//! In order of reading: [`book`] (what the file holds), [`secret`] (tokens in the clear and their hashes), [`codes`]
//! (tickets and sign-in codes, in memory), [`throttle`] (wrong attempts). Here the book is kept: `accounts.json` is
//! replaced whole, and is durable before anything is answered, but for when a token was last used.
//!
//! Invariant: a [`Caller`] is who they were when they came in. Whoever keeps one open listens to [`Accounts::changes`]
//! and asks [`Accounts::standing`], so that what is revoked ends at once.

mod book;
mod codes;
mod secret;
mod throttle;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skein_engine::ids::{DocumentId, Principal, Scope, Timestamp, random_id};
use skein_engine::session::conversation::{MemberRole, Writer, WriterKind};
use tokio::sync::watch;

use crate::durable;
use book::{Book, MAX_ENTRIES, MAX_NAME};
use codes::Codes;
use secret::{Hash, hash};

pub use book::{Member, SavedSeed, Seed, Token, Workspace, name};
pub use codes::CodeError;
pub use secret::Secret;
pub use throttle::Throttle;

/// Milliseconds that what is kept of a token's last use may lag.
const USE_MS: u64 = 60_000;

/// Who speaks, as their token says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace.
    pub workspace: Workspace,
    /// The member.
    pub member: Member,
    /// The token's id.
    pub token: String,
    /// What kind of token.
    pub kind: WriterKind,
    /// Who it is in the record of writers: the member, or the worker's token.
    pub principal: Principal,
    /// Whether the token may change nothing, whatever its member may.
    pub token_reads_only: bool,
}

impl Caller {
    /// For the record of writers.
    pub fn writer(&self) -> Writer {
        Writer { principal: self.principal.clone(), kind: self.kind, role: self.member.role }
    }

    /// Whether they may change nothing but their own profile.
    pub fn read_only(&self) -> bool {
        self.role() == MemberRole::Viewer
    }

    /// What they may do: their member's role, and no more than the token allows.
    pub fn role(&self) -> MemberRole {
        if self.token_reads_only { MemberRole::Viewer } else { self.member.role }
    }

    /// Their profile, which is a person's devices' alone: neither a tool nor a worker sees it.
    pub fn profile(&self) -> Option<(DocumentId, Scope)> {
        (self.kind == WriterKind::Member && !self.token_reads_only).then(|| (self.member.profile, self.member.scope()))
    }

    /// Where a document that they name belongs.
    pub fn scope_of(&self, document: DocumentId) -> Scope {
        match self.profile() {
            Some((profile, scope)) if profile == document => scope,
            _ => self.workspace.scope(),
        }
    }

    /// Whether it is a person's device, of an owner.
    pub fn is_owner(&self) -> bool {
        self.kind == WriterKind::Member && !self.token_reads_only && self.member.role == MemberRole::Owner
    }
}

/// Why something was not done to the accounts.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The disk.
    #[error("accounts can't be saved: {0}")]
    Io(#[from] std::io::Error),
    /// Its content.
    #[error("{0}")]
    Content(String),
    /// There is no such member in this workspace.
    #[error("there is no such member")]
    NoMember,
    /// There is no such token, or it is another's.
    #[error("there is no such token")]
    NoToken,
    /// Nobody could add members or tokens any more.
    #[error("a workspace needs an owner, and this is its last: make someone else an owner first")]
    LastOwner,
    /// Someone is called so.
    #[error("the name \"{0}\" is taken")]
    NameTaken(String),
    /// It is no name.
    #[error("a name has 1 to 100 characters, and none of them is a control character")]
    Name,
    /// A bound against mistakes.
    #[error("there are too many: {MAX_ENTRIES} at most")]
    TooMany,
}

/// Why a connection that was let in is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Its token lets nobody in any more.
    #[error("this token was revoked")]
    Revoked,
    /// Its member is none any more.
    #[error("this member was removed from the workspace")]
    Removed,
    /// It begins anew, with what its member may do now.
    #[error("this member's role was changed")]
    Role,
}

/// See the module.
pub struct Accounts {
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Grows with every change that may end a connection.
    changes: watch::Sender<u64>,
}

struct Inner {
    book: Book,
    /// Of tokens that let in: hash → index in the book.
    by_hash: HashMap<Hash, usize>,
    /// Likewise: id → index.
    by_id: HashMap<String, usize>,
    codes: Codes,
    /// A token's last use is newer than in the file.
    used: bool,
}

/// A new token: its id, and the token itself, which is nowhere else.
pub struct Minted {
    /// As in lists.
    pub id: String,
    /// To be given to whoever will use it.
    pub token: Secret,
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
        let mut inner =
            Inner { book, by_hash: HashMap::new(), by_id: HashMap::new(), codes: Codes::default(), used: false };
        inner.index()?;
        Ok(Self { path: path.to_owned(), inner: Mutex::new(inner), changes: watch::Sender::new(0) })
    }

    // --- Workspaces and members ------------------------------------------------------------------------------------

    /// Makes a workspace with its owner, in one step with the first changes of their documents. Durable on return.
    pub fn found(&self, workspace: Workspace, owner: Member, seeds: &[Seed]) -> Result<(), AccountsError> {
        self.change(|book| {
            if book.workspaces.len() >= MAX_ENTRIES {
                return Err(AccountsError::TooMany);
            }
            let wanted = workspace.name.to_lowercase();
            if book.workspaces.iter().any(|known| known.name.to_lowercase() == wanted) {
                return Err(AccountsError::NameTaken(workspace.name));
            }
            book.workspaces.push(workspace);
            book.members.push(owner);
            book.seeds.extend(seeds.iter().map(SavedSeed::from));
            Ok(())
        })
    }

    /// Puts back a workspace that left as an archive, with its members, who have no tokens, and the first changes of its
    /// documents; one that is here already stays as it is. Its name gets a number where it is taken. The workspace as it
    /// is here. Durable on return.
    pub fn restore(
        &self,
        mut workspace: Workspace,
        members: Vec<Member>,
        seeds: Vec<SavedSeed>,
    ) -> Result<Workspace, AccountsError> {
        self.change(|book| {
            if let Some(known) = book.workspace(&workspace.id) {
                return Ok(known.clone());
            }
            if book.workspaces.len() >= MAX_ENTRIES || members.len() > MAX_ENTRIES {
                return Err(AccountsError::TooMany);
            }
            // A member of another workspace, whose tokens would count here.
            if let Some(known) = members.iter().find_map(|member| book.member(&member.id)) {
                return Err(AccountsError::NameTaken(known.name.clone()));
            }
            let taken =
                |name: &str| book.workspaces.iter().any(|known| known.name.to_lowercase() == name.to_lowercase());
            let numbered = |n: usize| format!("{} {n}", workspace.name);
            if taken(&workspace.name) {
                let free = (2..).map(numbered).find(|name| !taken(name));
                workspace.name = free.expect("there are fewer names than numbers");
            }
            book.workspaces.push(workspace.clone());
            book.members.extend(members);
            book.seeds.extend(seeds);
            Ok(workspace)
        })
    }

    /// All workspaces, oldest first.
    pub fn workspaces(&self) -> Vec<Workspace> {
        self.lock().book.workspaces.clone()
    }

    /// The present members of a workspace, oldest first.
    pub fn members(&self, workspace: &str) -> Vec<Member> {
        self.lock().book.present(workspace).cloned().collect()
    }

    /// All who ever were members of a workspace, oldest first: messages name them.
    pub fn everyone(&self, workspace: &str) -> Vec<Member> {
        self.lock().book.members.iter().filter(|member| member.workspace == workspace).cloned().collect()
    }

    /// Adds a member with a first token of theirs, a device's. Durable on return.
    pub fn add_member(&self, now: Timestamp, member: Member, profile: &Seed) -> Result<Minted, AccountsError> {
        let (token, minted) = new_token(now, &member.id, "first token", WriterKind::Member, false)?;
        self.change(|book| {
            book.name_is_free(&member.workspace, &member.name)?;
            if book.present(&member.workspace).count() >= MAX_ENTRIES {
                return Err(AccountsError::TooMany);
            }
            book.members.push(member);
            book.tokens.push(token);
            book.seeds.push(SavedSeed::from(profile));
            Ok(())
        })?;
        Ok(minted)
    }

    /// Changes a member's role; their connections end and begin anew with it. The member as they are now. Durable on
    /// return.
    pub fn set_role(&self, workspace: &str, member: &str, role: MemberRole) -> Result<Member, AccountsError> {
        self.change(|book| {
            if role != MemberRole::Owner {
                book.another_owner(workspace, member)
                    .or_else(|error| book.present_mut(workspace, member).and(Err(error)))?;
            }
            let member = book.present_mut(workspace, member)?;
            member.set_role(role);
            Ok(member.clone())
        })
    }

    /// Removes a member: their tokens let nobody in any more, and their connections end. Durable on return.
    pub fn remove_member(&self, now: Timestamp, workspace: &str, member: &str) -> Result<(), AccountsError> {
        self.change(|book| {
            book.present_mut(workspace, member)?;
            book.another_owner(workspace, member)?;
            book.present_mut(workspace, member)?.removed = Some(now);
            let theirs = book.tokens.iter_mut().filter(|token| token.member == member && token.revoked.is_none());
            theirs.for_each(|token| token.revoked = Some(now));
            Ok(())
        })
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

    // --- Tokens ----------------------------------------------------------------------------------------------------

    /// Makes a token for a member. Durable on return.
    pub fn mint(
        &self,
        now: Timestamp,
        member: &str,
        name: &str,
        kind: WriterKind,
        read_only: bool,
    ) -> Result<Minted, AccountsError> {
        let (token, minted) = new_token(now, member, name, kind, read_only)?;
        self.change(|book| {
            let workspace = match book.member(member) {
                Some(known) if known.removed.is_none() => known.workspace.clone(),
                _ => return Err(AccountsError::NoMember),
            };
            let of = |token: &&Token| book.member(&token.member).is_some_and(|member| member.workspace == workspace);
            if book.tokens.iter().filter(|token| token.revoked.is_none()).filter(of).count() >= MAX_ENTRIES {
                return Err(AccountsError::TooMany);
            }
            book.tokens.push(token);
            Ok(())
        })?;
        Ok(minted)
    }

    /// The tokens that let in: a member's own, or with `None` all of the workspace. Oldest first.
    pub fn tokens(&self, workspace: &str, member: Option<&str>) -> Vec<(Token, Member)> {
        let inner = self.lock();
        let alive = inner.book.tokens.iter().filter(|token| token.revoked.is_none());
        let with_member = alive.filter_map(|token| Some((token, inner.book.member(&token.member)?)));
        let asked =
            with_member.filter(|(token, of)| of.workspace == workspace && member.is_none_or(|id| token.member == id));
        asked.map(|(token, member)| (token.clone(), member.clone())).collect()
    }

    /// Revokes a token of the workspace, or of this member only; its connections end. Durable on return.
    pub fn revoke(
        &self,
        now: Timestamp,
        workspace: &str,
        member: Option<&str>,
        token: &str,
    ) -> Result<(), AccountsError> {
        self.change(|book| {
            let at = book.tokens.iter().position(|known| known.id == token && known.revoked.is_none());
            let at = at.ok_or(AccountsError::NoToken)?;
            let of = book.member(&book.tokens[at].member).ok_or(AccountsError::NoToken)?;
            if of.workspace != workspace || member.is_some_and(|member| of.id != member) {
                return Err(AccountsError::NoToken);
            }
            book.tokens[at].revoked = Some(now);
            Ok(())
        })
    }

    /// Whose token this is. Notes its use.
    pub fn caller(&self, now: Timestamp, token: &str) -> Option<Caller> {
        let mut inner = self.lock();
        let at = *inner.by_hash.get(&hash(token))?;
        inner.caller(now, at)
    }

    /// Whether a caller may still do what they could when they came in.
    pub fn standing(&self, caller: &Caller) -> Result<(), Ended> {
        let inner = self.lock();
        match inner.book.member(&caller.member.id) {
            Some(member) if member.removed.is_none() => {
                if !inner.by_id.contains_key(&caller.token) {
                    Err(Ended::Revoked)
                } else if member.role != caller.member.role {
                    Err(Ended::Role)
                } else {
                    Ok(())
                }
            }
            _ => Err(Ended::Removed),
        }
    }

    /// Changes whenever [`Accounts::standing`] may.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Who a principal of the record of writers is, by what is known today; also those who are gone. The role is the
    /// highest that they ever had.
    pub fn writer(&self, principal: &Principal) -> Option<Writer> {
        let inner = self.lock();
        let worker = inner.book.tokens.iter().find(|token| token.id == principal.as_str());
        let (member, kind) = match worker {
            Some(token) => (token.member.as_str(), token.kind),
            None => (principal.as_str(), WriterKind::Member),
        };
        let role = inner.book.member(member)?.wrote_as();
        Some(Writer { principal: principal.clone(), kind, role })
    }

    /// Keeps when tokens were last used, if there is news. Durable on return.
    pub fn keep_uses(&self) -> Result<(), AccountsError> {
        let mut inner = self.lock();
        if !inner.used {
            return Ok(());
        }
        self.write(&inner.book)?;
        inner.used = false;
        Ok(())
    }

    // --- What lets in once -----------------------------------------------------------------------------------------

    /// A ticket that opens one socket for this caller's token, within 30 s.
    pub fn ticket(&self, now: Timestamp, caller: &Caller) -> Secret {
        self.lock().codes.ticket(now, &caller.token)
    }

    /// Takes a ticket: it opens nothing a second time.
    pub fn redeem(&self, now: Timestamp, ticket: &str) -> Option<Caller> {
        let mut inner = self.lock();
        let token = inner.codes.redeem(now, ticket)?;
        let at = *inner.by_id.get(&token)?;
        inner.caller(now, at)
    }

    /// A code that signs one device in as this member, and until when. `token`: the id of the one with which it is asked
    /// for; the code ends with it.
    pub fn code(&self, now: Timestamp, member: &str, token: Option<&str>) -> (Secret, Timestamp) {
        self.lock().codes.code(now, member, token)
    }

    /// Exchanges a code for the token of a new device.
    pub fn pair(&self, now: Timestamp, code: &str, name: &str) -> Result<Result<Secret, CodeError>, AccountsError> {
        let member = {
            let mut inner = self.lock();
            match inner.codes.sign_in(now, code) {
                Ok((_, Some(token))) if !inner.by_id.contains_key(&token) => return Ok(Err(CodeError::Unknown)),
                Ok((member, _)) => member,
                Err(error) => return Ok(Err(error)),
            }
        };
        match self.mint(now, &member, &device_name(name), WriterKind::Member, false) {
            Ok(minted) => Ok(Ok(minted.token)),
            // Who was removed meanwhile has no codes.
            Err(AccountsError::NoMember) => Ok(Err(CodeError::Unknown)),
            Err(error) => {
                self.lock().codes.give_back(code);
                Err(error)
            }
        }
    }

    // --- The file --------------------------------------------------------------------------------------------------

    /// Changes the book: on disk first, then in memory.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, AccountsError>) -> Result<T, AccountsError> {
        let mut inner = self.lock();
        let mut book = inner.book.clone();
        let value = change(&mut book)?;
        self.write(&book)?;
        inner.book = book;
        inner.used = false;
        inner.index()?;
        self.changes.send_modify(|number| *number += 1);
        Ok(value)
    }

    fn write(&self, book: &Book) -> Result<(), AccountsError> {
        let text = serde_json::to_vec_pretty(book).map_err(|error| AccountsError::Content(error.to_string()))?;
        Ok(durable::replace(&self.path, &text)?)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn index(&mut self) -> Result<(), AccountsError> {
        self.by_hash.clear();
        self.by_id.clear();
        for (index, token) in self.book.tokens.iter().enumerate().filter(|(_, token)| token.revoked.is_none()) {
            let mut hash = [0; 32];
            hex::decode_to_slice(&token.hash, &mut hash)
                .map_err(|_| AccountsError::Content(format!("the hash of token {} is no SHA-256", token.id)))?;
            self.by_hash.insert(hash, index);
            self.by_id.insert(token.id.clone(), index);
        }
        Ok(())
    }

    fn caller(&mut self, now: Timestamp, at: usize) -> Option<Caller> {
        let token = self.book.tokens.get_mut(at)?;
        if token.used.is_none_or(|used| now.ms_since(used) >= USE_MS) {
            token.used = Some(now);
            self.used = true;
        }
        let token = &self.book.tokens[at];
        let member = self.book.member(&token.member).filter(|member| member.removed.is_none())?.clone();
        let workspace = self.book.workspace(&member.workspace)?.clone();
        let principal = match token.kind {
            WriterKind::Worker => Principal::from(token.id.as_str()),
            _ => Principal::from(member.id.as_str()),
        };
        let (id, kind, token_reads_only) = (token.id.clone(), token.kind, token.read_only);
        Some(Caller { workspace, member, token: id, kind, principal, token_reads_only })
    }
}

fn new_token(
    now: Timestamp,
    member: &str,
    given: &str,
    kind: WriterKind,
    read_only: bool,
) -> Result<(Token, Minted), AccountsError> {
    let secret = Secret::random::<32>("skein_");
    let id = random_id();
    let token = Token {
        id: id.clone(),
        hash: hex::encode(hash(secret.reveal())),
        member: member.to_owned(),
        name: name(given)?,
        kind,
        read_only,
        created: now,
        used: None,
        revoked: None,
    };
    Ok((token, Minted { id, token: secret }))
}

/// What a device calls itself, as far as it is a name.
fn device_name(given: &str) -> String {
    let plain = given.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect::<String>();
    if plain.trim().is_empty() { "a device".to_owned() } else { plain }
}

#[cfg(test)]
mod tests;
