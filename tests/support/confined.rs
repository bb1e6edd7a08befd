//! Limits on a process: system calls, memory, processes, privileges, processor time. Also cgroups,
//! which freeze or throttle a running process.

use std::ffi::{CString, c_int, c_long, c_ulong};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::{Value, json};

use super::system::{check, pause};
use super::{Folder, Init, LIMIT, becomes_true, ms, needs, proc};

#[derive(Default)]
pub struct Confined {
    limits: Vec<(Limit, u64)>,
    no_new_privileges: bool,
    /// Files that the process writes its own pid to.
    cgroups: Vec<CString>,
    filter: BpfProgram,
    /// It stops once it has executed its program, for `hide_vdso`.
    pub stops: bool,
}

#[derive(Clone, Copy)]
pub enum Limit {
    /// Address space in bytes.
    Memory,
    Descriptors,
    /// Processes of the user; root has no limit.
    Processes,
}

impl Init {
    pub fn limit(mut self, limit: Limit, value: u64) -> Self {
        self.beginning.confined.limits.push((limit, value));
        self
    }

    pub fn no_new_privileges(mut self) -> Self {
        self.beginning.confined.no_new_privileges = true;
        self
    }

    pub fn in_cgroup(mut self, cgroup: &Cgroup) -> Self {
        let path = cgroup.path("cgroup.procs");
        self.beginning.confined.cgroups.extend(CString::new(path.as_os_str().as_bytes()));
        self
    }

    /// Its children inherit the filter.
    pub fn filtered(mut self, filter: BpfProgram) -> Self {
        self.beginning.confined.filter = filter;
        self
    }

    /// No netlink socket can be made, as under a strict seccomp profile.
    pub fn without_netlink(self) -> Self {
        let netlink = call_with("socket", "eq", libc::AF_NETLINK);
        self.filtered(filter([netlink], Verdict::Fails(libc::EACCES), Verdict::Allowed))
    }

    /// It asks the kernel for the time by system calls, which a filter sees; its children do not.
    pub fn without_vdso(mut self) -> Self {
        self.beginning.confined.stops = true;
        self
    }

    /// Like `in_empty_root`, but read-only.
    pub fn in_read_only_root(mut self, root: &Folder) -> Self {
        self.beginning.read_only_root = true;
        self.in_empty_root(root)
    }
}

impl Confined {
    /// Where files have the names that the tests know them by.
    ///
    /// # Safety
    /// Between fork and exec.
    pub unsafe fn join(&self) -> io::Result<()> {
        for path in &self.cgroups {
            // SAFETY: a C string; 0 means the writing process.
            unsafe {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                check(file)?;
                check(libc::write(file, c"0".as_ptr().cast(), 1) as c_int)?;
                libc::close(file);
            }
        }
        Ok(())
    }

    /// The last step before exec, which the limits have to allow.
    ///
    /// # Safety
    /// Between fork and exec.
    pub unsafe fn apply(&self) -> io::Result<()> {
        // SAFETY: plain system calls.
        unsafe {
            for &(limit, value) in &self.limits {
                let resource = match limit {
                    Limit::Memory => libc::RLIMIT_AS,
                    Limit::Descriptors => libc::RLIMIT_NOFILE,
                    Limit::Processes => libc::RLIMIT_NPROC,
                };
                // The witness raises its descriptor limit again.
                let hard = if matches!(limit, Limit::Descriptors) { 4096 } else { value };
                let limit = libc::rlimit { rlim_cur: value, rlim_max: hard };
                check(libc::setrlimit(resource, &raw const limit))?;
            }
            if self.stops {
                let none = 0 as c_long;
                check(libc::ptrace(libc::PTRACE_TRACEME, none, none, none) as c_int)?;
            }
            if self.no_new_privileges {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0))?;
            }
        }
        if self.filter.is_empty() {
            return Ok(());
        }
        apply_filter(&self.filter).map_err(|_| io::Error::last_os_error())
    }
}

// ---- system calls

/// The result of a system call.
#[derive(Clone, Copy)]
pub enum Verdict {
    Allowed,
    Fails(i32),
    /// Ends the process with SIGSYS.
    Kills,
}

impl Verdict {
    fn action(self) -> Value {
        match self {
            Self::Allowed => json!("allow"),
            Self::Fails(errno) => json!({ "errno": errno }),
            Self::Kills => json!("kill_process"),
        }
    }
}

pub fn call(name: &str) -> Value {
    json!({ "syscall": name })
}

/// With a first argument that is this (`eq`), or is not (`ne`).
pub fn call_with(name: &str, operator: &str, first: i32) -> Value {
    let argument = json!({ "index": 0, "type": "dword", "op": operator, "val": first });
    json!({ "syscall": name, "args": [argument] })
}

/// These calls have one result, all others another.
pub fn filter(
    calls: impl IntoIterator<Item = Value>,
    these: Verdict,
    others: Verdict,
) -> BpfProgram {
    let calls: Vec<Value> = calls.into_iter().collect();
    let (these, others) = (these.action(), others.action());
    let text =
        json!({ "it": { "match_action": these, "mismatch_action": others, "filter": calls } });
    let machine = std::env::consts::ARCH.try_into().expect("a machine that seccompiler knows");
    let filters = compile_from_json(text.to_string().as_bytes(), machine);
    filters.unwrap_or_else(|e| panic!("{e}: {text}")).remove("it").expect("it")
}

/// Removes the vDSO, which tells the time without a system call, from a process that has stopped at
/// its first instruction, and lets it continue.
pub fn hide_vdso(pid: i32) -> io::Result<()> {
    const SYSINFO_EHDR: u64 = 33;
    const IGNORE: u64 = 1;
    let mut status = 0;
    // SAFETY: waits for our child.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    assert!(libc::WIFSTOPPED(status), "it stops at its exec: {status:x}");
    let mut at = proc::stat_of(pid).expect("it is there").stack; // which begins with argc
    let mut memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let next = |memory: &mut File, at: &mut u64| {
        let mut word = [0; 8];
        memory.seek(SeekFrom::Start(*at))?;
        memory.read_exact(&mut word)?;
        *at += 8;
        Ok::<u64, io::Error>(u64::from_ne_bytes(word))
    };
    let arguments = next(&mut memory, &mut at)?;
    at += 8 * (arguments + 1);
    while next(&mut memory, &mut at)? != 0 {} // the environment
    loop {
        match next(&mut memory, &mut at)? {
            0 => panic!("the process has no vDSO"),
            SYSINFO_EHDR => break,
            _ => at += 8,
        }
    }
    memory.seek(SeekFrom::Start(at - 8))?;
    memory.write_all(&IGNORE.to_ne_bytes())?;
    let none = 0 as c_long;
    // SAFETY: a process that this thread traces.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) } as c_int)
}

// ---- cgroups

/// False, with a message, if no cgroup of this kind can be created: that takes cgroup v1 and root.
pub fn needs_cgroup(kind: &str) -> bool {
    let is_there = Path::new(CGROUPS).join(kind).join("cgroup.procs").exists();
    needs(&format!("cgroup v1, {kind}, and root"), is_there && super::system::is_root())
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// One of the test's own. When it goes, what is in it is thawed and killed.
pub struct Cgroup(PathBuf);

impl Cgroup {
    pub fn new(kind: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (own, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(CGROUPS).join(kind).join(format!("drain-init-test-{own}-{count}"));
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub fn set(&self, file: &str, value: &str) {
        fs::write(self.path(file), value).unwrap_or_else(|e| panic!("{file}={value}: {e}"));
    }

    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file of the cgroup").trim_end().to_owned()
    }

    pub fn add(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }

    pub fn freeze(&self) {
        self.set("freezer.state", "FROZEN");
        assert!(becomes_true(LIMIT, || self.get("freezer.state") == "FROZEN"), "it freezes");
    }

    pub fn thaw(&self) {
        self.set("freezer.state", "THAWED");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path("freezer.state"), "THAWED");
        for _ in 0..200 {
            let processes = fs::read_to_string(self.path("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse().ok()) {
                super::system::try_signal(pid, super::system::KILL);
            }
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            pause(ms(10));
        }
    }
}
