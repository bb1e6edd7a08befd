//! The verbs of an image that has no shell: `probe` asks whether something is ready, `install` copies the program to where another
//! image can run it from.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;

use crate::support;
use crate::support::system::now;
use crate::support::{
    Ended, Folder, Init, Kind, LIMIT, assert_after, at_both_levels, becomes_true, free_port, init,
    ms, needs_namespaces, needs_program, needs_root, needs_static,
};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

// ---- probe

fn probe(target: &str) -> Init {
    init().arg("probe").arg(target)
}

/// Ready: exit code 0, and not a word.
#[track_caller]
fn assert_ready(ended: &Ended) {
    assert_eq!((ended.code, ended.out.len(), ended.err.len()), (0, 0, 0), "{ended:?}");
    assert!(ended.left.is_empty(), "{ended:?}");
}

/// Not ready, or refused: this exit code, and this one line.
#[track_caller]
fn assert_says(ended: &Ended, code: i32, line: &str) {
    assert_eq!((ended.code, ended.out.len()), (code, 0), "{ended:?}");
    assert_eq!(ended.err, [format!("drain-init: {line}")]);
    assert!(ended.left.is_empty(), "{ended:?}");
}

/// Answers each request at this address with this, for ever. The port.
fn server(address: &str, answer: &'static str) -> u16 {
    let listener = TcpListener::bind(address).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn tcp_is_ready_when_it_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "localhost"] {
        assert_ready(&probe(&format!("tcp://{host}:{port}")).ended());
    }
    // The listener's own port may be somebody else's as soon as it is closed.
    let bound = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let bound = bound.expect("a socket");
    socket::bind(bound.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    let name: SockaddrIn = socket::getsockname(bound.as_raw_fd()).expect("its port");
    let port = name.port();
    for host in ["127.0.0.1", "localhost"] {
        let target = format!("tcp://{host}:{port}");
        assert_says(&probe(&target).ended(), 1, &format!("{target} refused"));
    }
}

#[test]
fn both_families_are_asked() {
    let listener = TcpListener::bind("[::1]:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for host in ["[::1]", "localhost"] {
        assert_ready(&probe(&format!("tcp://{host}:{port}")).ended());
    }
    let port = server("[::1]:0", "HTTP/1.1 200 OK\r\n\r\n");
    assert_ready(&probe(&format!("http://[::1]:{port}/")).ended());
}

/// As the kubelet has it: 200 to 399. What comes behind the head doesn't count.
#[test]
fn http_is_ready_when_it_answers_so() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
        "HTTP/1.0 204 \r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        "HTTP/1.1 399 Odd\r\n\r\n",
        "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSpace : a\r\n: no name\r\nControl: a\x01\0b\r\n\r\n",
    ] {
        let target = format!("http://127.0.0.1:{}/healthz?a=b", server("127.0.0.1:0", answer));
        assert_ready(&probe(&target).ended());
    }
    for (answer, why) in [
        ("HTTP/1.1 400 Bad\r\n\r\n", "answered 400"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "answered 404"),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "answered 101"),
        ("220 smtp.example ESMTP\r\n", "did not answer in HTTP"),
        ("", "closed the connection without an answer"),
    ] {
        let target = format!("http://127.0.0.1:{}/", server("127.0.0.1:0", answer));
        assert_says(&probe(&target).ended(), 1, &format!("{target} {why}"));
    }
    let target = format!("http://127.0.0.1:{}/", free_port());
    assert_says(&probe(&target).ended(), 1, &format!("{target} refused"));
}

/// It accepts, as a stopped process does by its kernel, and never answers.
#[test]
fn an_answer_is_waited_for_as_long_as_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("http://{}/", listener.local_addr().expect("an address"));
    for (init, limit, shown) in
        [(probe(&target), 800, "800ms"), (probe(&target).args("--timeout 300ms"), 300, "300ms")]
    {
        let began = now();
        let ended = init.ended();
        assert_after("the probe's end", ended.at - began, ms(limit));
        assert_says(&ended, 1, &format!("{target} gave no answer within {shown}"));
    }
}

/// By hand, in a container: ctrl-C ends what waits, whatever it waits for.
#[test]
fn a_probe_can_be_interrupted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    for number in [2, 15] {
        let probe = probe(&format!("http://127.0.0.1:{port}/")).args("--timeout 60s").start();
        let (_stream, _) = listener.accept().expect("it asks");
        let asked = probe.signal(number);
        let ended = probe.ended();
        assert_after("the end", ended.at - asked, ms(0));
        assert_eq!(ended.code, 1000 + number, "killed by it");
    }
}

/// A head that comes a byte at a time, and is never whole.
#[test]
fn an_answer_that_never_ends_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("http://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        while stream.write_all(b"a").is_ok() {
            support::system::pause(ms(20));
        }
    });
    let began = now();
    let ended = probe(&target).args("--timeout 400ms").ended();
    assert_after("the probe's end", ended.at - began, ms(400));
    assert_says(&ended, 1, &format!("{target} gave no answer within 400ms"));
}

/// As Python's http.server does, in a handler that writes its answer piece by piece: an error is in the app's log. 64 KiB are more
/// than a socket holds for a client that does not read.
#[test]
fn a_server_is_not_cut_off_while_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("http://{}/", listener.local_addr().expect("an address"));
    let served = thread::spawn(move || {
        for status in ["200 OK", "503 No"].into_iter().cycle().take(10) {
            let (mut stream, _) = listener.accept()?;
            let _ = stream.read(&mut [0; 1024])?;
            stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes())?;
            for _ in 0..20 {
                stream.write_all(&[b'x'; 4000])?;
            }
            stream.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(stream.read(&mut [0; 1024])?, 0);
        }
        std::io::Result::Ok(())
    });
    for expected in [0, 1].into_iter().cycle().take(10) {
        assert_eq!(probe(&target).args("--timeout 10s").ended().code, expected);
    }
    served.join().expect("served").expect("no broken pipe, and no reset");
}

#[test]
fn a_file_is_ready_when_it_is_there() {
    let folder = Folder::new();
    let path = folder.path("ready");
    let target = format!("file:{}", path.display());
    assert_says(&probe(&target).ended(), 1, &format!("{target} is not there"));
    fs::write(&path, "").expect("a file");
    assert_ready(&probe(&target).ended());
}

#[test]
fn what_cannot_be_probed_is_refused() {
    for (target, why) in [
        ("localhost:8080", "has no scheme; write tcp://127.0.0.1:8080"),
        ("", "has no scheme"),
        ("tcp://localhost:0", "\"0\" is not a port; write a number from 1 to 65535"),
        ("tcp://localhost:65536", "\"65536\" is not a port"),
        ("https://localhost/", "https is not supported; write http://"),
        ("http://localhost/a\nb", "must be percent-encoded"),
        ("http://me@localhost/", "names a user"),
        ("file:ready", "needs an absolute path; write file:/path"),
    ] {
        let ended = probe(target).ended();
        assert_eq!((ended.code, ended.out.len(), ended.err.len()), (125, 0, 1), "{ended:?}");
        assert!(ended.err[0].starts_with("drain-init: "), "{ended:?}");
        assert!(ended.err[0].contains(why), "{target:?}: {ended:?}");
    }
    let ended = probe("tcp://localhost:1").args("--timeout 0").ended();
    assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
}

/// Nothing but the program: no /etc/hosts that says what localhost is, no /proc, no /dev.
#[test]
fn it_probes_from_an_empty_root() {
    if !needs_static() || !needs_root() {
        return;
    }
    let root = Folder::new();
    let port = server("127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\n");
    let probe = |target: &str| init().in_empty_root(&root).user(65532).arg("probe").arg(target);
    assert_ready(&probe(&format!("http://localhost:{port}/")).ended());
    assert_ready(&probe(&format!("tcp://localhost:{port}")).ended());
    assert_ready(&probe("file:/witness").ended());
    let refused = format!("tcp://localhost:{}", free_port());
    assert_says(&probe(&refused).ended(), 1, &format!("{refused} refused"));
}

// ---- install

fn install(dest: &Path) -> Init {
    init().arg("install").arg(dest)
}

/// The same bytes, for everybody to execute, and it works.
#[track_caller]
fn assert_copy(path: &Path) {
    let (_, original) = support::init_under_test();
    let original = fs::read(original).expect("the original");
    assert!(fs::read(path).expect("the copy") == original, "{}: other bytes", path.display());
    let about = fs::metadata(path).expect("the copy");
    assert_eq!(about.permissions().mode() & 0o7777, 0o755);
    let ended = Init::new(Kind::DrainInit, path.to_owned()).app(["exit:42"]).ended();
    assert_eq!(ended.code, 42, "{ended:?}");
}

/// The names in the folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

#[test]
fn it_installs_into_a_folder_or_as_a_file() {
    let folder = Folder::new();
    let path = folder.path("");
    assert_ready(&install(&path).ended());
    assert_copy(&folder.path("drain-init"));
    assert_ready(&install(&folder.path("init")).ended());
    assert_copy(&folder.path("init"));
    // A relative one, and a umask that would take rights away.
    let script = "umask 0777; cd \"$0\" && exec \"$@\"";
    let words = ["sh", "-c", script].map(std::ffi::OsString::from);
    let relative =
        install(Path::new("own name")).under(words.into_iter().chain([path.clone().into()]));
    assert_ready(&relative.ended());
    assert_copy(&folder.path("own name"));
    assert_eq!(names(&path), ["drain-init", "init", "own name"], "nothing else is left");
}

#[test]
fn it_replaces_a_copy_that_is_being_executed() {
    let folder = Folder::new();
    let copy = folder.path("drain-init");
    assert_ready(&install(&copy).ended());
    let before = fs::metadata(&copy).expect("the copy").ino();
    let mut run = Init::new(Kind::DrainInit, copy.clone())
        .args("--delay 0")
        .app(["ready", "until:15", "exit:3"])
        .start();
    run.line("ready");
    // By another program, and by itself.
    for installer in [support::init_under_test().1, copy.clone()] {
        assert_ready(&Init::new(Kind::DrainInit, installer).arg("install").arg(&copy).ended());
        assert_copy(&copy);
    }
    assert_ne!(fs::metadata(&copy).expect("the copy").ino(), before, "another file");
    run.signal(15);
    assert_eq!(run.ended().code, 3, "the one that was running goes on");
    assert_eq!(names(&folder.path("")), ["drain-init"]);
}

/// A link is replaced, and not what it points to.
#[test]
fn it_replaces_a_link() {
    let folder = Folder::new();
    fs::write(folder.path("target"), "as it was").expect("a file");
    std::os::unix::fs::symlink("target", folder.path("init")).expect("a link");
    assert_ready(&install(&folder.path("init")).ended());
    assert_copy(&folder.path("init"));
    assert_eq!(fs::read_to_string(folder.path("target")).expect("the file"), "as it was");
}

/// Also as PID 1, which no signal ends by itself. Each write takes its time, so that the signal comes in the midst of it.
#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    if !needs_program("strace") {
        return;
    }
    at_both_levels(|init| {
        for (number, code) in [(15, 143), (2, 130), (3, 131)] {
            let folder = Folder::new();
            fs::write(folder.path("drain-init"), "the one before").expect("a file");
            let strace =
                ["strace", "-D", "-qq", "-o", "/dev/null", "-e", "inject=write:delay_exit=300000"];
            let run = init().under(strace).arg("install").arg(folder.path("")).start();
            let is_half =
                || names(&folder.path("")).iter().any(|name| name.starts_with(".drain-init"));
            assert!(becomes_true(LIMIT, is_half));
            run.signal(number);
            let ended = run.ended();
            assert_eq!((ended.code, ended.err.len()), (code, 1), "{ended:?}");
            assert!(ended.err[0].ends_with("nothing was installed"), "{ended:?}");
            assert_eq!(names(&folder.path("")), ["drain-init"]);
            let kept = fs::read_to_string(folder.path("drain-init")).expect("the file");
            assert_eq!(kept, "the one before");
        }
    });
}

#[test]
fn what_cannot_be_installed_to_is_refused() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").expect("a file");
    let shown = folder.path("").display().to_string();
    for (dest, why) in [
        ("/no/such/folder/drain-init".to_owned(), "folder /no/such/folder: No such file"),
        (format!("{shown}missing/"), "No such file"),
        (format!("{shown}file/drain-init"), "file is not a folder"),
        ("/dev/null".to_owned(), "is not a file"),
        (String::new(), "DEST is empty"),
    ] {
        let ended = install(Path::new(&dest)).ended();
        assert_eq!((ended.code, ended.out.len(), ended.err.len()), (125, 0, 1), "{ended:?}");
        assert!(ended.err[0].starts_with(&format!("drain-init: {dest}: ")), "{ended:?}");
        assert!(ended.err[0].contains(why), "{dest}: {ended:?}");
    }
    assert_eq!(names(&folder.path("")), ["file"], "nothing is left");
}

/// A container without a shell, without /proc, as an ordinary user: what an init container of a hardened pod is.
#[test]
fn it_installs_from_an_empty_root_as_an_ordinary_user() {
    if !needs_static() || !needs_root() {
        return;
    }
    let root = Folder::new();
    let volume = root.path("volume");
    fs::create_dir(&volume).expect("a folder");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).expect("rights");
    let install = |dest: &str| init().in_empty_root(&root).user(65532).arg("install").arg(dest);
    assert_ready(&install("/volume").ended());
    let copy = volume.join("drain-init");
    assert!(fs::read(&copy).expect("the copy") == fs::read(root.path("drain-init")).expect("it"));
    assert_eq!(fs::metadata(&copy).expect("the copy").uid(), 65532);
    let ended = install("/drain-init").ended();
    assert_says(&ended, 125, "/drain-init: cannot be written: Permission denied");
    assert_eq!(names(&volume), ["drain-init"]);
}

#[test]
fn a_file_system_that_refuses_is_named() {
    if !needs_namespaces() || !needs_program("unshare") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("");
    let shown = path.display().to_string();
    let on = |options: &str| {
        // Files that were left behind are listed on stdout, which must stay empty.
        let script = format!(
            "mount -t tmpfs -o {options} none \"$0\" || exit 99; \"$@\"; code=$?; ls -A \"$0\"; exit $code"
        );
        let words = ["unshare", "-m", "sh", "-c", &script, &shown].map(std::ffi::OsString::from);
        install(&path).under(words).ended()
    };
    let ended = on("noexec");
    assert_eq!((ended.code, ended.out.len(), ended.err.len()), (125, 0, 1), "{ended:?}");
    assert!(ended.err[0].contains(&format!("{shown}: is on a file system that is mounted noexec")));
    let ended = on("ro");
    assert_says(&ended, 125, &format!("{shown}: cannot be written: Read-only file system"));
    let ended = on("size=64k");
    assert_says(&ended, 125, &format!("{shown}: cannot be written: No space left on device"));
    let ended = on("size=64m");
    assert_eq!((ended.code, ended.out, ended.err.len()), (0, vec!["drain-init".to_owned()], 0));
}
