//! The folder that drain-init is started in: the app's own from then on. Whatever was named relative to it is found there still,
//! and its file system can be unmounted.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use crate::support::life::{own_address, readyz};
use crate::support::{
    Folder, Init, Kind, LIMIT, Running, at_both_levels, becomes_true, children_of, copy_program,
    init, needs_namespaces, needs_root, static_init, witness,
};

const TERM: i32 = 15;

/// Started in this folder.
fn inside(init: Init, folder: &Path) -> Init {
    let words = ["/bin/sh", "-c", "cd \"$0\" && exec \"$@\""].map(OsString::from);
    init.under(words.into_iter().chain([folder.into()]))
}

fn working_directory(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/cwd")).expect("it is there")
}

fn stopped(run: Running) -> Vec<String> {
    run.signal(TERM);
    let ended = run.ended();
    assert_eq!(ended.code, 3, "{ended:?}");
    ended.err
}

#[test]
fn it_leaves_the_folder_and_the_app_stays() {
    let folder = Folder::new();
    at_both_levels(|init| {
        let address = own_address();
        let init =
            inside(init(), folder.0.as_path()).args("--delay 0 --ready-listen").arg(&address);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)));
        assert_eq!(working_directory(run.pid), Path::new("/"));
        let mut children = children_of(run.pid);
        children.sort_unstable_by_key(|pid| working_directory(*pid));
        let folders: Vec<PathBuf> = children.into_iter().map(working_directory).collect();
        assert_eq!(folders, [Path::new("/"), &folder.0], "the companion, and the app");
        stopped(run);
    });
}

/// In each process that reads them: PID 1, the drain companion, a handler.
#[test]
fn relative_names_mean_what_they_meant() {
    at_both_levels(|init| {
        let folder = Folder::new();
        let options = "--delay 300ms --ready-file ready --drain-file drain --termination-log log";
        let handler = "--on-drain=exec:/bin/sh -c 'pwd >told'";
        let init = inside(init(), folder.0.as_path()).args(options).arg(handler);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || folder.path("ready").exists()));
        let log = stopped(run);
        assert!(!log.iter().any(|line| line.contains("cannot")), "{log:?}");
        assert!(!folder.path("ready").exists() && folder.path("drain").exists());
        let read = |name| fs::read_to_string(folder.path(name)).unwrap_or_default();
        assert!(read("log").starts_with("drain-init: SIGTERM: draining"), "{}", read("log"));
        assert_eq!(read("told"), format!("{}\n", folder.0.display()));
    });
}

/// Without a /proc it executes its companions by the path that it was executed by.
#[test]
fn a_relative_program_finds_itself_without_proc() {
    if !needs_namespaces() {
        return;
    }
    let folder = Folder::new();
    copy_program(&static_init(), &folder.path("drain-init"));
    let address = own_address();
    let words =
        ["/bin/sh", "-c", "cd \"$0\" && shift && exec ./drain-init \"$@\""].map(OsString::from);
    let init = Init::new(Kind::DrainInit, static_init()).without_proc();
    let init = init.under(words.into_iter().chain([folder.0.clone().into()]));
    let init = init.args("--delay 100ms --on-drain exec:/bin/true --ready-listen").arg(&address);
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)));
    let log = stopped(run);
    assert!(!log.iter().any(|line| line.contains("cannot")), "{log:?}");
}

/// An app that has left it as well keeps it busy no more than drain-init and its companions do.
#[test]
fn a_volume_that_it_was_started_in_can_be_unmounted() {
    if !needs_root() {
        return;
    }
    let folder = Folder::new();
    let mount = |words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).arg(&folder.0).status();
        status.is_ok_and(|status| status.success())
    };
    if !support::needs("mounting a tmpfs", mount(&["mount", "-t", "tmpfs", "none"])) {
        return;
    }
    let address = own_address();
    let options = format!("--delay 300ms --ready-file ready --ready-listen {address}");
    let script = "cd / && exec \"$0\" ready until:15 exit:3";
    let app = ["/bin/sh".into(), "-c".into(), script.into(), witness().into_os_string()];
    let init = inside(init(), folder.0.as_path()).args(&options);
    let mut run = init.command(app).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || folder.path("ready").exists()));
    assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)));
    let unmounted = mount(&["umount"]);
    if !unmounted {
        mount(&["umount", "-l"]);
    }
    assert!(unmounted, "it is kept busy");
    stopped(run);
}
