//! The folder that this process was started in, for relative paths after it has left that folder.

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::env;
use std::ffi::CString;

/// The path of this program, if it was executed by a relative one and the folder was left.
static PROGRAM: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// The folder's path. None if it is the root, has no usable path (it was removed, or is not below
/// the root), or is not valid UTF-8, as options must be.
pub fn folder() -> Option<&'static str> {
    let folder = env::current_dir().ok()?.into_os_string().into_string().ok()?;
    (folder != "/" && folder.starts_with('/')).then(|| &*folder.leak())
}

/// Changes to the root folder, so that the file system can be unmounted, and returns the old path.
/// None if the folder has no path, and the process stays in it.
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
        // SAFETY: reads a value that the kernel has put on the stack.
        path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const c_char;
    }
    // SAFETY: a C string that is never freed or changed, whether ours or the kernel's, or null if
    // the kernel did not pass it.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}
