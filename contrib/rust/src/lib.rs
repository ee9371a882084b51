// SPDX-License-Identifier: MIT
//! Fixtures of a fixd(8) daemon for tests.
mod connection;
mod error;
mod ffi;
mod plain;

pub use error::{Error, Result};
pub use plain::Plain;
