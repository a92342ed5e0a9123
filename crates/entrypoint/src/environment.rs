//! The environment that Relay got and the one that the command gets.

use std::ffi::CString;

/// Environment as the kernel passes it: any strings, most of them `NAME=VALUE`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    entries: Vec<CString>,
}

impl Environment {
    /// Takes the strings as they are.
    pub(crate) fn new(entries: Vec<CString>) -> Self {
        Self { entries }
    }

    /// Value of the first variable of this name, as `getenv` finds it.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.entries.iter().find_map(|entry| value_of(entry, name))
    }

    /// All strings but the variables of these names, in order and unchanged.
    pub(crate) fn without(&self, names: &[&str]) -> Vec<CString> {
        let belongs =
            |entry: &CString| names.iter().any(|name| value_of(entry, name.as_bytes()).is_some());
        self.entries.iter().filter(|entry| !belongs(entry)).cloned().collect()
    }
}

fn value_of<'entry>(entry: &'entry CString, name: &[u8]) -> Option<&'entry [u8]> {
    entry.as_bytes().strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::Environment;

    fn environment() -> Environment {
        let entries = [c"A=1", c"AB=2", c"", c"B", c"=x", c"A=3", c"C=\xff"];
        Environment::new(entries.into_iter().map(ToOwned::to_owned).collect())
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name_and_the_first_wins() {
        assert_eq!(environment().get(b"A"), Some(&b"1"[..]));
        assert_eq!(environment().get(b"B"), None);
        assert_eq!(environment().get(b"C"), Some(&b"\xff"[..]));
    }

    #[test]
    fn only_the_listed_variables_are_taken_out_and_odd_entries_stay() {
        let rest = environment().without(&["A", "B"]);
        assert_eq!(rest, [c"AB=2", c"", c"B", c"=x", c"C=\xff"].map(ToOwned::to_owned));
    }
}
