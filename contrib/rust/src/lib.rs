// SPDX-License-Identifier: MIT
//! Fixtures of a [fixd(8)] daemon for tests: expensive ones, which are built once, and shared by all test processes of all runs.
//!
//! [fixd(8)]: https://manpages.debian.org/fixd
//!
//! ```no_run
//! #[test]
//! fn lookup() {
//!     let corpus: &[u8] = fixd::get("corpus");   // shared, read-only, for all tests of the binary
//!     let pg = fixd::own("pg");                  // a server of this test alone, until it is dropped
//!     println!("{} bytes, {}", corpus.len(), pg.text());
//! }
//! ```
//!
//! What a test writes to a [`Private`] view is undone by a reset, for the price of the pages that it has touched:
//!
//! ```
//! let mut weights = fixd::private("weights");
//! weights.values_mut::<f32>()[0] = 0.0;
//! weights.reset()?;
//! # Ok::<(), fixd::Error>(())
//! ```
//!
//! Elsewhere [`Fixd`] is a connection of one's own, and errors are returned. The environment is that of libfixd(3): `FIXD_SOCKET`,
//! where the daemon listens; `FIXD_TIMEOUT`, how long to wait for a build; `FIXD_DISABLE=1`, ask no daemon.
//!
//! # Forks
//! A forked child has its parent's views, and what it writes to a [`Private`] one is its own; with `FIXD_RESET_ON_FORK=1` it starts
//! with pristine ones. What it asks for it gets over a connection of its own, whatever other threads were doing with its parent's.
//! Leases of the parent last until its forked children are gone, too.
mod connection;
mod error;
mod ffi;
mod plain;
mod tests;
mod view;

use std::path::Path;
use std::sync::Arc;

use connection::Connection;
use view::Lease;

pub use error::{Error, Result};
pub use plain::Plain;
pub use tests::{get, own, private};
pub use view::{Options, Private, View};

/// A connection to the daemon. One thread at a time asks it: attaching, resetting and dropping its views wait for each other, and so
/// for a build. Clones are the same connection, which ends with the last of them and of its views.
#[derive(Clone)]
pub struct Fixd {
    connection: Arc<Connection>,
}

impl Fixd {
    /// Connects to the daemon at `$FIXD_SOCKET`, or where fixd(8) listens if nobody says where.
    pub fn open() -> Result<Fixd> {
        Ok(Fixd { connection: Connection::new(None)? })
    }

    /// Connects to the daemon at `socket`.
    pub fn open_at(socket: impl AsRef<Path>) -> Result<Fixd> {
        Ok(Fixd { connection: Connection::new(Some(socket.as_ref()))? })
    }

    /// Attaches the fixture `name` or `name[param]`, which is built first if there is no fresh image of it. An edit of an input that
    /// was complete before the call is always seen.
    pub fn attach(&self, name: &str) -> Result<View> {
        self.attach_with(name, &Options::default())
    }

    /// As [`attach`](Fixd::attach).
    pub fn attach_with(&self, name: &str, options: &Options) -> Result<View> {
        Ok(View { lease: Lease::new(self.connection.clone(), name, options, 0)? })
    }

    /// Attaches it copy-on-write.
    pub fn attach_private(&self, name: &str) -> Result<Private> {
        self.attach_private_with(name, &Options::default())
    }

    /// As [`attach_private`](Fixd::attach_private).
    pub fn attach_private_with(&self, name: &str, options: &Options) -> Result<Private> {
        Private::new(self.connection.clone(), name, options)
    }
}
