//! The whole life of a container with every option, in any surroundings, and the checks that hold
//! in all of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Ended, Folder, Init, LIMIT, Running, Server, becomes_true, ms, slack};

/// A loopback address used by nothing else: a port of 127.0.0.1 may be taken by an outgoing
/// connection.
pub fn own_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [_, high, middle, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("127.{}.{middle}.{low}:{}", high + 1, 10_000 + std::process::id() % 20_000)
}

/// The status of /readyz there, or None without an answer.
pub fn readyz(address: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ms(1000))).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A delay of 300 ms, held by handlers and traffic that end earlier. SIGKILL 3 s after the stop
/// signal, for an app that ignores it.
pub struct Life {
    folder: Folder,
    address: String,
    server: Server,
    /// Its files are in the folder; a root of its own has none.
    files: bool,
    traced: bool,
}

impl Life {
    pub const DELAY: Duration = ms(300);
    pub const KILL: Duration = ms(3000);

    pub fn new() -> Self {
        Self {
            folder: Folder::new(),
            address: own_address(),
            server: Server::on(0),
            files: true,
            traced: false,
        }
    }

    pub fn without_files() -> Self {
        Self { files: false, ..Self::new() }
    }

    /// Under a tracer everything takes longer.
    pub fn traced() -> Self {
        Self { traced: true, ..Self::new() }
    }

    fn slack(&self) -> Duration {
        slack() + if self.traced { ms(4000) } else { ms(0) }
    }

    /// The folder of the files in its options. Every user can write there.
    pub fn folder(&self) -> &Path {
        self.folder.0.as_path()
    }

    /// Adds these options, two words each. `--until-quiet` gets a port, as the tests' network has
    /// many.
    pub fn options(&self, init: Init, obeys: bool) -> Init {
        let Server { port: server, .. } = self.server;
        let init = init
            .args("-v --log-format json --delay 300ms --max-delay 2s --grace")
            .arg(if obeys { "20s" } else { "3500ms" })
            .args("--kill-margin 500ms --until-quiet 100ms --ignore-peer 10.9.8.0/24")
            .args("--quiet-on connections --close-idle 50ms --watch-port 1 --stop-on TERM --stop-on 36")
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

    /// From here to its end, by a stop signal that the app obeys or ignores.
    pub fn lived(&self, init: Init, obeys: bool) -> Ended {
        // An app that obeys ends after the checks.
        let [told, over] = if obeys { ["until:3", "until:14"] } else { ["trap", "trap"] };
        let app = ["descriptors", "orphans:5", "release", "reaped", "ready", told, over, "exit:3"];
        let mut run = self.options(init, obeys).static_app(app).start();
        run.line_with("reaped in");
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&self.address) == Some(200)), "ready");
        assert!(!self.files || becomes_true(LIMIT, || self.exists() == (true, false)));
        run.signal(1);
        run.line("signal 10");
        let asked = run.signal(36);
        assert!(becomes_true(LIMIT, || readyz(&self.address) == Some(503)), "not ready");
        self.ended(run, asked, obeys)
    }

    fn ended(&self, mut run: Running, asked: Instant, obeys: bool) -> Ended {
        let told = run.line("signal 3") - asked;
        // The end of the traffic is checked in steps.
        let slack = self.slack();
        assert!(told >= Self::DELAY && told < ms(900) + slack, "told after {told:?}");
        assert!(!self.files || self.exists() == (false, true));
        let (due, ended) = if obeys {
            let last = run.signal(14);
            (last - asked, run.ended())
        } else {
            (Self::KILL, run.ended())
        };
        let (after, slack) = (ended.at - asked, self.slack());
        assert!(after >= due && after < due + slack, "ended after {after:?}, due after {due:?}");
        assert_eq!(ended.left, [""; 0]);
        assert_eq!(ended.code, if obeys { 4 } else { 137 }, "{}", ended.log());
        let was_told = self.server.calls().iter().any(|call| call.starts_with("GET /told "));
        // At --max-delay a handler is cut, and the log says so: on a busy machine a traced one may not be done.
        let cut = self.traced && ended.log().contains("not done after 2s: killed");
        assert!(was_told || cut, "the handler: {}", ended.log());
        ended
    }

    fn exists(&self) -> (bool, bool) {
        (self.folder.path("ready").exists(), self.folder.path("drain").exists())
    }
}

/// Checks that the log reports no failure.
pub fn nothing_failed(ended: &Ended) {
    let failures = ended.err.iter().filter(|line| line.contains("\"level\":\"error\""));
    // An app that ignores the signal is killed; on a loaded machine 100 ms may not be enough for
    // that.
    let expected = ["grace period is over", "does not end on SIGKILL"];
    let failures: Vec<_> =
        failures.filter(|line| !expected.iter().any(|part| line.contains(part))).collect();
    assert!(failures.is_empty(), "{failures:?}");
}
