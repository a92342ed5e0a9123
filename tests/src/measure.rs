//! Figures of processes as the kernel keeps them, and figures of many runs.

use std::{
    fs, io,
    time::{Duration, Instant},
};

/// Clock ticks per second of `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Durations of repeated runs, sorted.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Samples in any order.
    ///
    /// # Panics
    ///
    /// Without any.
    #[must_use]
    pub fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort();
        Self(samples)
    }

    /// The shortest: what the machine's other work disturbs least.
    #[must_use]
    pub fn min(&self) -> Duration {
        self.0[0]
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The sample that a share of all does not exceed.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a short list"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }
}

/// The time, for measuring how long real programs take.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "measures real programs, for which no time pauses")]
pub fn now() -> Instant {
    Instant::now()
}

/// User and system time that a running process has used, its threads included.
///
/// # Errors
///
/// When the process is gone.
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold spaces: count from behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// A figure of `/proc/PID/status`, in its own unit: `VmRSS` and `VmHWM` in KiB, `Threads`.
///
/// # Errors
///
/// When the process is gone, or has no such figure.
pub fn status_of(process: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("process {process} has no {name}")))
}

/// Bytes per second, in MB/s.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}

/// Bytes per second, in MiB/s.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn mebibytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64().max(1e-9)
}
