//! Measures how late this machine is at the moment: a thread that does next to nothing, and how
//! long that takes. It is the control of every measured time, as a loaded machine delays both.
//!
//! It must not know what is tested.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::ms;
use super::system::{now, pause};

/// How late an event may be on an idle machine.
pub const SLACK: Duration = ms(300);

/// How many times the control's own lateness is allowed on top. That is one late wake-up, while the
/// tested event takes several of them in several processes, and work in between.
const FACTOR: u32 = 100;

/// How long a lateness counts.
const RECENT: Duration = ms(15_000);

const TURN: Duration = ms(10);

struct Control {
    /// When the current turn should be over.
    due: Option<Instant>,
    /// When each turn ended, and how late, without those that a later and worse one outweighs.
    late: VecDeque<(Instant, Duration)>,
}

static CONTROL: Mutex<Control> = Mutex::new(Control { due: None, late: VecDeque::new() });

/// Starts the control, before anything is measured.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| drop(std::thread::spawn(take_turns)));
}

/// Each turn is a sleep. Some also create and remove a file where the tests have theirs, since
/// disks can be busy too.
fn take_turns() {
    let file = std::env::temp_dir().join(format!("drain-init-test-{}-control", std::process::id()));
    for turn in 0_u64.. {
        let due = now() + TURN;
        control(|control| control.due = Some(due));
        pause(TURN);
        if turn.is_multiple_of(10) {
            let _ = fs::write(&file, "");
            let _ = fs::remove_file(&file);
        }
        control(|control| {
            let late = now().saturating_duration_since(due);
            while control.late.back().is_some_and(|(_, earlier)| *earlier <= late) {
                control.late.pop_back();
            }
            control.late.push_back((now(), late));
        });
    }
}

fn control<R>(run: impl FnOnce(&mut Control) -> R) -> R {
    run(&mut CONTROL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The greatest recent lateness.
fn worst() -> Duration {
    control(|control| {
        while control.late.front().is_some_and(|(at, _)| at.elapsed() > RECENT) {
            control.late.pop_front();
        }
        let worst = control.late.front().map_or(Duration::ZERO, |(_, late)| *late);
        let under_way =
            control.due.map_or(Duration::ZERO, |due| now().saturating_duration_since(due));
        worst.max(under_way)
    })
}

/// How late an event may be that happens now.
pub fn slack() -> Duration {
    SLACK + busy()
}

/// What a busy machine adds to the slack of an idle one.
pub fn busy() -> Duration {
    worst() * FACTOR
}
