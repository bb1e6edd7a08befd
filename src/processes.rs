//! The tree of processes, from /proc: finds the app's leftovers where drain-init is not PID 1 and
//! "everyone" would be too many, and the outermost drain-init.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::Write;
use std::ops::ControlFlow;

use crate::sys::{self, Folder, Pid};

/// The folder of a process in /proc.
pub fn folder(pid: Pid) -> Option<Folder> {
    Folder::open(&CString::new(format!("/proc/{pid}")).ok()?).ok()
}

/// Every process with its parent; empty without /proc.
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

/// Every descendant of `ancestor`; empty without /proc.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut found = vec![ancestor];
    let mut index = 0;
    while let Some(&parent) = found.get(index) {
        // Pids may be reused while the table is read, so each process is taken once.
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

/// The descendants of `ancestor` that are not zombies, with their names.
pub fn named(ancestor: Pid) -> Vec<(Pid, String)> {
    let stat = |pid| Some(folder(pid)?.read(c"stat"));
    let with_name = |pid| Some((pid, living(&stat(pid)?)?));
    of(ancestor).into_iter().filter_map(with_name).collect()
}

/// Whether one of the process's ancestors is among `ancestors`.
pub fn is_within(pid: Pid, ancestors: &[Pid], parents: &[(Pid, Pid)]) -> bool {
    let mut child = pid;
    // Pids may be reused while the table is read, so it may contain a cycle.
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

/// Whether `pid` descends from `ancestor`, found by walking up: one short read per generation. None
/// if that cannot be told: the process has ended, or there is no /proc.
pub fn descends(pid: Pid, ancestor: Pid) -> Option<bool> {
    const MOST_STEPS: u32 = 64;
    let mut child = pid;
    for _ in 0..MOST_STEPS {
        let mut line = [0; 1024];
        match parent_of(child, &mut line) {
            Some(parent) if parent == ancestor => return Some(true),
            Some(parent) if parent > 1 => child = parent,
            // The walk has reached the top: PID 1, or a process that entered this namespace from
            // outside.
            Some(_) => return Some(false),
            None if child == pid => return None,
            // This parent has just ended, and its children have a new parent.
            None => child = pid,
        }
    }
    Some(false)
}

fn parent_of(pid: Pid, line: &mut [u8]) -> Option<Pid> {
    let mut path = [0_u8; 32];
    write!(path.as_mut_slice(), "/proc/{pid}/stat\0").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    parent(sys::read_piece(path, line).ok()?)
}

/// The parent in a line of /proc/PID/stat.
fn parent(stat: &[u8]) -> Option<Pid> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// The name in a line of /proc/PID/stat, or None for a zombie.
fn living(stat: &[u8]) -> Option<String> {
    let has_ended = matches!(fields(stat)?.next()?, "Z" | "X");
    let begin = stat.iter().position(|&byte| byte == b'(')?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let name = || Some(String::from_utf8_lossy(stat.get(begin + 1..end)?).into_owned());
    if has_ended { None } else { name() }
}

/// The fields of a line of /proc/PID/stat from the state on: `PID (NAME) STATE PARENT ...`. NAME
/// may contain anything, including parentheses and spaces.
pub fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::{living, parent};

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent(b"12 (app) S 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (a) S 1 (b) R 7 12"), Some(7));
        assert_eq!(parent(b"12 (\xff\n) S 7"), Some(7));
        assert_eq!(parent(b"12 (app) S"), None);
        assert_eq!(parent(b""), None);
    }

    #[test]
    fn whoever_has_not_ended_has_a_name_with_anything_in_it() {
        assert_eq!(living(b"12 (app) S 7 12 12 0").as_deref(), Some("app"));
        assert_eq!(living(b"12 (a) S (b) R 7 12").as_deref(), Some("a) S (b"));
        assert_eq!(living(b"12 (\xff) D 7").as_deref(), Some("\u{fffd}"));
        for line in [&b"12 (app) Z 7 12"[..], b"12 (app) X 7", b"12 )( S 7", b"12 app S", b""] {
            assert_eq!(living(line), None, "{line:?}");
        }
    }
}
