// SPDX-License-Identifier: MIT
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::raw::{c_int, c_uint};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::{Connection, Handle};
use crate::plain::Plain;
use crate::{ffi, Error, Result};

/// How a fixture is attached.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long to wait for a build; `None`: $FIXD_TIMEOUT, or 60 s.
    pub timeout: Option<Duration>,
    /// Where the test is, "package/file::Suite::test": of this a fixture takes the part of its scope.
    pub scope_key: Option<String>,
    /// The test that attaches, for fixctl trace and report.
    pub test: Option<String>,
}

/// What both kinds of views are made of: libfixd's view, and the connection that has the lease.
pub(crate) struct Lease {
    connection: Arc<Connection>,
    view: NonNull<ffi::View>,
    test: Option<CString>,
}

// All that may not happen at the same time happens with the connection locked.
unsafe impl Send for Lease {}
unsafe impl Sync for Lease {}

fn c_string(s: &str, what: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Error::invalid(what))
}

fn milliseconds(timeout: Option<Duration>) -> c_int {
    timeout.map_or(0, |t| t.as_millis().clamp(1, c_int::MAX as u128) as c_int)
}

impl Lease {
    pub(crate) fn new(connection: Arc<Connection>, name: &str, options: &Options, flags: c_uint) -> Result<Lease> {
        let mut handle = connection.lock();
        let view = attach(&connection, &mut handle, name, options, flags)?;
        let test = options.test.as_deref().map(|t| c_string(t, "the name of the test")).transpose()?;
        drop(handle);
        Ok(Lease { connection, view, test })
    }

    fn data(&self) -> *mut u8 {
        unsafe { ffi::fixd_view_data(self.view.as_ptr()) as *mut u8 }
    }

    fn size(&self) -> usize {
        unsafe { ffi::fixd_view_size(self.view.as_ptr()) }
    }

    fn bytes(&self) -> &[u8] {
        unsafe { slice::from_raw_parts(self.data(), self.size()) }
    }

    fn flags(&self) -> c_uint {
        unsafe { ffi::fixd_view_flags(self.view.as_ptr()) }
    }
}

fn attach(c: &Connection, handle: &mut Handle, name: &str, options: &Options, flags: c_uint) -> Result<NonNull<ffi::View>> {
    let f = c.usable(handle)?;
    let name = c_string(name, "the name of the fixture")?;
    let key = options.scope_key.as_deref().map(|k| c_string(k, "the scope key")).transpose()?;
    let test = options.test.as_deref().map(|t| c_string(t, "the name of the test")).transpose()?;
    let o = ffi::Options {
        size: std::mem::size_of::<ffi::Options>(),
        flags,
        timeout_ms: milliseconds(options.timeout),
        scope_key: key.as_ref().map_or(ptr::null(), |k| k.as_ptr()),
        depends: ptr::null(),
        n_depends: 0,
    };
    let mut view = ptr::null_mut();
    let r = unsafe {
        ffi::fixd_set_test(f, test.as_ref().map_or(ptr::null(), |t| t.as_ptr()));
        ffi::fixd_attach(f, name.as_ptr(), &o, &mut view)
    };
    match NonNull::new(view) {
        Some(view) if r == 0 => Ok(view),
        _ => Err(handle.error(r.into())),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _locked = self.connection.lock();
        unsafe { ffi::fixd_detach(self.view.as_ptr()) }
    }
}

macro_rules! common {
    ($View:ty) => {
        impl $View {
            /// Where the tree of a directory fixture is; it stays there while the view is held.
            pub fn path(&self) -> Option<&Path> {
                let p = unsafe { ffi::fixd_view_path(self.lease.view.as_ptr()) };
                (!p.is_null()).then(|| Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(p) }.to_bytes())))
            }

            /// The bytes as text: what a service's value is wanted for. Panics if they are none.
            pub fn text(&self) -> &str {
                std::str::from_utf8(self).expect("the fixture is no UTF-8")
            }

            /// The bytes as values of one type. Panics if they are not a number of whole ones, aligned.
            pub fn values<T: Plain>(&self) -> &[T] {
                crate::plain::values(self)
            }

            /// The object that a builder in C has set, for as long as the view is held.
            ///
            /// # Safety
            /// It must be a `T`, as must be all that it points to. Of a view that is copy-on-write nobody may be changing it.
            pub unsafe fn root<T>(&self) -> &T {
                &*(ffi::fixd_view_root(self.lease.view.as_ptr()) as *const T)
            }

            /// 1 for the first image of a fixture, and so on.
            pub fn generation(&self) -> u32 {
                unsafe { ffi::fixd_view_generation(self.lease.view.as_ptr()) }
            }

            /// Is this still what an attach would give? One load from memory, no system call.
            pub fn is_current(&self) -> bool {
                unsafe { ffi::fixd_view_current(self.lease.view.as_ptr()) }
            }

            /// Did this attach have to wait for a build?
            pub fn was_built(&self) -> bool {
                self.lease.flags() & ffi::VIEW_BUILT != 0
            }

            /// Was it there before this run?
            pub fn was_reused(&self) -> bool {
                self.lease.flags() & ffi::VIEW_REUSED != 0
            }
        }

        impl Deref for $View {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                self.lease.bytes()
            }
        }

        impl AsRef<[u8]> for $View {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl fmt::Debug for $View {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($View)).field("size", &self.len()).field("generation", &self.generation()).finish()
            }
        }
    };
}

/// A read-only view of an image: it is its bytes, which are mapped, not copied. Dropping it gives the lease back; of a service with
/// clones that ends the clone.
pub struct View {
    pub(crate) lease: Lease,
}

/// A copy-on-write view: what is written to it is this process's own, and [`reset`](Private::reset) undoes it.
pub struct Private {
    lease: Lease,
}

common!(View);
common!(Private);

impl Private {
    /// Nobody else in this process may have what it, or what it points into, is: a reset would undo that one's writes.
    pub(crate) fn new(connection: Arc<Connection>, name: &str, options: &Options) -> Result<Private> {
        Ok(Private { lease: Lease::new(connection, name, options, ffi::COW | ffi::ALONE)? })
    }

    /// Makes it pristine, with what it points into in other images. Returns how many pages were put back, an upper bound.
    pub fn reset(&mut self) -> Result<u64> {
        let c = &self.lease.connection;
        let mut handle = c.lock();
        let f = c.usable(&mut handle)?;
        let r = unsafe {
            ffi::fixd_set_test(f, self.lease.test.as_ref().map_or(ptr::null(), |t| t.as_ptr()));
            ffi::fixd_view_reset(self.lease.view.as_ptr())
        };
        u64::try_from(r).map_err(|_| handle.error(r))
    }

    /// The bytes that differ from the image, as ranges of it; what was written to images that it points into is left out.
    pub fn changes(&mut self) -> Result<Vec<std::ops::Range<usize>>> {
        let c = &self.lease.connection;
        let mut handle = c.lock();
        c.usable(&mut handle)?;
        let none = ffi::Range { start: ptr::null(), length: 0 };
        let mut found = vec![none; 64];
        loop {
            let r = unsafe { ffi::fixd_view_changes(self.lease.view.as_ptr(), found.as_mut_ptr(), found.len()) };
            let n = usize::try_from(r).map_err(|_| handle.error(r))?;
            if n <= found.len() {
                found.truncate(n);
                break;
            }
            found.resize(n, none);
        }
        let start = self.lease.data() as usize;
        let here = start..start + self.lease.size();
        let inside = found.iter().filter(|r| here.contains(&(r.start as usize)));
        Ok(inside.map(|r| r.start as usize - start..r.start as usize - start + r.length).collect())
    }

    /// As [`values`](Private::values), to be written to.
    pub fn values_mut<T: Plain>(&mut self) -> &mut [T] {
        crate::plain::values_mut(self)
    }

    /// As [`root`](Private::root), to be written to.
    ///
    /// # Safety
    /// As there; what other views of this process point to, too, nobody else may be using.
    pub unsafe fn root_mut<T>(&mut self) -> &mut T {
        &mut *(ffi::fixd_view_root(self.lease.view.as_ptr()) as *mut T)
    }
}

impl DerefMut for Private {
    fn deref_mut(&mut self) -> &mut [u8] {
        unsafe { slice::from_raw_parts_mut(self.lease.data(), self.lease.size()) }
    }
}
