//! `make demo` as a newcomer sees it.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    time::Duration,
};

use relay_tests::{program::workspace, wait::eventually};

/// The demo builds into a fixed folder of the checkout: one at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn demo() -> Command {
    let mut command = Command::new("scripts/demo");
    command.current_dir(workspace()).stdin(Stdio::null());
    command
}

/// Names of the processes in the session of `leader`.
fn running_in_session(leader: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| {
            let (name, fields) = stat.rsplit_once(") ")?;
            let session = fields.split(' ').nth(3)?;
            (session == leader).then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn it_follows_a_masked_build_and_ends_by_itself() {
    let _guard = ONE_AT_A_TIME.lock();
    let output = demo().output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("deploying with the token ***\n"), "{text}");
    assert!(text.contains("Running `"), "the verbose lines of cargo are followed: {text}");
    assert!(text.contains("ended with status 7"), "{text}");
}

#[test]
fn ctrl_c_ends_all_of_it() {
    let _guard = ONE_AT_A_TIME.lock();
    // `setsid` becomes the leader of a session of its own, so that the signal reaches just what a
    // terminal's would.
    let mut demo = Command::new("setsid")
        .arg("scripts/demo")
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = demo.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&text).contains("deploying with the token") {
        let read = output.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "the demo ended early: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..read]);
    }
    let leader = &demo.id().to_string();
    assert!(running_in_session(leader).len() > 3, "the search itself works");
    let signal = Command::new("kill").args(["-INT", "--", &format!("-{leader}")]).status().unwrap();
    assert!(signal.success());
    demo.wait().unwrap();
    eventually(Duration::from_secs(15), "nothing of it runs any more", || {
        running_in_session(leader).is_empty()
    });
}
