//! Signals that the kernel does not let drain-init send, and an app that has left its process group.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::support::system::{self, KILL};
use crate::support::{
    Ended, Folder, Init, at_both_levels, children_of, copy_program, needs_program, needs_root,
    static_witness,
};

const TERM: i32 = 15;
const USR1: i32 = 10;

/// A copy of the witness that any user may execute, whatever the permissions of the tests' own folder.
fn for_anybody(folder: &Folder) -> PathBuf {
    let program = folder.path("witness");
    copy_program(&static_witness(), &program);
    program
}

/// Root without CAP_KILL, and an app that has made itself nobody.
fn without_permission(init: Init, app: PathBuf, steps: &[&str]) -> Init {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let words = nobody.iter().map(OsString::from).chain([app.into()]);
    init.under(["setpriv", "--bounding-set=-kill"])
        .command(words.chain(steps.iter().map(OsString::from)))
}

fn how_often(ended: &Ended, part: &str) -> usize {
    ended.err.iter().filter(|line| line.contains(part)).count()
}

#[test]
fn a_signal_that_may_not_be_sent_is_not_said_to_be() {
    if !needs_root() || !needs_program("setpriv") {
        return;
    }
    let folder = Folder::new();
    let app = for_anybody(&folder);
    at_both_levels(|init| {
        for group in ["", "-g"] {
            let options =
                "-v --delay 200ms --grace 1200ms --kill-margin 300ms --escalate QUIT:200ms";
            let init = init().args(options).args(group);
            let steps = ["ready", "until:15", "exit:3"];
            let mut run = without_permission(init, app.clone(), &steps).start();
            run.line("ready");
            run.signal(USR1);
            run.signal(TERM);
            let left = children_of(run.pid);
            let ended = run.ended();
            left.iter().for_each(|pid| system::try_signal(*pid, KILL));
            assert_eq!(ended.code, 137, "{ended:?}");
            let why =
                "cannot signal the app: Operation not permitted (another user, and no CAP_KILL)";
            assert_eq!(how_often(&ended, why), 1, "{ended:?}");
            assert_eq!(how_often(&ended, "to the app"), 0, "{ended:?}");
            assert_eq!(how_often(&ended, "SIGKILL to all"), 0, "{ended:?}");
            assert_eq!(how_often(&ended, "does not end on SIGKILL"), 0, "{ended:?}");
            assert_eq!(how_often(&ended, "a process cannot be sent SIGKILL"), 1, "{ended:?}");
            assert!(ended.out.iter().all(|line| !line.starts_with("signal")), "{ended:?}");
        }
    });
}

/// An app of its own user that leaves one of another behind.
#[test]
fn what_the_app_left_is_not_said_to_be_signalled_either() {
    if !needs_root() || !needs_program("setpriv") {
        return;
    }
    let folder = Folder::new();
    let left = for_anybody(&folder);
    at_both_levels(|init| {
        let script = "setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" ready pause & read x; exit 4";
        let init = init().under(["setpriv", "--bounding-set=-kill"]).args("--orphan-grace 300ms");
        let words = ["/bin/sh", "-c", script].map(OsString::from);
        let (reader, writer) = system::pipe().expect("a pipe");
        let init = init.stdin(reader).command(words.into_iter().chain([left.clone().into()]));
        let mut run = init.start();
        run.line("ready");
        drop(writer);
        let ended = run.ended();
        assert_eq!(ended.code, 4, "{ended:?}");
        assert_eq!(how_often(&ended, "does not end on SIGKILL"), 0, "{ended:?}");
        assert_eq!(how_often(&ended, "a process cannot be sent SIGKILL"), 1, "{ended:?}");
    });
}

/// With -g. In its old group there is nobody any more, or somebody else.
#[test]
fn an_app_that_has_left_its_group_is_signalled_itself() {
    at_both_levels(|init| {
        let start = || init().args("-g --delay 0 --grace 5s");
        let mut run = start().app(["leave", "ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run.time_to_forward(USR1);
        run.signal(TERM);
        assert_eq!(run.ended().code, 3);

        let child = "child:name:child,until:15,exit:0";
        let mut run = start().app([child, "leave", "ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run.signal(TERM);
        run.line("child: signal 15");
        assert_eq!(run.ended().code, 3);
    });
}
