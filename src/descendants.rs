//! Who descends from whom, from the kernel's tables in /proc: what the app left where drain-init is
//! not PID 1 and "everyone" would be too many; and which drain-init is the outermost.

#![forbid(unsafe_code)]

use std::fs;

use crate::sys::Pid;

/// Every process with its parent, or nobody where there is no /proc.
pub fn parents() -> Vec<(Pid, Pid)> {
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let parents = processes.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read(entry.path().join("stat")).ok()?;
        Some((pid, parent(&stat)?))
    });
    parents.collect()
}

/// Every descendant of `ancestor`, or none where there is no /proc.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
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

/// The ancestors of a process among these, its parent first.
pub fn ancestors(pid: Pid, parents: &[(Pid, Pid)]) -> Vec<Pid> {
    let mut above = Vec::new();
    let mut child = pid;
    while let Some((_, parent)) = parents.iter().find(|(process, _)| *process == child)
        && above.len() < parents.len()
    {
        above.push(*parent);
        child = *parent;
    }
    above
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
