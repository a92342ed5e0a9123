//! What runs in a wrapped container is what containerd would have run.
//!
//! `tests/injection/argv.json` is the table of all combinations of command, args, ENTRYPOINT and CMD, written by
//! `make bless`. That containerd does the same is a test in the cluster, which reads that table, too.

mod kubelet;

use std::{collections::BTreeMap, fs, sync::Arc};

use kubelet::expand;
use proptest::{collection::vec, option, prelude::*};
use relay_operator::{
    api::v1beta1::InjectionMode,
    image::config::{Found, ImageConfig, Platform},
    injection::{
        ContextLabels, ENTRYPOINT, Facts, Images, Outcome, Settings, Source, Tools, inject,
    },
};
use relay_tests::program::workspace;
use serde_json::{Value, json};

/// A variable of the container's.
const NAME: (&str, &str) = ("NAME", "value");
/// What stands in a pod's lists: absent, empty, an empty word, words.
const COMMANDS: [Option<&[&str]>; 4] =
    [None, Some(&[]), Some(&[""]), Some(&["/pod-command", "$(NAME)", "$$(NAME)", "a  b"])];
const ARGS: [Option<&[&str]>; 4] =
    [None, Some(&[]), Some(&[""]), Some(&["/pod-args", "$(NAME)", "$$", "$(GONE)"])];
/// The same of images; the last is what a shell form becomes.
const ENTRYPOINTS: [Option<&[&str]>; 4] =
    [None, Some(&[]), Some(&[""]), Some(&["/entrypoint", "$(NAME)", "$$(NAME)", "$HOME $$"])];
const CMDS: [Option<&[&str]>; 4] =
    [None, Some(&[]), Some(&[""]), Some(&["/cmd", "-c", "exec $NAME \"$@\" $$ $(NAME)"])];

fn facts() -> Facts {
    Facts {
        mode: InjectionMode::Required,
        tools: Tools::Ready {
            source: Source::Claim("relay-tools-1".to_owned()),
            generation: "1".to_owned(),
            pull_secrets: vec![],
        },
        settings: Arc::new(Settings {
            log_url: "https://logs:8443".to_owned(),
            audience: "relay".to_owned(),
            context: ContextLabels::default(),
        }),
    }
}

type List = Option<Vec<String>>;

fn list(words: Option<&[&str]>) -> List {
    words.map(|words| words.iter().map(|word| (*word).to_owned()).collect())
}

/// What the kubelet gives to the entrypoint of a container of this image, or why it is denied.
fn arguments(command: &List, args: &List, found: Found) -> Result<Vec<String>, String> {
    let mut container = json!({ "name": "main", "image": "app:1" });
    for (field, words) in [("command", command), ("args", args)] {
        if let Some(words) = words {
            container[field] = json!(words);
        }
    }
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [container] } });
    let images = Images::from([("app:1".to_owned(), Ok(found))]);
    let changes = match inject(&pod, &facts(), &images) {
        Outcome::Wrapped { patch, skipped: None } => serde_json::to_value(patch).expect("JSON"),
        Outcome::Denied(why) => return Err(why.to_string()),
        other => return Err(format!("{other:?}")),
    };
    let set = |field: &str| {
        let path = format!("/spec/containers/0/{field}");
        let operations = changes.as_array().expect("a patch is a list");
        operations.iter().find(|operation| operation["path"] == path).expect("it is set")["value"]
            .clone()
    };
    assert_eq!(set("command"), json!([ENTRYPOINT]));
    let words = set("args");
    let words = words.as_array().expect("a list").iter();
    let words = words.map(|word| word.as_str().expect("text"));
    let value = |name: &str| (name == NAME.0).then(|| NAME.1.to_owned());
    Ok(words.map(|word| expand(word, value)).collect())
}

/// What the entrypoint runs on a platform.
fn argv(arguments: &[String], platform: &str) -> Vec<String> {
    let dashes = arguments.iter().position(|word| word == "--").expect("the pod's words follow it");
    let (options, words) = arguments.split_at(dashes);
    let own = options.get(1).map(|json| {
        assert_eq!((options.len(), options[0].as_str()), (2, "--platform-argv"));
        let mut all: BTreeMap<String, Vec<String>> = serde_json::from_str(json).expect("JSON");
        all.remove(platform).expect("it has them for each platform")
    });
    [&own.unwrap_or_default()[..], &words[1..]].concat()
}

#[test]
fn each_combination_runs_what_the_table_says() {
    let mut rows = Vec::new();
    for command in COMMANDS {
        for args in ARGS {
            for entrypoint in ENTRYPOINTS {
                for cmd in CMDS {
                    let config = ImageConfig { entrypoint: list(entrypoint), cmd: list(cmd) };
                    let found = arguments(&list(command), &list(args), Found::One(config));
                    let row = json!({
                        "command": command, "args": args, "entrypoint": entrypoint, "cmd": cmd,
                        "argv": found.as_ref().ok().map(|words| argv(words, "")),
                    });
                    if let Err(why) = found {
                        assert!(why.contains("has neither ENTRYPOINT nor CMD"), "{row}: {why}");
                    }
                    rows.push(row.to_string());
                }
            }
        }
    }
    let text = format!("[\n{}\n]\n", rows.join(",\n"));
    let table = workspace().join("tests/injection/argv.json");
    if is_blessing() {
        fs::write(&table, &text).expect("the repository can be written");
    }
    let expected = fs::read_to_string(&table).expect("the table is there");
    assert!(
        text == expected,
        "{} differs: run `make bless`, and read the difference",
        table.display()
    );
    let rows: Value = serde_json::from_str(&text).expect("the table is JSON");
    let denied = rows.as_array().expect("a list").iter().filter(|row| row["argv"].is_null());
    // No words in the pod: 2 · 2 times, and none in the image: 3 · 2 times.
    assert_eq!(denied.count(), 24);
}

/// The rule, written down once more.
fn rule(command: &List, args: &List, image: &ImageConfig) -> Vec<String> {
    let words = |list: &List| list.clone().unwrap_or_default();
    let (mut command, mut args) = (words(command), words(args));
    let value = |name: &str| (name == NAME.0).then(|| NAME.1.to_owned());
    for word in command.iter_mut().chain(&mut args) {
        *word = expand(word, value);
    }
    if command.is_empty() {
        if args.is_empty() {
            args = words(&image.cmd);
        }
        if image.entrypoint != Some(vec![String::new()]) {
            command = words(&image.entrypoint);
        }
    }
    [command, args].concat()
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z$()]{0,8}", "\\PC{0,6}", "[$]{0,4}[(]NAME[)]", "[\\x00-\\x1f\"\\\\$]{0,4}"]
        .prop_filter("programs come from other tests", |word| !word.starts_with('/'))
}

fn words() -> impl Strategy<Value = List> {
    option::of(vec(word(), 0..4))
}

fn config() -> impl Strategy<Value = ImageConfig> {
    (words(), words()).prop_map(|(entrypoint, cmd)| ImageConfig { entrypoint, cmd })
}

proptest! {
    #[test]
    fn what_the_kubelet_makes_of_it_is_what_containerd_would_run(
        command in words(),
        args in words(),
        image in config(),
    ) {
        let expected = rule(&command, &args, &image);
        match arguments(&command, &args, Found::One(image)) {
            Ok(arguments) => prop_assert_eq!(argv(&arguments, ""), expected),
            Err(why) => prop_assert!(expected.is_empty(), "{}", why),
        }
    }

    #[test]
    fn each_platform_runs_its_own(args in words(), one in config(), other in config()) {
        let platforms = ["amd64", "arm64"].map(|name| Platform::new("linux", name, ""));
        let images = [one, other];
        let found = platforms.iter().cloned().zip(images.clone()).collect();
        let arguments = arguments(&None, &args, Found::PerPlatform(found));
        for (platform, image) in platforms.iter().zip(&images) {
            let expected = rule(&None, &args, image);
            match &arguments {
                Ok(arguments) => prop_assert_eq!(argv(arguments, &platform.to_string()), expected),
                Err(why) => prop_assert!(expected.is_empty(), "{}", why),
            }
        }
    }
}

#[test]
fn platforms_that_would_need_more_than_linux_passes_are_denied() {
    let long = |size: usize| ImageConfig { entrypoint: Some(vec!["x".repeat(size)]), cmd: None };
    let found = |size: usize| {
        let platforms = ["amd64", "arm64"].map(|name| Platform::new("linux", name, ""));
        Found::PerPlatform(platforms.into_iter().zip([long(size), long(1)]).collect())
    };
    let why = arguments(&None, &None, found(200_000)).expect_err("it is too long");
    assert!(why.contains("too long: write the command"), "{why}");
    assert!(arguments(&None, &None, found(100_000)).is_ok());
}

#[expect(clippy::disallowed_methods, reason = "`make bless` says it")]
fn is_blessing() -> bool {
    std::env::var_os("RELAY_BLESS").is_some()
}
