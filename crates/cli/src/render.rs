//! What a record looks like to the person or the program that reads it.

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use relay_protocol::{
    name::{ContainerName, Instance},
    read::{Content, Marker, Record, StreamRef},
    time::UnixMillis,
    write::EndReason,
};

use crate::terminal::{Filter, Styles};

const RED: &[u8] = b"\x1b[31m";
const DIM_YELLOW: &[u8] = b"\x1b[2;33m";

/// What stands at the other end of stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A program: it gets the captured bytes as they are.
    Pipe,
    /// A terminal, which gets text, and colours if they are kept.
    Terminal(Styles),
}

/// What is printed for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The captured bytes.
    Bytes,
    /// The captured bytes, each line after its capture time.
    Timestamps,
    /// The record itself.
    Json,
}

/// What goes to stdout and to stderr.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Turns records into text. Pure; remembers where lines began.
///
/// The bytes of one stream come out as they are. Where several share the output, a newline is added
/// between the unfinished line of one and what follows of another.
#[derive(Debug)]
pub(crate) struct Renderer {
    form: Form,
    screen: Screen,
    /// What each stream may do to a terminal.
    filters: HashMap<StreamRef, Filter>,
    /// The stream whose line is unfinished.
    unfinished: Option<StreamRef>,
    /// Runs whose end was told of.
    told: HashSet<(ContainerName, Instance)>,
}

impl Renderer {
    pub(crate) fn new(form: Form, screen: Screen) -> Self {
        Self { form, screen, filters: HashMap::new(), unfinished: None, told: HashSet::new() }
    }

    /// Prints a record; `line` is its JSON as it came.
    pub(crate) fn render(&mut self, record: &Record, line: &[u8], printed: &mut Printed) {
        if self.form == Form::Json {
            self.json(line, &mut printed.stdout);
            return;
        }
        match &record.content {
            Content::Text(text) => self.bytes(record, text.as_bytes(), &mut printed.stdout),
            Content::Base64(text) => {
                if let Ok(bytes) = STANDARD.decode(text) {
                    self.bytes(record, &bytes, &mut printed.stdout);
                } else {
                    let remark = format!("{} came garbled{}", bytes(record), range(record));
                    self.marker(&remark, printed);
                }
            }
            Content::Marker(marker) => {
                if let Some(remark) = self.remark(record, *marker) {
                    self.marker(&remark, printed);
                }
            }
        }
    }

    fn json(&self, line: &[u8], stdout: &mut Vec<u8>) {
        match self.screen {
            Screen::Pipe => stdout.extend_from_slice(line),
            // JSON leaves DEL and the 8-bit control characters as they are.
            Screen::Terminal(_) => Filter::new(Styles::Drop).push(line, stdout),
        }
        stdout.push(b'\n');
    }

    fn bytes(&mut self, record: &Record, bytes: &[u8], stdout: &mut Vec<u8>) {
        let goes_on = self.unfinished.as_ref() == Some(&record.source);
        if self.unfinished.is_some() && !goes_on {
            stdout.push(b'\n');
        }
        if self.form == Form::Timestamps && !goes_on {
            stdout.extend_from_slice(timestamp(record.time).as_bytes());
        }
        if bytes.last() == Some(&b'\n') {
            self.unfinished = None;
        } else if !goes_on {
            self.unfinished = Some(record.source.clone());
        }
        match self.screen {
            Screen::Pipe => stdout.extend_from_slice(bytes),
            Screen::Terminal(styles) => self.show(record, bytes, styles, stdout),
        }
    }

    fn show(&mut self, record: &Record, bytes: &[u8], styles: Styles, stdout: &mut Vec<u8>) {
        if !self.filters.contains_key(&record.source) {
            self.filters.insert(record.source.clone(), Filter::new(styles));
        }
        let filter = self.filters.get_mut(&record.source).expect("it was just inserted");
        let is_stderr = record.source.stream.as_str() == "stderr";
        if is_stderr && styles == Styles::Keep && bytes != b"\n" {
            filter.paint(RED, stdout);
        }
        filter.push(bytes, stdout);
        filter.reset(stdout);
    }

    /// On a terminal among the lines; otherwise on stderr, for stdout belongs to the process.
    fn marker(&mut self, remark: &str, printed: &mut Printed) {
        let Screen::Terminal(styles) = self.screen else {
            printed.stderr.extend_from_slice(format!("[relay: {remark}]\n").as_bytes());
            return;
        };
        let stdout = &mut printed.stdout;
        if self.unfinished.take().is_some() {
            stdout.push(b'\n');
        }
        let mut filter = Filter::new(styles);
        if styles == Styles::Keep {
            filter.paint(DIM_YELLOW, stdout);
        }
        filter.push(format!("[relay: {remark}]\n").as_bytes(), stdout);
    }

    fn remark(&mut self, record: &Record, marker: Marker) -> Option<String> {
        let bytes = bytes(record);
        Some(match marker {
            Marker::Dropped => format!("{bytes} dropped{}", range(record)),
            Marker::Restarted => {
                format!("{bytes} were kept by a store that is gone{}", range(record))
            }
            Marker::Gap => format!("{bytes} not here yet{}", range(record)),
            Marker::Missing => format!("{bytes} never came{}", range(record)),
            Marker::Conflict => {
                format!("{bytes} were written twice, differently{}", range(record))
            }
            Marker::Corrupt => {
                format!("{bytes} fail their checksum and are not shown{}", range(record))
            }
            Marker::End { reason, exit } => return self.end(&record.source, reason, exit),
        })
    }

    /// A run ends once, though each of its streams does. That it went well goes without saying.
    fn end(&mut self, source: &StreamRef, reason: EndReason, exit: Option<u8>) -> Option<String> {
        let StreamRef { pod: _, container, instance, stream } = source;
        let exit = exit.filter(|exit| *exit != 0);
        let remark = match (reason, exit) {
            (EndReason::Eof, None) => return None,
            (EndReason::Eof, Some(exit)) => format!("{container} ended with status {exit}"),
            (EndReason::Killed, None) => format!("{container} was killed"),
            (EndReason::Killed, Some(exit)) => format!("{container} was killed, status {exit}"),
            (EndReason::Abandoned, _) => {
                return Some(format!(
                    "the writer of {container}/{stream} vanished: how the log ended is not known"
                ));
            }
        };
        self.told.insert((container.clone(), instance.clone())).then_some(remark)
    }
}

fn bytes(record: &Record) -> String {
    match record.length {
        1 => "1 byte".to_owned(),
        length => format!("{length} bytes"),
    }
}

/// Both positions are inclusive, as in `Content-Range`.
fn range(record: &Record) -> String {
    let last = record.length.checked_sub(1).and_then(|last| record.offset.checked_add(last));
    last.map(|last| format!(" ({}-{last})", record.offset)).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds, and a space. Empty where the time is not known.
fn timestamp(time: Option<UnixMillis>) -> String {
    time.and_then(|UnixMillis(millis)| i64::try_from(millis).ok())
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .map(|time| format!("{time:.3} "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Form, Printed, Renderer, Screen};
    use crate::terminal::Styles;

    const COLOUR: Screen = Screen::Terminal(Styles::Keep);

    /// Renders records given as `STREAM CONTENT`; the first begins at 0, each has 3 bytes.
    fn render(form: Form, screen: Screen, records: &[(&str, &str)]) -> (String, String) {
        let mut renderer = Renderer::new(form, screen);
        let mut printed = Printed::default();
        for (index, (stream, content)) in records.iter().enumerate() {
            let offset = index * 3;
            let line = format!(
                r#"{{"container":"main","instance":"a1","stream":"{stream}","offset":{offset},"length":3,"time":1000,{content}}}"#
            );
            let record = serde_json::from_str(&line).unwrap();
            renderer.render(&record, line.as_bytes(), &mut printed);
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(printed.stdout), text(printed.stderr))
    }

    const DROPPED: (&str, &str) = ("stdout", r#""marker":{"kind":"dropped"}"#);

    #[test]
    fn a_pipe_gets_the_bytes_and_stderr_the_remarks() {
        let records =
            [("stdout", r#""text":"\u001b[2Jone""#), DROPPED, ("stderr", r#""base64":"/3R3bwo=""#)];
        let mut renderer = Renderer::new(Form::Bytes, Screen::Pipe);
        let mut printed = Printed::default();
        for (stream, content) in records {
            let line = format!(
                r#"{{"container":"main","instance":"a1","stream":"{stream}","offset":3,"length":3,{content}}}"#
            );
            renderer.render(&serde_json::from_str(&line).unwrap(), b"", &mut printed);
        }
        assert_eq!(printed.stdout, b"\x1b[2Jone\n\xfftwo\n");
        assert_eq!(printed.stderr, b"[relay: 3 bytes dropped (3-5)]\n");
    }

    #[test]
    fn a_terminal_gets_red_for_stderr_remarks_between_lines_and_no_other_sequences() {
        let records = [
            ("stdout", r#""text":"a\u001b[2Jb""#),
            DROPPED,
            ("stderr", r#""text":"bad\n""#),
            ("stdout", r#""text":"\u001b[32mok\n""#),
        ];
        let (stdout, stderr) = render(Form::Bytes, COLOUR, &records);
        let expected = "ab\n\x1b[2;33m[relay: 3 bytes dropped (3-5)]\x1b[0m\n\x1b[31mbad\x1b[0m\n\x1b[32mok\x1b[0m\n";
        assert_eq!((stdout.as_str(), stderr.as_str()), (expected, ""));
        let (stdout, _) = render(Form::Bytes, Screen::Terminal(Styles::Drop), &records);
        assert_eq!(stdout, "ab\n[relay: 3 bytes dropped (3-5)]\nbad\nok\n");
    }

    #[test]
    fn a_sequence_that_two_records_share_is_still_one() {
        let records = [
            ("stdout", r#""text":"a\u001b]0;ti""#),
            ("stderr", r#""text":"e\n""#),
            ("stdout", r#""text":"tle\u0007b""#),
        ];
        let (stdout, _) = render(Form::Bytes, Screen::Terminal(Styles::Drop), &records);
        assert_eq!(stdout, "a\ne\nb");
    }

    #[test]
    fn an_unfinished_line_is_not_joined_with_another_streams() {
        let records = [("stdout", r#""text":"a""#), ("stdout", r#""text":"b""#)];
        assert_eq!(render(Form::Bytes, Screen::Pipe, &records).0, "ab");
        let records = [("stdout", r#""text":"a""#), ("stderr", r#""text":"b""#)];
        assert_eq!(render(Form::Bytes, Screen::Pipe, &records).0, "a\nb");
    }

    #[test]
    fn timestamps_stand_before_lines_and_not_before_their_parts() {
        let records = [
            ("stdout", r#""text":"o""#),
            ("stdout", r#""text":"ne\n""#),
            ("stderr", r#""text":"x\n""#),
        ];
        let (stdout, _) = render(Form::Timestamps, Screen::Pipe, &records);
        assert_eq!(stdout, "1970-01-01T00:00:01.000Z one\n1970-01-01T00:00:01.000Z x\n");
    }

    #[test]
    fn json_is_the_record_as_it_came() {
        let (stdout, stderr) = render(Form::Json, Screen::Pipe, &[DROPPED]);
        let line = r#"{"container":"main","instance":"a1","stream":"stdout","offset":0,"length":3,"time":1000,"marker":{"kind":"dropped"}}"#;
        assert_eq!((stdout, stderr), (format!("{line}\n"), String::new()));
    }

    #[test]
    fn the_end_is_told_once_a_run_and_only_if_something_was_wrong() {
        let end = |reason, exit| {
            let content = format!(r#""marker":{{"kind":"end","reason":"{reason}"{exit}}}"#);
            render(Form::Bytes, Screen::Pipe, &[("stdout", &content), ("stderr", &content)]).1
        };
        assert_eq!(end("eof", r#","exit":0"#), "");
        assert_eq!(end("eof", ""), "");
        assert_eq!(end("eof", r#","exit":7"#), "[relay: main ended with status 7]\n");
        assert_eq!(end("killed", r#","exit":137"#), "[relay: main was killed, status 137]\n");
        assert_eq!(end("abandoned", "").lines().count(), 2);
    }
}
