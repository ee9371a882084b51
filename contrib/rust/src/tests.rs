// SPDX-License-Identifier: MIT
//! What tests use: a connection for each thread, and what the process holds until its end.
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::connection::{lock, Connection};
use crate::view::Lease;
use crate::{Options, Private, Result, View};

thread_local! {
    /// Of each thread its own: a test that waits for a build keeps no other from its fixtures.
    static CONNECTION: RefCell<Option<Arc<Connection>>> = const { RefCell::new(None) };
}
static KEPT: Mutex<Vec<(String, &'static View)>> = Mutex::new(Vec::new());

fn connection() -> Result<Arc<Connection>> {
    CONNECTION.with(|own| {
        let mut own = own.borrow_mut();
        if own.is_none() {
            *own = Some(Connection::new(None)?);
        }
        Ok(own.as_ref().unwrap().clone())
    })
}

/// The harness calls the thread of a test as the test.
fn options() -> Options {
    let test = thread::current().name().filter(|n| *n != "main").map(str::to_owned);
    let program = std::env::args().next().unwrap_or_default();
    // Without the hash that cargo appends.
    let program = program.rsplit('/').next().unwrap_or_default().rsplit_once('-').map_or("", |(name, _)| name).to_owned();
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    Options { scope_key: test.as_ref().map(|t| format!("{package}/{program}::{t}")), test, timeout: None }
}

#[track_caller]
fn or_panic<T>(r: Result<T>) -> T {
    match r {
        Ok(value) => value,
        Err(e) => panic!("{e}"),
    }
}

/// Attaches a fixture for as long as the test binary runs: once, however many tests ask for it.
///
/// # Panics
/// If it cannot be had, with the daemon's sentence: the test fails, and the others go on.
#[track_caller]
pub fn get(name: &str) -> &'static View {
    let find = || lock(&KEPT).iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    if let Some(view) = find() {
        return view;
    }
    let view = own(name);
    let mut kept = lock(&KEPT);
    // Another thread may have been quicker.
    if let Some((_, first)) = kept.iter().find(|(n, _)| n == name) {
        return first;
    }
    let view: &'static View = Box::leak(Box::new(view));
    kept.push((name.to_owned(), view));
    view
}

/// Attaches a fixture until the view is dropped: of a service with clones, a pristine server of the test's own.
///
/// # Panics
/// As [`get`].
#[track_caller]
pub fn own(name: &str) -> View {
    or_panic(connection().and_then(|c| Lease::new(c, name, &options(), 0)).map(|lease| View { lease }))
}

/// Attaches a fixture that the test may write to.
///
/// # Panics
/// As [`get`].
#[track_caller]
pub fn private(name: &str) -> Private {
    or_panic(connection().and_then(|c| Private::new(c, name, &options())))
}
