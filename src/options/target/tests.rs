//! Each form, and each way to get one wrong.

use super::*;

#[test]
fn targets_are_shown_as_they_were_written() {
    for text in [
        "tcp://127.0.0.1:8080",
        "tcp://[::1]:8080",
        "tcp://localhost:65535",
        "http://localhost/",
        "http://app.svc:8080/healthz?full=1",
        "http://[2001:db8::1]:1/a%20b",
        "file:/run/ready",
        "file:/with a blank",
    ] {
        assert_eq!(Target::parse(text).map(|target| target.to_string()), Ok(text.to_owned()));
    }
}

#[test]
fn http_has_a_default_port_and_a_default_path() {
    for (text, port, path) in [
        ("http://localhost", 80, "/"),
        ("http://localhost:81", 81, "/"),
        ("http://[::1]", 80, "/"),
        ("http://localhost?a=b", 80, "/?a=b"),
        ("http://localhost:8080/a/b?c@d", 8080, "/a/b?c@d"),
    ] {
        let Ok(Target::Http(url)) = Target::parse(text) else { panic!("{text}") };
        assert_eq!((url.endpoint.port, url.path.as_str()), (port, path), "{text}");
    }
}

/// The text, and a part of the message.
#[test]
fn what_is_no_target_is_refused_with_a_remedy() {
    for (text, part) in [
        ("", "has no scheme; write tcp://"),
        ("127.0.0.1:8080", "has no scheme"),
        ("localhost", "has no scheme"),
        ("/run/ready", "has no scheme"),
        ("udp://localhost:1", "has an unknown scheme; write tcp://"),
        ("tcp:localhost:80", "has no scheme"),
        ("http:/localhost/", "has no scheme"),
        ("https://localhost/", "https is not supported; write http://"),
        ("HTTPS://localhost/", "https is not supported"),
        ("tcp://localhost", "has no port; write localhost:8080"),
        ("tcp://[::1]", "has no port; write [::1]:8080"),
        ("tcp://localhost:", "\"\" is not a port"),
        ("tcp://localhost:0", "\"0\" is not a port; write a number from 1 to 65535"),
        ("tcp://localhost:65536", "\"65536\" is not a port"),
        ("tcp://localhost:+80", "\"+80\" is not a port"),
        ("tcp://localhost:80/", "\"80/\" is not a port"),
        ("tcp://:80", "has no host"),
        ("tcp://", "has no host"),
        ("tcp://[]:80", "has no host"),
        ("tcp://::1:80", "without brackets"),
        ("tcp://[::1", "without brackets"),
        ("tcp://[::1]80", "after the address"),
        ("tcp://[host]:80", "is not an IPv6 address"),
        ("tcp://a b:80", "is not a host"),
        ("tcp://a\n:80", "is not a host"),
        ("tcp://ä:80", "is not a host"),
        ("tcp://me@localhost:80", "names a user"),
        ("http://me:secret@localhost/", "names a user"),
        ("http://", "has no host"),
        ("http:///path", "has no host"),
        ("http://:80/", "has no host"),
        ("http://localhost:0/", "is not a port"),
        ("http://localhost:65536/", "is not a port"),
        ("http://localhost/a b", "must be percent-encoded"),
        ("http://localhost/\r\nHost: x", "must be percent-encoded"),
        ("http://localhost/\u{7f}", "must be percent-encoded"),
        ("http://localhost/ä", "must be percent-encoded"),
        ("http://localhost/#top", "must be percent-encoded"),
        ("http://local host/", "is not a host"),
        (" http://localhost/", "has an unknown scheme"),
        ("file:", "needs an absolute path; write file:/path"),
        ("file:relative", "needs an absolute path"),
        ("file:/a\nb", "control character"),
    ] {
        let why = Target::parse(text).expect_err(text);
        assert!(why.contains(part), "{text:?}: {why}");
    }
    assert!(Target::parse(&format!("tcp://{}:1", "a".repeat(254))).is_err());
}

#[test]
fn addresses_and_localhost_need_no_look_up() {
    let addresses = |text: &str| -> Vec<String> {
        let target = Target::parse(text).expect(text);
        let addresses = target.endpoint().expect("an endpoint").addresses();
        addresses.iter().map(SocketAddr::to_string).collect()
    };
    assert_eq!(addresses("tcp://localhost:1"), ["127.0.0.1:1", "[::1]:1"]);
    assert_eq!(addresses("http://LOCALHOST/"), ["127.0.0.1:80", "[::1]:80"]);
    assert_eq!(addresses("tcp://[::1]:1"), ["[::1]:1"]);
    assert_eq!(addresses("tcp://app:1"), [""; 0]);
}

#[test]
fn a_target_that_is_asked_again_and_again_has_an_address() {
    for text in ["tcp://localhost:1", "http://127.0.0.1/", "tcp://[::1]:1", "file:/x"] {
        assert!(Target::parse_local(text).is_ok(), "{text}");
    }
    let why = Target::parse_local("http://app/").expect_err("a name");
    assert!(why.contains("app would be looked up"), "{why}");
    assert!(Target::parse_local("app").is_err());
}

#[test]
fn listeners_have_an_address_and_a_port() {
    for (text, shown) in [
        ("[::]:9000", "http://[::]:9000"),
        ("http://0.0.0.0:9000", "http://0.0.0.0:9000"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
    ] {
        let listen_on = ListenOn::parse(text).expect(text);
        assert_eq!(listen_on.to_string(), shown);
        assert!(shown.ends_with(&listen_on.address().to_string()));
    }
    for (text, part) in [
        ("", "write [::]:9000"),
        ("9000", "write [::]:9000"),
        (":9000", "has no address; write [::]:9000"),
        ("http://:9000", "write [::]:9000"),
        ("tcp://:9000", "write tcp://[::]:9000"),
        ("localhost:9000", "\"localhost\" is not an address; write [::]:9000 or 0.0.0.0:9000"),
        ("::9000", "is not an address"),
        ("[::]", "is not a port"),
        ("0.0.0.0:0", "\"0\" is not a port"),
        ("0.0.0.0:65536", "\"65536\" is not a port"),
        ("http://[::]:9000/readyz", "is not a port"),
        ("https://[::]:9000", "https is not supported; write [::]:9000"),
    ] {
        let why = ListenOn::parse(text).expect_err(text);
        assert!(why.contains(part), "{text:?}: {why}");
    }
}

#[test]
fn handlers_call_or_execute() {
    for (text, shown) in [
        ("http://a/b", "GET http://a/b"),
        ("POST http://a:1/b", "POST http://a:1/b"),
        ("M-SEARCH  http://a/", "M-SEARCH http://a/"),
        ("exec:/bin/bye 'two words' three", "exec:/bin/bye 'two words' three"),
        ("exec:bye \"a 'b'\" c\\ d ''", "exec:bye \"a 'b'\" c\\ d ''"),
    ] {
        assert_eq!(Handler::parse(text).map(|handler| handler.to_string()), Ok(shown.to_owned()));
    }
    let handler = Handler::parse("exec:/bin/bye 'two words' ''");
    let Ok(Handler::Exec(command)) = handler else { panic!("{handler:?}") };
    assert_eq!(command.words, ["/bin/bye", "two words", ""]);
}

#[test]
fn what_is_no_handler_is_refused_with_a_remedy() {
    for (text, part) in [
        ("", "is not a handler; write http://"),
        ("/bin/bye", "is not a handler"),
        ("POST", "is not a handler"),
        ("tcp://a:1", "is not a handler"),
        (" http://a/", "has an empty method; write POST http://"),
        ("P@ST http://a/", "\"P@ST\" is not a method"),
        ("PÖST http://a/", "is not a method"),
        ("https://a/", "https is not supported"),
        ("POST https://a/", "https is not supported"),
        ("POST http://a/b c", "must be percent-encoded"),
        ("POST http://", "has no host"),
        ("http://a:0/", "is not a port"),
        ("exec:", "has no command; write exec:/command"),
        ("exec:  ", "has no command"),
        ("exec:''", "has no command"),
        ("exec:/bin/bye 'open", "quotation mark"),
        ("exec:/bin/bye \\", "backslash"),
        ("exec:./bye", "write exec:/bye"),
        ("exec:bin/bye", "write exec:/bin/bye"),
    ] {
        let why = Handler::parse(text).expect_err(text);
        assert!(why.contains(part), "{text:?}: {why}");
    }
}
