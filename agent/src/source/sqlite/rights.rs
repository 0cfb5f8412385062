//! SQLite asks by `access(2)` whether a write-ahead log is there, and that call looks at the real user's rights without any capability. A service that may
//! read everything by `CAP_DAC_READ_SEARCH` alone would find no log in a private directory, and no way to open the database. Here it is asked by the rights that
//! count when the file is opened.

use std::ffi::{c_char, c_int};
use std::sync::Once;

use rusqlite::ffi;

/// From now on SQLite asks by effective rights, in this process.
pub fn use_effective() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default VFS is a static of SQLite. What is set has the type of the call in whose place it is set, and lives as long as the program;
        // SQLite casts it back to that type. The unix VFS is the only one that is built, and knows this name.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            if let Some(set) = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) {
                let own: unsafe extern "C" fn(*const c_char, c_int) -> c_int = access;
                let call = std::mem::transmute::<
                    unsafe extern "C" fn(*const c_char, c_int) -> c_int,
                    unsafe extern "C" fn(),
                >(own);
                set(vfs, c"access".as_ptr(), Some(call));
            }
        }
    });
}

/// `access(2)` by effective rights.
unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: SQLite gives a path that ends with a zero, as it would give to the call in whose place this is.
    unsafe { libc::faccessat(libc::AT_FDCWD, path, mode, libc::AT_EACCESS) }
}
