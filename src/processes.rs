//! Who descends from whom, from the kernel's tables in /proc: what the app left where drain-init is
//! not PID 1 and "everyone" would be too many; and which drain-init is the outermost.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::ops::ControlFlow;

use crate::sys::{Folder, Pid};

/// The folder of a process in /proc.
pub fn folder(pid: Pid) -> Option<Folder> {
    Folder::open(&CString::new(format!("/proc/{pid}")).ok()?).ok()
}

/// Every process with its parent, or nobody where there is no /proc.
pub fn parents() -> Vec<(Pid, Pid)> {
    let mut parents = Vec::new();
    if let Ok(processes) = Folder::open(c"/proc") {
        processes.each(&mut |name| {
            if let Ok(pid) = name.to_str().unwrap_or_default().parse()
                && let Ok(process) = processes.folder(name)
                && let Some(parent) = parent(&process.read(c"stat"))
            {
                parents.push((pid, parent));
            }
            ControlFlow::Continue(())
        });
    }
    parents
}

/// Every descendant of `ancestor`, or none where there is no /proc.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut found = vec![ancestor];
    let mut index = 0;
    while let Some(&parent) = found.get(index) {
        // Process ids are used again while the table is read: nobody is taken twice.
        for (child, its_parent) in &parents {
            if *its_parent == parent && *child != ancestor {
                found.push(*child);
            }
        }
        index += 1;
        if index > parents.len() {
            break;
        }
    }
    found.split_off(1)
}

/// Whether one of the ancestors of a process is among these.
pub fn is_within(pid: Pid, ancestors: &[Pid], parents: &[(Pid, Pid)]) -> bool {
    let mut child = pid;
    // Process ids are used again while the table is read: it may have a circle.
    for _ in parents {
        let Some((_, parent)) = parents.iter().find(|(process, _)| *process == child) else {
            return false;
        };
        if ancestors.contains(parent) {
            return true;
        }
        child = *parent;
    }
    false
}

/// The parent in a line of /proc/PID/stat.
fn parent(stat: &[u8]) -> Option<Pid> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// The fields of a line of /proc/PID/stat from the state on: `PID (NAME) STATE PARENT ...`, where
/// NAME may hold anything, brackets and spaces too.
pub fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::parent;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent(b"12 (app) S 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (a) S 1 (b) R 7 12"), Some(7));
        assert_eq!(parent(b"12 (\xff\n) S 7"), Some(7));
        assert_eq!(parent(b"12 (app) S"), None);
        assert_eq!(parent(b""), None);
    }
}
