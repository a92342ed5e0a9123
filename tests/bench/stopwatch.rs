//! Runs of whole programs, measured by `stopwatch.c`, a program that disturbs them least.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use relay_tests::{measure::Samples, program::workspace};

/// The compiled program, and where it leaves what it measured.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    program: PathBuf,
    folder: PathBuf,
}

/// One measured run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From the start to the end.
    pub(crate) wall: Duration,
    /// User and system time, of all that the program waited for too.
    pub(crate) cpu: Duration,
    /// The user time of it.
    pub(crate) user: Duration,
}

/// All runs of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    /// Sorted wall times.
    pub(crate) wall: Samples,
    /// Sorted CPU times.
    pub(crate) cpu: Samples,
    /// Sorted user times.
    pub(crate) user: Samples,
}

/// A program that is measured beside others.
pub(crate) struct Contender<'a> {
    /// Its name in the tables.
    pub(crate) name: &'static str,
    /// Its command line for one run.
    pub(crate) command: Box<dyn FnMut() -> Command + 'a>,
}

impl<'a> Contender<'a> {
    /// Names a command.
    pub(crate) fn new(name: &'static str, command: impl FnMut() -> Command + 'a) -> Self {
        Self { name, command: Box::new(command) }
    }
}

impl Stopwatch {
    /// Compiles it into a folder.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let program = folder.join("stopwatch");
        let status = Command::new("gcc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o"])
            .args([&program, &workspace().join("tests/bench/stopwatch.c")])
            .status()
            .context("failed to run gcc; `scripts/install bench` installs it")?;
        ensure!(status.success(), "stopwatch.c does not compile");
        Ok(Self { program, folder: folder.to_owned() })
    }

    /// Words that run a command under the stopwatch, to be followed by the command. What it
    /// measures is read by [`runs`](Self::runs) with the same name.
    pub(crate) fn measuring(&self, name: &str) -> Vec<OsString> {
        vec![self.program.clone().into(), "run".into(), self.folder.join(name).into()]
    }

    /// Words of a command of the stopwatch itself: the smallest program for a task.
    pub(crate) fn task(&self, words: &[&str]) -> Vec<OsString> {
        let program = OsString::from(self.program.clone());
        std::iter::once(program).chain(words.iter().map(OsString::from)).collect()
    }

    /// Words of a command that only notes the time, for [`marked`](Self::marked).
    pub(crate) fn mark(&self, name: &str) -> Vec<OsString> {
        self.task(&["mark", &self.folder.join(name).display().to_string()])
    }

    /// Forgets what was measured under a name.
    pub(crate) fn forget(&self, name: &str) {
        drop(fs::remove_file(self.folder.join(name)));
    }

    /// What was measured under a name since it was forgotten, in the order of the runs.
    pub(crate) fn runs(&self, name: &str) -> Result<Vec<Run>> {
        self.lines(name)?.iter().map(|numbers| run(numbers)).collect()
    }

    /// The marks that were made under a name: times since the start of the run.
    pub(crate) fn marked(&self, name: &str) -> Result<Samples> {
        let lines = self.lines(name)?;
        Ok(Samples::new(lines.iter().flatten().copied().map(Duration::from_nanos).collect()))
    }

    fn lines(&self, name: &str) -> Result<Vec<Vec<u64>>> {
        let path = self.folder.join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("nothing was measured as {name}"))?;
        let numbers = |line: &str| line.split(' ').map(|word| Ok(word.parse()?)).collect();
        text.lines().map(numbers).collect()
    }

    /// Runs contenders in turns, `count` times each, silently.
    pub(crate) fn race(&self, count: usize, contenders: &mut [Contender<'_>]) -> Result<Vec<Runs>> {
        let name = |at: usize| format!("race-{at}");
        for at in 0..contenders.len() {
            self.forget(&name(at));
        }
        for turn in 0..=count {
            for (at, contender) in contenders.iter_mut().enumerate() {
                self.measured(&name(at), &(contender.command)())
                    .with_context(|| format!("{} failed", contender.name))?;
                if turn == 0 {
                    // The first turn only brings the programs into memory.
                    self.forget(&name(at));
                }
            }
        }
        (0..contenders.len()).map(|at| Ok(Runs::of(&self.runs(&name(at))?))).collect()
    }

    /// Runs one command to its end under the stopwatch.
    pub(crate) fn measured(&self, name: &str, command: &Command) -> Result<()> {
        let words = self.measuring(name);
        let mut measured = Command::new(&words[0]);
        measured.args(&words[1..]).arg(command.get_program()).args(command.get_args());
        // Tekton's entrypoint leaves files where it runs.
        measured.current_dir(&self.folder);
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => measured.env(variable, value),
                None => measured.env_remove(variable),
            };
        }
        let output =
            measured.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Runs {
    /// Sorted.
    pub(crate) fn of(runs: &[Run]) -> Self {
        Self {
            wall: Samples::new(runs.iter().map(|run| run.wall).collect()),
            cpu: Samples::new(runs.iter().map(|run| run.cpu).collect()),
            user: Samples::new(runs.iter().map(|run| run.user).collect()),
        }
    }
}

fn run(numbers: &[u64]) -> Result<Run> {
    ensure!(numbers.len() == 5, "the stopwatch writes five numbers a run, not {numbers:?}");
    Ok(Run {
        wall: Duration::from_nanos(numbers[0]),
        cpu: Duration::from_micros(numbers[1] + numbers[2]),
        user: Duration::from_micros(numbers[1]),
    })
}
