//! What `accounts.json` holds: workspaces, their members, the members' tokens, and the first changes of the documents
//! that the relay made. Plain data, and what follows from it.
//!
//! Invariant: nothing that a record of writers may name is ever taken out. A member who was removed and a token that was
//! revoked stay as such, so that their messages keep a name and a ledger can be written again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_engine::ids::{DocumentId, Scope, Timestamp};
use skein_engine::session::conversation::{MemberRole, WriterKind};

use super::AccountsError;

/// Characters of a name.
pub const MAX_NAME: usize = 100;
/// Members of a workspace, tokens of a workspace, workspaces: more are a mistake, and the file is written whole.
pub const MAX_ENTRIES: usize = 10_000;

/// A workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// 22 letters.
    pub id: String,
    /// The workspace's id.
    pub workspace: String,
    /// As shown; no two present members of a workspace have the same, in any case of letters.
    pub name: String,
    /// What they may do.
    pub role: MemberRole,
    /// The most that they ever might do: as which their older changes count if the ledger has to be written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<MemberRole>,
    /// Their profile document.
    pub profile: DocumentId,
    /// Since when they are no longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
}

impl Member {
    /// Where their own documents belong.
    pub fn scope(&self) -> Scope {
        Scope::from(format!("m/{}", self.id))
    }

    /// Changes what they may do.
    pub fn set_role(&mut self, role: MemberRole) {
        let highest = self.highest.unwrap_or(self.role);
        self.highest = Some(if rank(role) > rank(highest) { role } else { highest });
        self.role = role;
    }

    /// See [`Member::highest`].
    pub fn wrote_as(&self) -> MemberRole {
        self.highest.unwrap_or(self.role)
    }
}

fn rank(role: MemberRole) -> u8 {
    match role {
        MemberRole::Viewer => 0,
        MemberRole::Member => 1,
        MemberRole::Owner => 2,
    }
}

/// A token, without the token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// It changes nothing, whatever its member may do.
    #[serde(default)]
    pub read_only: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When something last came in with it, to the minute or so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Timestamp>,
    /// Since when it lets nobody in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
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

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    /// 1.
    pub version: u32,
    /// Oldest first.
    pub workspaces: Vec<Workspace>,
    /// Oldest first, with those that were removed.
    pub members: Vec<Member>,
    /// Oldest first, with those that were revoked.
    pub tokens: Vec<Token>,
    /// See [`Seed`].
    pub seeds: Vec<SavedSeed>,
}

/// A [`Seed`] in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedSeed {
    /// As there.
    pub scope: Scope,
    /// As there.
    pub document: DocumentId,
    /// Base64.
    pub change: String,
}

impl From<&Seed> for SavedSeed {
    fn from(seed: &Seed) -> Self {
        Self { scope: seed.scope.clone(), document: seed.document, change: STANDARD.encode(&seed.change) }
    }
}

impl Book {
    /// A workspace.
    pub fn workspace(&self, id: &str) -> Option<&Workspace> {
        self.workspaces.iter().find(|workspace| workspace.id == id)
    }

    /// A member, also one that was removed.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The present members of a workspace.
    pub fn present<'a>(&'a self, workspace: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.workspace == workspace && member.removed.is_none())
    }

    /// A present member of a workspace, to be changed.
    pub fn present_mut(&mut self, workspace: &str, id: &str) -> Result<&mut Member, AccountsError> {
        let found = self
            .members
            .iter_mut()
            .find(|member| member.id == id && member.workspace == workspace && member.removed.is_none());
        found.ok_or(AccountsError::NoMember)
    }

    /// Fails if a workspace would be left without an owner when this member is none.
    pub fn another_owner(&self, workspace: &str, member: &str) -> Result<(), AccountsError> {
        let other = self.present(workspace).any(|other| other.id != member && other.role == MemberRole::Owner);
        if other { Ok(()) } else { Err(AccountsError::LastOwner) }
    }

    /// Fails if a present member of the workspace has this name.
    pub fn name_is_free(&self, workspace: &str, name: &str) -> Result<(), AccountsError> {
        let wanted = name.to_lowercase();
        match self.present(workspace).any(|member| member.name.to_lowercase() == wanted) {
            true => Err(AccountsError::NameTaken(name.to_owned())),
            false => Ok(()),
        }
    }
}

/// A name as it is kept: trimmed, of 1 to [`MAX_NAME`] characters, none of them a control character.
pub fn name(given: &str) -> Result<String, AccountsError> {
    let name = given.trim();
    let length = name.chars().take(MAX_NAME + 1).count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        return Err(AccountsError::Name);
    }
    Ok(name.to_owned())
}
