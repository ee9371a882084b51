// SPDX-License-Identifier: MIT
use std::mem;
use std::slice;

/// Types of which all bytes are values: numbers, and arrays of them.
///
/// # Safety
/// Every pattern of bits must be a value, and there must be no padding.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($t:ty)*) => { $(unsafe impl Plain for $t {})* };
}

plain!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64);
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

fn count<T>(bytes: &[u8]) -> usize {
    let size = mem::size_of::<T>();
    assert!(
        size > 0 && bytes.len() % size == 0,
        "{} bytes are not a number of whole {} of {size} bytes",
        bytes.len(),
        std::any::type_name::<T>()
    );
    assert!(
        bytes.as_ptr() as usize % mem::align_of::<T>() == 0 || bytes.is_empty(),
        "the bytes are not aligned for {}",
        std::any::type_name::<T>()
    );
    bytes.len() / size
}

pub(crate) fn values<T: Plain>(bytes: &[u8]) -> &[T] {
    match count::<T>(bytes) {
        0 => &[],
        n => unsafe { slice::from_raw_parts(bytes.as_ptr() as *const T, n) },
    }
}

pub(crate) fn values_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    match count::<T>(bytes) {
        0 => &mut [],
        n => unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr() as *mut T, n) },
    }
}
