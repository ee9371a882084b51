// SPDX-License-Identifier: MIT
//! Fixtures of a fixd(8) daemon for tests.
mod error;
mod plain;

pub use error::{Error, Result};
pub use plain::Plain;
