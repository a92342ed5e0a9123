//! The words that a container runs where its pod leaves them to the image. Pure.
//!
//! The rule is containerd's (`internal/cri/opts/spec_opts.go`, `WithProcessArgs`), which is that of Docker:
//!
//! ```text
//! if the pod has no command:
//!     if the pod has no args:              args = CMD
//!     unless ENTRYPOINT is [""]:           command = ENTRYPOINT
//! if both are empty: "no command specified"
//! argv = command + args
//! ```
//!
//! A list without words is no list: neither the API server nor the runtime can tell them apart. One that holds an
//! empty word is one.
//!
//! # Guarantees
//!
//! What the kubelet makes of the words that are written is what containerd would have run. The kubelet expands `$(NAME)` and
//! `$$` in a pod's words, but not in an image's: so the pod's are copied, and every `$` of the image's is doubled.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::image::config::{Found, ImageConfig};

/// Longest word that Linux passes to a program, in bytes (`MAX_ARG_STRLEN`, less the NUL at its end).
const MAX_WORD: usize = (128 << 10) - 1;

/// The words of an image's configuration.
type Words<'image> = Vec<&'image str>;

/// What the entrypoint runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Argv {
    /// The arguments that the entrypoint gets.
    pub(super) arguments: Vec<Value>,
    /// The programs that may start: more than one where platforms differ.
    pub(super) programs: Vec<String>,
}

/// Why an image does not say what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoArgv {
    /// It has no words, and neither has the pod.
    Neither,
    /// Platforms differ, and what they run does not fit into a word.
    TooLong,
}

/// The entrypoint's arguments for a pod's own words.
pub(super) fn of_pod(command: &[Value], args: &[Value]) -> Vec<Value> {
    [json!("--")].into_iter().chain(command.iter().chain(args).cloned()).collect()
}

/// What runs where the pod has no command, but perhaps `args`.
pub(super) fn of_image(found: &Found, args: &[Value]) -> Result<Argv, NoArgv> {
    let configs = match found {
        Found::One(config) => return the_same(words(config, args), args),
        Found::PerPlatform(configs) => configs,
    };
    let all: BTreeMap<_, _> = configs
        .iter()
        .map(|(platform, config)| (platform.to_string(), words(config, args)))
        .collect();
    match all.values().next() {
        None => Err(NoArgv::Neither),
        Some(first) if all.values().all(|words| words == first) => the_same(first.clone(), args),
        Some(_) => per_platform(&all, args),
    }
}

/// The words that stand before those of the pod.
fn words<'image>(config: &'image ImageConfig, args: &[Value]) -> Words<'image> {
    let list = |list: &'image Option<Vec<String>>| list.as_deref().unwrap_or_default();
    let entrypoint = list(&config.entrypoint);
    let entrypoint = if entrypoint == [""] { &[] } else { entrypoint };
    let cmd = if args.is_empty() { list(&config.cmd) } else { &[] };
    entrypoint.iter().chain(cmd).map(String::as_str).collect()
}

fn the_same(words: Words<'_>, args: &[Value]) -> Result<Argv, NoArgv> {
    let program = words.first().copied().or_else(|| args.first()?.as_str());
    let program = program.ok_or(NoArgv::Neither)?.to_owned();
    let words: Vec<_> = words.into_iter().map(|word| Value::from(doubled(word))).collect();
    Ok(Argv { arguments: of_pod(&words, args), programs: vec![program] })
}

/// The entrypoint knows where it runs, and picks.
fn per_platform(all: &BTreeMap<String, Words<'_>>, args: &[Value]) -> Result<Argv, NoArgv> {
    let text = json!(all).to_string();
    if text.len() > MAX_WORD {
        return Err(NoArgv::TooLong);
    }
    let otherwise = args.first().and_then(Value::as_str);
    let programs = all.values().filter_map(|words| words.first().copied().or(otherwise));
    let programs = programs.map(str::to_owned).collect();
    // JSON itself has no `$`, so that doubling those of its words doubles them all.
    let picked = [json!("--platform-argv"), doubled(&text).into()];
    Ok(Argv { arguments: picked.into_iter().chain(of_pod(&[], args)).collect(), programs })
}

/// A word of the image's, as the kubelet gives it back.
fn doubled(word: &str) -> String {
    word.replace('$', "$$")
}
