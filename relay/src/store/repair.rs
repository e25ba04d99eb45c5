//! Writes the ledger's record of writers again from the log, after the ledger was damaged: each change in the log has
//! the principal who first brought it.
//!
//! What comes back is the principal and kind of each actor; the role is that of today.

use std::collections::HashSet;

use skein_engine::ids::{ActorId, Principal, Scope};
use skein_engine::session::conversation::Writer;

use super::StoreError;
use super::ledger::Ledger;
use super::log::Log;

/// Binds every actor of these scopes that the ledger doesn't know to whoever brought its first change, as far as `who`
/// knows them. Reads the whole log. Blocks.
pub fn writers(
    log: &Log,
    ledger: &Ledger,
    scopes: &[Scope],
    who: impl Fn(&Principal) -> Option<Writer>,
) -> Result<(), StoreError> {
    for scope in scopes {
        for document in log.documents_now(scope)? {
            let key = (scope.clone(), document);
            let mut seen: HashSet<ActorId> = HashSet::new();
            let mut found = Vec::new();
            for record in log.scan_now(scope, document)? {
                if seen.insert(record.actor.clone())
                    && let Some(writer) = who(&record.received_from)
                {
                    found.push((key.clone(), record.actor, writer));
                }
            }
            ledger.bind(&found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::DocumentId;
    use skein_engine::session::conversation::{MemberRole, WriterKind};

    use super::*;
    use crate::store::record::tests::record;

    #[tokio::test]
    async fn actors_that_the_ledger_lost_are_bound_to_who_brought_them_and_others_stay() {
        use skein_engine::storage::Storage;
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&folder.path().join("log")).unwrap();
        let (ledger, _) = Ledger::open(&folder.path().join("ledger")).unwrap();
        let document = DocumentId::random();
        let mut stranger = record(document, 3, &[], 10);
        stranger.received_from = Principal::from("nobody now");
        let (lost, kept) = (record(document, 1, &[], 10), record(document, 2, &[], 10));
        let key = (lost.scope.clone(), document);
        let writer = |kind| Writer { principal: Principal::from("someone"), kind, role: MemberRole::Owner };
        log.append(&[lost.clone(), kept.clone(), stranger]).await.unwrap();
        ledger.bind(&[(key.clone(), kept.actor.clone(), writer(WriterKind::Tool))]).unwrap();
        let who = |of: &Principal| (of.as_str() == "someone").then(|| writer(WriterKind::Worker));
        writers(&log, &ledger, std::slice::from_ref(&key.0), who).unwrap();
        let expected = [(lost.actor, writer(WriterKind::Worker)), (kept.actor, writer(WriterKind::Tool))];
        assert_eq!(ledger.writers(&key).unwrap(), expected);
    }
}
