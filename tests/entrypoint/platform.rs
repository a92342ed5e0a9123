//! Commands that differ between platforms, and commands whose image was replaced.

use std::{fs, process::Command};

use relay_tests::{
    process::{Finished, Running, as_first_process, bare_entrypoint, entrypoint, first_process},
    program,
    service::taken_port,
};
use serde_json::json;

use crate::lab::Lab;

/// The platform of this machine, and one that it is not.
const PLATFORMS: [&str; 2] = if cfg!(target_arch = "aarch64") {
    ["linux/arm64", "linux/amd64"]
} else {
    ["linux/amd64", "linux/arm64"]
};

fn run(mut wrapper: Command, json: &serde_json::Value, rest: &[&str]) -> Finished {
    wrapper.args(["--platform-argv", &json.to_string()]).args(rest);
    Running::start(&mut wrapper).finish()
}

#[test]
fn the_words_of_this_platform_run_and_those_of_the_pod_follow_them() {
    let [here, there] = PLATFORMS;
    let script = r#"printf '%s|' "$0" "$@""#;
    let json = json!({ there: ["false"], here: ["sh", "-c", script, "$HOME \"a", ""] });
    for rest in [&["--", "b  $(X)", "--", "-c"][..], &["--"], &[]] {
        let finished = run(bare_entrypoint(), &json, rest);
        let rest = rest.iter().skip(1).fold(String::new(), |all, word| all + word + "|");
        assert_eq!(finished.stdout, format!("$HOME \"a||{rest}").as_bytes(), "{finished:?}");
        assert_eq!(finished.status.code(), Some(0));
    }
    for wrapper in [entrypoint, first_process] {
        let json = json!({ there: ["false"], here: ["sh", "-c"] });
        assert_eq!(run(wrapper(), &json, &["--", "exit 42"]).status.code(), Some(42));
        // An image may leave all to the pod.
        let json = json!({ there: ["false"], here: [] });
        assert_eq!(run(wrapper(), &json, &["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    }
}

#[test]
fn an_image_that_is_not_made_for_this_platform_is_127_and_one_sentence() {
    let [here, there] = PLATFORMS;
    for wrapper in [bare_entrypoint, entrypoint, first_process] {
        let finished =
            run(wrapper(), &json!({ there: ["true"], "linux/s390x": ["true"] }), &["--", "true"]);
        assert_eq!(finished.status.code(), Some(127), "{finished:?}");
        assert_eq!(
            finished.stderr,
            format!(
                "relay: failed to find the command in --platform-argv: the image has no command for {here}, only for {there}, linux/s390x\n"
            )
        );
    }
    for (json, said) in [
        (json!("true"), "is not an object with a list of words for each platform"),
        (json!({ here: ["a\0b"] }), "NUL"),
        (json!({ here: [] }), "there is no command to run"),
    ] {
        let finished = run(bare_entrypoint(), &json, &[]);
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}

/// A container's folder that lives as long as its pod.
fn with_folder(mut wrapper: Command, folder: &tempfile::TempDir) -> Command {
    wrapper.env("RELAY_RUN_DIR", folder.path());
    wrapper
}

#[test]
fn a_command_that_is_gone_after_it_ran_here_ends_well_and_leaves_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("program").display().to_string();
    let json = json!({ PLATFORMS[0]: [gone], PLATFORMS[1]: [gone] });
    // It lies on a volume, and its interpreter lay in the image.
    let script = folder.path().join("script");
    program::write(&script, b"#!/no/such/interpreter\n", 0o755);
    let script = script.display().to_string();
    for options in [
        &["--", &gone, "x"][..],
        &["--platform-argv", &json.to_string(), "--", "x"],
        &["--", &script],
    ] {
        for is_first in [false, true] {
            let (listener, address) = taken_port();
            listener.set_nonblocking(true).unwrap();
            let has_called = || {
                // All that have come.
                std::iter::from_fn(|| listener.accept().ok()).count() > 0
            };
            let start = |options: &[&str]| {
                let mut wrapper = with_folder(entrypoint(), &folder);
                wrapper.args(["--log-url", &format!("http://{address}"), "--flush-max", "1s"]);
                if is_first {
                    wrapper = as_first_process(&wrapper);
                }
                Running::start(wrapper.args(options)).finish()
            };
            let mark = folder.path().join("started");
            drop(fs::remove_file(&mark));
            // In a container that is new it is a mistake of the user's.
            let missing = start(options);
            assert_eq!(missing.status.code(), Some(127), "{missing:?}");
            assert!(!mark.exists());
            assert_eq!(start(&["--", "sh", "-c", "echo x; exit 3"]).status.code(), Some(3));
            assert!(has_called());
            let replaced = start(options);
            assert_eq!(replaced.status.code(), Some(0), "{replaced:?}");
            assert!(replaced.stderr.contains("another image has taken the place"), "{replaced:?}");
            assert_eq!(replaced.stderr.lines().count(), 1, "{replaced:?}");
            assert!(!has_called(), "there is nothing to keep");
            // What is there runs as ever.
            assert_eq!(start(&["--", "sh", "-c", "echo x; exit 4"]).status.code(), Some(4));
        }
    }
}

#[test]
fn without_the_folder_nothing_is_remembered_and_nothing_is_said() {
    let lab = Lab::new();
    for _ in 0..2 {
        let mut wrapper = lab.entrypoint();
        wrapper.env("RELAY_RUN_DIR", "/no/such/folder");
        let finished = Running::start(wrapper.args(["--", "true"])).finish();
        assert_eq!(finished.status.code(), Some(0));
        assert_eq!(finished.stderr.lines().count(), 1, "only where the log is: {finished:?}");
    }
    let mut wrapper = lab.entrypoint();
    wrapper.env("RELAY_RUN_DIR", "/no/such/folder");
    let finished = Running::start(wrapper.args(["--", "/no/such/program"])).finish();
    assert_eq!(finished.status.code(), Some(127));
}
