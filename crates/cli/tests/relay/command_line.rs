//! What needs no log: tokens, wrong arguments, a service that is not there.

use std::{fs, net::TcpListener, os::unix::fs::symlink, process::Command, time::SystemTime};

use relay_protocol::capability::{Access, KeyId, KeyRing, TokenClaim};

use crate::{
    peer::{Peer, json, problem},
    relay, run,
};

fn mint(folder: &tempfile::TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(relay().args(["token", "mint", "--key-dir"]).arg(folder.path()).args(arguments))
}

#[test]
fn a_minted_token_is_all_that_is_printed_and_holds_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("3.key"), [7; 32]).unwrap();
    let keys = KeyRing::new(KeyId(3), vec![7; 32]).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (pod, uid) = ("web-0".parse().unwrap(), "u-1".parse().unwrap());
    for (arguments, access, life) in [
        (&["-n", "team", "--read"][..], Access::Read(None), 3_600),
        (
            &["-n", "team", "--write", "--pod", "web-0", "--pod-uid", "u-1", "--ttl", "90s"],
            Access::Write(pod, Some(uid)),
            90,
        ),
    ] {
        let (status, token, stderr) = mint(&folder, arguments);
        assert_eq!((status, stderr.as_str()), (Some(0), ""));
        let claim = TokenClaim::verify(token.strip_suffix('\n').unwrap(), &keys, now).unwrap();
        assert_eq!((claim.namespace.as_str(), claim.access), ("team", access));
        assert!((now + life..now + life + 60).contains(&claim.expires), "{}", claim.expires);
    }
}

#[test]
fn a_folder_without_a_key_says_how_to_make_one_and_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let (status, stdout, stderr) = mint(&folder, &["--read"]);
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    let command = stderr.split('`').nth(1).expect(&stderr);
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    assert_eq!(mint(&folder, &["--read"]).0, Some(0));
}

#[test]
fn wrong_arguments_are_one_status_and_say_what_is_wrong() {
    for (arguments, message) in [
        (&["logs"][..], "<POD>"),
        (&["logs", "p", "-o", "raw"], "--stream"),
        (&["logs", "p", "--log-url", "http://example.com"], "in the clear"),
        (&["token", "mint", "--key-dir", "d", "--write"], "--write needs --pod"),
        (&["lgos"], "logs"),
    ] {
        let (status, stdout, stderr) = run(relay().args(arguments));
        assert_eq!((status, stdout.as_str()), (Some(2), ""));
        assert!(stderr.contains(message), "{stderr}");
    }
}

#[test]
fn a_service_that_is_not_there_is_named_with_the_remedy() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    for arguments in [&["logs", "-f", "p"][..], &["ls"]] {
        let (status, _, stderr) = run(relay().args(arguments).args(["--log-url", &url]));
        assert_eq!(status, Some(1));
        let expected = format!(
            "relay: cannot connect to the log service at {url}: Connection refused (os error 111). Start it there, or give its address with --log-url or RELAY_LOG_URL\n"
        );
        assert_eq!(stderr, expected);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (flag, message) in [
        ("--token-file", "is not a file with a token"),
        ("--ca-file", "is not a file with certificates"),
    ] {
        let command =
            |path| run(relay().args(["ls", "--log-url", "https://127.0.0.1:9", flag]).arg(path));
        let (status, _, stderr) = command(&file);
        assert_eq!(status, Some(1));
        assert!(stderr.contains(message), "{stderr}");
        let (_, _, stderr) = command(&folder.path().join("none"));
        assert!(stderr.contains("/none: No such file"), "{stderr}");
    }
}

#[test]
fn pods_are_listed_with_the_token_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "relay_abc\n").unwrap();
    let body = r#"{"pods":[{"namespace":"local","pod":"build-7","streams":[]}]}"#;
    let peer = Peer::start(json(body), vec![]);
    let list = |arguments: &[&str]| {
        run(relay()
            .args(["ls", "--log-url", &peer.url])
            .args(arguments)
            .arg("--token-file")
            .arg(&token))
    };
    let (status, stdout, _) = list(&[]);
    assert!(status == Some(0) && stdout.contains("\nbuild-7 "), "{stdout}");
    assert_eq!(list(&["-o", "json"]).1, format!("{body}\n"));
    assert_eq!(
        peer.asked().iter().map(|asked| asked.header("authorization")).collect::<Vec<_>>(),
        [Some("bearer relay_abc"); 2]
    );
    let peer = Peer::start(problem(404, "no"), vec![]);
    let (status, _, stderr) = run(relay().args(["ls", "--log-url", &peer.url, "web-0"]));
    assert_eq!(status, Some(1));
    assert!(stderr.starts_with("relay: no log of pod web-0 in namespace local"), "{stderr}");
}

#[test]
fn as_a_plugin_of_kubectl_it_works_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-relay");
    symlink(env!("CARGO_BIN_EXE_relay"), &plugin).unwrap();
    let (status, stdout, _) = run(Command::new(&plugin).args(["logs", "--help"]));
    assert_eq!(status, Some(0));
    assert!(stdout.contains("Usage: kubectl relay logs"), "{stdout}");
}
