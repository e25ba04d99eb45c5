//! The operations of a change, read from their columns one by one, in automerge's own encoding and no other: runs in
//! normal form, minimal numbers, no column that is empty, unknown, too long or too short. Other bytes can apply and yet
//! make a saved document that doesn't load, since whoever saves writes the normal form.
//!
//! Format: <https://automerge.org/automerge-binary-format-spec/#_operation_columns_in_a_change>.

use crate::sync::message::{MessageError, Reader};

/// More operations than this in one change are refused: 113 bytes can claim four million.
pub(crate) const MAX_OPS: u64 = 1 << 18;

pub(crate) const MAKE_MAP: u64 = 0;
pub(crate) const SET: u64 = 1;
pub(crate) const MAKE_LIST: u64 = 2;
pub(crate) const DELETE: u64 = 3;
pub(crate) const MAKE_TEXT: u64 = 4;
pub(crate) const INCREMENT: u64 = 5;
pub(crate) const MARK: u64 = 7;

/// What is wrong with the encoding, in words.
pub(crate) type Broken = &'static str;

/// An operation's id: the index of its actor in the change's list (0 is the author), and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) actor: u64,
    pub(crate) counter: u64,
}

/// Where in its object an operation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Map(&'a str),
    Head,
    Element(Id),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'a> {
    /// `None`: the root.
    pub(crate) object: Option<Id>,
    pub(crate) key: Key<'a>,
    pub(crate) insert: bool,
    pub(crate) action: u64,
    /// Its value's type, 0 for null.
    pub(crate) value_type: u8,
    /// Its value, where that is a signed number, a counter or a time; else 0.
    pub(crate) number: i64,
    pub(crate) preds: u64,
    pub(crate) expand: bool,
    pub(crate) mark_name: Option<&'a str>,
}

/// The columns of a change, all at the same operation.
pub(crate) struct Columns<'a> {
    ops: u64,
    object_actor: Runs<'a, u64>,
    object_counter: Runs<'a, u64>,
    key_actor: Runs<'a, u64>,
    key_counter: Deltas<'a>,
    key_text: Runs<'a, &'a str>,
    insert: Booleans<'a>,
    action: Runs<'a, u64>,
    value_meta: Runs<'a, u64>,
    value: Reader<'a>,
    pred_count: Runs<'a, u64>,
    pred_actor: Runs<'a, u64>,
    pred_counter: Deltas<'a>,
    expand: Booleans<'a>,
    mark_name: Runs<'a, &'a str>,
    /// What follows the columns.
    pub(crate) footer: &'a [u8],
}

/// The columns' ids, in the order in which they are written.
const SPECS: [u64; 14] = [1, 2, 17, 19, 21, 52, 66, 86, 87, 112, 113, 115, 148, 165];

impl<'a> Columns<'a> {
    /// Reads the list of columns and counts the operations, expanding nothing.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let mut reader = Reader::new(bytes);
        let mut sizes = [0_u64; SPECS.len()];
        let mut at = 0;
        for _ in 0..reader.count(2).map_err(broken)? {
            let (spec, size) = (reader.uleb().map_err(broken)?, reader.uleb().map_err(broken)?);
            let index = SPECS[at..].iter().position(|known| *known == spec).ok_or("an unknown column")? + at;
            if size == 0 {
                return Err("an empty column");
            }
            sizes[index] = size;
            at = index + 1;
        }
        let mut data = [Reader::new(&[]); SPECS.len()];
        for (column, size) in data.iter_mut().zip(sizes) {
            let size = usize::try_from(size).map_err(|_| "a column that is cut short")?;
            *column = Reader::new(reader.take(size).map_err(broken)?);
        }
        let ops = count_runs(data[6])?;
        let [
            object_actor,
            object_counter,
            key_actor,
            key_counter,
            key_text,
            insert,
            action,
            value_meta,
            value,
            pred_count,
            pred_actor,
            pred_counter,
            expand,
            mark_name,
        ] = data;
        Ok(Self {
            ops,
            object_actor: Runs::new(object_actor),
            object_counter: Runs::new(object_counter),
            key_actor: Runs::new(key_actor),
            key_counter: Deltas::new(key_counter),
            key_text: Runs::new(key_text),
            insert: Booleans::new(insert),
            action: Runs::new(action),
            value_meta: Runs::new(value_meta),
            value,
            pred_count: Runs::new(pred_count),
            pred_actor: Runs::new(pred_actor),
            pred_counter: Deltas::new(pred_counter),
            expand: Booleans::new(expand),
            mark_name: Runs::new(mark_name),
            footer: reader.rest(),
        })
    }

    /// How many operations.
    pub(crate) fn ops(&self) -> u64 {
        self.ops
    }

    /// The next operation; its predecessors follow by [`Self::pred`]. To be called [`Self::ops`] times.
    pub(crate) fn next_op(&mut self) -> Result<Op<'a>, Broken> {
        let object = match (self.object_actor.next()?, self.object_counter.next()?) {
            (None, None) => None,
            (Some(actor), Some(counter)) if counter > 0 => Some(Id { actor, counter }),
            _ => return Err("half an object id"),
        };
        let key = match (self.key_text.next()?, self.key_actor.next()?, self.key_counter.next()?) {
            (Some(text), None, None) => Key::Map(text),
            (None, None, Some(0)) => Key::Head,
            (None, Some(actor), Some(counter)) if counter > 0 => Key::Element(Id { actor, counter }),
            _ => return Err("half a key"),
        };
        let insert = self.insert.next(true)?;
        let action = self.action.next()?.ok_or("an operation without action")?;
        let meta = self.value_meta.next()?.ok_or("an operation without value")?;
        let value_type = (meta & 0x0f) as u8;
        let number = self.check_value(value_type, meta >> 4)?;
        let preds = self.pred_count.next()?.ok_or("an operation without its count of predecessors")?;
        let expand = self.expand.next(false)?;
        let mark_name = self.mark_name.next()?;
        Ok(Op { object, key, insert, action, value_type, number, preds, expand, mark_name })
    }

    /// The next predecessor of the last operation.
    pub(crate) fn pred(&mut self) -> Result<Id, Broken> {
        match (self.pred_actor.next()?, self.pred_counter.next()?) {
            (Some(actor), Some(counter)) if counter > 0 => Ok(Id { actor, counter }),
            _ => Err("half a predecessor"),
        }
    }

    /// After the last operation: whether every column ends here.
    pub(crate) fn finish(&self) -> Result<(), Broken> {
        let ended = self.object_actor.ended()
            && self.object_counter.ended()
            && self.key_actor.ended()
            && self.key_counter.0.ended()
            && self.key_text.ended()
            && self.insert.ended()
            && self.action.ended()
            && self.value_meta.ended()
            && self.value.is_empty()
            && self.pred_count.ended()
            && self.pred_actor.ended()
            && self.pred_counter.0.ended()
            && self.expand.ended()
            && !self.expand.all_false()
            && self.mark_name.ended();
        if ended { Ok(()) } else { Err("a column that is too long, or that says nothing") }
    }

    fn check_value(&mut self, value_type: u8, length: u64) -> Result<i64, Broken> {
        let length = usize::try_from(length).map_err(|_| "a value that is cut short")?;
        let bytes = self.value.take(length).map_err(broken)?;
        let mut reader = Reader::new(bytes);
        let mut number = 0;
        let fits = match value_type {
            // null, false, true
            0..=2 => bytes.is_empty(),
            // unsigned
            3 => reader.uleb().is_ok() && reader.is_empty(),
            // signed, counter, time
            4 | 8 | 9 => {
                number = reader.sleb().map_err(broken)?;
                reader.is_empty()
            }
            // float
            5 => bytes.len() == 8,
            // text
            6 => std::str::from_utf8(bytes).is_ok(),
            // bytes, and types that are still to be invented
            _ => true,
        };
        if fits { Ok(number) } else { Err("a value that isn't of its type") }
    }
}

fn broken(error: MessageError) -> Broken {
    error.0
}

/// How many values a column of runs holds, by its run lengths.
fn count_runs(mut column: Reader<'_>) -> Result<u64, Broken> {
    let mut count = 0_u64;
    while !column.is_empty() {
        let run = column.sleb().map_err(broken)?;
        let length = if run == 0 { column.uleb().map_err(broken)? } else { run.unsigned_abs() };
        count = count.saturating_add(length);
        if count > MAX_OPS {
            return Err("more operations than a change may hold");
        }
        // The action column holds numbers: one for a run, as many as its length for a literal.
        for _ in 0..(if run < 0 { length } else { u64::from(run > 0) }) {
            column.uleb().map_err(broken)?;
        }
    }
    Ok(count)
}

trait RunValue<'a>: Copy + PartialEq {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MessageError>;
}

impl<'a> RunValue<'a> for u64 {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MessageError> {
        reader.uleb()
    }
}

impl<'a> RunValue<'a> for i64 {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MessageError> {
        reader.sleb()
    }
}

impl<'a> RunValue<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MessageError> {
        std::str::from_utf8(reader.prefixed()?).map_err(|_| MessageError("a text that isn't UTF-8"))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Run {
    Start,
    Repeat,
    Literal,
    Null,
}

/// A run-length encoded column. One that isn't there holds nulls without end.
struct Runs<'a, V> {
    column: Reader<'a>,
    absent: bool,
    run: Run,
    left: u64,
    last: Option<V>,
    any: bool,
}

impl<'a, V: RunValue<'a>> Runs<'a, V> {
    fn new(column: Reader<'a>) -> Self {
        Self { absent: column.is_empty(), column, run: Run::Start, left: 0, last: None, any: false }
    }

    fn next(&mut self) -> Result<Option<V>, Broken> {
        if self.absent {
            return Ok(None);
        }
        if self.left == 0 {
            self.begin()?;
        }
        self.left -= 1;
        if self.run == Run::Literal {
            let value = V::read(&mut self.column).map_err(broken)?;
            if self.last.replace(value) == Some(value) {
                return Err("a repetition that is no run");
            }
            self.any = true;
        }
        Ok(self.last)
    }

    fn begin(&mut self) -> Result<(), Broken> {
        let length = self.column.sleb().map_err(broken)?;
        let run = match length {
            0 => Run::Null,
            1.. => Run::Repeat,
            _ => Run::Literal,
        };
        if length == 1 || (run == self.run && run != Run::Repeat) {
            return Err("runs that belong together");
        }
        self.left = length.unsigned_abs();
        match run {
            Run::Null => {
                self.left = self.column.uleb().map_err(broken)?;
                self.last = None;
            }
            Run::Repeat => {
                let value = V::read(&mut self.column).map_err(broken)?;
                if self.last.replace(value) == Some(value) {
                    return Err("runs that belong together");
                }
                self.any = true;
            }
            Run::Literal | Run::Start => {}
        }
        self.run = run;
        if self.left == 0 { Err("a run of nothing") } else { Ok(()) }
    }

    fn ended(&self) -> bool {
        self.absent || (self.left == 0 && self.column.is_empty() && self.any)
    }
}

/// A column of differences to the value before.
struct Deltas<'a>(Runs<'a, i64>, i64);

impl<'a> Deltas<'a> {
    fn new(column: Reader<'a>) -> Self {
        Self(Runs::new(column), 0)
    }

    fn next(&mut self) -> Result<Option<u64>, Broken> {
        let Some(delta) = self.0.next()? else { return Ok(None) };
        self.1 = self.1.checked_add(delta).ok_or("a counter that is too large")?;
        u64::try_from(self.1).map(Some).map_err(|_| "a negative counter")
    }
}

/// A column of booleans: lengths of runs, the first of them false.
struct Booleans<'a> {
    column: Reader<'a>,
    absent: bool,
    started: bool,
    value: bool,
    any: bool,
    left: u64,
}

impl<'a> Booleans<'a> {
    fn new(column: Reader<'a>) -> Self {
        Self { absent: column.is_empty(), column, started: false, value: true, any: false, left: 0 }
    }

    fn next(&mut self, required: bool) -> Result<bool, Broken> {
        if self.absent {
            return if required { Err("a column is missing") } else { Ok(false) };
        }
        while self.left == 0 {
            self.left = self.column.uleb().map_err(broken)?;
            if self.left == 0 && self.started {
                return Err("a run of nothing");
            }
            self.started = true;
            self.value = !self.value;
        }
        self.left -= 1;
        self.any |= self.value;
        Ok(self.value)
    }

    fn ended(&self) -> bool {
        self.left == 0 && self.column.is_empty()
    }

    fn all_false(&self) -> bool {
        !self.absent && !self.any
    }
}
