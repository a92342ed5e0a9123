//! Whole-process measurements: wall time and CPU time of programs, as a shell would see them.

use std::{
    fs, io,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

/// Clock ticks per second of `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Wall times of repeated runs of one command, sorted.
#[derive(Debug)]
pub struct Runs {
    walls: Vec<Duration>,
}

impl Runs {
    /// Runs a command `count` times, silently.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn of(count: usize, mut command: impl FnMut() -> Command) -> io::Result<Self> {
        let mut walls = (0..count)
            .map(|_| {
                let begun = SystemTime::now();
                let mut command = command();
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()?;
                Ok(begun.elapsed().unwrap_or_default())
            })
            .collect::<io::Result<Vec<_>>>()?;
        walls.sort();
        Ok(Self { walls })
    }

    /// The shortest run: what the machine's other work disturbs least.
    #[must_use]
    pub fn min(&self) -> Duration {
        self.walls[0]
    }

    /// The run in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        quantile(&self.walls, 0.5)
    }
}

/// The value that a share of the sorted values does not exceed.
///
/// # Panics
///
/// Without values.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a short list"
)]
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// User and system time that a running process has used, its threads included.
///
/// # Errors
///
/// When the process is gone.
pub fn cpu_time(process: &Child) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
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

/// Resident memory of a running process, in KiB.
///
/// # Errors
///
/// When the process is gone.
pub fn resident_kib(process: &Child) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    Ok(line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Bytes per second, in MB/s.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}
