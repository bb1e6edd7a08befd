//! The whole life of a container with every option, in whatever surroundings: what holds in each of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Ended, Folder, Init, LIMIT, Running, SLACK, Server, becomes_true, ms};

/// An address of the loopback that is nobody else's: a port of 127.0.0.1 may be taken meanwhile for somebody's connection.
pub fn own_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [_, high, middle, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("127.{}.{middle}.{low}:{}", high + 1, 10_000 + std::process::id() % 20_000)
}

/// What /readyz answers there; none where nobody does.
pub fn readyz(address: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ms(1000))).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A delay of 300 ms, held by handlers and traffic that are over before; SIGKILL 2 s after the stop signal.
pub struct Life {
    folder: Folder,
    address: String,
    server: Server,
    /// Its files are in the folder; in a root of its own there is none.
    files: bool,
    slack: Duration,
}

impl Life {
    pub const DELAY: Duration = ms(300);
    pub const KILL: Duration = ms(2000);

    pub fn new() -> Self {
        Self {
            folder: Folder::new(),
            address: own_address(),
            server: Server::on(0),
            files: true,
            slack: SLACK,
        }
    }

    pub fn without_files() -> Self {
        Self { files: false, ..Self::new() }
    }

    /// Under a tracer everything takes longer.
    pub fn traced() -> Self {
        Self { slack: ms(4000), ..Self::new() }
    }

    /// Where the files of its options are. Anybody can write there.
    pub fn folder(&self) -> &Path {
        self.folder.0.as_path()
    }

    /// With these options, in two words each. `--until-quiet` has its port named, as in the network of the tests there are many.
    pub fn options(&self, init: Init) -> Init {
        let Server { port: server, .. } = self.server;
        let init = init
            .args("-v --log-format json --delay 300ms --max-delay 900ms --grace 2500ms")
            .args("--kill-margin 500ms --until-quiet 100ms --ignore-peer 10.9.8.0/24")
            .args("--quiet-on connections --watch-port 1 --stop-on TERM --stop-on 36")
            .args("--stop-signal QUIT --escalate USR2:500ms --orphan-grace 300ms --group")
            .args("--unready-delay 100ms --map-signal HUP=USR1 --map-exit 5=6 --map-stop-exit 3=4")
            .args(&format!("--ready-listen {}", self.address))
            .args(&format!("--ready-check tcp://127.0.0.1:{server}"))
            .args(&format!("--on-drain http://127.0.0.1:{server}/told"));
        if !self.files {
            return init;
        }
        let init =
            [("ready", "ready"), ("drain", "drain")].iter().fold(init, |init, (option, file)| {
                init.arg(format!("--{option}-file")).arg(self.folder.path(file))
            });
        init.arg("--termination-log").arg(self.folder.path("log"))
    }

    /// From here to its end, by a stop signal that the app obeys, or not.
    pub fn lived(&self, init: Init, obeys: bool) -> Ended {
        let last = if obeys { "until:3" } else { "trap" };
        let app = ["descriptors", "orphans:5", "release", "reaped", "ready", last, "exit:3"];
        let mut run = self.options(init).static_app(app).start();
        run.line_with("reaped in");
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&self.address) == Some(200)), "ready");
        assert!(!self.files || becomes_true(LIMIT, || self.exists() == (true, false)));
        run.signal(1);
        run.line("signal 10");
        let asked = run.signal(36);
        assert!(
            becomes_true(ms(2000) + self.slack, || readyz(&self.address) == Some(503)),
            "not ready"
        );
        self.ended(run, asked, obeys)
    }

    fn ended(&self, mut run: Running, asked: Instant, obeys: bool) -> Ended {
        let told = run.line("signal 3") - asked;
        // The end of the traffic is looked for in steps.
        assert!(told >= Self::DELAY && told < ms(900) + self.slack, "told after {told:?}");
        assert!(!self.files || self.exists() == (false, true));
        let ended = run.ended();
        let after = ended.at - asked;
        if obeys {
            assert!(after < ms(900) + self.slack * 2, "ended after {after:?}");
        } else {
            assert!(
                after >= Self::KILL && after < Self::KILL + self.slack,
                "SIGKILL after {after:?}"
            );
        }
        assert_eq!(ended.left, [""; 0]);
        assert_eq!(ended.code, if obeys { 4 } else { 137 }, "{}", ended.log());
        assert!(self.server.calls().iter().any(|call| call.starts_with("GET /told ")));
        ended
    }

    fn exists(&self) -> (bool, bool) {
        (self.folder.path("ready").exists(), self.folder.path("drain").exists())
    }
}

/// What a lived life's log must not say.
pub fn nothing_failed(ended: &Ended) {
    let failures = ended.err.iter().filter(|line| line.contains("\"level\":\"error\""));
    // Of the end of an app that is deaf; and on a loaded machine 100 ms may not be enough for it to be gone.
    let expected = ["grace period is over", "does not end on SIGKILL"];
    let failures: Vec<_> =
        failures.filter(|line| !expected.iter().any(|part| line.contains(part))).collect();
    assert!(failures.is_empty(), "{failures:?}");
}
