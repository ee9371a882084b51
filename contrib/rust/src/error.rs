// SPDX-License-Identifier: MIT
use std::fmt;
use std::io;

/// Why something could not be had: the daemon's own sentence, with the last words of a builder that failed, or what went wrong on the
/// way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(crate) errno: i32,
    pub(crate) sentence: String,
}

/// Of every function here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(what: &str) -> Error {
        Error { errno: 22, sentence: format!("{what} has a NUL in it") }
    }

    /// The number of errno(3), above 0; those of fixd_attach() are in libfixd(3).
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What it is as an error of std::io: NotFound (no such fixture), ConnectionRefused (no daemon), TimedOut (not ready in time; the
    /// build goes on)...
    pub fn kind(&self) -> io::ErrorKind {
        io::Error::from_raw_os_error(self.errno).kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        io::Error::new(e.kind(), e)
    }
}
