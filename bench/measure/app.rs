//! The app that the inits start, for figures that only the app can see.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use crate::signal::now;

pub fn run(arguments: &[String]) -> ExitCode {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["handler"] => handler(),
        ["ignore"] => ignore(),
        ["orphans", count] => count.parse().map_or(ExitCode::from(2), orphans),
        _ => ExitCode::from(2),
    }
}

/// Says when it was, for whoever waits.
extern "C" fn tell(_signal: libc::c_int) {
    let time = now();
    // SAFETY: eight bytes of ours; a pipe takes them whole.
    unsafe { libc::write(1, (&raw const time).cast(), 8) };
}

fn handler() -> ExitCode {
    // SAFETY: all that the handler does is safe in one.
    unsafe { libc::signal(libc::SIGUSR1, tell as *const () as libc::sighandler_t) };
    tell(0);
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

fn ignore() -> ExitCode {
    // SAFETY: no handler at all.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    tell(0);
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// Makes so many, and waits until the last has been reaped.
fn orphans(count: u32) -> ExitCode {
    let began = now();
    let mut most = 0;
    for made in 0..count {
        // SAFETY: one thread; the children only fork and exit.
        unsafe {
            let middle = libc::fork();
            if middle == 0 {
                libc::fork();
                libc::_exit(0);
            }
            if middle < 0 || libc::waitpid(middle, std::ptr::null_mut(), 0) != middle {
                return ExitCode::FAILURE;
            }
        }
        if made % 500 == 0 {
            most = most.max(others());
        }
    }
    while others() > 0 {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    let seconds = (now() - began) as f64 / 1e9;
    let used = fs::read_to_string("/proc/1/schedstat").unwrap_or_default();
    let used: f64 = used.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
    let told = writeln!(std::io::stdout(), "{seconds} {} {most}", used / 1e9);
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Processes of this namespace but the init and this one: all of them are dead, or about to be.
fn others() -> usize {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids =
        names.filter(|name| name.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    pids.count().saturating_sub(2)
}
