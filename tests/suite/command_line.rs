//! Checks the command line: options and variables, refusals, --version, explain. tests/suite/options.rs checks that --help and the
//! documentation agree with it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support;
use crate::support::options::{SWITCHES, VALUES, variable};
use crate::support::{
    Ended, Folder, Init, Kind, copy_program, init, needs_namespaces, needs_program, needs_root,
    needs_static, static_init, static_witness,
};

const REPEATABLE: [(&str, &str, &str); 6] = [
    ("start-after", "file:/", "file:/etc"),
    ("stop-on", "QUIT", "HUP"),
    ("escalate", "QUIT:2s", "USR1:1s"),
    ("map-signal", "HUP=USR1", "USR2=none"),
    ("map-exit", "3=4", "5=6"),
    ("map-stop-exit", "3=0", "5=1"),
];

/// The options that change explain's timeline. The effect of the others is seen in a run.
const ON_THE_TIMELINE: [&str; 18] = [
    "on-exit",
    "start-after",
    "delay",
    "until-quiet",
    "on-drain",
    "ready-listen",
    "ready-check",
    "unready-delay",
    "termination-log",
    "drain-file",
    "grace",
    "kill-margin",
    "stop-on",
    "stop-signal",
    "escalate",
    "orphan-grace",
    "ready-file",
    "group",
];

fn explain() -> Init {
    init().arg("explain")
}

/// Refused: exit code 125, one line on stderr with all of this in it, and the app not started.
#[track_caller]
fn assert_refused(init: Init, what: &str, parts: &[&str]) {
    let ended = init.ended();
    assert_eq!(ended.code, 125, "{what}: {ended:?}");
    assert_eq!(ended.out, [""; 0], "{what}: the app was started");
    assert_eq!(ended.err.len(), 1, "{what}: one line: {:?}", ended.err);
    assert!(ended.err[0].starts_with("drain-init: "), "{what}: {}", ended.err[0]);
    for part in parts {
        assert!(
            ended.err[0].contains(part),
            "{what}: the line should name `{part}`: {}",
            ended.err[0]
        );
    }
}

/// Options, and what the line has to name of them.
const REFUSED: &[(&[&str], &[&str])] = &[
    (&["--delay", "30s", "--grace", "30s"], &["--delay 30s", "--grace"]),
    (&["--delay", "29.5s"], &["--delay 29.5s", "no time to stop", "29.5s after the stop signal"]),
    (&["--delay", "29.5s", "--escalate", "QUIT:1s"], &["--delay 29.5s"]),
    (&["--delay", "29.5s", "--max-delay", "29.5s"], &["--delay 29.5s"]),
    (&["--delay", "40s"], &["--delay 40s"]),
    (&["--grace", "5s"], &["--grace 5s"]), // less than the default delay
    (&["--grace", "0"], &["--grace 0"]),
    (&["--grace", "400ms", "--delay", "0"], &["--grace 400ms"]), // less than the default margin
    (&["--kill-margin", "30s"], &["--kill-margin 30s"]),
    (&["--delay", "-1"], &["--delay -1"]),
    (&["--delay", "5x"], &["--delay 5x"]),
    (&["--delay", "1e30"], &["--delay 1e30"]),
    (&["--delay", "99999999999999999999"], &["--delay 99999999999999999999"]),
    (&["--delay", ""], &["--delay '': "]),
    (&["--delay="], &["--delay '': "]),
    (&["--delay", "1.5.2s"], &["--delay 1.5.2s"]),
    (&["--max-delay", "2s"], &["--max-delay 2s", "--delay"]), // less than --delay
    (&["--max-delay", "30s"], &["--max-delay 30s"]),
    (&["--orphan-grace", "soon"], &["--orphan-grace soon"]),
    (&["--stop-on", "NOSUCH"], &["--stop-on NOSUCH"]),
    (&["--stop-on", "0"], &["--stop-on 0"]),
    (&["--stop-on", "65"], &["--stop-on 65"]),
    (&["--stop-on", "SIGRTMIN+31"], &["--stop-on SIGRTMIN+31"]),
    (&["--stop-on", "SIGRTMIN-1"], &["--stop-on SIGRTMIN-1"]),
    (&["--stop-on", ""], &["--stop-on"]),
    (&["--stop-signal", "TERMINATE"], &["--stop-signal TERMINATE"]),
    (&["--escalate", "QUIT"], &["--escalate QUIT"]),
    (&["--escalate", "QUIT:"], &["--escalate QUIT:"]),
    (&["--escalate", ":2s"], &["--escalate :2s"]),
    (&["--escalate", "QUIT:2x"], &["--escalate QUIT:2x"]),
    (&["--escalate", "QUIT:40s"], &["--escalate QUIT:40s"]), // before the stop began
    (&["--escalate", "QUIT:27s"], &["--escalate QUIT:27s"]), // before the app is told
    // It may be told only when the longest drain is over, 15 s before the grace period is, and 1 s more.
    (
        &["--until-quiet", "2s", "--escalate", "QUIT:20s"],
        &["--escalate QUIT:20s", "16s after the stop signal", "13.5s before SIGKILL"],
    ),
    (&["--map-signal", "HUP"], &["--map-signal HUP"]),
    (&["--map-signal", "HUP=NOSUCH"], &["--map-signal HUP=NOSUCH"]),
    (&["--map-signal", "NOSUCH=HUP"], &["--map-signal NOSUCH=HUP"]),
    (&["--map-signal", "TERM=none"], &["--map-signal TERM=none"]),
    (&["--map-signal", "INT=none"], &["--map-signal INT=none"]),
    (&["--stop-on", "QUIT", "--map-signal", "QUIT=none"], &["--map-signal QUIT=none"]),
    (&["--map-signal", "TERM=QUIT"], &["--map-signal TERM=QUIT", "--stop-signal"]), // TERM would ask for nothing
    (
        &["--map-signal", "HUP=USR1", "--map-signal", "1=USR2"],
        &["--map-signal 1=USR2", "SIGHUP", "already"],
    ),
    (&["--map-exit", "300=0"], &["--map-exit 300=0"]),
    (&["--map-exit", "1=2", "--map-exit", "1=3"], &["--map-exit 1=3", "already"]),
    (&["--map-exit", "0=256"], &["--map-exit 0=256"]),
    (&["--map-exit", "-1=0"], &["--map-exit -1=0"]),
    (&["--map-exit", "143"], &["--map-exit 143"]),
    (&["--map-stop-exit", "300=0"], &["--map-stop-exit 300=0"]),
    (&["--map-stop-exit", "a=b"], &["--map-stop-exit a=b"]),
    (&["--map-stop-exit", "1=2", "--map-stop-exit", "1=2"], &["--map-stop-exit 1=2", "already"]),
    (&["--parent-death-signal", "NOSUCH"], &["--parent-death-signal NOSUCH"]),
    (&["--parent-death-signal", "STOP"], &["--parent-death-signal STOP", "forever"]),
    (&["--log-format", "xml"], &["--log-format xml"]),
    (&["--ready-file", "/no/such/folder/ready"], &["--ready-file /no/such/folder/ready"]),
    (&["--ready-file", "/tmp"], &["--ready-file /tmp"]),
    (&["--ready-file", "/tmp/x/"], &["--ready-file /tmp/x/"]),
    (&["--ready-file", ""], &["--ready-file"]),
    (&["--drain-file", "/no/such/folder/drain"], &["--drain-file /no/such/folder/drain"]),
    (&["--drain-file", "/tmp/x", "--ready-file", "/tmp/x"], &["/tmp/x"]),
    (&["--until-quiet", "20s"], &["--until-quiet 20s"]), // longer than the longest drain
    (&["--watch-port", "0"], &["--watch-port 0"]),
    (&["--ignore-peer", "gateway"], &["--ignore-peer gateway"]),
    (&["--on-drain", "https://gateway/bye"], &["--on-drain", "https", "http://"]),
    (&["--on-drain", " http://gateway/bye"], &["--on-drain", "method"]),
    (&["--on-drain", "exec:"], &["--on-drain exec:", "command"]),
    (&["--on-drain", "exec:/bin/bye 'open"], &["--on-drain", "quotation"]),
    (&["--on-drain", "/bin/bye"], &["--on-drain /bin/bye", "exec:"]),
    (&["--ready-listen", "127.0.0.1:0"], &["--ready-listen 127.0.0.1:0", "port"]),
    (&["--ready-listen", "127.0.0.1:65536"], &["--ready-listen 127.0.0.1:65536"]),
    (&["--ready-listen", "localhost:9000"], &["--ready-listen localhost:9000", "address"]),
    (&["--ready-listen", "https://0.0.0.0:9000"], &["--ready-listen", "https"]),
    (&["--ready-check", "localhost:8080"], &["--ready-check localhost:8080", "scheme"]),
    (&["--ready-check", "tcp://localhost:0"], &["--ready-check tcp://localhost:0", "port"]),
    (&["--ready-check", "https://localhost/"], &["--ready-check https://localhost/", "http://"]),
    (&["--ready-check", "tcp://database:5432"], &["--ready-check", "address"]),
    (&["--unready-delay", "20s"], &["--unready-delay 20s"]), // longer than the longest drain
    (&["--termination-log", "/tmp"], &["--termination-log /tmp"]),
    (
        &["--termination-log", "/no/such/folder/log"],
        &["--termination-log", "folder /no/such/folder does not exist"],
    ),
    (&["--timeout", "1s"], &["--timeout is not an option of "]), // the probe's alone
    (&["-q", "-v"], &["quiet", "verbose"]),
    (&["--quiet=1"], &["--quiet takes no value"]),
    (&["--delay", "1s", "--delay", "2s"], &["--delay is given twice"]),
    (&["--nope"], &["unknown option --nope (see drain-init --help)"]),
    (&["--nope=1"], &["unknown option --nope (see drain-init --help)"]),
    (&["-x"], &["unknown option -x"]),
    (&["--delay"], &["--delay"]),
    (&["stray"], &["stray", "COMMAND follows `--`"]),
    (&["probe"], &["probe"]),
];

#[test]
fn bad_options_are_refused_in_one_line_and_the_app_not_started() {
    let mut wrong = vec![];
    for (options, parts) in REFUSED {
        for verb in [None, Some("run")] {
            let init = verb.into_iter().chain(options.iter().copied()).fold(init(), Init::arg);
            let check = || assert_refused(init.app(["ready"]), &format!("{options:?}"), parts);
            // All of them in one run: a table with several wrong rows is put right at once.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
                wrong.push((verb, options));
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows, explained above: {wrong:?}", wrong.len());
}

/// SIGKILL and SIGSTOP no process gets; fault signals, SIGCHLD, the libc's own and SIGRTMAX drain-init keeps.
#[test]
fn excepted_signals_are_refused_wherever_they_are_named() {
    for signal in [
        "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS", "CHLD", "32", "33", "RTMAX", "64",
        "KILL", "STOP",
    ] {
        for (option, value) in [
            ("--stop-on", signal.to_owned()),
            ("--map-signal", format!("{signal}=HUP")),
            ("--map-signal", format!("HUP={signal}")),
            ("--stop-signal", signal.to_owned()),
        ] {
            let written = format!("{option} {value}");
            assert_refused(init().arg(option).arg(&value).app(["ready"]), &written, &[&written]);
        }
    }
}

/// The line shows the command as it should have been.
#[test]
fn a_command_line_without_a_command_or_without_dashes_is_refused() {
    assert_refused(init(), "nothing at all", &["--", "COMMAND"]);
    assert_refused(init().arg("run"), "run", &["--", "COMMAND"]);
    assert_refused(init().args("--delay 1s"), "options alone", &["--", "COMMAND"]);
    assert_refused(init().args("--delay 1s --"), "nothing after --", &["COMMAND"]);
    assert_refused(init().args("/app --flag"), "no --", &["drain-init -- /app --flag"]);
    assert_refused(init().args("run /app"), "run, no --", &["drain-init run -- /app"]);
    assert_refused(
        init().args("--delay 1s -g /app --delay=2s"),
        "options, no --",
        &["drain-init --delay 1s -g -- /app --delay=2s"],
    );
    assert_refused(
        init().args("--delay=1s /app"),
        "option with =, no --",
        &["drain-init --delay=1s -- /app"],
    );
    assert_refused(
        init().arg("/app").arg("two words"),
        "to be quoted",
        &["drain-init -- /app 'two words'"],
    );
    assert_refused(
        init().arg("/app").arg("it's"),
        "with a quotation mark",
        &[r"drain-init -- /app 'it'\''s'"],
    );
}

#[test]
fn a_word_too_many_is_refused() {
    for words in ["probe file:/a file:/b", "install /tmp/a /tmp/b"] {
        let verb = words.split(' ').next().expect("a verb");
        let last = words.rsplit(' ').next().expect("a word");
        let line = format!("{last}: one word too many for {verb}");
        assert_refused(init().args(words), words, &[&line]);
    }
}

#[test]
fn arguments_that_are_no_utf8_are_refused_before_the_dashes() {
    assert_refused(
        init().arg(OsStr::from_bytes(b"--delay=\xff")).app(["ready"]),
        "an option",
        &["--delay"],
    );
    assert_refused(
        init().arg("--delay").arg(OsStr::from_bytes(b"\xff")).app(["ready"]),
        "a value",
        &["\u{fffd}"],
    );
    assert_refused(
        init().env("DRAIN_INIT_DELAY", OsStr::from_bytes(b"\xff")).app(["ready"]),
        "a variable",
        &["DRAIN_INIT_DELAY"],
    );
}

/// The same findings, named by the variable, which is what has to be put right.
#[test]
fn nonsense_in_a_variable_is_refused_by_the_variables_name() {
    for (option, _, nonsense) in VALUES {
        let named = format!("{}={nonsense}", variable(option));
        assert_refused(init().env(&variable(option), nonsense).app(["ready"]), &named, &[&named]);
        let typed = format!("--{option}");
        assert_refused(
            init().arg(&typed).arg(nonsense).app(["ready"]),
            &typed,
            &[&typed, nonsense],
        );
        assert_refused(
            init().arg(format!("{typed}={nonsense}")).app(["ready"]),
            &typed,
            &[&typed, nonsense],
        );
    }
    for switch in SWITCHES {
        for value in ["yes", "2", "true"] {
            let named = format!("{}={value}", variable(switch));
            assert_refused(init().env(&variable(switch), value).app(["ready"]), &named, &[&named]);
        }
    }
    assert_refused(
        init().env("DRAIN_INIT_GRACE", "5s").app(["ready"]),
        "no room",
        &["DRAIN_INIT_GRACE=5s"],
    );
}

/// Checks paths that access(2) allows and open(2) does not, even for root.
#[test]
fn a_marker_file_where_none_can_be_made_is_refused() {
    if !needs_root() {
        return;
    }
    for (option, place) in [
        ("--ready-file", "/proc/ready"),
        ("--drain-file", "/proc/self/drain"),
        ("--ready-file", "/sys/kernel/ready"),
        ("--ready-file", "/proc/version"), // there, and can't be removed
    ] {
        let written = format!("{option} {place}");
        assert_refused(init().arg(option).arg(place).app(["ready"]), &written, &[&written]);
    }
}

/// It is tried before the app starts, under another name, of which nothing is left.
#[test]
fn a_ready_file_is_never_there_before_the_app() {
    if !needs_program("strace") {
        return;
    }
    let (folder, other) = (Folder::new(), Folder::new());
    let (ready, trace) = (folder.path("ready"), other.path("trace"));
    // As one that was killed in between would leave it.
    for left in [vec![], vec![".drain-init-trial"]] {
        for name in left {
            fs::write(folder.path(name), "").expect("a file");
        }
        let strace = ["strace", "-f", "-o"].map(OsStr::new).into_iter().chain([trace.as_os_str()]);
        let init = init().under(strace).arg("--ready-file").arg(&ready);
        // The app waits until it is there, and so does its name in the trace.
        let script = format!(
            "until test -e {}; do :; done; ls -A {}",
            ready.display(),
            folder.path("").display()
        );
        let ended = init.command(["sh", "-c", &script]).ended();
        assert_eq!((ended.code, ended.out), (0, vec!["ready".to_owned()]), "{:?}", ended.err);
        let trace = fs::read_to_string(&trace).expect("the trace");
        let lines: Vec<&str> = trace.lines().collect();
        let made = |name: &str| {
            let name = format!("/{name}\"");
            lines.iter().position(|line| line.contains(&name) && line.contains("O_CREAT"))
        };
        let app =
            lines.iter().rposition(|line| line.contains("execve(") && line.contains("test -e"));
        let (tried, app, ready) = (made(".drain-init-trial"), app, made("ready"));
        assert!(
            tried.is_some() && tried < app && app < ready,
            "{tried:?} {app:?} {ready:?}\n{trace}"
        );
    }
}

/// As root everything can be written, so as another user.
#[test]
fn a_marker_file_in_a_folder_that_cannot_be_written_is_refused() {
    if !needs_static() || !needs_namespaces() {
        return;
    }
    let folder = Folder::new();
    // Where they are built need not be open to other users.
    let (program, app) = (folder.path("drain-init"), folder.path("witness"));
    copy_program(&static_init(), &program);
    copy_program(&static_witness(), &app);
    let (open, closed, read_only) =
        (folder.path("open"), folder.path("closed"), folder.path("read-only"));
    for (folder, mode) in [(&open, 0o777), (&closed, 0o755), (&read_only, 0o777)] {
        fs::create_dir(folder).expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    for option in ["--ready-file", "--drain-file"] {
        let start = |folder: &Path| {
            let init =
                Init::new(Kind::DrainInit, program.clone()).arg(option).arg(folder.join("file"));
            init.command([app.as_os_str(), OsStr::new("ready")])
        };
        let written = |folder: &Path| format!("{option} {}", folder.join("file").display());
        assert_refused(start(&closed).user(65532), "another's folder", &[&written(&closed)]);
        assert_refused(
            start(&read_only).read_only(&read_only),
            "a read-only file system",
            &[&written(&read_only)],
        );
        assert_eq!(
            start(&open).user(65532).ended().out,
            ["ready"],
            "where it can be written, it starts"
        );
    }
}

// ---- what is said where

fn explained(init: Init) -> String {
    let ended = init.ended();
    // Options are tried one by one, and some do nothing alone.
    let wrong = ended.err.iter().find(|line| !line.contains("has no effect without"));
    assert_eq!((ended.code, wrong), (0, None), "{ended:?}");
    ended.out.join("\n")
}

/// An option that is about another is no mistake, as the other may be set elsewhere; it is told of, and the app starts.
#[test]
fn an_option_without_effect_is_told_of() {
    let folder = Folder::new();
    let file = folder.path("ready").display().to_string();
    for (option, value, needed, needed_value) in [
        ("quiet-on", "connections", "until-quiet", "1s"),
        ("close-idle", "100ms", "until-quiet", "1s"),
        ("in-flight", "app", "until-quiet", "1s"),
        ("watch-port", "8080", "until-quiet", "1s"),
        ("ignore-peer", "10.0.0.7", "until-quiet", "1s"),
        ("max-delay", "9s", "until-quiet", "1s"),
        ("max-delay", "9s", "on-drain", "exec:/bin/true"),
        ("ready-check", "tcp://localhost:8080", "ready-file", &file),
        ("unready-delay", "1s", "ready-listen", "127.0.0.1:18099"),
        ("start-timeout", "9s", "start-after", "file:/"),
        ("header", "X:1", "on-exit", "POST http://127.0.0.1:1/"),
        ("header", "X:1", "start-after", "http://127.0.0.1:1/"),
    ] {
        let typed = format!("--{option} {value}: has no effect without ");
        let told = |ended: &Ended| ended.err.iter().any(|line| line.contains(&typed));
        let with = |init: Init| init.arg(format!("--{option}")).arg(value);
        let both = |init: Init| with(init).arg(format!("--{needed}")).arg(needed_value);
        for (options, expected) in [(with(explain()), true), (both(explain()), false)] {
            let ended = options.ended();
            assert_eq!((ended.code, told(&ended)), (0, expected), "{option}, {needed}: {ended:?}");
        }
        let ended = with(init()).app(["ready"]).ended();
        assert!(ended.code == 0 && ended.out == ["ready"] && told(&ended), "{option}: {ended:?}");
        let quiet = with(init()).arg("--quiet").app(["ready"]).ended();
        assert_eq!(quiet.err, [""; 0], "{option}");
        let ended = init().env(&variable(option), value).app(["ready"]).ended();
        let named = format!("{}={value}: has no effect without ", variable(option));
        assert!(ended.err.iter().any(|line| line.contains(&named)), "{option}: {ended:?}");
    }
}

/// With --log-format json, the reason why the app was not started is JSON too.
#[test]
fn refusals_have_the_form_of_the_log() {
    for options in ["--delay 40s", "--ready-file /proc/ready", "--ready-listen 192.0.2.1:9000", ""]
    {
        let init = init().args("--log-format json").args(options);
        let ended = if options.is_empty() { init.ended() } else { init.app(["ready"]).ended() };
        assert_eq!((ended.code, ended.err.len()), (125, 1), "{options}: {ended:?}");
        let line = &ended.err[0];
        assert!(
            line.starts_with('{') && line.contains("\"refused\"") && line.ends_with('}'),
            "{line}"
        );
    }
    let text = init().args("--log-format text --delay 40s").app(["ready"]);
    assert_refused(text, "as text", &["--delay 40s"]);
}

#[test]
fn what_counts_as_traffic_is_on_the_timeline() {
    for (options, what) in [
        ("--until-quiet 2s", "until 2s without requests"),
        ("--until-quiet 2s --quiet-on requests", "until 2s without requests"),
        ("--until-quiet 2s --quiet-on connections", "until 2s without new connections"),
        (
            "--until-quiet 2s --close-idle 100ms",
            "2s without new connections; from then on kept ones",
        ),
        ("--until-quiet 2s --close-idle 100ms --max-delay 20s", "     18s  kept connections are"),
        ("--until-quiet 2s --in-flight app", "requests in flight are the app's to finish"),
    ] {
        let text = explained(explain().args(options));
        assert!(text.contains(what), "{text}");
    }
}

/// Whole seconds are all that the kubelet and `docker stop` are told in.
#[test]
fn a_grace_period_of_no_whole_seconds_is_rounded_up_for_who_kills_from_outside() {
    let text = explained(explain().args("--delay 1s --grace 4.5s"));
    assert!(text.contains("      4s  SIGKILL to all"), "{text}");
    assert!(text.contains("      5s  the kubelet (terminationGracePeriodSeconds: 5)"), "{text}");
}

/// The visible effect of the options: on explain's timeline, or in two runs with a signal or two, a child, and a stop.
fn effect(option: &str, with: impl Fn(Init) -> Init) -> String {
    if ON_THE_TIMELINE.contains(&option) {
        return explained(with(explain()));
    }
    let mut effect = String::new();
    for end in ["exit:3", "exit:5"] {
        let init = with(init().args("--delay 0"));
        let mut run =
            init.app(["child:name:child,print:there,until:15", "ready", "until:15", end]).start();
        run.line("ready");
        run.says("child: there");
        for number in [1, 12, 15] {
            run.signal(number);
        }
        let ended = run.ended();
        // As a set: who has several signals waiting sees the lowest first, and a child may be told twice.
        let lines: BTreeSet<&String> = ended.out.iter().collect();
        let starts: BTreeSet<&str> =
            ended.err.iter().map(|line| &line[..4.min(line.len())]).collect();
        effect += &format!("{end}: {} {lines:?} {starts:?}\n", ended.code);
    }
    effect
}

/// Not --max-delay, what goes with --until-quiet or --start-after, --header, and --parent-death-signal: of those a run shows nothing (no
/// drain here is longer than --delay; tests/suite/lifecycle.rs has the parent, tests/suite/starting.rs what is waited for and sent). Of all it is tested that each form is read, and which one wins, by nonsense in the other.
const SHOWS_NOTHING: [&str; 9] = [
    "max-delay",
    "quiet-on",
    "close-idle",
    "in-flight",
    "watch-port",
    "ignore-peer",
    "parent-death-signal",
    "start-timeout",
    "header",
];

#[test]
fn an_option_means_the_same_in_two_words_in_one_and_as_a_variable() {
    for (option, value, _) in VALUES.iter().filter(|row| !SHOWS_NOTHING.contains(&row.0)) {
        let (typed, variable) = (format!("--{option}"), variable(option));
        let default = effect(option, |init| init);
        let two = effect(option, |init| init.arg(&typed).arg(value));
        assert_ne!(two, default, "{typed} {value} changes something");
        assert_eq!(
            effect(option, |init| init.arg(format!("{typed}={value}"))),
            two,
            "{typed}={value}"
        );
        assert_eq!(effect(option, |init| init.env(&variable, value)), two, "{variable}={value}");
        assert_eq!(effect(option, |init| init.env(&variable, "")), default, "empty is unset");
    }
    let default = effect("group", |init| init);
    let typed = effect("group", |init| init.arg("--group"));
    assert_ne!(typed, default);
    assert_eq!(effect("group", |init| init.arg("-g")), typed);
    assert_eq!(effect("group", |init| init.env("DRAIN_INIT_GROUP", "1")), typed);
    assert_eq!(effect("group", |init| init.env("DRAIN_INIT_GROUP", "0")), default);
    assert_eq!(effect("group", |init| init.env("DRAIN_INIT_GROUP", "")), default);
}

/// An overridden variable is not even checked, so that a bad value in an image cannot block a command line.
#[test]
fn the_command_line_wins_over_the_environment() {
    for (option, value, nonsense) in VALUES {
        let (typed, variable) = (format!("--{option}"), variable(option));
        // Some have no effect alone, which is told of.
        let ended = explain().arg("-q").arg(&typed).arg(value).env(&variable, nonsense).ended();
        assert_eq!(
            (ended.code, &ended.err),
            (0, &vec![]),
            "{typed} {value}, {variable}={nonsense}: {ended:?}"
        );
        let init = init().arg(&typed).arg(nonsense).env(&variable, value).app(["ready"]);
        assert_refused(init, &typed, &[&typed, nonsense]);
    }
    let timeline = |init: Init| explained(init.args("--delay 7s"));
    assert_eq!(timeline(explain().env("DRAIN_INIT_DELAY", "8s")), timeline(explain()));
    let quiet = init()
        .arg("-q")
        .env("DRAIN_INIT_VERBOSE", "1")
        .args("--delay 0")
        .app(["ready", "until:15", "exit:0"]);
    let mut run = quiet.start();
    run.line("ready");
    run.signal(15);
    assert_eq!(run.ended().err, [""; 0], "-q wins over the other switch of the pair");
}

#[test]
fn repeatable_options_are_comma_separated_in_a_variable() {
    for (option, first, second) in REPEATABLE {
        let typed = format!("--{option}");
        let both = effect(option, |init| init.arg(&typed).arg(first).arg(&typed).arg(second));
        let one = |value| effect(option, |init: Init| init.arg(&typed).arg(value));
        assert_ne!(both, one(first), "{option}: the second counts");
        assert_ne!(both, one(second), "{option}: the first counts");
        let list = format!("{first},{second}");
        assert_eq!(effect(option, |init| init.env(&variable(option), &list)), both, "{list}");
    }
}

/// The switches that only change the log are seen there.
#[test]
fn log_switches_work_as_options_and_variables() {
    let lines = |init: Init| -> Ended {
        let mut run =
            init.args("--delay 0").app(["ready", "until:10", "until:15", "exit:0"]).start();
        run.line("ready");
        run.signal(10);
        run.line("signal 10");
        run.signal(15);
        run.ended()
    };
    let usual = lines(init()).err;
    assert!(!usual.is_empty() && !usual.iter().any(|line| line.contains("SIGUSR1")), "{usual:?}");
    for quiet in [init().arg("-q"), init().arg("--quiet"), init().env("DRAIN_INIT_QUIET", "1")] {
        assert_eq!(lines(quiet).err, [""; 0]);
    }
    for verbose in
        [init().arg("-v"), init().arg("--verbose"), init().env("DRAIN_INIT_VERBOSE", "1")]
    {
        assert!(lines(verbose).err.iter().any(|line| line.contains("SIGUSR1")));
    }
    for off in ["DRAIN_INIT_QUIET", "DRAIN_INIT_VERBOSE"] {
        assert_eq!(lines(init().env(off, "0")).err.len(), usual.len(), "{off}=0");
    }
    let json = lines(init().env("DRAIN_INIT_LOG_FORMAT", "json")).err;
    assert!(!json.is_empty() && json.iter().all(|line| line.starts_with('{')), "{json:?}");
}

/// Warned of, not refused: a new version's variable must not stop an old one's container. What Kubernetes sets for a Service of
/// that name is nobody's mistake.
#[test]
fn an_unknown_variable_is_warned_of() {
    let ended = init().env("DRAIN_INIT_DELAYS", "5s").app(["ready"]).ended();
    assert_eq!((ended.code, ended.out.len(), ended.err.len()), (0, 1, 1), "{ended:?}");
    assert!(
        ended.err[0].starts_with("drain-init: DRAIN_INIT_DELAYS: unknown variable"),
        "{ended:?}"
    );
    let service = init()
        .env("DRAIN_INIT_PORT", "tcp://10.0.0.1:80")
        .env("DRAIN_INIT_SERVICE_HOST", "10.0.0.1")
        .env("DRAIN_INIT_SERVICE_PORT_HTTP", "80")
        .env("DRAIN_INIT_PORT_80_TCP_ADDR", "10.0.0.1");
    assert_eq!(service.app(["ready"]).ended().err, [""; 0]);
    assert_eq!(
        init().env("DRAIN_INITIAL", "5s").env("DRAIN_INIT_DELAYS", "").app(["ready"]).ended().err,
        [""; 0]
    );
}

/// The variables are the app's environment too.
#[test]
fn the_app_gets_the_environment_as_it_is() {
    let environment = |init: Init| {
        let mut lines =
            init.env("DRAIN_INIT_DELAY", "3s").env("X", "a b").command(["env"]).ended().out;
        lines.retain(|line| !line.starts_with("STARTED_BY_TEST="));
        lines
    };
    let bare = environment(init().bare());
    assert!(bare.contains(&"DRAIN_INIT_DELAY=3s".to_owned()));
    assert_eq!(environment(init()), bare);
}

/// The words after `--` belong to COMMAND, even if they are verbs. `run` is optional.
#[test]
fn a_verb_is_one_only_as_the_first_argument() {
    let folder = Folder::new();
    for name in ["explain", "run", "--help", "--version"] {
        std::os::unix::fs::symlink(support::witness(), folder.path(name)).expect("a link");
        let path = folder.path("").display().to_string();
        let start = || init().env("PATH", &path).command([name, "exit:9"]);
        assert_eq!(start().ended().code, 9, "-- {name}");
        let init = init().env("PATH", &path).args("run --delay 1s").command([name, "exit:9"]);
        assert_eq!(init.ended().code, 9, "run -- {name}");
    }
}

// ---- help, version, explain

#[test]
fn version_is_the_packages() {
    for form in ["--version", "run --version", "explain --version"] {
        let ended = init().args(form).ended();
        assert_eq!((ended.code, &ended.err), (0, &vec![]), "{form}");
        assert_eq!(ended.out, [concat!("drain-init ", env!("CARGO_PKG_VERSION"))], "{form}");
    }
}

/// The instants of the timeline, as text.
#[test]
fn explain_shows_when_what_happens() {
    let text = explained(explain().args(
        "--delay 4s --grace 20s --kill-margin 1s --escalate QUIT:3s --ready-file /tmp/ready",
    ));
    for part in ["4s", "SIGTERM", "16s", "SIGQUIT", "19s", "SIGKILL", "20s", "/tmp/ready"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let with_command = explained(explain().args("--delay 4s").command(["/no/such/command"]));
    assert!(!with_command.is_empty());
    assert_eq!(
        with_command.lines().filter(|line| line.chars().count() > 100).count(),
        0,
        "at a glance:\n{with_command}"
    );
}

/// Where run shows the first thing wrong, explain shows all; both refuse.
#[test]
fn explain_shows_all_findings_at_once() {
    let bad = "--delay 5x --grace 1e30 --map-exit 300=0 --ready-file /no/such/folder/ready";
    let ended = explain().args(bad).env("DRAIN_INIT_STOP_ON", "NOSUCH,CHLD").ended();
    assert_eq!(ended.code, 125, "{ended:?}");
    let all = format!("{}\n{}", ended.out.join("\n"), ended.err.join("\n"));
    for part in [
        "--delay 5x",
        "--grace 1e30",
        "--map-exit 300=0",
        "--ready-file /no/such/folder/ready",
        "NOSUCH",
        "CHLD",
    ] {
        assert!(all.contains(part), "{part}:\n{all}");
    }
}

/// It refuses what run refuses, row by row.
#[test]
fn explain_refuses_what_run_refuses() {
    for (options, parts) in REFUSED.iter().filter(|(options, _)| options[0].starts_with('-')) {
        let ended = options.iter().fold(explain(), Init::arg).ended();
        assert_eq!(ended.code, 125, "{options:?}: {ended:?}");
        let all = format!("{}\n{}", ended.out.join("\n"), ended.err.join("\n"));
        assert!(parts.iter().all(|part| all.contains(part)), "{options:?}: {parts:?}\n{all}");
    }
}

/// It looks at what there is and touches nothing: no marker file comes or goes, no app is started.
#[test]
fn explain_changes_nothing() {
    let folder = Folder::new();
    let (ready, drain) = (folder.path("ready"), folder.path("drain"));
    fs::write(&drain, "stale").expect("a file");
    let init = explain().arg("--ready-file").arg(&ready).arg("--drain-file").arg(&drain);
    let text = explained(init.app(["touch:started", "print:started"]));
    assert!(!text.lines().any(|line| line == "started"), "{text}");
    assert!(!ready.exists() && drain.exists());
}
