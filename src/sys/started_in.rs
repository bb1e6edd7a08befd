//! The folder that this process was started in: what is named relative to it is found again when it
//! was left.

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::env;
use std::ffi::CString;

/// The path of this program, if it was executed by a relative one and the folder was left.
static PROGRAM: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// The folder's path. Nothing, if it is the root, or nobody could name it (it was removed, or is not
/// below the root), or it is not valid UTF-8, as options are.
pub fn folder() -> Option<&'static str> {
    let folder = env::current_dir().ok()?.into_os_string().into_string().ok()?;
    (folder != "/" && folder.starts_with('/')).then(|| &*folder.leak())
}

/// Leaves the folder for the root, so that its file system can be unmounted, and returns its path.
/// Nothing, if it stays, as it has none.
pub fn leave_folder() -> Option<&'static str> {
    let folder = folder()?;
    env::set_current_dir("/").ok()?;
    if let Some(program) = executed_as().filter(|path| !path.to_bytes().starts_with(b"/"))
        && let Ok(program) = CString::new([folder.as_bytes(), b"/", program.to_bytes()].concat())
    {
        PROGRAM.store(program.into_raw(), Ordering::Relaxed);
    }
    Some(folder)
}

/// The path that this program was executed by.
pub fn executed_as() -> Option<&'static CStr> {
    let mut path = PROGRAM.load(Ordering::Relaxed).cast_const();
    if path.is_null() {
        // SAFETY: it asks for a value that the kernel has put on the stack.
        path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const c_char;
    }
    // SAFETY: it is a C string that nobody gives back or changes, ours or the kernel's, or null where
    // the kernel did not say.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}
