//! A workspace → an archive, read off the stores of a relay that goes on running: each document as it stands at the moment
//! when it is read. Blocks.

use std::collections::HashSet;
use std::io::{self, Write};

use serde::Serialize;
use skein_engine::blob::BlobId;
use skein_engine::ids::{DocumentId, Scope};
use tar::{Builder, Header};

use super::{END, FIRINGS, HEAD, Head, MARKS, VERSION};
use crate::accounts::{Accounts, SavedSeed, Workspace};
use crate::blobs::Blobs;
use crate::store::ledger::Ledger;
use crate::store::log::Log;

/// Where a workspace is read from.
pub(super) struct Source<'a> {
    pub(super) accounts: &'a Accounts,
    pub(super) log: &'a Log,
    pub(super) ledger: &'a Ledger,
    pub(super) blobs: &'a Blobs,
    pub(super) workspace: &'a Workspace,
}

/// Writes it whole.
pub(super) fn write(source: &Source<'_>, out: impl Write) -> io::Result<()> {
    let failed = |error: crate::store::StoreError| io::Error::other(error.to_string());
    let members = source.accounts.everyone(&source.workspace.id);
    let scopes: Vec<Scope> =
        std::iter::once(source.workspace.scope()).chain(members.iter().map(|member| member.scope())).collect();
    let mut documents: Vec<(Scope, DocumentId)> = Vec::new();
    for scope in &scopes {
        let of = source.log.documents_now(scope).map_err(failed)?;
        documents.extend(of.into_iter().map(|document| (scope.clone(), document)));
    }
    let blobs = source.blobs.list_now(&source.workspace.id)?;
    let seeds = source.accounts.seeds();
    let head = Head {
        version: VERSION,
        workspace: source.workspace.clone(),
        members,
        seeds: seeds.iter().filter(|seed| scopes.contains(&seed.scope)).map(SavedSeed::from).collect(),
        documents: documents.len() as u64,
        blobs: blobs.len() as u64,
    };
    let mut archive = Archive(Builder::new(out));
    archive.json(HEAD, &head)?;
    let mut written = HashSet::new();
    for blob in blobs {
        written.insert(blob);
        archive.blob(source, blob)?;
    }
    for (scope, document) in &documents {
        let key = (scope.clone(), *document);
        // What is damaged on the disk is not in it: devices bring that back to the relay that is left, or to the new one.
        let records = source.log.scan_now(scope, *document).map_err(failed)?;
        // Read after the changes: whoever wrote one of them is among them.
        let writers = source.ledger.writers(&key).map_err(failed)?;
        archive.json(&format!("writers/{}/{document}", scope.as_str()), &writers)?;
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.bytes.iter().copied()).collect();
        archive.entry(&format!("changes/{}/{document}", scope.as_str()), bytes.len() as u64, bytes.as_slice())?;
    }
    for ((scope, document), grave) in source.ledger.graves().map_err(failed)? {
        if scopes.contains(&scope) {
            archive.json(&format!("graves/{}/{document}", scope.as_str()), &grave)?;
        }
    }
    // What was attached meanwhile, and is named by what was read meanwhile.
    for blob in source.blobs.list_now(&source.workspace.id)? {
        if written.insert(blob) {
            archive.blob(source, blob)?;
        }
    }
    let firings = source.ledger.all_firings(&source.workspace.scope()).map_err(failed)?;
    archive.json(FIRINGS, &firings)?;
    let marks = source.ledger.marks().map_err(failed)?;
    let marks: Vec<_> = marks.into_iter().filter(|mark| scopes.contains(&mark.scope)).collect();
    archive.json(MARKS, &marks.into_iter().map(|saved| (saved.scope, saved.mark)).collect::<Vec<_>>())?;
    archive.json(END, &())?;
    archive.0.into_inner()?.flush()
}

struct Archive<W: Write>(Builder<W>);

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &str, size: u64, content: impl io::Read) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        self.0.append_data(&mut header, path, content)
    }

    fn json(&mut self, path: &str, value: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        self.entry(path, bytes.len() as u64, bytes.as_slice())
    }

    fn blob(&mut self, source: &Source<'_>, blob: BlobId) -> io::Result<()> {
        // One that was collected meanwhile is named by nobody.
        let Some((file, size)) = source.blobs.open_now(&source.workspace.id, blob)? else { return Ok(()) };
        self.entry(&format!("blobs/{blob}"), size, file)
    }
}
