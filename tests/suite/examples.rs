//! Whatever README, docs/ and examples/ tell a reader to give to drain-init, given to drain-init: an option that is renamed,
//! or a value that is refused, fails here. What Kubernetes, Docker and the others make of it is tests/manifests' to find out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support;
use crate::support::system::enter_own_network;
use crate::support::{Ended, Folder, Init, init, load, needs_namespaces, needs_root, server};

/// Options of other programs that are named in these texts.
const FOREIGN: [&str; 42] = [
    "--allow-untrusted",
    "--backoff",
    "--bin",
    "--certificate-identity",
    "--certificate-oidc-issuer",
    "--check",
    "--chmod",
    "--curl",
    "--drain-time-s",
    "--example",
    "--feature-gates",
    "--from",
    "--ignore-missing",
    "--init",
    "--install",
    "--interval",
    "--listen",
    "--locked",
    "--mount-proc",
    "--no-cache",
    "--nocapture",
    "--only",
    "--picture",
    "--port",
    "--post-renderer",
    "--predicate-type",
    "--quick",
    "--ready",
    "--release",
    "--repo",
    "--rewrite",
    "--runtime-config",
    "--sdnotify",
    "--shutdown",
    "--signer-workflow",
    "--single-child",
    "--table",
    "--target",
    "--test",
    "--timeout-fatal",
    "--type",
    "--wget",
];

struct Text {
    /// As seen from the repository's root.
    path: String,
    text: String,
}

/// README and what stands beside it, docs/, and all of examples/ that is no program.
fn texts() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    let beside = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut left: Vec<_> = beside
        .iter()
        .chain(&["Dockerfile.scratch", "docs", "examples"])
        .map(|n| root.join(n))
        .collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()),
            );
        } else if let Ok(text) = fs::read_to_string(&path)
            && path.extension().is_none_or(|extension| extension != "rs")
        {
            let path = path.strip_prefix(root).expect("it is below").display().to_string();
            found.push(Text { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

// ---- arrays of words: command, args, ENTRYPOINT, HEALTHCHECK, exec probes and hooks

/// The words after `"/drain-init"`, or another path to it, in each array.
fn commands(text: &Text) -> Vec<Vec<String>> {
    text.text.split("/drain-init\"").skip(1).map(|rest| array(rest, &text.path)).collect()
}

/// The strings up to the array's end. Whatever else is in between is refused: nothing is passed over.
fn array(mut rest: &str, path: &str) -> Vec<String> {
    let mut words = vec![];
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        if rest.starts_with(']') {
            return words;
        }
        let string = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (word, after) =
            string.unwrap_or_else(|| panic!("{path}: no array of strings: {rest:.60}"));
        assert!(!word.contains('\\'), "{path}: {word}: an escape is not understood here");
        words.push(word.to_owned());
        rest = after;
    }
}

// ---- environment: Kubernetes, ECS, Compose, Nomad, ENV, docker -e

/// Each DRAIN_INIT_... that is given a value there.
fn variables(text: &Text) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.text.lines() {
        for (at, _) in line.match_indices("DRAIN_INIT_") {
            let end = line[at..].find(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            let (name, rest) = line[at..].split_at(end.unwrap_or(line.len() - at));
            let forms = ["\", \"value\": ", ", value: ", ": ", " = ", "="];
            let Some(value) = forms.iter().find_map(|form| rest.strip_prefix(form)) else {
                continue;
            };
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => value.split([' ', '}']).next(),
            };
            // A reference to the one place where it is said; tests/manifests sees that it gets there.
            let value = value.expect("the first part").to_owned();
            if !value.starts_with('*') && !value.starts_with("var.") {
                found.insert(name.to_owned(), value);
            }
        }
    }
    found
}

/// With the variables that the same file sets.
fn with_variables(init: Init, text: &Text) -> Init {
    variables(text).iter().fold(init, |init, (name, value)| init.env(name, value))
}

fn accepted(ended: &Ended, path: &str, what: &[String]) {
    assert!(
        ended.code == 0 && ended.err.is_empty(),
        "{path}: {what:?}: {}: {:?}",
        ended.code,
        ended.err
    );
}

// ---- the tests

#[test]
fn every_command_line_is_accepted() {
    let mut seen = BTreeSet::new();
    for text in texts() {
        for words in commands(&text) {
            let (verb, rest) = match words[0].as_str() {
                verb @ ("prestop" | "probe" | "wait" | "install") => (verb, &words[1..]),
                _ => ("run", &words[..]),
            };
            seen.insert(verb.to_owned());
            let of = |first: &[&str], words: &[String]| {
                let init =
                    first.iter().fold(with_variables(init(), &text), |init, word| init.arg(word));
                words.iter().fold(init, |init, word| init.arg(word)).ended()
            };
            match verb {
                // A hook whose options are wrong is refused before it drains, which the_hooks_drain tries.
                "run" | "prestop" => {
                    let end = words.iter().position(|word| word == "--");
                    assert!(
                        verb == "prestop" || end.is_some(),
                        "{}: {words:?}: no `--`",
                        text.path
                    );
                    accepted(
                        &of(&["explain"], &rest[..end.unwrap_or(rest.len())]),
                        &text.path,
                        &words,
                    );
                }
                // Whether anybody listens there or not; 125 is what it says when it is asked nonsense.
                "probe" | "wait" => {
                    // Not for the minutes that it says.
                    let timeout = rest.iter().position(|word| word == "--timeout");
                    let mut rest = rest.to_vec();
                    match timeout {
                        Some(at) => {
                            assert!(
                                init()
                                    .args("probe file:/ --timeout")
                                    .arg(&rest[at + 1])
                                    .ended()
                                    .code
                                    == 0
                            );
                            rest[at + 1] = "500ms".into();
                        }
                        None => rest.extend(["--timeout".into(), "500ms".into()]),
                    }
                    let code = of(&[verb], &rest).code;
                    assert!(code == 0 || code == 1, "{}: {words:?}: {code}", text.path);
                }
                _ => {
                    let folder = Folder::new();
                    let [dest] = rest else { panic!("{}: {words:?}: one DEST", text.path) };
                    assert!(dest.starts_with('/'), "{}: {words:?}", text.path);
                    let dest = folder.path("copy").display().to_string();
                    accepted(&of(&["install"], &[dest]), &text.path, &words);
                }
            }
        }
    }
    let all = ["install", "prestop", "probe", "run", "wait"].map(String::from);
    assert_eq!(seen, BTreeSet::from(all), "the verbs that the texts show");
}

#[test]
fn the_hooks_drain() {
    if !needs_namespaces() || !needs_root() {
        return;
    }
    enter_own_network(); // where nobody else listens
    let hooks = texts().into_iter().flat_map(|text| {
        let hooks = commands(&text).into_iter().filter(|words| words[0] == "prestop");
        hooks.map(|words| (text.path.clone(), words)).collect::<Vec<_>>()
    });
    // All at once, each alone in its namespaces: there is no entrypoint to ask.
    let start = |(path, words): (String, Vec<String>)| {
        (path, words.iter().fold(init().pid1(), |init, word| init.arg(word)).start())
    };
    let hooks: Vec<_> = hooks.map(start).collect();
    assert!(hooks.len() >= 2, "README has one, examples/ has one");
    for (path, hook) in hooks {
        assert_eq!(hook.ended_within(support::ms(20_000)).code, 0, "{path}");
    }
}

#[test]
fn every_variable_is_accepted() {
    let mut files = 0;
    for text in texts() {
        let variables = variables(&text);
        files += usize::from(!variables.is_empty());
        let ended = with_variables(init().arg("explain"), &text).ended();
        let named: Vec<String> =
            variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        accepted(&ended, &text.path, &named);
    }
    assert!(files >= 3, "a Deployment, Compose and ECS set some");
}

/// Also where a name is only spoken of.
#[test]
fn every_option_and_variable_that_is_named_is_known() {
    let help = init().arg("--help").ended().out.join("\n");
    let known: BTreeSet<&str> =
        names(&help, "--").chain(names(&help, "DRAIN_INIT_")).chain(FOREIGN).collect();
    // A script names kubectl's and awk's; what it gives to drain-init is in arrays.
    for text in texts().iter().filter(|text| !text.text.starts_with("#!")) {
        for name in names(&text.text, "--").chain(names(&text.text, "DRAIN_INIT_")) {
            assert!(known.contains(name), "{}: {name} is not in --help", text.path);
        }
    }
}

/// Each word that begins so, and goes on after it.
fn names<'a>(text: &'a str, begin: &'static str) -> impl Iterator<Item = &'a str> {
    let of_name = move |c: char| match begin {
        "--" => c.is_ascii_lowercase() || c == '-',
        _ => c.is_ascii_uppercase() || c == '_',
    };
    text.match_indices(begin).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let end = text[at..].find(|c| !of_name(c)).unwrap_or(text.len() - at);
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && !"-_|".contains(c));
        let name = &text[at..at + end];
        (whole && name.len() > begin.len() && !name.ends_with('-')).then_some(name)
    })
}

/// `$ drain-init explain ...` in docs/ is followed by what it prints.
#[test]
fn what_explain_is_shown_to_print_is_what_it_prints() {
    let mut shown = 0;
    for text in texts() {
        for block in text.text.split("\n$ drain-init explain").skip(1) {
            let (options, rest) = block.split_once('\n').expect("a line");
            let (printed, _) = rest.split_once("\n```").expect("the block's end");
            let ended = init().arg("explain").args(options).ended();
            assert_eq!(ended.code, 0, "{}: {options}: {:?}", text.path, ended.err);
            assert_eq!(ended.out.join("\n"), printed, "{}: {options}", text.path);
            shown += 1;
        }
    }
    assert!(shown > 0, "docs/choosing.md has one");
}

// ---- the clients of examples/kubernetes/try

/// The server and the clients as `try` starts them, without an init between: it is they that are tested.
#[test]
fn the_clients_count_what_fails() {
    let begin = |seconds: &str| {
        let mut server = init()
            .bare()
            .command([
                server().as_os_str(),
                "--listen".as_ref(),
                "127.0.0.1:0".as_ref(),
                "--quiet".as_ref(),
                "--name".as_ref(),
                "app-1".as_ref(),
            ])
            .start();
        let address = server.line_with("listening on ").text.replace("listening on ", "");
        let mut clients =
            init().bare().command([load().as_os_str(), address.as_ref(), seconds.as_ref()]).start();
        clients.line_with(&format!("{address} answers; the clients begin"));
        (server, clients)
    };
    let (_server, clients) = begin("1");
    let ended = clients.ended();
    let last = ended.out.last().expect("a line");
    assert!(
        last.ends_with(" requests, 0 failed: 0 refused, 0 reset, 0 cut, 0 unanswered"),
        "{last}"
    );
    let answer = ended.out.iter().rev().nth(1).expect("a line before it");
    assert!(answer.ends_with(" s last answer of app-1"), "{answer}");
    let requests: u32 = last.split(' ').next().expect("a word").parse().expect("a number");
    // 200 + 10 + 20 clients x 10 are due, of which a loaded machine comes to fewer.
    assert!((40..=420).contains(&requests), "{last}");

    let (server, mut clients) = begin("2");
    server.signal(15);
    assert_eq!(server.ended().code, 1015);
    clients.line_with(" refused");
    let ended = clients.ended();
    assert_eq!(ended.code, 0);
    let last = ended.out.last().expect("a line");
    let failed = last
        .split_once(" requests, ")
        .and_then(|(_, rest)| rest.split_once(" failed: "))
        .expect("the line")
        .0;
    let listed = ended.out.iter().filter(|line| line.contains(" s GET /")).count();
    assert!(failed.parse::<usize>().expect("a number") >= 20, "{last}");
    assert_eq!(listed.to_string(), failed, "a line each, besides the last one");
}

#[test]
fn the_clients_refuse_nonsense() {
    for words in [vec!["app:80"], vec!["app:80", "soon"], vec![]] {
        let load = load().display().to_string();
        let ended = init().bare().command([load.as_str()].into_iter().chain(words)).ended();
        assert_eq!((ended.code, ended.out.len(), ended.err.len()), (2, 0, 1), "{:?}", ended.err);
    }
}
