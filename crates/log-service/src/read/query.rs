//! The parameters of a request for logs, checked once.

use std::str::FromStr;

use relay_protocol::name::{ContainerName, Instance, StreamName};

use super::{
    accept::Format,
    since::{self, Since},
    text::Timestamps,
};

const KNOWN: &str =
    "container, stream, instance, follow, tail, since, timestamps, previous and format";

/// A parameter that cannot be understood: which, its value, and what to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct QueryError(String);

/// Whether to go on when everything there is was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read what is there.
    #[default]
    Once,
    /// Go on until the log ends.
    Follow,
}

/// Which runs of the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Runs {
    /// All, in the order in which they began.
    #[default]
    All,
    /// The one before the last.
    Previous,
}

/// What a reader asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) container: Option<ContainerName>,
    pub(crate) stream: Option<StreamName>,
    pub(crate) instance: Option<Instance>,
    pub(crate) mode: Mode,
    /// Number of last lines; all if absent.
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Since>,
    pub(crate) timestamps: Option<Timestamps>,
    pub(crate) runs: Runs,
    pub(crate) format: Option<Format>,
}

impl Query {
    /// Reads decoded parameters.
    ///
    /// # Errors
    ///
    /// [`QueryError`] for the first that is unknown, repeated or malformed.
    pub(crate) fn parse(parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (index, (name, value)) in parameters.iter().enumerate() {
            if parameters.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(QueryError(format!("{} is there twice: send it once", shown(name))));
            }
            query.set(name, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        match name {
            "container" => self.container = Some(named(name, value)?),
            "stream" => self.stream = Some(named(name, value)?),
            "instance" => self.instance = Some(named(name, value)?),
            "follow" if truth(name, value)? => self.mode = Mode::Follow,
            "previous" if truth(name, value)? => self.runs = Runs::Previous,
            "timestamps" if truth(name, value)? => self.timestamps = Some(Timestamps::Shown),
            "follow" | "previous" | "timestamps" => {}
            "tail" => self.tail = tail(value)?,
            "since" => {
                let remedy = "a duration like 90s or 1h30m, or a time like 2026-01-31T12:00:00Z";
                self.since = Some(since::parse(value).ok_or_else(|| wrong(name, value, remedy))?);
            }
            "format" => {
                let remedy = "text, raw, ndjson or sse";
                self.format = Some(Format::named(value).ok_or_else(|| wrong(name, value, remedy))?);
            }
            _ => {
                let name = shown(name);
                return Err(QueryError(format!("{name} is not a parameter: there are {KNOWN}")));
            }
        }
        Ok(())
    }
}

fn named<T: FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, QueryError> {
    value.parse().map_err(|error| QueryError(format!("{name}: {error}")))
}

fn truth(name: &str, value: &str) -> Result<bool, QueryError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(name, value, "true or false")),
    }
}

/// -1 is all, as in `kubectl logs`.
fn tail(value: &str) -> Result<Option<u64>, QueryError> {
    if value == "-1" {
        return Ok(None);
    }
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.map(Some).ok_or_else(|| wrong("tail", value, "a number of lines, or -1 for all"))
}

fn wrong(name: &str, value: &str, remedy: &str) -> QueryError {
    QueryError(format!("{name} cannot be {}: send {remedy}", shown(value)))
}

/// What is shown back is bounded: the input need not be.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{Mode, Query, Runs};

    fn parse(parameters: &[(&str, &str)]) -> Result<Query, String> {
        let owned: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Query::parse(&owned).map_err(|error| error.to_string())
    }

    #[test]
    fn every_parameter_is_understood() {
        let query = parse(&[
            ("container", "main"),
            ("stream", "stdout"),
            ("follow", "true"),
            ("previous", "1"),
            ("tail", "5"),
            ("since", "5s"),
            ("timestamps", "false"),
            ("format", "sse"),
        ])
        .unwrap();
        assert_eq!((query.mode, query.runs, query.tail), (Mode::Follow, Runs::Previous, Some(5)));
        assert_eq!(query.timestamps, None);
        assert_eq!(parse(&[("tail", "-1"), ("follow", "false")]), Ok(Query::default()));
    }

    #[test]
    fn wrong_parameters_are_named_with_their_value_and_the_remedy() {
        for (name, value, error) in [
            ("tail", "-2", r#"tail cannot be "-2": send a number of lines, or -1 for all"#),
            ("tail", "+2", r#"tail cannot be "+2": send a number of lines, or -1 for all"#),
            ("tail", "", r#"tail cannot be "": send a number of lines, or -1 for all"#),
            ("follow", "maybe", r#"follow cannot be "maybe": send true or false"#),
            ("format", "xml", r#"format cannot be "xml": send text, raw, ndjson or sse"#),
            ("since", "yesterday", r#"since cannot be "yesterday": send a duration like 90s"#),
            ("stream", "STDOUT", r#"stream: "STDOUT" is not a stream name: use 1 to 63"#),
            ("taill", "2", r#""taill" is not a parameter: there are container, stream"#),
        ] {
            let message = parse(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(error), "{message}");
        }
        let twice = parse(&[("tail", "2"), ("tail", "3")]).unwrap_err();
        assert_eq!(twice, r#""tail" is there twice: send it once"#);
        assert!(parse(&[("since", &"x".repeat(9_000))]).unwrap_err().len() < 250);
    }
}
