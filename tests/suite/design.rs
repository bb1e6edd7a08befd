//! docs/design.md is of this tree: the tests that hold its laws are there, and so are the files and the states it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn design() -> String {
    read(&root().join("docs/design.md"))
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all tests, of the program's modules and of tests/.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![root().join("src"), root().join("tests")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).expect("a folder").map(|e| e.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            for after in text.split("\n#[test]\n").chain(text.split("\n    #[test]\n")).skip(1) {
                let name =
                    after.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                found.extend(name.map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn each_law_is_held_by_tests_that_there_are() {
    let (design, tests) = (design(), tests());
    let section = design.split("## What always holds").nth(1).expect("the laws");
    let laws: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(laws.len() >= 12, "{} laws", laws.len());
    for law in laws {
        let [_, said, held_by, _] = law.split('|').collect::<Vec<_>>()[..] else {
            panic!("a law and what holds it: {law}");
        };
        assert!(quoted(held_by).next().is_some(), "nothing holds it: {said}");
        for name in quoted(held_by) {
            assert!(tests.contains(name), "there is no test {name}");
        }
    }
}

#[test]
fn its_files_are_there() {
    let design = design();
    let files: Vec<&str> = quoted(&design).filter(|name| name.starts_with("src/")).collect();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }
}

/// The diagram has the states of the program, and each can be left or is the last.
#[test]
fn the_diagram_has_the_states_of_the_program() {
    let lifecycle = read(&root().join("src/pid1/lifecycle.rs"));
    let states = lifecycle.split("pub enum State {").nth(1).expect("the states");
    let states = states.split("\n}").next().expect("their end");
    let variants = states.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let of_program: BTreeSet<&str> =
        variants.filter_map(|line| line.split([',', '(', ' ']).next()).collect();

    let design = design();
    let diagram = design.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next());
    let edges =
        diagram.expect("the diagram").lines().filter_map(|line| line.trim().split_once(" --> "));
    let edges: Vec<(&str, &str)> =
        edges.map(|(from, to)| (from, to.split(':').next().expect("a state"))).collect();
    let from: BTreeSet<&str> = edges.iter().map(|edge| edge.0).filter(|s| *s != "[*]").collect();
    let to: BTreeSet<&str> = edges.iter().map(|edge| edge.1).filter(|s| *s != "[*]").collect();
    assert_eq!(from, of_program);
    assert_eq!(to, of_program);
}

/// The scripts and the workflows read it there.
#[test]
fn the_toolchain_is_named_in_one_place() {
    let named = read(&root().join("rust-toolchain.toml"));
    let channel = named.split("channel = \"").nth(1).and_then(|rest| rest.split('"').next());
    let (release, _) = channel.and_then(|it| it.rsplit_once('.')).expect("an exact version");
    assert_eq!(env!("CARGO_PKG_RUST_VERSION"), release, "rust-version in Cargo.toml");
    for script in [
        ".ci/run",
        ".github/workflows/gate.yml",
        ".github/workflows/release.yml",
        "bench/run",
        "dist.sh",
        "release/assemble",
        "tests/release",
    ] {
        assert!(!read(&root().join(script)).contains(release), "{script} names {release} itself");
    }
}
