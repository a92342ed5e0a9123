//! Where the kernel enters.
//!
//! Not through Rust's own `main`: its runtime ignores SIGPIPE and opens `/dev/null` on closed
//! standard descriptors, and the command would inherit both.

use std::ffi::{CStr, CString, c_char, c_int};

use crate::environment::Environment;

unsafe extern "C" {
    /// POSIX: the environment, a list that ends with a null pointer.
    static environ: *const *const c_char;
}

/// Entry point of the C runtime.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "the test harness has a main of its own"))]
extern "C" fn main(_count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: the C runtime passes a list of strings that ends with a null pointer (C11 5.1.2.2.1).
    let arguments = unsafe { copy_list(arguments) };
    // SAFETY: POSIX gives `environ` the same form, and nothing has changed it yet.
    let environment = unsafe { copy_list(environ) };
    crate::run(&arguments, &Environment::new(environment))
}

/// # Safety
///
/// `list` is null, or points to pointers to strings, of which the last is null.
unsafe fn copy_list(list: *const *const c_char) -> Vec<CString> {
    if list.is_null() {
        return Vec::new();
    }
    let mut copies = Vec::new();
    loop {
        // SAFETY: the list has not ended before this index.
        let text = unsafe { *list.add(copies.len()) };
        if text.is_null() {
            return copies;
        }
        // SAFETY: every entry but the last is a string.
        copies.push(unsafe { CStr::from_ptr(text) }.to_owned());
    }
}
