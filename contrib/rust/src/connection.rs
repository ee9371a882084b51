// SPDX-License-Identifier: MIT
//! A connection, which one thread uses at a time, and what becomes of it when the process forks.
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};

use crate::ffi;
use crate::{Error, Result};

/// libfixd's; null after a fork from under it, until it is used again.
pub(crate) struct Handle(*mut ffi::Daemon);

// Whoever has it has locked it.
unsafe impl Send for Handle {}

pub(crate) struct Connection {
    socket: Option<CString>,
    handle: UnsafeCell<Mutex<Handle>>,
}

// The cell changes only in a child that has one thread.
unsafe impl Sync for Connection {}
unsafe impl Send for Connection {}

fn sentence(handle: *mut ffi::Daemon) -> String {
    // Never null, and valid until the next call: which needs the lock.
    unsafe { CStr::from_ptr(ffi::fixd_error(handle)) }.to_string_lossy().into_owned()
}

fn open(socket: Option<&CString>) -> Result<Handle> {
    let mut handle = ptr::null_mut();
    let r = unsafe { ffi::fixd_open(&mut handle, socket.map_or(ptr::null(), |s| s.as_ptr())) };
    if r < 0 {
        return Err(Error { errno: -r, sentence: sentence(ptr::null_mut()) });
    }
    Ok(Handle(handle))
}

impl Connection {
    pub(crate) fn new(socket: Option<&Path>) -> Result<Arc<Connection>> {
        let socket = match socket {
            Some(path) => Some(CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("the path of the socket"))?),
            None => None,
        };
        let handle = open(socket.as_ref())?;
        let c = Arc::new(Connection { socket, handle: UnsafeCell::new(Mutex::new(handle)) });
        watch_forks();
        let mut all = lock(&CONNECTIONS);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&c));
        Ok(c)
    }

    fn mutex(&self) -> &Mutex<Handle> {
        unsafe { &*self.handle.get() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Handle> {
        lock(self.mutex())
    }

    /// For calls of libfixd.
    pub(crate) fn usable(&self, handle: &mut Handle) -> Result<*mut ffi::Daemon> {
        if handle.0.is_null() {
            *handle = open(self.socket.as_ref())?;
        }
        Ok(handle.0)
    }
}

impl Handle {
    /// Of the call that gave `r`.
    pub(crate) fn error(&self, r: i64) -> Error {
        Error { errno: -r as i32, sentence: sentence(self.0) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { ffi::fixd_close(self.0) }
    }
}

/// A panic elsewhere has broken nothing here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

static CONNECTIONS: Mutex<Vec<Weak<Connection>>> = Mutex::new(Vec::new());

type Held = MutexGuard<'static, Vec<Weak<Connection>>>;

/// By the thread that forks, from before to after it.
struct Forking(UnsafeCell<Option<Held>>);
unsafe impl Sync for Forking {}
static FORKING: Forking = Forking(UnsafeCell::new(None));

fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        unsafe { ffi::pthread_atfork(before_fork, after_fork, after_fork_in_child) };
    });
}

extern "C" fn before_fork() {
    let held = lock(&CONNECTIONS);
    unsafe { *FORKING.0.get() = Some(held) };
}

extern "C" fn after_fork() {
    let held = unsafe { (*FORKING.0.get()).take() };
    drop(held);
}

/// A thread that used a connection does not exist here, and has left it in the middle of something: another one is opened for it.
extern "C" fn after_fork_in_child() {
    let held = unsafe { (*FORKING.0.get()).take() };
    for c in held.iter().flat_map(|all| all.iter()).filter_map(Weak::upgrade) {
        if c.mutex().try_lock().is_err() {
            unsafe { ptr::write(c.handle.get(), Mutex::new(Handle(ptr::null_mut()))) };
        }
    }
}
