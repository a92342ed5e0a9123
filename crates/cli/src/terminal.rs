//! Makes captured bytes safe for a terminal.
//!
//! A log is written by somebody else. What it prints must not move the cursor, set the clipboard,
//! rename the window or answer in the reader's name, so only text and colours reach the terminal.

/// Longest colour sequence that is let through; real ones have below 40 bytes.
const MAX_SGR_BYTES: usize = 64;
const RESET: &[u8] = b"\x1b[0m";

/// What becomes of colours (SGR sequences, ECMA-48 section 8.3.117).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Styles {
    /// They reach the terminal.
    Keep,
    /// They are removed like every other sequence.
    Drop,
}

/// Filters one stream, cut anywhere.
///
/// # Guarantees
///
/// - The output is UTF-8. The only control characters in it are newline, tab, carriage return and,
///   with [`Styles::Keep`], the escape that begins a colour sequence.
/// - UTF-8 text without other control characters is unchanged.
/// - How the input is cut does not matter.
/// - Nothing can hide what follows its line: a sequence ends with the line at the latest.
#[derive(Debug)]
pub(crate) struct Filter {
    styles: Styles,
    state: State,
    /// The beginning of a character.
    partial: Vec<u8>,
    /// Whether colours are on.
    styled: bool,
}

/// Where in a sequence the input is.
#[derive(Debug)]
enum State {
    Text,
    /// After ESC, and intermediate bytes.
    Escape,
    /// In a control sequence (CSI) with these parameters.
    Control(String),
    /// In a control sequence that is no colour.
    Ignored,
    /// In a command string: OSC, DCS, APC, PM or SOS.
    String,
}

impl Filter {
    pub(crate) fn new(styles: Styles) -> Self {
        Self { styles, state: State::Text, partial: Vec::new(), styled: false }
    }

    /// Appends what is safe of the next bytes to `output`.
    pub(crate) fn push(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(input);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|character| self.take(character, output));
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_beginning(invalid) {
                self.partial = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.take(replacement(invalid), output);
            }
        }
    }

    /// Switches a colour on, for Relay's own account.
    pub(crate) fn paint(&mut self, style: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(style);
        self.styled = true;
    }

    /// Switches all colours off, if any is on.
    pub(crate) fn reset(&mut self, output: &mut Vec<u8>) {
        if std::mem::take(&mut self.styled) {
            output.extend_from_slice(RESET);
        }
    }

    fn take(&mut self, character: char, output: &mut Vec<u8>) {
        match character {
            '\n' => {
                self.state = State::Text;
                self.reset(output);
                output.push(b'\n');
            }
            '\u{1b}' => self.state = State::Escape,
            // The 8-bit forms of CSI, and of DCS, SOS, OSC, PM and APC.
            '\u{9b}' => self.state = State::Control(String::new()),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.state = State::String,
            // CAN, SUB, and the 8-bit end of a string.
            '\u{18}' | '\u{1a}' | '\u{9c}' => self.state = State::Text,
            _ => match self.state {
                State::Text => self.text(character, output),
                State::Escape => self.after_escape(character, output),
                State::Control(_) | State::Ignored => self.in_control(character, output),
                // Standards end it with ST only; in practice BEL does too.
                State::String if character == '\u{7}' => self.state = State::Text,
                State::String => {}
            },
        }
    }

    fn after_escape(&mut self, character: char, output: &mut Vec<u8>) {
        match character {
            '[' => self.state = State::Control(String::new()),
            ']' | 'P' | 'X' | '^' | '_' => self.state = State::String,
            ' '..='/' => {}
            '0'..='~' => self.state = State::Text,
            _ => self.text(character, output),
        }
    }

    fn in_control(&mut self, character: char, output: &mut Vec<u8>) {
        match (&mut self.state, character) {
            (State::Control(_), 'm') => self.end_of_colours(output),
            (State::Control(parameters), '0'..='9' | ';' | ':')
                if parameters.len() < MAX_SGR_BYTES =>
            {
                parameters.push(character);
            }
            (_, ' '..='?') => self.state = State::Ignored,
            (_, '@'..='~') => self.state = State::Text,
            _ => self.text(character, output),
        }
    }

    fn end_of_colours(&mut self, output: &mut Vec<u8>) {
        if let State::Control(parameters) = std::mem::replace(&mut self.state, State::Text)
            && self.styles == Styles::Keep
        {
            output.extend_from_slice(format!("\x1b[{parameters}m").as_bytes());
            self.styled = true;
        }
    }

    /// What is no part of a sequence ends it.
    fn text(&mut self, character: char, output: &mut Vec<u8>) {
        self.state = State::Text;
        if !character.is_control() || matches!(character, '\t' | '\r') {
            output.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Whether more bytes could make a character of these.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// A terminal that is not in UTF-8 mode reads a lone byte of 0x80 to 0x9F as a control character.
fn replacement(invalid: &[u8]) -> char {
    match invalid {
        [byte @ 0x80..=0x9f] => char::from(*byte),
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// One line of text that somebody else wrote, without anything but text.
pub(crate) fn plain(text: &str) -> String {
    let visible = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::{Filter, Styles, plain};
    use proptest::prelude::*;

    fn filter(styles: Styles, parts: &[&[u8]]) -> Vec<u8> {
        let mut filter = Filter::new(styles);
        let mut output = Vec::new();
        for part in parts {
            filter.push(part, &mut output);
        }
        filter.reset(&mut output);
        output
    }

    fn shown(input: &[u8]) -> String {
        String::from_utf8(filter(Styles::Keep, &[input])).unwrap()
    }

    #[test]
    fn colours_stay_and_end_with_the_line() {
        assert_eq!(shown(b"\x1b[1;31mred\nplain"), "\x1b[1;31mred\x1b[0m\nplain");
        assert_eq!(shown(b"\x1b[38:2::1:2:3mx"), "\x1b[38:2::1:2:3mx\x1b[0m");
        assert_eq!(filter(Styles::Drop, &[b"\x1b[31mred\n"]), b"red\n");
    }

    #[test]
    fn every_other_sequence_vanishes_and_the_text_around_it_stays() {
        let cases: &[&[u8]] = &[
            b"\x1b[2J",
            b"\x1b[10;10H",
            b"\x1b[?1049h",
            b"\x1b[6n",
            b"\x1b[>4;2m",
            b"\x1b[1 q",
            b"\x1b[!p",
            b"\x1b]0;title\x07",
            b"\x1b]0;title\x1b\\",
            b"\x1b]52;c;aGk=\x07",
            b"\x1bPq#0\x1b\\",
            b"\x1b_apc\x1b\\",
            b"\x1b^pm\x1b\\",
            b"\x1bXsos\x1b\\",
            b"\x1bc",
            b"\x1b7",
            b"\x1b(B",
            b"\x1b#8",
            b"\x1b%G",
            b"\x1b\x1b[2J",
            b"\xc2\x9b2J",
            b"\x9b2J",
            b"\xc2\x9d0;t\xc2\x9c",
            b"\x9d0;t\x9c",
            b"\x90q\x9c",
            b"\x98q\x9c",
            b"\x9eq\x9c",
            b"\x9fq\x9c",
            b"\xc2\x85",
            b"\x84",
            b"\x07",
            b"\x08",
            b"\x00",
            b"\x7f",
            b"\x0e",
            b"\x0b",
            b"\x0c",
        ];
        for case in cases {
            let input = [b"a".as_slice(), case, b"b\r\n\tc"].concat();
            assert_eq!(shown(&input), "ab\r\n\tc", "{:?}", String::from_utf8_lossy(case));
        }
        assert_eq!(shown(b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"), "link");
    }

    #[test]
    fn a_sequence_without_an_end_hides_its_line_only() {
        assert_eq!(shown(b"a\x1b]0;hidden\nseen"), "a\nseen");
        assert_eq!(shown(b"a\x1b[\nseen"), "a\nseen");
        let long = [b"\x1b[".as_slice(), &[b'1'; 100], b"mseen"].concat();
        assert_eq!(shown(&long), "seen");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_shown_as_such() {
        assert_eq!(shown(b"a\xffb\xe2\x82c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(shown("–\u{2028}é🎉".as_bytes()), "–\u{2028}é🎉");
    }

    #[test]
    fn an_error_of_the_service_is_one_line_of_text() {
        assert_eq!(plain("a\x1b]0;x\x07\nb"), "a ]0;x  b");
    }

    /// Bytes with many sequences and parts of sequences in them.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                &b"\x1b"[..],
                b"[",
                b"]",
                b"P",
                b"\\",
                b"m",
                b"1;3",
                b"?",
                b" ",
                b"\n",
                b"\x07",
                b"x",
                b"\x9b",
                b"\xc2",
                b"\x9d",
                b"\x9c",
                b"\xe2\x80\x93",
                b"\xe2",
                b"\x80",
                b"\xf0\x9f",
                b"\x18",
            ])
            .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    /// Takes colour sequences out of a text; `None` if one is not well-formed.
    fn without_colours(text: &str) -> Option<String> {
        let mut parts = text.split("\x1b[");
        let mut rest = parts.next()?.to_owned();
        for part in parts {
            let (parameters, text) = part.split_once('m')?;
            let valid = |character: char| character.is_ascii_digit() || ";:".contains(character);
            rest.push_str(parameters.chars().all(valid).then_some(text)?);
        }
        Some(rest)
    }

    proptest! {
        #[test]
        fn nothing_but_text_and_colours_comes_out(input in bytes()) {
            let text = String::from_utf8(filter(Styles::Keep, &[&input])).unwrap();
            let text = without_colours(&text).expect("only whole colour sequences");
            prop_assert!(text.chars().all(|c| !c.is_control() || "\n\t\r".contains(c)), "{text:?}");
            let text = String::from_utf8(filter(Styles::Drop, &[&input])).unwrap();
            prop_assert!(text.chars().all(|c| !c.is_control() || "\n\t\r".contains(c)), "{text:?}");
        }

        #[test]
        fn how_the_input_is_cut_does_not_matter(input in bytes(), cut in any::<prop::sample::Index>()) {
            let (head, tail) = input.split_at(cut.index(input.len() + 1));
            let single: Vec<&[u8]> = input.chunks(1).collect();
            let whole = filter(Styles::Keep, &[&input]);
            prop_assert_eq!(filter(Styles::Keep, &[head, tail]), whole.clone());
            prop_assert_eq!(filter(Styles::Keep, &single), whole);
        }

        #[test]
        fn text_without_control_characters_is_unchanged(text in "([^\\p{Cc}]|[\n\t\r]){0,40}") {
            prop_assert_eq!(shown(text.as_bytes()), text);
        }
    }
}
