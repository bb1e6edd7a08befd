//! Runs the snippets of README and docs/guide.md as they stand, and checks README's figures, its size and every relative link.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support;
use crate::support::system::{enter_own_network, pause};
use crate::support::{
    Folder, LIMIT, Server, becomes_true, init, ms, needs_namespaces, needs_root, needs_static,
};

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The words after `drain-init` of each command that a text has in the form of an image or a manifest.
fn commands(path: &str) -> Vec<Vec<String>> {
    let command = |rest: &str| {
        let (words, _) = rest.split_once(']').expect("the array's end");
        words.split(", ").skip(1).map(|word| word.trim_matches('"').to_owned()).collect()
    };
    // An address in brackets is inside an array.
    let text = read(path).replace("[::]", "0.0.0.0");
    text.split("/drain-init\"").skip(1).map(command).collect()
}

/// The guide's command that begins with this word.
fn command(first: &str) -> Vec<String> {
    let mut found = commands("docs/guide.md").into_iter().filter(|words| words[0] == first);
    let command = found.next().unwrap_or_else(|| panic!("the guide has no `{first}`"));
    assert!(found.next().is_none(), "the guide has one `{first}`");
    command
}

#[test]
fn every_command_is_known_here() {
    let guide = commands("docs/guide.md");
    let firsts: Vec<&str> = guide.iter().map(|words| words[0].as_str()).collect();
    let starts = ["--start-after", "wait", "--on-exit", "--delay", "--ready-listen"];
    assert_eq!(firsts, [&starts[..], &["--ready-notify", "probe", "prestop", "install"]].concat());
}

/// README's entrypoints. tests/suite/examples.rs runs its hook, and gives all of them to `explain`.
#[test]
fn each_line_to_copy_runs_an_app() {
    if !needs_root() {
        return;
    }
    enter_own_network(); // where the ports that README names are free
    let [_ready, quit] = [Server::on(15_021), Server::on(15_020)];
    let entrypoints = commands("README.md").into_iter().filter(|words| words[0] != "prestop");
    let mut run = 0;
    for words in entrypoints {
        let (separator, options) = words.split_last().expect("words");
        assert_eq!(separator, "--", "{words:?}");
        let init = options.iter().fold(init(), |init, word| init.arg(word));
        let ended = init.app(["exit:7"]).ended();
        assert_eq!(ended.code, 7, "{words:?}: {ended:?}");
        run += 1;
    }
    assert_eq!(run, 8, "the first, those of the decision without the hook, and two examples");
    assert_eq!(quit.calls(), ["POST /quitquitquit HTTP/1.1"]);
}

#[test]
fn the_drains_entrypoint_runs_an_app() {
    let words = command("--delay");
    let options = words.split_last().expect("words").1;
    let init = options.iter().fold(init(), |init, word| init.arg(word));
    assert_eq!(init.app(["exit:7"]).ended().code, 7);
}

/// The first screen is what a reader sees in 90 seconds.
#[test]
fn the_first_screen_is_small_and_complete() {
    let readme = read("README.md");
    let first: Vec<&str> = readme.lines().take(60).collect();
    let first = first.join("\n");
    let (first, _) = first.split_once("\n## ").expect("the first screen ends within 60 lines");
    for part in ["ENTRYPOINT [", "--grace 30s", "](docs/rolling-update.svg)", "| run by |"] {
        assert!(first.contains(part), "the first screen has no {part}");
    }
    // Each command that is shown there is run by the gate.
    let gate = read(".ci/run");
    let shown: Vec<&str> =
        first.lines().filter_map(|line| line.strip_prefix("    cargo ")).collect();
    assert_eq!(shown, ["run --release --example demo", "test"]);
    for command in shown {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let run = format!("cargo {verb} --locked {rest}");
        let is_run = gate.lines().any(|line| line.trim_end().ends_with(run.trim_end()));
        assert!(is_run, ".ci/run does not run `{run}`");
    }
}

/// Each of its six lines ends in a line to copy.
#[test]
fn the_decision_has_six_lines() {
    let readme = read("README.md");
    let section = readme.split("## Which options for my app\n").nth(1).expect("the decision");
    let section = section.split("\n## ").next().expect("its end");
    let lines: Vec<&str> = section.lines().collect();
    let is_numbered =
        |line: &str| line.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
    let numbered: Vec<usize> = (0..lines.len()).filter(|&at| is_numbered(lines[at])).collect();
    assert_eq!(numbered.len(), 6);
    for at in numbered {
        let copied = lines[at + 1].trim();
        assert!(
            copied.starts_with('`') && copied.ends_with('`') && copied.contains("/drain-init\""),
            "{}: no line to copy, but {copied}",
            lines[at]
        );
    }
}

/// Each instruction has the form in which Docker executes it without a shell.
#[test]
fn the_dockerfiles_can_be_read() {
    let mut read_lines = 0;
    for path in ["README.md", "docs/guide.md"] {
        let text = read(path);
        for block in text.split("```dockerfile\n").skip(1) {
            let block = block.split("```").next().expect("the block's end");
            for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let (instruction, rest) = line.split_once(' ').expect("an instruction");
                let array = match instruction {
                    "COPY" => {
                        assert_eq!(rest.split(' ').count(), 2, "{path}: {line}");
                        continue;
                    }
                    "ENTRYPOINT" | "CMD" => rest,
                    "HEALTHCHECK" => rest.split_once("CMD ").expect("its command").1,
                    _ => panic!("{path}: {line}"),
                };
                let words: Vec<String> =
                    serde_json::from_str(array).unwrap_or_else(|e| panic!("{path}: {line}: {e}"));
                assert!(words[0].starts_with('/') || instruction == "CMD", "{path}: {line}");
                read_lines += 1;
            }
        }
    }
    assert!(read_lines >= 10, "{read_lines}");
}

// ---- links

/// The texts that a reader follows links in.
fn texts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    let mut left: Vec<PathBuf> =
        ["docs", "examples", "bench"].iter().map(|name| root.join(name)).collect();
    left.extend(
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|it| root.join(it)),
    );
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// The anchors of the headings, as GitHub forms them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if !in_block
            && let Some((level, heading)) = line.split_once(' ')
            && !level.is_empty()
            && level.chars().all(|c| c == '#')
        {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            found.insert(kept.collect::<String>().to_lowercase().replace(' ', "-"));
        }
    }
    found
}

#[test]
fn every_relative_link_leads_somewhere() {
    let (mut links, mut to_headings) = (0, 0);
    for path in texts() {
        let text = fs::read_to_string(&path).expect("it is read");
        for rest in text.split("](").skip(1) {
            let (link, _) = rest.split_once(')').expect("the link's end");
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            assert!(there.exists(), "{}: {link}", path.display());
            links += 1;
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&there).expect("a text"));
                assert!(anchors.contains(anchor), "{}: {link}: {anchors:?}", path.display());
                to_headings += 1;
            }
        }
    }
    assert!(links >= 25 && to_headings >= 8, "{links} links, {to_headings} to headings");
}

// ---- the guide's snippets

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
    enter_own_network(); // where the ports that the guide names are free
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

/// With an app that says so by itself; the guide's own, HAProxy, is in tests/suite/ready_notify.rs.
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

/// The tables of README and docs/rolling-update.md and the picture are of the run that made docs/rolling-update.csv.
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

    let (readme, whole) = (read("README.md"), read("docs/rolling-update.md"));
    let mut in_readme = 0;
    let rows: BTreeSet<&str> = cells[1..].iter().map(|cell| cell[4]).collect();
    assert_eq!(rows.len(), 10);
    for row in rows {
        let failures = |places: &[[&str; 3]]| {
            let each =
                places.iter().map(|place| both(*place, row, &|cell| cell[failed].to_owned()));
            format!("| {row} | {} |", each.collect::<Vec<_>>().join(" | "))
        };
        let excess = |cell: &Vec<&str>| {
            let seconds = |index: usize| cell[index].parse::<f64>().expect("seconds");
            format!("{:.1}", seconds(stop) - seconds(shortest))
        };
        let [near, far] = ["2", "8"].map(|lag| ["usual", "kube-proxy", lag]);
        let [busy_near, busy] = ["2", "8"].map(|lag| ["busy", "kube-proxy", lag]);
        let proxy = ["busy", "HAProxy always retries 0", "8"];
        let failed = failures(&[near, far, busy_near, busy, proxy]);
        let line = format!("{failed} {} |", both(busy, row, &excess));
        assert!(whole.contains(&line), "docs/rolling-update.md has no\n{line}");
        let line = failures(&[near, far, busy, proxy]);
        if readme.contains(&format!("\n| {row} |")) {
            assert!(readme.contains(&line), "README has no\n{line}");
            in_readme += 1;
        }
    }
    assert_eq!(in_readme, 5, "rows of README");

    let svg = read("docs/rolling-update.svg");
    for row in ["bare", "preStop sleep 5", "drain-init --until-quiet 2s --close-idle 100ms"] {
        let cell = cell(["usual", "kube-proxy", "8", "polite"], row).expect("it is in the CSV");
        let count = if cell[failed] == "0" { "none" } else { cell[failed] };
        let words = format!("{count} of {} requests failed", cell[requests]);
        assert!(svg.contains(&words), "the picture does not say {words:?}");
    }
}
