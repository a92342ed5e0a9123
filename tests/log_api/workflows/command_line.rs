//! The whole way: the entrypoint says which part of a workflow its output belongs to, and `relay logs`
//! reads it.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use relay_tests::{process::bare_entrypoint, program::program, service::Service};

fn run(service: &Service, pod: &str, variables: &[(&str, &str)], script: &str) -> String {
    let mut command = bare_entrypoint();
    command.env("RELAY_LOG_URL", service.url()).env("RELAY_POD", pod);
    command.envs(variables.iter().copied()).args(["--", "sh", "-c", script]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn relay(service: &Service, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("relay"));
    command.arg("--log-url").arg(service.url()).arg("logs").args(arguments);
    for name in ["RELAY_NAMESPACE", "RELAY_TOKEN_FILE", "RELAY_CA_FILE"] {
        command.env_remove(name);
    }
    command
}

fn logs(service: &Service, arguments: &[&str]) -> (bool, String, String) {
    let output = relay(service, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_containers_of_a_step_print_is_read_by_the_name_of_the_step() {
    let service = Service::in_memory();
    let step = [("RELAY_WORKFLOW", "deploy"), ("RELAY_RUN", "7"), ("RELAY_STEP", "build")];
    run(&service, "a", &step, "echo from a");
    run(
        &service,
        "b",
        &step,
        "echo from b; printenv | grep -E '^RELAY_(WORKFLOW|RUN|STEP)' || true",
    );
    run(&service, "c", &[], "echo from c");
    let names = ["--workflow", "deploy", "--run", "7", "--step", "build"];
    let (is_good, stdout, stderr) = logs(&service, &names);
    assert_eq!((is_good, stdout.as_str()), (true, "from a\nfrom b\n"), "{stderr}");
    // A step that is over is followed to its end.
    let (is_good, stdout, _) = logs(&service, &[&names[..], &["-f"]].concat());
    assert_eq!((is_good, stdout.as_str()), (true, "from a\nfrom b\n"));
    let (is_good, stdout, _) =
        logs(&service, &[&names[..], &["-o", "json", "--tail", "1"]].concat());
    assert!(is_good && stdout.contains(r#"{"pod":"b","container":"main""#), "{stdout}");
    let other = ["--workflow", "deploy", "--run", "8", "--step", "build"];
    let (is_good, _, stderr) = logs(&service, &other);
    let expected = "relay: no log of step build of run 8 of workflow deploy in namespace local\n";
    assert_eq!((is_good, stderr.as_str()), (false, expected));
}

#[test]
fn a_trigger_is_followed_over_the_ends_of_its_pods_and_of_the_service() {
    let mut service = Service::with(&["--store", "memory:"]);
    let trigger = [("RELAY_WORKFLOW", "deploy"), ("RELAY_TRIGGER", "push")];
    let mut follower = relay(&service, &["-f", "--workflow", "deploy", "--trigger", "push"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for pod in ["a", "b"] {
        run(&service, pod, &trigger, &format!("echo from {pod}"));
        assert_eq!(lines.next().unwrap().unwrap(), format!("from {pod}"));
    }
    // Its memory is gone with it; a follower comes back all the same.
    service.kill_9();
    service.restart();
    run(&service, "c", &trigger, "echo from c");
    assert_eq!(lines.next().unwrap().unwrap(), "from c");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let rest = lines.map(Result::unwrap).count();
    assert_eq!(rest, 0);
}

#[test]
fn what_is_no_part_of_a_workflow_is_told_and_keeps_nothing_from_running() {
    let service = Service::in_memory();
    for (variables, why) in [
        (&[("RELAY_WORKFLOW", "a b"), ("RELAY_RUN", "7")][..], "is not a workflow name"),
        (&[("RELAY_RUN", "7")], "belong to a workflow"),
    ] {
        let told = run(&service, "a", variables, "echo kept");
        assert!(
            told.contains("output is kept without its workflow: ") && told.contains(why),
            "{told}"
        );
        let (_, stdout, _) = logs(&service, &["a", "--tail", "1"]);
        assert_eq!(stdout, "kept\n");
    }
}
