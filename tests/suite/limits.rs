//! The whole life of a container where little is allowed: descriptors, memory, processes, privileges, system calls, a root that
//! can't be written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::confined::{Cgroup, Limit, needs_cgroup};
use crate::support::life::{Life, nothing_failed, own_address, readyz};
use crate::support::{
    Folder, Init, Kind, LIMIT, Running, assert_after, becomes_true, ms, needs_namespaces,
    needs_root, needs_static, slack, static_init, static_witness,
};

const TERM: i32 = 15;
const NOBODY: u32 = 65534;

/// The build that ships.
fn shipped() -> Init {
    Init::new(Kind::DrainInit, static_init())
}

fn stops_after(mut run: Running, what: &str, due: u64, code: i32) -> String {
    let asked = run.signal(TERM);
    assert_after(what, run.line("signal 15") - asked, ms(due));
    let ended = run.ended();
    assert_eq!((ended.code, ended.left.len()), (code, 0), "{ended:?}");
    ended.log()
}

/// With every option, for an app that obeys and for one that does not, as a subreaper and as PID 1.
fn lives(life: fn() -> Life, confined: impl Fn(Init, &Life) -> Init + Sync) {
    if !needs_static() {
        return;
    }
    static_witness();
    let levels: [fn(Init) -> Init; 2] = [|init| init, |init| init.pid1()];
    let levels = &levels[..if needs_namespaces() { 2 } else { 1 }];
    std::thread::scope(|scope| {
        for level in levels {
            for obeys in [true, false] {
                let confined = &confined;
                scope.spawn(move || {
                    let life = life();
                    nothing_failed(&life.lived(confined(level(shipped()), &life), obeys));
                });
            }
        }
    });
}

#[test]
fn the_life_is_whole_where_all_is_allowed() {
    lives(Life::new, |init, _| init);
}

// ---- descriptors

#[test]
fn with_64_descriptors_the_life_is_whole() {
    lives(Life::new, |init, _| init.limit(Limit::Descriptors, 64));
}

/// With none to spare, what needs one is refused before the app starts, or the clock is kept; with one, the port is there.
#[test]
fn with_three_descriptors_the_start_is_refused_or_the_clock_is_kept() {
    if !needs_static() {
        return;
    }
    let listen = || format!("--ready-listen {}", own_address());
    let ended = shipped().no_descriptor_left().args(&listen()).static_app(["exit:3"]).ended();
    assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
    assert!(ended.err[0].contains("No file descriptors available"), "{ended:?}");

    let options = "--delay 200ms --max-delay 600ms --until-quiet 100ms --watch-port 1";
    let app = ["descriptors", "ready", "until:15", "exit:3"];
    let mut run = shipped().no_descriptor_left().args(options).static_app(app).start();
    run.line("ready");
    let asked = run.signal(TERM);
    let told = run.line("signal 15") - asked;
    // Its longest, and up to a second for an instant with nothing in flight, which is looked for in vain.
    assert!(told >= ms(600) && told < ms(1600) + slack(), "{told:?}");
    let log = run.ended().log();
    // The drain does not wait for a sample later than a second past --max-delay.
    let words = "the connections could not be read";
    assert!(log.contains(words) || told >= ms(1600), "{log}");

    // Of no number that a companion's own descriptor has.
    let ended =
        shipped().limit(Limit::Descriptors, 4).args(&listen()).static_app(["exit:3"]).ended();
    assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
    assert!(ended.err[0].contains("No file descriptors available"), "{ended:?}");

    let app = ["descriptors", "ready", "until:15", "exit:3"];
    let init = shipped().limit(Limit::Descriptors, 6).args("--delay 200ms").args(&listen());
    let mut run = init.static_app(app).start();
    run.line("ready");
    let log = stops_after(run, "SIGTERM", 200, 3);
    assert!(log.contains("trying again"), "{log}");
}

/// The descriptors that are opened next get the closed streams' numbers; no companion may take them for its own streams.
#[test]
fn with_closed_streams_companions_find_what_they_need() {
    if !needs_static() {
        return;
    }
    for closed in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 1, 2]] {
        let (folder, address) = (Folder::new(), own_address());
        let options = format!(
            "--delay 300ms --max-delay 5s --until-quiet 100ms --watch-port 1 --ready-listen {address}"
        );
        let to = format!("to:{}", folder.path("out").display());
        let out = || fs::read_to_string(folder.path("out")).unwrap_or_default();
        let init = shipped().args(&options).closed(closed.clone());
        let run = init.static_app([&to, "until:15", "print:told", "exit:3"]).start();
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "{closed:?}");
        let asked = run.signal(TERM);
        assert!(becomes_true(LIMIT, || readyz(&address) != Some(200)), "{closed:?}");
        assert!(becomes_true(LIMIT, || out().ends_with("told\n")), "{closed:?}");
        let ended = run.ended();
        let after = ended.at - asked;
        assert!(after >= ms(300) && after < ms(1700) + slack(), "{closed:?}: {after:?}");
        assert_eq!(ended.code, 3);
    }
}

// ---- memory

#[test]
fn with_4_mib_of_addresses_the_life_is_whole() {
    lives(Life::new, |init, _| init.limit(Limit::Memory, 4 << 20));
}

/// App, drain-init and companions together.
#[test]
fn in_a_container_of_4_mib_the_life_is_whole() {
    if !needs_static() || !needs_cgroup("memory") {
        return;
    }
    for obeys in [true, false] {
        let cgroup = Cgroup::new("memory");
        cgroup.set("memory.limit_in_bytes", "4M");
        nothing_failed(&Life::new().lived(shipped().pid1().in_cgroup(&cgroup), obeys));
        println!("at most {} bytes", cgroup.get("memory.max_usage_in_bytes"));
        assert!(cgroup.get("memory.oom_control").contains("oom_kill 0"), "nobody was killed");
    }
}

/// The killer takes the largest: the app, whose end is passed on.
#[test]
fn an_app_that_eats_the_memory_is_killed_and_not_drain_init() {
    if !needs_static() || !needs_cgroup("memory") {
        return;
    }
    for _ in 0..5 {
        let cgroup = Cgroup::new("memory");
        cgroup.set("memory.limit_in_bytes", "4M");
        let eats = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
        let ended = shipped().pid1().in_cgroup(&cgroup).command(["sh", "-c", eats]).ended();
        assert_eq!((ended.code, ended.err.len()), (137, 1), "{ended:?}");
        assert!(ended.err[0].ends_with("app was killed by SIGKILL"), "{ended:?}");
    }
}

// ---- processes

/// Room for so many: for nobody but drain-init, for the app, and for one companion besides.
#[test]
fn with_few_processes_the_app_has_the_first_and_the_clock_is_kept() {
    if !needs_static() || !needs_cgroup("pids") {
        return;
    }
    for pid1 in [false, true] {
        for most in 1..=4 {
            let cgroup = Cgroup::new("pids");
            cgroup.set("pids.max", &most.to_string());
            let address = own_address();
            let options = "--delay 300ms --max-delay 900ms --on-drain exec:/bin/true --grace 2s --kill-margin 500ms";
            let init = shipped().in_cgroup(&cgroup).args(options);
            let init = init.args(&format!("--ready-listen {address}"));
            let init = if pid1 { init.pid1() } else { init };
            if most == 1 {
                let ended = init.static_app(["exit:3"]).ended();
                assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
                assert!(ended.err[0].contains("temporarily unavailable"), "{ended:?}");
                continue;
            }
            let mut run = init.static_app(["ready", "until:15", "exit:3"]).start();
            run.line("ready");
            if most > 2 {
                assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "{most}");
            }
            let log = stops_after(run, &format!("pids.max={most}"), 300, 3);
            assert_eq!(log.contains("cannot start the drain companion"), most < 4, "{log}");
        }
    }
}

#[test]
fn a_user_who_may_have_no_more_processes_is_told_so() {
    if !needs_static() || !needs_root() {
        return;
    }
    // A user of nobody else's: the limit counts all of the user's.
    let init = shipped().user(61_234).limit(Limit::Processes, 1);
    let ended = init.static_app(["exit:3"]).ended();
    assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
    assert!(ended.err[0].contains("temporarily unavailable"), "{ended:?}");
}

// ---- privileges

/// The files are in a folder of everybody's, as an emptyDir is.
fn for_everybody(init: Init, life: &Life) -> Init {
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(life.folder(), everybody).expect("a folder for everybody");
    init.user(NOBODY)
}

#[test]
fn as_an_ordinary_user_without_privileges_the_life_is_whole() {
    if needs_root() {
        lives(Life::new, for_everybody);
        lives(Life::new, |init, life| for_everybody(init, life).no_new_privileges());
    }
}

// ---- file systems

#[test]
fn without_proc_and_dev_the_life_is_whole() {
    if needs_namespaces() {
        lives(Life::new, |init, _| init.without_dev());
        lives(Life::new, |init, _| init.without_proc().without_dev());
    }
}

/// With nothing in it but the two programs; what wants to write there is refused at the start, and a termination log is said.
#[test]
fn in_a_read_only_root_the_life_is_whole() {
    if !needs_static() || !needs_root() || !needs_namespaces() {
        return;
    }
    _ = (static_init(), static_witness()); // built before any time is measured
    std::thread::scope(|scope| {
        for (pid1, obeys) in [(false, false), (false, true), (true, false), (true, true)] {
            scope.spawn(move || {
                let root = Folder::new();
                let init = shipped().in_read_only_root(&root);
                let init = if pid1 { init.pid1() } else { init };
                nothing_failed(&Life::without_files().lived(init, obeys));
            });
        }
    });
    let root = Folder::new();
    let init = || shipped().in_read_only_root(&root);
    for option in ["--ready-file", "--drain-file"] {
        let ended = init().args(option).arg("/file").app(["exit:3"]).ended();
        assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
        assert!(ended.err[0].contains("ead-only file system"), "{ended:?}");
    }
    let init = init().args("--delay 200ms --termination-log /log");
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let log = stops_after(run, "SIGTERM", 200, 3);
    assert!(log.contains("ead-only file system"), "{log}");
}
