//! Accounts as the rest of the relay uses them: who may come in, what ends when, and what a reopened file still knows.

use bytes::Bytes;
use skein_engine::ids::DocumentId;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    folder: tempfile::TempDir,
    accounts: Accounts,
    workspace: Workspace,
    owner: String,
}

fn member(workspace: &str, name: &str, role: MemberRole) -> Member {
    Member {
        id: random_id(),
        workspace: workspace.into(),
        name: name.into(),
        role,
        highest: None,
        profile: DocumentId::random(),
        removed: None,
    }
}

fn seed(scope: Scope, document: DocumentId) -> Seed {
    Seed { scope, document, change: Bytes::from_static(b"change") }
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(&folder.path().join("accounts.json")).unwrap();
    let workspace = Workspace { id: random_id(), name: "Skein".into(), document: DocumentId::random() };
    let owner = member(&workspace.id, "Ada", MemberRole::Owner);
    let id = owner.id.clone();
    accounts.found(workspace.clone(), owner, &[seed(workspace.scope(), workspace.document)]).unwrap();
    World { folder, accounts, workspace, owner: id }
}

impl World {
    fn device(&self, member: &str) -> Caller {
        let minted = self.accounts.mint(NOW, member, "laptop", WriterKind::Member, false).unwrap();
        self.accounts.caller(NOW, minted.token.reveal()).unwrap()
    }

    fn add(&self, name: &str, role: MemberRole) -> Caller {
        let member = member(&self.workspace.id, name, role);
        let profile = seed(member.scope(), member.profile);
        let minted = self.accounts.add_member(NOW, member, &profile).unwrap();
        self.accounts.caller(NOW, minted.token.reveal()).unwrap()
    }

    fn reopened(&self) -> Accounts {
        Accounts::open(&self.folder.path().join("accounts.json")).unwrap()
    }
}

#[test]
fn a_token_is_known_after_a_reopen_and_is_not_on_disk() {
    let world = world();
    let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member, false).unwrap().token;
    let path = world.folder.path().join("accounts.json");
    assert!(!std::fs::read_to_string(&path).unwrap().contains(token.reveal()));
    let reopened = world.reopened();
    let caller = reopened.caller(NOW, token.reveal()).unwrap();
    assert_eq!((caller.member.name.as_str(), caller.principal.as_str()), ("Ada", world.owner.as_str()));
    assert_eq!(reopened.seeds(), world.accounts.seeds());
    assert_eq!(&reopened.seeds()[0].change[..], b"change");
}

#[test]
fn a_file_of_the_first_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.json");
    let (document, profile) = (DocumentId::random(), DocumentId::random());
    let hash = hex::encode(secret::hash("skein_old"));
    let text = format!(
        r#"{{"version": 1, "workspaces": [{{"id": "w", "name": "Skein", "document": "{document}"}}],
            "members": [{{"id": "m", "workspace": "w", "name": "Ada", "role": "owner", "profile": "{profile}"}}],
            "tokens": [{{"id": "t", "hash": "{hash}", "member": "m", "name": "laptop", "kind": "member", "created": 5}}],
            "seeds": []}}"#
    );
    std::fs::write(&path, text).unwrap();
    let caller = Accounts::open(&path).unwrap().caller(NOW, "skein_old").unwrap();
    assert!(caller.is_owner() && !caller.read_only() && caller.profile() == Some((profile, Scope::from("m/m"))));
}

#[test]
fn no_other_token_lets_in() {
    let world = world();
    let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member, false).unwrap().token;
    for wrong in ["", "skein_", &token.reveal()[..token.reveal().len() - 1], &format!("{}x", token.reveal())] {
        assert!(world.accounts.caller(NOW, wrong).is_none(), "{wrong}");
    }
    let nobodys = world.accounts.mint(NOW, "nobody", "x", WriterKind::Member, false);
    assert!(matches!(nobodys, Err(AccountsError::NoMember)));
}

#[test]
fn a_worker_is_its_token_not_its_member_and_has_no_profile() {
    let world = world();
    let token = world.accounts.mint(NOW, &world.owner, "worker", WriterKind::Worker, false).unwrap().token;
    let caller = world.accounts.caller(NOW, token.reveal()).unwrap();
    assert_eq!(caller.writer().kind, WriterKind::Worker);
    assert_ne!(caller.principal.as_str(), world.owner);
    assert_eq!(caller.profile(), None);
    assert_eq!(caller.scope_of(caller.member.profile), world.workspace.scope());
}

#[test]
fn a_token_that_only_reads_does_so_whatever_its_member_may() {
    let world = world();
    let token = world.accounts.mint(NOW, &world.owner, "reports", WriterKind::Tool, true).unwrap().token;
    let caller = world.accounts.caller(NOW, token.reveal()).unwrap();
    assert!(caller.read_only() && !caller.is_owner() && caller.profile().is_none());
}

#[test]
fn a_ticket_opens_one_socket_within_thirty_seconds() {
    let world = world();
    let caller = world.device(&world.owner);
    let ticket = world.accounts.ticket(NOW, &caller);
    assert!(world.accounts.redeem(NOW.plus_ms(29_999), ticket.reveal()).is_some());
    assert!(world.accounts.redeem(NOW.plus_ms(29_999), ticket.reveal()).is_none());
    let late = world.accounts.ticket(NOW, &caller);
    assert!(world.accounts.redeem(NOW.plus_ms(30_000), late.reveal()).is_none());
    let revoked = world.accounts.ticket(NOW, &caller);
    world.accounts.revoke(NOW, &world.workspace.id, None, &caller.token).unwrap();
    assert!(world.accounts.redeem(NOW, revoked.reveal()).is_none());
}

#[test]
fn a_code_signs_in_once_and_says_why_it_does_not() {
    let world = world();
    let pair = |now, code: &str| world.accounts.pair(now, code, "Firefox").unwrap();
    let (code, until) = world.accounts.code(NOW, &world.owner, None);
    assert_eq!(until, NOW.plus_ms(codes::CODE_MS));
    let token = pair(NOW.plus_ms(1), code.reveal()).unwrap();
    assert_eq!(world.accounts.caller(NOW, token.reveal()).unwrap().kind, WriterKind::Member);
    assert_eq!(pair(NOW.plus_ms(2), code.reveal()), Err(CodeError::Used));
    let (late, _) = world.accounts.code(NOW, &world.owner, None);
    assert_eq!(pair(NOW.plus_ms(codes::CODE_MS), late.reveal()), Err(CodeError::Expired));
    assert_eq!(pair(NOW, "made-up"), Err(CodeError::Unknown));
    let guest = world.add("Bob", MemberRole::Member);
    let (code, _) = world.accounts.code(NOW, &guest.member.id, None);
    world.accounts.remove_member(NOW, &world.workspace.id, &guest.member.id).unwrap();
    assert_eq!(pair(NOW, code.reveal()), Err(CodeError::Unknown));
    let token = world.accounts.mint(NOW, &world.owner, "stolen", WriterKind::Member, false).unwrap();
    let (code, _) = world.accounts.code(NOW, &world.owner, Some(&token.id));
    world.accounts.revoke(NOW, &world.workspace.id, None, &token.id).unwrap();
    assert_eq!(pair(NOW, code.reveal()), Err(CodeError::Unknown));
}

#[test]
fn names_of_devices_are_cut_to_what_a_name_may_be() {
    let world = world();
    for given in ["", "\u{1b}\n", &"x".repeat(1_000_000)] {
        let (code, _) = world.accounts.code(NOW, &world.owner, None);
        world.accounts.pair(NOW, code.reveal(), given).unwrap().unwrap();
    }
    let names: Vec<_> = world.accounts.tokens(&world.workspace.id, None).into_iter().map(|(t, _)| t.name).collect();
    assert_eq!(names, ["a device", "a device", &"x".repeat(100)]);
}

#[test]
fn a_member_who_is_removed_and_a_token_that_is_revoked_let_nobody_in_also_after_a_reopen() {
    let world = world();
    let mut changes = world.accounts.changes();
    let bob = world.add("Bob", MemberRole::Member);
    let owner = world.device(&world.owner);
    assert_eq!((world.accounts.standing(&bob), world.accounts.standing(&owner)), (Ok(()), Ok(())));
    changes.mark_unchanged();
    world.accounts.revoke(NOW, &world.workspace.id, Some(&world.owner), &owner.token).unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(world.accounts.standing(&owner), Err(Ended::Revoked));
    world.accounts.remove_member(NOW, &world.workspace.id, &bob.member.id).unwrap();
    assert_eq!(world.accounts.standing(&bob), Err(Ended::Removed));
    let reopened = world.reopened();
    assert_eq!(reopened.members(&world.workspace.id).len(), 1);
    assert_eq!(reopened.everyone(&world.workspace.id).len(), 2, "messages of theirs keep a name");
    assert_eq!(reopened.tokens(&world.workspace.id, None), []);
    assert_eq!(reopened.writer(&bob.principal).unwrap().role, MemberRole::Member);
    assert!(matches!(reopened.revoke(NOW, &world.workspace.id, None, &bob.token), Err(AccountsError::NoToken)));
}

#[test]
fn a_role_that_changes_ends_what_is_open_and_what_was_written_stays_written() {
    let world = world();
    let bob = world.add("Bob", MemberRole::Member);
    let demoted = world.accounts.set_role(&world.workspace.id, &bob.member.id, MemberRole::Viewer).unwrap();
    assert_eq!(demoted.role, MemberRole::Viewer);
    assert_eq!(world.accounts.standing(&bob), Err(Ended::Role));
    assert_eq!(world.reopened().writer(&bob.principal).unwrap().role, MemberRole::Member);
}

#[test]
fn a_workspace_keeps_an_owner() {
    let world = world();
    let id = &world.workspace.id;
    let refused = world.accounts.set_role(id, &world.owner, MemberRole::Member);
    assert!(matches!(refused, Err(AccountsError::LastOwner)));
    assert!(matches!(world.accounts.remove_member(NOW, id, &world.owner), Err(AccountsError::LastOwner)));
    let bob = world.add("Bob", MemberRole::Viewer);
    world.accounts.set_role(id, &bob.member.id, MemberRole::Owner).unwrap();
    world.accounts.remove_member(NOW, id, &world.owner).unwrap();
    assert_eq!(world.accounts.members(id).len(), 1);
}

#[test]
fn what_is_of_another_workspace_is_as_what_is_not_there() {
    let world = world();
    let other = Workspace { id: random_id(), name: "Other".into(), document: DocumentId::random() };
    let eve = member(&other.id, "Eve", MemberRole::Owner);
    world.accounts.found(other.clone(), eve.clone(), &[]).unwrap();
    let theirs = world.device(&world.owner);
    for id in [theirs.token.as_str(), "nothing"] {
        assert!(matches!(world.accounts.revoke(NOW, &other.id, None, id), Err(AccountsError::NoToken)));
    }
    for id in [world.owner.as_str(), "nobody"] {
        assert!(matches!(world.accounts.set_role(&other.id, id, MemberRole::Viewer), Err(AccountsError::NoMember)));
        assert!(matches!(world.accounts.remove_member(NOW, &other.id, id), Err(AccountsError::NoMember)));
    }
    assert_eq!(world.accounts.tokens(&other.id, None), []);
    assert_eq!(world.accounts.standing(&theirs), Ok(()));
}

#[test]
fn names_are_names_and_one_of_a_kind() {
    let world = world();
    for bad in ["", "  ", "a\nb", "\u{7f}", &"x".repeat(101)] {
        assert!(matches!(name(bad), Err(AccountsError::Name)), "{bad:?}");
    }
    assert_eq!(name(" Ada Lovelace ").unwrap(), "Ada Lovelace");
    let again = member(&world.workspace.id, "ADA", MemberRole::Member);
    let profile = seed(again.scope(), again.profile);
    assert!(matches!(world.accounts.add_member(NOW, again, &profile), Err(AccountsError::NameTaken(_))));
}

#[test]
fn the_last_use_of_a_token_is_kept_to_the_minute() {
    let world = world();
    let token = world.accounts.mint(NOW, &world.owner, "laptop", WriterKind::Member, false).unwrap().token;
    let used = |accounts: &Accounts| accounts.tokens(&world.workspace.id, None)[0].0.used;
    assert_eq!(used(&world.accounts), None);
    world.accounts.caller(NOW, token.reveal()).unwrap();
    world.accounts.caller(NOW.plus_ms(59_999), token.reveal()).unwrap();
    assert_eq!((used(&world.accounts), used(&world.reopened())), (Some(NOW), None));
    world.accounts.keep_uses().unwrap();
    assert_eq!(used(&world.reopened()), Some(NOW));
    world.accounts.caller(NOW.plus_ms(60_000), token.reveal()).unwrap();
    assert_eq!(used(&world.accounts), Some(NOW.plus_ms(60_000)));
}

#[test]
fn a_file_that_cannot_be_read_is_refused_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.json");
    for content in ["", "{", "{\"version\": 9, \"workspaces\": [], \"members\": [], \"tokens\": [], \"seeds\": []}"] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(Accounts::open(&path), Err(AccountsError::Content(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}
