//! What comes with a new workspace and a new member: documents of their own, made by the relay.
//!
//! Invariant: their first changes are in the book of accounts before they are in the log, so that the same ones can be
//! put back into a log that was lost.

use skein_engine::ids::{DocumentId, Principal, random_id};
use skein_engine::session::conversation::{MemberRole, Writer, WriterKind};

use crate::accounts::{Member, Seed, Workspace};
use crate::hub::HubHandle;
use crate::projector;

/// The relay itself, in the record of writers.
const RELAY: &str = "relay";

/// A workspace with its owner, and the first changes of both documents; none of it is known to anyone yet.
pub fn workspace(name: &str, owner: &str) -> Result<(Workspace, Member, [Seed; 2]), String> {
    let workspace = Workspace { id: random_id(), name: name.to_owned(), document: DocumentId::random() };
    let (owner, profile) = member(&workspace.id, owner, MemberRole::Owner)?;
    let seed = Seed { scope: workspace.scope(), document: workspace.document, change: projector::new_workspace(name)? };
    Ok((workspace, owner, [seed, profile]))
}

/// A member of a workspace, and their profile's first change.
pub fn member(workspace: &str, name: &str, role: MemberRole) -> Result<(Member, Seed), String> {
    let member = Member {
        id: random_id(),
        workspace: workspace.to_owned(),
        name: name.to_owned(),
        role,
        highest: None,
        profile: DocumentId::random(),
        removed: None,
    };
    let seed = Seed { scope: member.scope(), document: member.profile, change: projector::new_profile()? };
    Ok((member, seed))
}

/// Puts documents that the relay made into the log, where they aren't there. Durable on return.
pub async fn plant(hub: &HubHandle, seeds: &[Seed]) -> Result<(), String> {
    for Seed { scope, document, change } in seeds {
        let key = (scope.clone(), *document);
        if hub.heads(key.clone()).await.is_none() {
            hub.insert(key, relay_writer(), change.clone()).await?;
        }
    }
    Ok(())
}

/// Who wrote what the relay made.
pub fn relay_writer() -> Writer {
    Writer { principal: Principal::from(RELAY), kind: WriterKind::Relay, role: MemberRole::Owner }
}
