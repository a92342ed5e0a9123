//! What the tests' own tools do for whoever runs them.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use relay_tests::{
    cluster::{Cluster, namespace::Namespace},
    program,
};

use crate::manifest::{end, script};

/// The name of a test that makes a namespace.
const OTHER: &str = "a_pod_runs_an_image_that_a_test_has_made_and_loaded";

#[test]
fn the_report_of_a_failed_test_has_pods_events_and_logs() {
    let namespace = Namespace::new("report");
    namespace.apply(&script("talker", "echo spoken words").to_string());
    assert_eq!(end(&namespace, "talker").0, "0");
    let report = namespace.report();
    for part in ["pod/talker", "Successfully assigned", "] spoken words"] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

#[test]
fn a_namespace_that_is_to_be_kept_outlives_its_test() {
    let itself = std::env::current_exe().expect("this program");
    let mut test = Command::new(itself);
    test.args(["--exact", OTHER, "--nocapture"]).env("RELAY_KEEP", "1");
    test.env("RELAY_TEST_KUBECONFIG", Cluster::get().kubeconfig());
    let ended = test.output().expect("it can be started");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let kept =
        said.lines().find_map(|line| line.strip_prefix("namespace ")?.strip_suffix(" is kept"));
    let kept = kept.expect("its name is said");
    Cluster::get().ask(&["get", "pod", "pod", "--namespace", kept]).expect("it is there");
    Cluster::get().ask(&["delete", "namespace", kept, "--wait=false"]).expect("it can be removed");
}

#[test]
fn without_root_the_driver_says_so_in_one_line_and_succeeds() {
    // Where it was built, others may not look.
    let folder = tempfile::tempdir().expect("a folder for the program");
    let everyone = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), everyone).expect("the folder is ours");
    let program = folder.path().join("relay-cluster");
    program::copy(env!("CARGO_BIN_EXE_relay-cluster").as_ref(), &program);
    let mut driver = Command::new("setpriv");
    driver.args(["--reuid=65534", "--clear-groups", "--"]).arg(program);
    let driver = driver.args(["run", "false"]).env_remove("RELAY_TEST_KUBECONFIG").output();
    let driver = driver.expect("setpriv is installed");
    let said = String::from_utf8_lossy(&driver.stderr);
    let reason = "cluster tests do not run here: a node needs root, for its namespaces and mounts, or set RELAY_TEST_KUBECONFIG\n";
    assert_eq!((driver.status.code(), &*said), (Some(0), reason));
}
