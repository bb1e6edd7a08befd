//! Reads /proc. A process that has ended yields empty values. It must not know the program under test.

use std::fs;

/// All that there are.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(pid: i32, file: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn text(pid: i32, file: &str) -> Option<String> {
    String::from_utf8(read(pid, file)).ok().filter(|text| !text.is_empty())
}

/// The strings of a file in which each ends with a zero byte.
fn strings(pid: i32, file: &str) -> Vec<String> {
    let bytes = String::from_utf8_lossy(&read(pid, file)).into_owned();
    bytes.split_terminator('\0').map(str::to_owned).collect()
}

/// Its command line.
pub fn words_of(pid: i32) -> Vec<String> {
    strings(pid, "cmdline")
}

/// `NAME=VALUE`, as it was started with.
pub fn variables_of(pid: i32) -> Vec<String> {
    strings(pid, "environ")
}

pub fn name_of(pid: i32) -> String {
    text(pid, "comm").unwrap_or_default().trim_end().to_owned()
}

pub fn descriptors_of(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

pub fn children_of(parent: i32) -> Vec<i32> {
    processes().filter(|&pid| stat_of(pid).is_some_and(|stat| stat.parent == parent)).collect()
}

pub fn is_companion(pid: i32) -> bool {
    words_of(pid).get(1).is_some_and(|word| word == "companion")
}

/// A companion of this init, by its first word: `drain`, `ready`, `accept`, `await`.
pub fn companion_of(parent: i32, name: &str) -> Option<i32> {
    let is_one = |pid: &i32| is_companion(*pid) && words_of(*pid).get(2).is_some_and(|w| w == name);
    children_of(parent).into_iter().find(is_one)
}

pub struct Stat {
    /// R, S, T, Z...
    pub state: char,
    pub parent: i32,
    pub group: i32,
    /// It has begun to end: PF_EXITING.
    pub is_exiting: bool,
    /// Time that it has computed, in hundredths of a second.
    pub ticks: u64,
    /// That and its children's that were reaped.
    pub ticks_with_children: u64,
    /// Hundredths of a second from the machine's start to its own.
    pub started: u64,
    /// The address at which its stack begins.
    pub stack: u64,
}

pub fn stat_of(pid: i32) -> Option<Stat> {
    let stat = text(pid, "stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect(); // the name before may hold anything
    // As proc_pid_stat(5) counts them: the first is the pid, the second the name.
    let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
    let times = [number(14)?, number(15)?, number(16)?, number(17)?];
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        is_exiting: number(9)? & 4 != 0,
        ticks: times[..2].iter().sum(),
        ticks_with_children: times.iter().sum(),
        started: number(22)?,
        stack: number(28)?,
    })
}

/// A number of /proc/PID/status; of memory, in KiB.
#[track_caller]
pub fn status_of(pid: i32, field: &str) -> u64 {
    try_status_of(pid, field).unwrap_or_else(|| panic!("process {pid} has a {field}"))
}

pub fn try_status_of(pid: i32, field: &str) -> Option<u64> {
    let status = text(pid, "status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let value = value.trim().trim_end_matches(" kB");
    // Masks are hexadecimal, everything else isn't.
    if field.starts_with("Sig") { u64::from_str_radix(value, 16) } else { value.parse() }.ok()
}

/// The nanoseconds that its first thread has computed.
pub fn computed_by(pid: i32) -> Option<u64> {
    text(pid, "schedstat")?.split(' ').next()?.parse().ok()
}
