//! The servers of examples/dockerfiles that stop gracefully on a signal of their own, as Debian packages them: the options and
//! the stop signal of the Dockerfile drain the server, and it then finishes what is in flight. PHP-FPM is behind each.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;

use crate::support::http::{Client, get};
use crate::support::system::enter_own_network;
use crate::support::{Folder, LIMIT, becomes_true, init, ms, needs, needs_program, needs_root};

const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000));

const TERM: i32 = 15;

/// The rest of the line of Dockerfile.NAME that starts with `begin`.
fn after(name: &str, begin: &str) -> String {
    let path = format!("{}/examples/dockerfiles/Dockerfile.{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{path}: no {begin}"));
    rest.lines().next().unwrap_or_default().to_owned()
}

/// The options that Dockerfile.NAME passes to drain-init, and its STOPSIGNAL.
fn dockerfile(name: &str) -> (Vec<String>, String) {
    let entrypoint = after(name, "\nENTRYPOINT ");
    let words = entrypoint.split('"').skip(1).step_by(2).map(str::to_owned);
    (words.skip(1).take_while(|word| word != "--").collect(), after(name, "\nSTOPSIGNAL "))
}

fn number(signal: &str) -> i32 {
    match signal {
        "SIGQUIT" => 3,
        "SIGUSR1" => 10,
        "SIGWINCH" => 28,
        other => panic!("{other}"),
    }
}

/// A folder with the two scripts that PHP-FPM runs: `wait.php` answers when there is a file `go`, `now.php` at once.
fn scripts() -> Folder {
    let folder = Folder::new();
    let [asked, go] = ["asked", "go"].map(|name| folder.path(name).display().to_string());
    let wait = format!(
        "<?php touch('{asked}');
        while (!file_exists('{go}')) {{ usleep(10000); clearstatcache(); }}
        echo 'done';"
    );
    fs::write(folder.path("wait.php"), wait).expect("written");
    fs::write(folder.path("now.php"), "<?php echo 'done';").expect("written");
    folder
}

/// The words that start a program: CONFIGURATION is the file that this text is written to, without its indentation.
fn configured(folder: &Folder, name: &str, text: &str, words: &[&str]) -> Vec<String> {
    let path = folder.path(name);
    let lines = text.lines().map(|line| format!("{}\n", line.trim()));
    fs::write(&path, lines.collect::<String>()).expect("written");
    words.iter().map(|word| word.replace("CONFIGURATION", &path.display().to_string())).collect()
}

/// Debian has the version in its name.
fn php_fpm_program() -> Option<String> {
    let programs = fs::read_dir("/usr/sbin").ok()?.filter_map(Result::ok);
    let mut paths = programs.map(|program| program.path().display().to_string());
    paths.find(|path| path.starts_with("/usr/sbin/php-fpm"))
}

fn php_fpm(folder: &Folder) -> Vec<String> {
    // The lines that its Dockerfile adds.
    let added = after("php-fpm", "printf '").split_once('\'').expect("a string").0.to_owned();
    let text = "ADDED
        error_log = /dev/stderr
        [www]
        user = root
        listen = 127.0.0.1:9000
        pm = static
        pm.max_children = 4
        ";
    let program = php_fpm_program().expect("was looked for");
    let text = text.replace("ADDED", &added.replace("\\n", "\n"));
    configured(folder, "fpm.conf", &text, &[&program, "-F", "-R", "-y", "CONFIGURATION"])
}

fn nginx(folder: &Folder) -> Vec<String> {
    let root = folder.path("").display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}{kind};"))
        .concat();
    let text = format!(
        "user root;
        pid {root}nginx.pid;
        error_log stderr;
        events {{}}
        http {{
            access_log off;
            {temporary}
            server {{
                listen {ADDRESS};
                root {root};
                fastcgi_param SCRIPT_FILENAME $document_root$uri;
                fastcgi_param REQUEST_METHOD $request_method;
                location / {{ fastcgi_pass 127.0.0.1:9000; }}
            }}
        }}
        "
    );
    configured(folder, "nginx.conf", &text, &["nginx", "-c", "CONFIGURATION", "-g", "daemon off;"])
}

fn httpd(folder: &Folder) -> Vec<String> {
    let root = folder.path("").display().to_string();
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_fcgi"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let text = format!(
        "ServerName test
        ServerRoot {root}
        DefaultRuntimeDir {root}
        PidFile {root}httpd.pid
        ErrorLog /dev/stderr
        {modules}
        User www-data
        Group www-data
        Listen {ADDRESS}
        ProxyPass / fcgi://127.0.0.1:9000{root}
        "
    );
    configured(folder, "httpd.conf", &text, &["apache2", "-DFOREGROUND", "-f", "CONFIGURATION"])
}

/// With a master, as its image's entrypoint starts it.
fn haproxy(folder: &Folder) -> Vec<String> {
    let root = folder.path("").display().to_string();
    let text = format!(
        "defaults
            mode http
            timeout connect 2s
            timeout client 60s
            timeout server 60s
        fcgi-app php
            docroot {}
        frontend service
            bind {ADDRESS}
            default_backend app
        backend app
            use-fcgi-app php
            server php 127.0.0.1:9000 proto fcgi
        ",
        root.trim_end_matches('/')
    );
    configured(folder, "haproxy.cfg", &text, &["haproxy", "-W", "-db", "-f", "CONFIGURATION"])
}

/// Stopped in the midst of a request, by the image's signal and by SIGTERM: it serves on while it drains, is told when that is
/// over, and only then finishes the request and ends well.
fn stops_gracefully(
    name: &str,
    server: fn(&Folder) -> Vec<String>,
    beside: fn(&Folder) -> Vec<String>,
) {
    let programs = ["apache2", "haproxy", "nginx"].into_iter().all(needs_program);
    if !needs_root() || !programs || !needs("php-fpm", php_fpm_program().is_some()) {
        return;
    }
    let (options, stop_signal) = dockerfile(name);
    thread::scope(|scope| {
        for signal in [number(&stop_signal), TERM] {
            let (options, stop_signal) = (&options, &stop_signal);
            scope.spawn(move || {
                enter_own_network();
                stopped(name, signal, options, stop_signal, server, beside);
            });
        }
    });
}

fn stopped(
    name: &str,
    signal: i32,
    options: &[String],
    stop_signal: &str,
    server: fn(&Folder) -> Vec<String>,
    beside: fn(&Folder) -> Vec<String>,
) {
    let folder = scripts();
    let _beside = init().bare().pid1().command(beside(&folder)).start();
    // Something is in flight all the time, so the drain lasts for this and a second more.
    let init = init().pid1().env("DRAIN_INIT_DELAY", "0").env("DRAIN_INIT_MAX_DELAY", "2s");
    let init = options.iter().fold(init, |init, option| init.arg(option));
    let mut run = init.command(server(&folder)).start();
    let serves = becomes_true(LIMIT, || get(ADDRESS, "/now.php").is_ok());
    assert!(serves, "{name} does not serve: {:?}", run.ended_within(ms(100)));
    let mut client = Client::connect(ADDRESS).expect("a connection");
    client.ask("/wait.php").expect("asked");
    assert!(becomes_true(LIMIT, || folder.path("asked").exists()), "{name}: the script runs");

    run.signal(signal);
    run.log(": draining for ");
    get(ADDRESS, "/now.php").unwrap_or_else(|e| panic!("{name} does not serve on: {e}"));
    run.log(&format!("{stop_signal} to the app"));
    fs::write(folder.path("go"), "").expect("written");
    let answer = client.answer().unwrap_or_else(|e| panic!("{name} cuts a request: {e}"));
    assert_eq!((answer, run.ended().code), (4, 0), "{name} after signal {signal}");
}

#[test]
fn httpd_stops_gracefully() {
    stops_gracefully("httpd", httpd, php_fpm);
}

#[test]
fn haproxy_stops_gracefully() {
    stops_gracefully("haproxy", haproxy, php_fpm);
}

#[test]
fn nginx_stops_gracefully() {
    stops_gracefully("nginx", nginx, php_fpm);
}

#[test]
fn php_fpm_stops_gracefully() {
    stops_gracefully("php-fpm", php_fpm, nginx);
}
