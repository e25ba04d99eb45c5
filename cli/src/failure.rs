//! How a command ends badly: one line on standard error, the cause first, and an exit code.

use std::fmt;
use std::io;

use skein_client::{ClientError, Problem, StoreError};
use skein_engine::device::DeviceError;
use skein_engine::workspace::WorkspaceError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One sentence.
    pub(crate) sentence: String,
    /// 1 failed, 2 wrong usage, 3 waiting timed out.
    pub(crate) code: u8,
}

impl Failure {
    /// Failed.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 1 }
    }

    /// Wrong usage.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 2 }
    }

    /// Waiting timed out.
    pub(crate) fn timeout(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 3 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever the cause says, and nothing that a terminal obeys: names of others may be in it.
        let sentence = crate::print::plain(&self.sentence);
        let mut words = sentence.split_whitespace();
        words.next().map_or(Ok(()), |word| f.write_str(word))?;
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

macro_rules! from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        })*
    };
}

from!(ClientError, DeviceError, Problem, StoreError, WorkspaceError, serde_json::Error);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("{error}, while printing"))
    }
}
