//! --on-exit: others are told when the app and what it left have ended, once, and never hold the exit past the grace period.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support;
use crate::support::system::{now, pause};
use crate::support::{
    Ended, Folder, Init, LIMIT, at_both_levels, becomes_true, companion_of, init, ms, slack,
};

const TERM: i32 = 15;

/// The output of the handlers, by line.
fn told(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Writes a line when it is run.
fn tells(init: Init, path: &Path) -> Init {
    init.arg("--on-exit").arg(format!("exec:/bin/sh -c 'echo told >>{}'", path.display()))
}

#[test]
fn handlers_run_once_however_the_app_ends() {
    at_both_levels(|init| {
        let folder = Folder::new();
        for (place, (steps, signal, code)) in [
            (["ready", "exit:0"], None, 0),
            (["ready", "exit:7"], None, 7),
            (["ready", "die:9"], None, 137),
            (["ready", "until:15"], Some(TERM), 0),
            (["ready", "pause"], Some(TERM), 143),
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path(&place.to_string());
            let mut run = tells(init().args("--delay 100ms"), &path).app(steps).start();
            run.line("ready");
            assert!(signal.is_none() || told(&path).is_empty(), "not before the app has ended");
            if let Some(signal) = signal {
                run.signal(signal);
            }
            let ended = run.ended();
            assert_eq!((ended.code, told(&path).len()), (code, 1), "{steps:?}: {ended:?}");
            assert!(ended.left.is_empty(), "{ended:?}");
        }
    });
}

/// So a handler that needs the app's last output, or its port, finds it.
#[test]
fn handlers_run_when_what_the_app_left_has_ended_too() {
    at_both_levels(|init| {
        let folder = Folder::new();
        let path = folder.path("order");
        let to = format!(
            "child:to:{},setsid,ready,until:15,wait:700,print:orphan ends,exit:0",
            path.display()
        );
        let init = tells(init(), &path);
        let mut run = init.app([&to, "wait:300", "ready", "exit:5"]).start();
        run.line("ready");
        let ended = run.ended();
        assert_eq!(ended.code, 5, "{ended:?}");
        assert_eq!(told(&path), ["ready", "signal 15", "orphan ends", "told"]);
    });
}

/// They get what the margin leaves, and the exit comes within the grace period whatever they do.
#[test]
fn after_sigkill_at_the_deadline_handlers_have_what_the_margin_leaves() {
    at_both_levels(|init| {
        let folder = Folder::new();
        let path = folder.path("told");
        // A margin that a loaded machine starts a shell in.
        let options = "--delay 0 --grace 4s --kill-margin 3s";
        for hangs in [false, true] {
            let mut init = tells(init().args(options), &path);
            if hangs {
                init = init.args("--on-exit").arg("exec:/bin/sleep 60");
            }
            let mut run = init.app(["ready", "ignore:15", "print:deaf", "pause"]).start();
            run.line("deaf");
            let sent = run.signal(TERM);
            let ended = run.ended();
            let took = ended.at - sent;
            println!("hangs {hangs}: exited {took:?} after SIGTERM");
            assert_eq!((ended.code, told(&path).len()), (137, 1), "{ended:?}");
            assert!(ended.left.is_empty(), "{ended:?}");
            assert!(took >= ms(1_000), "SIGKILL falls a second after SIGTERM");
            if hangs {
                // Until 100 ms before the end; PID 1 gives the companion 50 ms more.
                assert!((ms(3_850)..ms(3_950) + slack()).contains(&took), "{took:?}");
                let said = "exec:/bin/sleep 60: not done after";
                let killed = "--on-exit handlers are not done: killed";
                assert!(ended.log().contains(said) || ended.log().contains(killed), "{ended:?}");
            } else {
                assert!(took < ms(3_700) + slack(), "{took:?}");
            }
            fs::remove_file(&path).expect("it was told");
        }
    });
}

#[test]
fn a_handler_that_hangs_is_ended_after_5_s_and_holds_nobody_else_up() {
    at_both_levels(|init| {
        let folder = Folder::new();
        let path = folder.path("told");
        let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
        let hang = format!("http://{}/", silent.local_addr().expect("bound"));
        let began = now();
        let init = init().arg("--on-exit").arg(&hang).args("--on-exit").arg("exec:/bin/sleep 60");
        let mut run = tells(init, &path).app(["ready", "exit:7"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || told(&path).len() == 1), "side by side");
        assert!(began.elapsed() < ms(5_000) + slack(), "while the others hang");
        let ended = run.ended();
        let took = ended.at - began;
        assert_eq!((ended.code, ended.left.len()), (7, 0), "{ended:?}");
        assert!((ms(5_000)..ms(9_000) + slack()).contains(&took), "{took:?}");
        for handler in [format!("GET {hang}"), "exec:/bin/sleep 60".into()] {
            let said = format!("{handler}: not done after 5s: killed");
            let killed = "--on-exit handlers are not done: killed";
            assert!(ended.log().contains(&said) || ended.log().contains(killed), "{ended:?}");
        }
    });
}

/// A stop that comes while they run: whoever asks for it has a grace period too.
#[test]
fn a_stop_signal_leaves_handlers_the_grace_period() {
    let init = init().args("--delay 0 --grace 1500ms --on-exit").arg("exec:/bin/sleep 60");
    let mut run = init.app(["ready", "exit:7"]).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || companion_of(run.pid, "exit").is_some()));
    let sent = run.signal(TERM);
    let ended = run.ended();
    let took = ended.at - sent;
    assert_eq!((ended.code, ended.left.len()), (7, 0), "{ended:?}");
    assert!(took >= ms(900) && took < ms(4_000) + slack(), "{took:?}");
}

#[test]
fn handlers_that_fail_are_logged_and_change_nothing() {
    let refused = "http://127.0.0.1:1/bye";
    for options in ["", "--map-exit 7=8"] {
        let init = init().args(options).arg("--on-exit").arg(refused);
        let init = init.args("--on-exit exec:/no/such --on-exit exec:/bin/false");
        let ended = init.app(["exit:7"]).ended();
        assert_eq!(ended.code, if options.is_empty() { 7 } else { 8 });
        for line in [
            format!("GET {refused}: {refused} refused"),
            "exec:/no/such: cannot be started: ".into(),
            "exec:/bin/false: exited with 1".into(),
        ] {
            assert!(ended.log().contains(&line), "{line}: {ended:?}");
        }
        assert_eq!(ended.err.len(), 3, "{ended:?}");
    }
}

/// The container ends, so its sidecar is told: here and there.
#[test]
fn where_command_cannot_be_executed_handlers_run_all_the_same() {
    let folder = Folder::new();
    for (command, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        for options in ["", "--start-after file:/"] {
            let path = folder.path("told");
            let ended = tells(init().args(options), &path).command([command]).ended();
            assert_eq!((ended.code, told(&path).len()), (code, 1), "{options}: {ended:?}");
            fs::remove_file(&path).expect("it was told");
        }
    }
}

/// In the folder that drain-init was started in, which PID 1 has left.
#[test]
fn a_companion_that_is_killed_holds_nothing_up() {
    let init = init().args("--on-exit").arg("exec:/bin/sleep 60");
    let mut run = init.app(["ready", "exit:7"]).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || companion_of(run.pid, "exit").is_some()));
    let companion = companion_of(run.pid, "exit").expect("it runs them");
    let at = now();
    support::system::signal(companion, 9);
    let ended = run.ended();
    assert_eq!((ended.code, ended.left.len()), (7, 0), "{ended:?}");
    assert!(ended.at - at < ms(4_000) + slack(), "{ended:?}");
}

/// A mesh sidecar: ready after a while, and it quits when it is told.
struct Sidecar {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sidecar {
    fn ready_after_questions(count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = asked.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = vec![];
                let mut piece = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(read @ 1..) => request.extend(&piece[..read]),
                        _ => break,
                    }
                }
                let line = String::from_utf8_lossy(&request).lines().next().map(str::to_owned);
                let mut heard = heard.lock().expect("asked");
                heard.extend(line);
                let status = if heard.len() > count { "200 OK" } else { "503 Not Yet" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }
}

/// A Job with a sidecar: it starts after it, ends, and the sidecar has been told once.
#[test]
fn a_job_starts_after_its_sidecar_and_tells_it_to_quit() {
    at_both_levels(|init| {
        let sidecar = Sidecar::ready_after_questions(3);
        let url = |path: &str| format!("http://{}/{path}", sidecar.address);
        let init = init()
            .arg("--start-after")
            .arg(url("healthz/ready"))
            .arg("--on-exit")
            .arg(format!("POST {}", url("quitquitquit")));
        let mut run = init.app(["ready", "wait:300", "exit:4"]).start();
        run.line("ready");
        let ready = "GET /healthz/ready HTTP/1.1";
        assert_eq!(sidecar.asked(), [ready; 4], "the app starts with the first success");
        let Ended { code, left, .. } = run.ended();
        assert_eq!((code, left.len()), (4, 0));
        pause(ms(100));
        let quit = "POST /quitquitquit HTTP/1.1";
        assert_eq!(sidecar.asked(), [ready, ready, ready, ready, quit], "told once");
    });
}
