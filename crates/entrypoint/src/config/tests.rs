use std::{ffi::CString, time::Duration};

use proptest::prelude::*;
use relay_protocol::{context::ContextFields, name::PodName};

use super::{Config, Copying, Plan, pod_name, read};
use crate::environment::Environment;

const URL: &str = "RELAY_LOG_URL=http://localhost:1";

fn plan(options: &str, variables: &[&str]) -> Result<Plan, String> {
    let text = |text: &str| CString::new(text).unwrap();
    let words = format!("entrypoint {options} -- true");
    let arguments: Vec<_> = words.split_whitespace().map(text).collect();
    let environment = Environment::new(variables.iter().map(|entry| text(entry)).collect());
    read(&arguments, &environment).map_err(|error| crate::sentence(&error))
}

fn config(options: &str, variables: &[&str]) -> Config {
    match plan(options, variables) {
        Ok(Plan::Keep(_, config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_url_it_becomes_the_command() {
    for (options, variables) in [("--tee", &[][..]), ("", &["RELAY_LOG_URL="])] {
        let Ok(Plan::Become(command)) = plan(options, variables) else { panic!("{options}") };
        assert_eq!(command, [c"true".to_owned()]);
    }
}

#[test]
fn options_win_over_variables() {
    let variables = [URL, "RELAY_BLOCK_MAX=1s", "RELAY_FLUSH_MAX=2s", "RELAY_TOKEN_FILE=/a"];
    let config = config("--block-max 0 --token-file=/b --tee", &variables);
    assert_eq!(config.settings.block_max, Duration::ZERO);
    assert_eq!(config.flush_max, Duration::from_secs(2));
    assert_eq!(config.settings.token_file, Some("/b".into()));
    assert_eq!(config.copying, Copying::Tee);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config("", &[URL, "RELAY_POD=web-0", "RELAY_BLOCK_MAX="]);
    assert_eq!(config.settings.namespace.as_str(), "local");
    assert_eq!(config.settings.container.as_str(), "main");
    assert_eq!(config.settings.pod.as_str(), "web-0");
    assert_eq!(config.settings.block_max, Duration::from_mins(1));
    assert_eq!(config.flush_max, Duration::from_secs(5));
    assert_eq!(config.grace, Duration::from_secs(30));
    assert_eq!(config.settings.ring_bytes, 8 << 20);
    assert_eq!(config.termination_log.to_str(), Some("/dev/termination-log"));
    assert_eq!(config.run_dir.to_str(), Some("/relay-run"));
}

#[test]
fn the_part_of_a_workflow_is_as_the_variables_say_and_a_wrong_one_is_told_and_left_out() {
    let context = |variables: &[&str]| {
        let config = config("", &[&[URL, "RELAY_CONTAINER=build"], variables].concat());
        let trouble = config.trouble.map(|trouble| crate::sentence(&trouble)).unwrap_or_default();
        let ContextFields { workflow, trigger, run, step } = config.settings.context;
        let part = trigger.map(|trigger| trigger.to_string()).or_else(|| {
            let (run, step) = (run?, step?);
            Some(format!("{run}/{step}"))
        });
        let workflow = workflow.map(|workflow| workflow.to_string());
        (workflow.into_iter().chain(part).collect::<Vec<_>>().join(" "), trouble)
    };
    let right = |text: &str| (text.to_owned(), String::new());
    assert_eq!(context(&[]), right(""));
    assert_eq!(context(&["RELAY_WORKFLOW=", "RELAY_RUN="]), right(""));
    let trigger = context(&["RELAY_WORKFLOW=deploy", "RELAY_TRIGGER=push"]);
    assert_eq!(trigger, right("deploy push"));
    let step = context(&["RELAY_WORKFLOW=deploy", "RELAY_RUN=7"]);
    assert_eq!(step, right("deploy 7/build"));
    for (variables, why) in [
        (&["RELAY_RUN=7"][..], "belong to a workflow"),
        (&["RELAY_WORKFLOW=a b", "RELAY_RUN=7"], "RELAY_WORKFLOW: \"a b\" is not a workflow name"),
        (&["RELAY_WORKFLOW=a", "RELAY_RUN=7", "RELAY_TRIGGER=t"], "leave one out"),
    ] {
        let (context, trouble) = context(variables);
        assert_eq!(context, "");
        assert!(trouble.contains(why), "{trouble}");
    }
}

#[test]
fn a_relative_file_is_that_of_the_folder_at_the_start() {
    let config = config("--token-file t", &[URL]);
    assert_eq!(config.settings.token_file, Some(std::env::current_dir().unwrap().join("t")));
}

#[test]
fn wrong_values_are_refused_and_named() {
    for (options, variable, named) in [
        ("--log-url ftp://x", "A=", "--log-url"),
        ("--log-url http://example.com", "A=", "--log-url"),
        ("--log-url https://example.com", "A=", "--ca-file"),
        (
            "--flush-max 31s",
            URL,
            "RELAY_FLUSH_MAX (--flush-max) is too long with 31s: use at most 30 s",
        ),
        ("--block-max 5", URL, "RELAY_BLOCK_MAX (--block-max): \"5\" is not a duration"),
        ("--tea", URL, "options"),
    ] {
        let error = plan(options, &[variable]).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    for variable in ["RELAY_GRACE=x", "RELAY_POD=A", "RELAY_NAMESPACE=a.b", "RELAY_CONTAINER=-"] {
        let name = variable.split('=').next().unwrap();
        let error = plan("", &[URL, variable]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_hosts_name_becomes_a_pods() {
    assert_eq!(pod_name(b"Build_Host.Example.COM"), "build-host.example.com");
    assert_eq!(pod_name(b"-a-"), "a");
    assert_eq!(pod_name(b"\xff.."), "unnamed");
}

proptest! {
    #[test]
    fn every_hosts_name_becomes_a_valid_one(host in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(pod_name(&host).parse::<PodName>().is_ok());
    }
}
