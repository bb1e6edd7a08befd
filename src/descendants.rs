//! The processes that the app left, where drain-init is not PID 1 and "everyone" would be too many.
//!
//! Reads the kernel's tables in /proc: a subreaper's descendants are what leads up to it.

#![forbid(unsafe_code)]

use std::fs;

use crate::sys::Pid;

/// Every descendant of `ancestor`, or none where there is no /proc.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let parents: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((pid, parent(&stat)?))
        })
        .collect();
    let mut found = vec![ancestor];
    let mut index = 0;
    while let Some(&parent) = found.get(index) {
        let children = parents.iter().filter(|(_, its_parent)| *its_parent == parent);
        let children: Vec<Pid> = children.map(|(child, _)| *child).collect();
        // Process ids are used again while the table is read: nobody is taken twice.
        found.extend(children.into_iter().filter(|child| *child != ancestor));
        index += 1;
        if index > parents.len() {
            break;
        }
    }
    found.split_off(1)
}

/// The parent in a line of /proc/PID/stat: `PID (NAME) STATE PARENT ...`, where NAME may hold
/// anything, brackets and spaces too.
fn parent(stat: &[u8]) -> Option<Pid> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
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
