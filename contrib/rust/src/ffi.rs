// SPDX-License-Identifier: MIT
//! fixd.h.
use std::os::raw::{c_char, c_int, c_uint, c_void};

#[repr(C)]
pub struct Daemon {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct View {
    _opaque: [u8; 0],
}

pub const COW: c_uint = 1;
pub const ALONE: c_uint = 4;
pub const VIEW_BUILT: c_uint = 1;
pub const VIEW_REUSED: c_uint = 2;

#[repr(C)]
pub struct Options {
    pub size: usize,
    pub flags: c_uint,
    pub timeout_ms: c_int,
    pub scope_key: *const c_char,
    pub depends: *const *mut View,
    pub n_depends: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Range {
    pub start: *const c_void,
    pub length: usize,
}

extern "C" {
    pub fn fixd_open(out: *mut *mut Daemon, socket: *const c_char) -> c_int;
    pub fn fixd_close(f: *mut Daemon);
    pub fn fixd_error(f: *const Daemon) -> *const c_char;
    pub fn fixd_set_test(f: *mut Daemon, test: *const c_char);
    pub fn fixd_attach(f: *mut Daemon, name: *const c_char, options: *const Options, out: *mut *mut View) -> c_int;
    pub fn fixd_detach(v: *mut View);
    pub fn fixd_view_root(v: *const View) -> *mut c_void;
    pub fn fixd_view_data(v: *const View) -> *const c_void;
    pub fn fixd_view_size(v: *const View) -> usize;
    pub fn fixd_view_path(v: *const View) -> *const c_char;
    pub fn fixd_view_generation(v: *const View) -> u32;
    pub fn fixd_view_flags(v: *const View) -> c_uint;
    pub fn fixd_view_current(v: *const View) -> bool;
    pub fn fixd_view_reset(v: *mut View) -> i64;
    pub fn fixd_view_changes(v: *mut View, ranges: *mut Range, n: usize) -> i64;
    /// Of libc.
    pub fn pthread_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> c_int;
}
