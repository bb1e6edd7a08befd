//! Checks the costs that are the same on every run, on the release build. bench/run measures the others.

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use support::control::busy;
use support::http::{answered, clients, steady};
use support::life::own_address;
use support::proc::{computed_by, try_status_of};
use support::system::{NetworkBeside, enter_own_network, now, pause, raise_descriptor_limit};
use support::{
    Folder, Init, Kind, LIMIT, Running, Server, becomes_true, companion_of, in_networks, init,
    kept, ms, needs, needs_namespaces, needs_program, needs_root, needs_static, server, settled,
    slack, static_init, status_of,
};

const TERM: i32 = 15;
const USR1: i32 = 10;

/// Twelve, and one or two to spare. tini-static makes 28 and catatonit 27.
const MOST_CALLS: usize = 14;

#[test]
fn few_system_calls_come_before_the_apps_exec() {
    if !needs_static() || !needs_program("strace") {
        return;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o", "/dev/stdout"]).arg(static_init());
    let output = strace.args(["--", "/bin/true"]).output().expect("strace");
    let trace = String::from_utf8(output.stdout).expect("text");
    let before = trace.lines().take_while(|line| !line.contains("execve(\"/bin/true\""));
    let calls: Vec<&str> = before.skip(1).filter(|line| !line.contains(" resumed>")).collect();
    assert!(trace.contains("execve(\"/bin/true\"") && calls.len() > 3, "no trace: {trace}");
    println!("{} system calls", calls.len());
    assert!(calls.len() <= MOST_CALLS, "{}:\n{}", calls.len(), calls.join("\n"));
}

/// Not once in five seconds: as a subreaper and as PID 1, whatever a drain or a probe would make of it, nor the companion.
#[test]
fn nothing_wakes_it_or_its_companion_while_nothing_happens() {
    if !needs_static() {
        return;
    }
    let (folder, server) = (Folder::new(), Server::on(0));
    let [ready, drain] = ["ready", "drain"].map(|name| folder.path(name));
    let options = [
        String::new(),
        format!("--ready-file {} --drain-file {}", ready.display(), drain.display()),
        "--delay 5s --until-quiet 2s".to_owned(),
        "--ready-listen ADDRESS".to_owned(),
        format!("--ready-listen ADDRESS --ready-check tcp://127.0.0.1:{}", server.port),
    ];
    let start = |init: Init, options: &str| {
        let mut run =
            init.args(&options.replace("ADDRESS", &own_address())).app(["ready", "pause"]).start();
        run.line("ready");
        // The witness is its child, too, and sleeps as well.
        let children = if options.contains("listen") { 2 } else { 1 };
        assert!(becomes_true(LIMIT, || run.children().len() == children), "{options}");
        (run, options.to_owned())
    };
    let mut runs = vec![];
    for options in &options {
        runs.push(start(Init::new(Kind::DrainInit, static_init()), options));
        if needs_namespaces() && !options.contains("file") {
            runs.push(start(init().pid1(), options));
        }
    }
    assert!(becomes_true(LIMIT, || ready.exists()));
    let switches = |pid: i32| {
        let fields = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        fields.map(|field| status_of(pid, field)).iter().sum::<u64>()
    };
    let count = || -> Vec<(&str, Vec<u64>)> {
        let of = |run: &Running| [vec![run.pid], run.children()].concat();
        let counts = |run| of(run).into_iter().map(switches).collect();
        runs.iter().map(|(run, options)| (options.as_str(), counts(run))).collect()
    };
    let before = settled(count);
    pause(ms(5000));
    assert_eq!(before, count());
    // The count does count: a signal is a wake-up.
    let (run, _) = &runs[0];
    run.signal(10);
    assert!(becomes_true(LIMIT, || switches(run.pid) > before[0].1[0]));
}

// ---- thousands of connections

/// Making them takes both processors.
static ALONE: Mutex<()> = Mutex::new(());

fn can_make_thousands() -> bool {
    needs_static()
        && needs_root()
        && needs_program("ip")
        && needs("20,000 descriptors", raise_descriptor_limit() >= 20_000)
}

#[test]
fn ten_thousand_connections_cost_little() {
    const COUNT: usize = 9000;
    if !can_make_thousands() {
        return;
    }
    static_init(); // is built before any time is measured
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    in_networks(&[COUNT], |&count| {
        // The release build: with so many connections, a sample costs a debug build ten times as much.
        let init = Init::new(Kind::DrainInit, static_init());
        let options = "-v --delay 0 --until-quiet 1s --max-delay 20s";
        let listen = ["--quiet", "--listen", "0.0.0.0:8080"].map(Into::into);
        let words = [server().into_os_string()].into_iter().chain(listen);
        let mut run = init.args(options).pid1().command(words).start();
        run.line_with("listening on ");
        // The kernel's table of the pod's network has their other ends alone.
        let beside = NetworkBeside::new();
        let address = SocketAddr::new(beside.ours, 8080);
        let _clients = beside.run(|| clients(address, count));
        let stopped = run.signal(TERM);
        let mut found = None;
        assert!(becomes_true(LIMIT, || {
            found = companion_of(run.pid, "drain");
            found.is_some()
        }));
        let companion = found.expect("found");
        let (mut used, mut peak) = (Duration::ZERO, 0);
        let mut look = || {
            if let Some(ns) = computed_by(companion).filter(|ns| *ns > 0) {
                used = Duration::from_nanos(ns);
            }
            peak = peak.max(try_status_of(companion, "VmHWM").unwrap_or(0));
        };
        let last = steady(ms(250), stopped + ms(4000), || {
            answered(address);
            look();
        });
        let due = last + ms(1000);
        while !run.ends_within(ms(20)) && now() < due + LIMIT {
            look();
        }
        let over = run.log("drain over after ");
        let share = used.as_secs_f64() / (over.at - stopped).as_secs_f64();
        let excess = over.at.saturating_duration_since(due);
        println!(
            "{count} connections: {used:?}, {:.1}% of one core, {peak} KiB at most, {excess:?} late",
            share * 100.0
        );
        assert!(over.at + ms(10) >= due, "too soon: {}", over.text);
        assert!(share < 0.4, "{:.1}% of one core, ten times what it should be", share * 100.0);
        assert!(excess < ms(1700) + slack(), "{excess:?} late: {}", over.text);
        assert!(peak < 4 * 1024, "{peak} KiB");
    });
}

// ---- closing

/// Processor time of a process so far.
fn used(pid: i32) -> Option<Duration> {
    computed_by(pid).map(Duration::from_nanos)
}

/// With SIGUSR1 sent again and again, or without, as forwarding it costs more than closing does.
fn many(count: usize, signals: bool) -> Option<(Duration, Duration)> {
    if !can_make_thousands() || !needs_program("python3") {
        return None;
    }
    static_init(); // is built before any time is measured
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    enter_own_network();
    // The release build: with so many connections, a sample costs a debug build ten times as much.
    let init = Init::new(Kind::DrainInit, static_init());
    let options = "--delay 0 --until-quiet 2s --close-idle 100ms --max-delay 28s";
    let command = kept("--listen 0.0.0.0:8080 --lingers");
    let mut run = init.args(options).command(command).start();
    run.line("listening");
    let beside = NetworkBeside::new();
    let address = SocketAddr::new(beside.ours, 8080);
    let clients = beside.run(|| clients(address, count));
    // How soon the app sees a signal when nothing goes on, and while connections are closed.
    let forwarded = |run: &mut Running| {
        let sent = run.signal(USR1);
        run.line("usr1") - sent
    };
    let mut control: Vec<Duration> = (0..20).map(|_| forwarded(&mut run)).collect();
    let before = used(run.pid).expect("it runs");
    let stopped = run.signal(TERM);
    let mut companion = 0;
    assert!(becomes_true(LIMIT, || {
        companion = companion_of(run.pid, "drain").unwrap_or(0);
        companion > 0
    }));
    let mut meanwhile = vec![];
    let (mut of_init, mut of_companion) = (before, Duration::ZERO);
    while let Some(it) = used(companion) {
        of_companion = it;
        of_init = used(run.pid).unwrap_or(of_init);
        if signals {
            meanwhile.push(forwarded(&mut run));
        }
        pause(ms(5));
    }
    let over = run.log("drain over after ");
    println!("{}", over.text);
    let lasted = over.at - stopped;
    let spent = of_init - before + of_companion;
    let share = spent.as_secs_f64() / lasted.as_secs_f64();
    println!(
        "{count} connections: over after {lasted:?}; {:?} of PID 1, {of_companion:?} of the companion, {:.1}% of one core",
        of_init - before,
        share * 100.0
    );
    // PID 1 is not asked any more once it has been silent a few times, which takes a very busy machine.
    let all = over.text.contains(&format!("closed {count} of {count} kept"));
    assert!(all || busy() > ms(2000), "{}", over.text);
    if signals {
        control.sort_unstable();
        meanwhile.sort_unstable();
        let [control, meanwhile] =
            [control, meanwhile].map(|it| (it[it.len() / 2], it[it.len() - 1]));
        println!("SIGUSR1 to the app, median and worst: {meanwhile:?}, before {control:?}");
        assert!(meanwhile.1 < ms(50) + slack(), "{meanwhile:?}, {control:?} before");
    }
    drop(clients);
    Some((lasted, spent))
}

#[test]
fn two_thousand_are_closed_soon_and_signals_pass() {
    if let Some((lasted, spent)) = many(2000, true) {
        // The window of 2 s, 2 s more, and the pauses that keep the cost at a tenth of a core.
        assert!(lasted < ms(5000) + slack() + spent * 10, "{lasted:?}, {spent:?}");
    }
}

#[test]
fn thousands_cost_little() {
    if let Some((lasted, spent)) = many(4000, false) {
        let share = spent.as_secs_f64() / lasted.as_secs_f64();
        assert!(share < 0.4, "{:.1}% of one core, ten times what it should be", share * 100.0);
    }
}
