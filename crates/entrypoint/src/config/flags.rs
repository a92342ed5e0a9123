//! The command line as it was written, before anything is decided.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use lexopt::{Arg, Parser};

use crate::install::Mode;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Runs a command and delivers its output to Relay's log service.

Usage: entrypoint [OPTIONS] [--] COMMAND [ARGUMENTS...]
       entrypoint install [--verify] DIR

Without --log-url it becomes the command. As its first word, install puts this
program into DIR/lib, or compares what is there with itself; write -- before a
command of that name.

Options (the variable in brackets is used without the option):
  --log-url URL      log service: https://HOST[:PORT], http://localhost:PORT or
                     unix:/PATH [RELAY_LOG_URL]
  --token-file FILE  access token, read anew when needed [RELAY_TOKEN_FILE]
  --ca-file FILE     certificates that may vouch for the service [RELAY_CA_FILE]
  --block-max TIME   how long output waits when the buffer is full, before some is
                     dropped and marked; default 60s [RELAY_BLOCK_MAX]
  --flush-max TIME   how long delivery may take after the command's end; at most
                     30s, default 5s [RELAY_FLUSH_MAX]
  --mask-env NAME    mask the value of this variable in the output; repeatable
  --signal-group     run the command in its own process group, and send signals to
                     the whole group
  --tee              copy the masked output to the container's own, too
  --platform-argv JSON
                     the first words of the command, by platform; those after --
                     follow: {\"linux/amd64\":[\"/app\"],\"linux/arm64\":[\"/arm\"]}
  -h, --help         print this
  -V, --version      print the version

Names of the log: RELAY_NAMESPACE (local), RELAY_POD (the host's name),
RELAY_CONTAINER (main). It belongs to RELAY_TRIGGER of RELAY_WORKFLOW, or to
RELAY_STEP (the container's name) of RELAY_RUN. RELAY_GRACE is the pod's grace period (30s).
RELAY_RUN_DIR (/relay-run) is a folder that outlives the container, if it is there.
";

/// Whether the container's own output gets a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Copying {
    /// It gets one line of Relay's.
    #[default]
    Nothing,
    /// It gets the masked bytes.
    Tee,
}

/// Who gets the signals that Relay gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// The command.
    #[default]
    Process,
    /// The command and what it started.
    Group,
}

/// The options as they were written.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub(crate) log_url: Option<OsString>,
    pub(crate) token_file: Option<OsString>,
    pub(crate) ca_file: Option<OsString>,
    pub(crate) block_max: Option<OsString>,
    pub(crate) flush_max: Option<OsString>,
    pub(crate) mask_env: Vec<OsString>,
    pub(crate) copying: Copying,
    pub(crate) recipient: Recipient,
    pub(crate) platform_argv: Option<OsString>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// To print the usage.
    Help,
    /// To print the version.
    Version,
    /// To put this program into a folder, or to compare what is there with it.
    Install(OsString, Mode),
    /// To run the command that begins at this argument.
    Run(Flags, usize),
}

/// Reads the command line. The command begins after `--`, or at the first argument that is not an
/// option; from there on everything is the command's.
///
/// `None` if there is no command.
pub(crate) fn read(arguments: &[CString]) -> Result<Option<Request>, lexopt::Error> {
    let texts = arguments.iter().skip(1);
    let mut parser =
        Parser::from_args(texts.map(|text| OsString::from_vec(text.as_bytes().to_vec())));
    if arguments.get(1).is_some_and(|word| word.as_bytes() == b"install") {
        return read_install(parser).map(Some);
    }
    let mut flags = Flags::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Some(Request::Help)),
            Arg::Short('V') | Arg::Long("version") => return Ok(Some(Request::Version)),
            Arg::Value(_) => {
                let after = parser.raw_args()?.as_slice().len();
                return Ok(Some(Request::Run(flags, arguments.len() - after - 1)));
            }
            Arg::Long("log-url") => flags.log_url = Some(parser.value()?),
            Arg::Long("token-file") => flags.token_file = Some(parser.value()?),
            Arg::Long("ca-file") => flags.ca_file = Some(parser.value()?),
            Arg::Long("block-max") => flags.block_max = Some(parser.value()?),
            Arg::Long("flush-max") => flags.flush_max = Some(parser.value()?),
            Arg::Long("mask-env") => flags.mask_env.push(parser.value()?),
            Arg::Long("signal-group") => flags.recipient = Recipient::Group,
            Arg::Long("tee") => flags.copying = Copying::Tee,
            Arg::Long("platform-argv") => flags.platform_argv = Some(parser.value()?),
            _ => return Err(argument.unexpected()),
        }
    }
    // The platform may have all the words that there are.
    let has_words = flags.platform_argv.is_some();
    Ok(has_words.then_some(Request::Run(flags, arguments.len())))
}

/// Reads what comes after `install`.
fn read_install(mut parser: Parser) -> Result<Request, lexopt::Error> {
    let (mut directory, mut mode) = (None, Mode::Write);
    // The word itself.
    parser.value()?;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Long("verify") => mode = Mode::Verify,
            Arg::Value(value) if directory.is_none() => directory = Some(value),
            _ => return Err(argument.unexpected()),
        }
    }
    let directory = directory.ok_or("install needs a folder: write entrypoint install DIR")?;
    Ok(Request::Install(directory, mode))
}

#[cfg(test)]
mod tests {
    use super::{Copying, Mode, Request, read};
    use proptest::prelude::*;
    use std::ffi::CString;

    fn arguments(texts: &[&str]) -> Vec<CString> {
        std::iter::once(&"entrypoint")
            .chain(texts)
            .map(|text| CString::new(*text).unwrap())
            .collect()
    }

    fn command_of(texts: &[&str]) -> Vec<String> {
        let arguments = arguments(texts);
        let Some(Request::Run(_, at)) = read(&arguments).unwrap() else { return vec![] };
        arguments[at..].iter().map(|text| text.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_command_begins_after_two_dashes_or_at_the_first_word() {
        assert_eq!(command_of(&["--", "ls", "-l"]), ["ls", "-l"]);
        assert_eq!(command_of(&["ls", "-l", "--", "x"]), ["ls", "-l", "--", "x"]);
        assert_eq!(command_of(&["--tee", "--mask-env=A", "--mask-env", "B", "ls"]), ["ls"]);
        assert_eq!(command_of(&["--", "--", "x"]), ["--", "x"]);
        assert_eq!(command_of(&["--", "--help"]), ["--help"]);
        assert_eq!(command_of(&["--", ""]), [""]);
        assert_eq!(command_of(&["ls", "--tee"]), ["ls", "--tee"]);
    }

    #[test]
    fn install_is_ours_only_as_the_first_word() {
        for words in [&["install", "--verify", "/d"][..], &["install", "/d", "--verify"]] {
            let Some(Request::Install(folder, Mode::Verify)) = read(&arguments(words)).unwrap()
            else {
                panic!("{words:?}");
            };
            assert_eq!(folder, "/d");
        }
        assert_eq!(command_of(&["--", "install", "-d", "/d"]), ["install", "-d", "/d"]);
        assert_eq!(command_of(&["--tee", "install", "/d"]), ["install", "/d"]);
        for words in [&["install"][..], &["install", "/d", "/e"], &["install", "-m", "755"]] {
            assert!(read(&arguments(words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn options_of_the_command_are_not_read() {
        let Some(Request::Run(flags, _)) = read(&arguments(&["--", "x", "--tee"])).unwrap() else {
            panic!("no command");
        };
        assert_eq!(flags.copying, Copying::Nothing);
    }

    #[test]
    fn the_words_of_a_platform_may_be_all() {
        for words in [&["--platform-argv", "{}"][..], &["--platform-argv={}", "--"]] {
            let Some(Request::Run(flags, at)) = read(&arguments(words)).unwrap() else {
                panic!("{words:?}");
            };
            assert_eq!((flags.platform_argv, at), (Some("{}".into()), words.len() + 1));
        }
        assert_eq!(command_of(&["--platform-argv", "--", "--", "x"]), ["x"]);
    }

    #[test]
    fn nothing_to_run_and_unknown_options_are_told() {
        assert!(read(&arguments(&[])).unwrap().is_none());
        assert!(read(&arguments(&["--tee", "--"])).unwrap().is_none());
        assert!(read(&[]).unwrap().is_none());
        for texts in [&["--tea", "x"][..], &["-x", "x"], &["--log-url"], &["--tee=yes", "x"]] {
            assert!(read(&arguments(texts)).is_err(), "{texts:?}");
        }
    }

    proptest! {
        #[test]
        fn everything_after_two_dashes_is_the_commands(
            words in prop::collection::vec("[ -~]{0,6}", 1..6),
        ) {
            let mut texts = vec!["--tee", "--"];
            texts.extend(words.iter().map(String::as_str));
            prop_assert_eq!(command_of(&texts), words);
        }

        #[test]
        fn no_command_line_makes_the_parser_panic(
            words in prop::collection::vec("-{0,3}[a-z=]{0,8}", 0..6),
        ) {
            let texts: Vec<_> = words.iter().map(String::as_str).collect();
            drop(read(&arguments(&texts)));
        }
    }
}
