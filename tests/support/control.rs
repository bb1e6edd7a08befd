//! How late this machine is at the moment: a thread that does next to nothing, and how long it takes for that. It is the control
//! of every time that is measured beside it, as a busy machine is late for both.
//!
//! It must not know what is tested.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::ms;
use super::system::{now, pause};

/// How much later than it is due a thing may come on an idle machine.
pub const SLACK: Duration = ms(300);

/// How many times the control's own lateness is allowed besides: one wake-up was late by that much, where what is tested takes
/// several of several processes, and work in between.
const FACTOR: u32 = 100;

/// How long a lateness counts.
const RECENT: Duration = ms(15_000);

const TURN: Duration = ms(10);

struct Control {
    /// When the turn that goes on should be over.
    due: Option<Instant>,
    /// When a turn was over, and how late; none that a later and worse one has made meaningless.
    late: VecDeque<(Instant, Duration)>,
}

static CONTROL: Mutex<Control> = Mutex::new(Control { due: None, late: VecDeque::new() });

/// From now on; whatever is measured begins after this.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| drop(std::thread::spawn(take_turns)));
}

/// Each is a sleep; and now and then a file is made and removed, where the tests have theirs: disks can be busy too.
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

/// The worst of the last seconds.
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

/// How much later than it is due a thing may come that comes about now.
pub fn slack() -> Duration {
    SLACK + worst() * FACTOR
}
