//! The list of options, for tests that go through all of them.

/// Each option that takes a value: a value that is not its default, and an invalid one.
pub const VALUES: [(&str, &str, &str); 30] = [
    ("delay", "7s", "5x"),
    ("max-delay", "9s", "-1"),
    ("until-quiet", "2s", "0"),
    ("quiet-on", "connections", "silence"),
    ("close-idle", "100ms", "0"),
    ("in-flight", "app", "nobody"),
    ("watch-port", "8080", "65536"),
    ("ignore-peer", "10.0.0.0/8", "10.0.0.0/33"),
    ("on-drain", "exec:/bin/true", "https://gateway/bye"),
    ("drain-file", "/tmp/drain-init-test-drain", "/no/such/folder/drain"),
    ("grace", "41s", "1e30"),
    ("kill-margin", "700ms", "half"),
    ("stop-on", "QUIT", "NOSUCH"),
    ("stop-signal", "USR2", "65"),
    ("escalate", "QUIT:2s", "QUIT"),
    ("orphan-grace", "4s", "4 s s"),
    ("on-exit", "exec:/bin/true", "exec:"),
    ("start-after", "file:/", "db:5432"),
    ("start-timeout", "9s", "0"),
    ("header", "X-Test: 1", "X-Test"),
    ("ready-file", "/tmp/drain-init-test-ready", "/no/such/folder/ready"),
    ("ready-listen", "127.0.0.1:19999", "localhost"),
    ("ready-check", "tcp://localhost:1", "tcp://localhost"),
    ("unready-delay", "1s", "never"),
    ("map-signal", "HUP=USR1", "HUP"),
    ("parent-death-signal", "USR2", "SIGNOTHING"),
    ("map-exit", "3=4", "300=0"),
    ("map-stop-exit", "3=0", "143=x"),
    ("termination-log", "/tmp/drain-init-test-termination", "/tmp"),
    ("log-format", "json", "xml"),
];

pub const SWITCHES: [&str; 4] = ["group", "quiet", "ready-notify", "verbose"];

/// Its environment variable.
pub fn variable(option: &str) -> String {
    format!("DRAIN_INIT_{}", option.to_uppercase().replace('-', "_"))
}
