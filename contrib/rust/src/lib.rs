// SPDX-License-Identifier: MIT
//! Fixtures of a fixd(8) daemon for tests.
mod error;

pub use error::{Error, Result};
