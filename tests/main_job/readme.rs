//! The commands of README.md, run as they stand there.

use std::{fs, net::TcpListener, os::unix::fs::symlink, process::Command};

use relay_tests::{program::program, program::workspace};

/// Commands of all fenced blocks: lines that a person would paste.
fn commands(readme: &str) -> Vec<&str> {
    let starts = ["bin/", "export ", "curl ", "mkdir "];
    readme.lines().filter(|line| starts.iter().any(|start| line.starts_with(start))).collect()
}

#[test]
fn its_commands_work_in_the_order_in_which_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    for name in ["entrypoint", "relay-log-service", "relay"] {
        symlink(program(name), folder.path().join("bin").join(name)).unwrap();
    }
    fs::write(folder.path().join("Makefile"), "deploy:\n\t@echo deployed with $$DEPLOY_TOKEN\n")
        .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 9, "{commands:?}");
    let script = commands
        .join("\n")
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
        .replace("file:///var/lib/relay", &format!("file://{}/logs", folder.path().display()))
        .replace("--auth none", "--auth none & trap 'kill %1' EXIT\nuntil curl -sf http://127.0.0.1:PORT/readyz; do sleep 0.1; done")
        .replace("PORT/", &format!("{port}/"));
    let output = Command::new("bash")
        .args(["-euxc", &script])
        .env("DEPLOY_TOKEN", "a-long-secret")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8_lossy(&output.stdout);
    // Followed, of the step, and curl; the tail of stderr is empty: the line is there three times, masked.
    assert_eq!(text.matches("deployed with ***\n").count(), 3, "{text}\n{told}");
    assert!(text.contains("build-7"), "relay ls names the pod: {text}");
    assert!(fs::read_to_string(folder.path().join("read.token")).unwrap().starts_with("relay_"));
}
