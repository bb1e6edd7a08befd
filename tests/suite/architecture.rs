//! The folders of src/ show which process runs what, and these tests hold them to it: PID 1 starts its companions and never
//! calls them, values import nothing from above them, and unsafe code is in src/sys/ alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders, from the top down. A folder imports what is below it; those of one row know nothing of each other. Files that
/// are in none of them are values, and below all of them, with `sys`.
const ROWS: [&[&str]; 3] = [&["verbs"], &["pid1", "drain", "ready"], &["options"]];

/// Not a part of the program: the fuzz targets' properties look into all of it.
const PROPERTIES: &str = "properties";

struct Source {
    path: PathBuf,
    /// `pid1`, `drain::traffic::verdict`.
    module: Vec<String>,
    code: String,
}

impl Source {
    /// Its folder, or the name of a value or of `sys`.
    fn part(&self) -> &str {
        self.module.first().map_or("main", String::as_str)
    }

    /// The name after each `crate::`, outside comments.
    fn imports(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for rest in self.code.split("crate::").skip(1) {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            let name = name.expect("split gives one part at least");
            assert!(!name.is_empty(), "{}: one `use crate::` a module", self.path.display());
            found.insert(name);
        }
        found
    }
}

/// Every file of src/, without comments and without the tests in it.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut left) = (vec![], vec![root.clone()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).expect("a folder").map(|e| e.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            // Its own tests come last, and are a module more.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = text.lines().filter(is_code).collect::<Vec<_>>().join("\n");
            let module = path.strip_prefix(&root).expect("below src").with_extension("");
            let names = module.iter().map(|name| name.to_string_lossy().into_owned());
            let module = names.filter(|name| name != "main").collect();
            found.push(Source { path, module, code });
        }
    }
    assert!(found.len() > 60, "{} sources", found.len());
    found.retain(|source| source.part() != PROPERTIES);
    found
}

/// Its row from the top.
fn row(part: &str) -> usize {
    ROWS.iter().position(|row| row.contains(&part)).unwrap_or(ROWS.len())
}

#[test]
fn each_part_imports_only_what_is_below_it() {
    for source in sources() {
        if source.part() == "main" {
            continue;
        }
        for import in source.imports() {
            // The entry point of the process calls the dispatch.
            if source.module == ["sys", "entry"] && import == "run_verb" {
                continue;
            }
            let from = source.part();
            let are_values = row(from) == ROWS.len() && row(import) == ROWS.len();
            let is_allowed = from == import || row(import) > row(from) || are_values;
            assert!(is_allowed, "{}: {from} must not import {import}", source.path.display());
        }
        // `super` leads no further than the part.
        let highest = "super::".repeat(source.module.len());
        assert!(!source.code.contains(&highest), "{}: write crate::", source.path.display());
    }
}

/// PID 1 starts them as processes: nothing of theirs is ever called in it.
#[test]
fn pid_1_calls_no_companion() {
    let of_pid1 = sources().into_iter().filter(|source| source.part() == "pid1");
    let of_pid1: Vec<_> = of_pid1.collect();
    assert!(of_pid1.len() > 8, "{} sources", of_pid1.len());
    for source in of_pid1 {
        for companion in ["drain", "ready", "verbs"] {
            assert!(!source.imports().contains(companion), "{}", source.path.display());
        }
    }
}

/// No two parts, or values, import each other, by whatever way round.
#[test]
fn there_is_no_circle() {
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        if source.part() != "main" {
            let imports = source.imports().into_iter().filter(|import| *import != "run_verb");
            let imports = imports.filter(|import| *import != source.part()).map(str::to_owned);
            below.entry(source.part().to_owned()).or_default().extend(imports);
        }
    }
    while !below.is_empty() {
        let is_lowest = |imports: &BTreeSet<String>| !imports.iter().any(|i| below.contains_key(i));
        let lowest = below.iter().find(|(_, imports)| is_lowest(imports));
        let lowest = lowest.map(|(part, _)| part.clone());
        below.remove(&lowest.unwrap_or_else(|| panic!("a circle among {below:?}")));
    }
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for source in sources() {
        let is_in_sys = source.part() == "sys";
        let words = source.code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let has_unsafe = words.filter(|word| *word == "unsafe").count() > 0;
        assert!(is_in_sys || !has_unsafe, "{}: unsafe code", source.path.display());
        // Submodules inherit it; main.rs denies what src/sys/ allows.
        let is_held = source.code.contains("#![forbid(unsafe_code)]")
            || source.path.ends_with("tests.rs")
            || is_in_sys
            || source.part() == "main";
        assert!(is_held, "{}: #![forbid(unsafe_code)] is missing", source.path.display());
    }
}
