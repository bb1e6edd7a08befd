//! README's snippets, run as they stand: whatever a reader copies works.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use support::system::{enter_own_network, pause};
use support::{
    Folder, LIMIT, Server, becomes_true, init, ms, needs_namespaces, needs_root, needs_static,
};

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The words after `/drain-init` of each command that README has in the form of an image or a manifest.
fn commands() -> Vec<Vec<String>> {
    let readme = read("README.md");
    let command = |rest: &str| {
        let (words, _) = rest.split_once(']').expect("the array's end");
        words.split(", ").skip(1).map(|word| word.trim_matches('"').to_owned()).collect()
    };
    // An address in brackets is inside an array.
    let readme = readme.replace("[::]", "0.0.0.0");
    readme.split("[\"/drain-init\"").skip(1).map(command).collect()
}

/// The one that begins with this word.
fn command(first: &str) -> Vec<String> {
    let mut found = commands().into_iter().filter(|words| words[0] == first);
    let command = found.next().unwrap_or_else(|| panic!("README has no `{first}`"));
    assert!(found.next().is_none(), "README has one `{first}`");
    command
}

#[test]
fn every_command_is_known_here() {
    let firsts: Vec<String> = commands().into_iter().map(|words| words[0].clone()).collect();
    let starts = ["--", "--start-after", "wait", "--on-exit", "--delay", "--ready-listen"];
    assert_eq!(firsts, [&starts[..], &["--ready-notify", "probe", "prestop", "install"]].concat());
}

#[test]
fn the_entrypoints_run_an_app() {
    for first in ["--", "--delay"] {
        let words = command(first);
        let (separator, options) = words.split_last().expect("words");
        assert_eq!(separator, "--");
        let init = options.iter().fold(init(), |init, word| init.arg(word));
        assert_eq!(init.app(["exit:7"]).ended().code, 7);
    }
}

/// With a server here in the place of each that is named there.
fn here(words: &[String], server: &Server) -> Vec<String> {
    let here = format!("127.0.0.1:{}", server.port);
    words.iter().map(|word| word.replace("db:5432", &here).replace("config:8080", &here)).collect()
}

#[test]
fn the_app_starts_after_the_database() {
    let server = Server::on(0);
    let words = here(&command("--start-after"), &server);
    let options = words.split_last().expect("words").1;
    let init = options.iter().fold(init(), |init, word| init.arg(word));
    assert_eq!(init.app(["exit:7"]).ended().code, 7);
    assert_eq!(server.calls().len(), 1, "it was asked");
}

#[test]
fn the_init_container_waits() {
    let server = Server::on(0);
    let words = here(&command("wait"), &server);
    let ended = words.iter().fold(init(), |init, word| init.arg(word)).ended();
    assert_eq!((ended.code, ended.err.len()), (0, 2), "{ended:?}");
    assert!(server.calls().contains(&"GET /healthz HTTP/1.1".to_owned()));
}

/// The ports are those of Istio's agent.
#[test]
fn the_sidecar_is_told_to_quit() {
    if !needs_root() {
        return;
    }
    enter_own_network();
    let [ready, quit] = [Server::on(15_021), Server::on(15_020)];
    let words = command("--on-exit");
    let options = words.split_last().expect("words").1;
    let init = options.iter().fold(init(), |init, word| init.arg(word));
    assert_eq!(init.app(["exit:7"]).ended().code, 7);
    assert_eq!(ready.calls(), ["GET /healthz/ready HTTP/1.1"]);
    assert_eq!(quit.calls(), ["POST /quitquitquit HTTP/1.1"]);
}

/// The entrypoint that answers probes, and the HEALTHCHECK that asks it.
#[test]
fn the_probe_asks_the_entrypoint() {
    if !needs_root() {
        return;
    }
    enter_own_network(); // where the ports that README names are free
    let words = command("--ready-listen");
    let options = words.split_last().expect("words").1;
    let entrypoint = options.iter().fold(init(), |init, word| init.arg(word));
    let mut run = entrypoint.app(["ready", "until:15", "exit:0"]).start();
    run.line("ready");
    let probe = || {
        let probe = command("probe").iter().fold(init(), |init, word| init.arg(word)).ended();
        (probe.code, probe.err)
    };
    assert_eq!(probe().0, 1, "the app does not accept yet");
    let app = TcpListener::bind("127.0.0.1:8080").expect("bound");
    assert!(becomes_true(LIMIT, || probe() == (0, vec![])));
    drop(app);
}

/// With an app that says so by itself; README's own, HAProxy, is in tests/ready_notify.rs.
#[test]
fn the_app_says_that_it_is_ready() {
    if !needs_root() {
        return;
    }
    enter_own_network();
    let words = command("--ready-notify");
    let options = words.split_last().expect("words").1;
    let entrypoint = options.iter().fold(init(), |init, word| init.arg(word));
    let app = ["ready", "until:10", "notify:READY=1", "until:15", "exit:0"];
    let mut run = entrypoint.app(app).start();
    run.line("ready");
    let probe = || command("probe").iter().fold(init(), |init, word| init.arg(word)).ended().code;
    assert!(becomes_true(LIMIT, || probe() == 1));
    pause(ms(300));
    assert_eq!(probe(), 1);
    run.signal(10);
    assert!(becomes_true(LIMIT, || probe() == 0));
}

#[test]
fn the_hook_waits() {
    if !needs_namespaces() {
        return;
    }
    // Alone in its namespaces: there is no entrypoint to ask.
    let hook = command("prestop").iter().fold(init().pid1(), |init, word| init.arg(word));
    let began = support::system::now();
    let ended = hook.ended();
    assert_eq!(ended.code, 0);
    assert!(ended.at - began >= ms(5_000));
}

#[test]
fn it_installs_itself() {
    if !needs_static() || !needs_root() {
        return;
    }
    let root = Folder::new();
    fs::create_dir(root.path("drain")).expect("the volume");
    let install = init().in_empty_root(&root);
    let install = command("install").iter().fold(install, |init, word| init.arg(word));
    assert_eq!(install.ended().code, 0);
    assert!(root.path("drain/drain-init").is_file());
}

/// README's table and the picture are of the run that made docs/rolling-update.csv.
#[test]
fn the_figures_of_the_rolling_update_are_of_one_run() {
    let csv = read("docs/rolling-update.csv");
    let cells: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let index = |name| cells[0].iter().position(|column| *column == name).expect(name);
    let [requests, failed, stop, shortest] =
        ["requests", "failed", "stop_s", "shortest_s"].map(index);
    // Traffic, balancer, lag and app.
    let cell = |place: [&str; 4], row: &str| {
        cells.iter().find(|cell| cell[..4] == place && cell[4] == row)
    };
    let both = |[traffic, balancer, lag]: [&str; 3], row, text: &dyn Fn(&Vec<&str>) -> String| {
        let texts = ["polite", "naive"].map(|app| {
            let cell = cell([traffic, balancer, lag, app], row);
            // Not measured: it would show the same as another one.
            cell.map_or_else(|| "–".to_owned(), text)
        });
        texts.join(" / ")
    };

    let readme = read("README.md");
    let rows: BTreeSet<&str> = cells[1..].iter().map(|cell| cell[4]).collect();
    assert_eq!(rows.len(), 10);
    for row in rows {
        let mut line = format!("| {row} |");
        for place in [
            ["usual", "kube-proxy", "2"],
            ["usual", "kube-proxy", "8"],
            ["busy", "kube-proxy", "2"],
            ["busy", "kube-proxy", "8"],
            ["busy", "HAProxy always retries 0", "8"],
        ] {
            line += &format!(" {} |", both(place, row, &|cell| cell[failed].to_owned()));
        }
        let excess = |cell: &Vec<&str>| {
            let seconds = |index: usize| cell[index].parse::<f64>().expect("seconds");
            format!("{:.1}", seconds(stop) - seconds(shortest))
        };
        line += &format!(" {} |", both(["busy", "kube-proxy", "8"], row, &excess));
        assert!(readme.contains(&line), "README has no\n{line}");
    }

    let svg = read("docs/rolling-update.svg");
    for row in ["bare", "preStop sleep 5", "drain-init --until-quiet 2s --close-idle 100ms"] {
        let cell = cell(["usual", "kube-proxy", "8", "polite"], row).expect("it is in the CSV");
        let count = if cell[failed] == "0" { "none" } else { cell[failed] };
        let words = format!("{count} of {} requests failed", cell[requests]);
        assert!(svg.contains(&words), "the picture does not say {words:?}");
    }
}
