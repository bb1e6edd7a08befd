//! The corpora of the fuzz targets: inputs that reach new code, and inputs that found bugs.

use std::fs;
use std::path::Path;

/// Checks each file of a corpus against the property of its target.
fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let Ok(files) = fs::read_dir(&folder) else {
        let missing = format!("{} is not here (it is not in the package)", folder.display());
        assert!(std::env::var_os("REQUIRE_ALL_TESTS").is_none(), "{missing}");
        return eprintln!("not replayed: {missing}");
    };
    let mut count = 0;
    for file in files.flatten() {
        // Printed if the property does not hold.
        println!("{}", file.path().display());
        property(&fs::read(file.path()).expect("readable"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn http() {
    replay("http", super::http);
}

#[test]
fn options() {
    replay("options", super::options);
}

#[test]
fn targets() {
    replay("targets", super::targets);
}

#[test]
fn netlink() {
    replay("netlink", super::netlink);
}

#[test]
fn proc_net() {
    replay("proc_net", super::proc_net);
}
