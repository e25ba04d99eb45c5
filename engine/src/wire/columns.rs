//! Rows of the catalog by column, so that what is alike lies together and deflates well: ids and hashes as bare bytes
//! (they don't deflate), names, previews and times each in a list, and what is left of the rows, which is much the same
//! in all of them. Ten thousand rows take a fifth less so.

use std::vec::IntoIter;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use automerge::ChangeHash;

use super::catalog::Row;
use crate::ids::{DocumentId, Micros, Timestamp};

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Columns {
    #[serde(skip)]
    documents: Bytes,
    /// How many heads each row has.
    counts: Vec<usize>,
    #[serde(skip)]
    heads: Bytes,
    names: Vec<String>,
    previews: Vec<String>,
    strands: Vec<String>,
    positions: Vec<String>,
    agents: Vec<String>,
    /// Milliseconds since the row before was updated (rows come in the order in which they changed), around the clock
    /// where it was later.
    updated: Vec<u64>,
    /// Milliseconds before that.
    created: Vec<u64>,
    costs: Vec<u64>,
    durations: Vec<u64>,
    progress: Vec<u64>,
    /// The rows without all that.
    rest: Vec<Row>,
}

impl Columns {
    pub(super) fn of(rows: &[Row]) -> Self {
        let mut columns = Self::default();
        let (mut documents, mut heads) = (Vec::new(), Vec::new());
        let mut before = 0_u64;
        for row in rows {
            let mut row = row.clone();
            documents.extend_from_slice(row.document.as_bytes());
            row.document = NOBODY;
            columns.counts.push(row.heads.len());
            heads.extend(row.heads.drain(..).flat_map(|hash| hash.0));
            if let Some(summary) = &mut row.summary {
                summary.id = NOBODY;
                columns.names.push(std::mem::take(&mut summary.name));
                columns.previews.push(std::mem::take(&mut summary.preview));
                columns.strands.push(std::mem::take(&mut summary.strand));
                columns.agents.extend(summary.agent.as_mut().map(std::mem::take));
                columns.positions.extend(summary.position.as_mut().map(std::mem::take));
                let updated = summary.updated_at.as_mut().map(std::mem::take);
                columns.updated.extend(updated.map(|at| at.0.wrapping_sub(before)));
                before = updated.map_or(before, |at| at.0);
                let created = summary.created_at.as_mut().map(std::mem::take);
                columns.created.extend(created.map(|at| before.wrapping_sub(at.0)));
                columns.costs.extend(summary.cost_micros.as_mut().map(|cost| std::mem::take(cost).0));
                columns.durations.push(std::mem::take(&mut summary.duration_ms));
                columns.progress.push(std::mem::take(&mut summary.progress));
            }
            columns.rest.push(row);
        }
        columns.documents = documents.into();
        columns.heads = heads.into();
        columns
    }

    /// `None`: the columns don't fit together.
    pub(super) fn rows(self) -> Option<Vec<Row>> {
        let mut documents = self.documents.as_chunks::<16>().0.iter();
        let mut heads = self.heads.as_chunks::<32>().0.iter();
        let mut counts = self.counts.into_iter();
        let [mut names, mut previews, mut strands, mut positions, mut agents] =
            [self.names, self.previews, self.strands, self.positions, self.agents].map(Vec::into_iter);
        let [mut created, mut updated, mut costs, mut durations, mut progress] =
            [self.created, self.updated, self.costs, self.durations, self.progress].map(Vec::into_iter);
        let mut before = 0_u64;
        let mut rows = self.rest;
        for row in &mut rows {
            row.document = DocumentId::from_bytes(*documents.next()?);
            for _ in 0..counts.next()? {
                row.heads.push(ChangeHash(*heads.next()?));
            }
            let Some(summary) = &mut row.summary else { continue };
            summary.id = row.document;
            summary.name = names.next()?;
            summary.preview = previews.next()?;
            summary.strand = strands.next()?;
            fill(&mut summary.position, &mut positions, |text| text)?;
            fill(&mut summary.agent, &mut agents, |text| text)?;
            fill(&mut summary.updated_at, &mut updated, |since| Timestamp(before.wrapping_add(since)))?;
            before = summary.updated_at.map_or(before, |at| at.0);
            fill(&mut summary.created_at, &mut created, |ago| Timestamp(before.wrapping_sub(ago)))?;
            fill(&mut summary.cost_micros, &mut costs, Micros)?;
            summary.duration_ms = durations.next()?;
            summary.progress = progress.next()?;
        }
        Some(rows)
    }
}

/// Stands in the rest for every document.
const NOBODY: DocumentId = DocumentId::from_bytes([0; 16]);

/// Puts back what a field held, if it held something.
fn fill<T, U>(field: &mut Option<T>, column: &mut IntoIter<U>, read: impl FnOnce(U) -> T) -> Option<()> {
    if let Some(field) = field {
        *field = read(column.next()?);
    }
    Some(())
}

/// For `#[serde(with)]`: rows that travel by column, packed.
pub(super) mod packed {
    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Columns, Row};
    use crate::wire::packed::{MAX_PAGE, pack, unpack};

    pub(in crate::wire) fn serialize<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = Columns::of(rows);
        let (documents, heads) = (std::mem::take(&mut columns.documents), std::mem::take(&mut columns.heads));
        (documents, heads, Bytes::from(pack(&columns))).serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
        let (documents, heads, packed) = <(Bytes, Bytes, Bytes)>::deserialize(deserializer)?;
        let columns: Columns = unpack(&packed, MAX_PAGE).map_err(D::Error::custom)?;
        Columns { documents, heads, ..columns }
            .rows()
            .ok_or_else(|| D::Error::custom("the columns of its rows don't fit together"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Leases, Session, Summary, Writers, conversation, summary};

    fn row(n: u8) -> Row {
        let (document, session) = (DocumentId::from_bytes([n; 16]), Session::default());
        let empty = conversation(&session, &Leases::default(), &Writers::default(), Timestamp(0));
        let summary = Summary {
            name: format!("session {n}"),
            // An earlier update than the creation, and none at all: clocks and foreign clients.
            created_at: (n != 1).then_some(Timestamp(1000)),
            updated_at: (n != 2).then_some(Timestamp(u64::from(n) * 400)),
            cost_micros: (n != 3).then_some(Micros(7)),
            agent: (n == 6).then(|| "an agent".to_owned()),
            position: (n == 4).then(|| "0000000001".to_owned()),
            ..summary::summary(document, &session, &empty, Timestamp(0))
        };
        let heads = (0..n % 3).map(|head| automerge::ChangeHash([head; 32])).collect();
        Row { document, heads, summary: (n != 5).then_some(summary), live: None, tombstone: None }
    }

    #[test]
    fn rows_come_back_as_they_were_whatever_they_lack() {
        let rows: Vec<Row> = (0..7).map(row).collect();
        assert_eq!(Columns::of(&rows).rows(), Some(rows));
        assert_eq!(Columns::of(&[]).rows(), Some(vec![]));
    }

    #[test]
    fn columns_that_lack_something_give_no_rows() {
        let rows: Vec<Row> = (0..7).map(row).collect();
        let lacks: [fn(&mut Columns); 4] = [
            |columns| drop(columns.names.pop()),
            |columns| columns.documents.truncate(20),
            |columns| columns.heads.truncate(40),
            |columns| columns.counts[0] = usize::MAX,
        ];
        for lack in lacks {
            let mut columns = Columns::of(&rows);
            lack(&mut columns);
            assert_eq!(columns.rows(), None);
        }
    }
}
