//! A bar on the terminal while something else works; nothing where standard error is no terminal.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// A bar for something that is done round by round.
pub fn rounds(all: u64, of: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {of}, {{eta}} left"));
    ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Does `work`, and draws meanwhile what `look` sees: bytes done and bytes in all.
pub fn with_bar<T>(look: impl FnMut() -> Option<(u64, u64)> + Send, work: impl FnOnce() -> T) -> T {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if bar.is_hidden() {
        return work();
    }
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || draw(bar, &end, look));
        let worked = work();
        drop(ended);
        worked
    })
}

fn draw(bar: &ProgressBar, end: &std::sync::mpsc::Receiver<()>, mut look: impl FnMut() -> Option<(u64, u64)>) {
    while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if let Some((done, bytes)) = look() {
            bar.set_length(bytes);
            bar.set_position(done);
        }
    }
    bar.finish_and_clear();
}
