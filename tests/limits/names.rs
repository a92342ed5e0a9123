//! Names that want to be paths.

use relay_tests::service::refused;
use serde_json::json;

use super::lab::Lab;

/// Names as JSON has them. None may become a file, in the store's folder or beside it.
fn tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "",
        ".",
        "..",
        "../x",
        "..\\x",
        "a/b",
        "/",
        "/etc/passwd",
        "a\\b",
        "\\",
        "%2f",
        "..%2f",
        "%2e%2e",
        "%2e%2e%2fx",
        "%00",
        "a%00b",
        "a\0b",
        "\0",
        "a\nb",
        "a\n",
        "\r\n",
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "~",
        "~root",
        "$HOME",
        "`id`",
        "a b",
        " ",
        "a:b",
        "C:",
        "A",
        "é",
        "名",
        "a\u{202e}b",
        "\u{feff}a",
        "a\u{301}",
        "𝕒",
        "a#1",
        "a?b",
        "a*",
        "\"",
        "'",
        "a&b",
        "a=b",
        "a;b",
        "a,b",
        "{a}",
        "\u{7f}",
        "\t",
    ]
    .map(str::to_owned)
    .into();
    tricks.extend([64, 300, 70_000].map(|length| "a".repeat(length)));
    tricks
}

/// Paths as they stand in a request line, where nothing was decoded yet.
fn path_tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "..",
        ".",
        "%2e%2e",
        "%2E.",
        "..%2f..",
        "..%5c..",
        "%2f",
        "%2fetc%2fpasswd",
        "a%2fb",
        "a%00",
        "%00",
        "a%0ab",
        "%0d%0a",
        "%c0%ae%c0%ae",
        "%c0%af",
        "%e0%80%ae",
        "%f8%80%80%80%ae",
        "%ff",
        "%ed%a0%80",
        "%",
        "%2",
        "%zz",
        "%u002e",
        "%252e%252e",
        "-a",
        "a-",
        "A",
        "%C3%A9",
        "a%20b",
        "a+b",
        "~",
        "a;b",
        "*",
        "a:b",
    ]
    .map(str::to_owned)
    .into();
    tricks.extend([64, 300].map(|length| "a".repeat(length)));
    tricks
}

#[test]
fn names_in_bodies_never_leave_their_folder_and_refusals_name_them() {
    let lab = Lab::new();
    lab.stream("p");
    let tree = lab.tree();
    for (field, what) in [
        ("namespace", "namespace"),
        ("pod", "pod"),
        ("container", "container"),
        ("name", "stream"),
        ("instance", "instance"),
        ("podUid", "pod uid"),
    ] {
        for trick in tricks() {
            let mut body = json!({ "name": "stdout" });
            body[field] = json!(trick);
            let answer = lab.create(&body);
            if answer.status == 200 {
                // The name of a stream is a part of a file's name, so its dots lead nowhere.
                let dots = field == "name"
                    && trick.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
                assert!(dots || is_dull(&trick), "{field} {trick:?} was taken");
                continue;
            }
            let wanted = if trick.len() > 60_000 { 413 } else { 422 };
            assert_eq!(answer.status, wanted, "{field} {trick:?}");
            let problem = answer.problem();
            assert!(
                wanted == 413 || problem.to_lowercase().contains(what),
                "{field} {trick:?}: {problem}"
            );
            assert!(problem.len() < 400, "{problem}");
        }
    }
    // What was taken stands beside the first, at the same places.
    let depth = |tree: &std::collections::BTreeSet<String>| {
        tree.iter().map(|name| name.matches('/').count()).max()
    };
    let after = lab.tree();
    assert_eq!(depth(&after), depth(&tree));
    assert!(after.iter().all(|name| name.starts_with("/store")), "{after:?}");
    assert_eq!(lab.connect().request("GET /livez HTTP/1.1", b"").status, 200);
}

/// Made of what file systems, shells and logs take for letters.
fn is_dull(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=128).contains(&name.len())
        && name.bytes().all(letter)
        && !name.contains("..")
        && name != "."
}

#[test]
fn names_in_paths_never_leave_their_folder() {
    let lab = Lab::new();
    let stream = lab.stream("p");
    assert_eq!(stream.patch(0, b"kept\n"), 202);
    lab.settle();
    let tree = lab.tree();
    for trick in path_tricks() {
        for (path, method) in [
            (format!("/api/namespaces/{trick}/pods"), "GET"),
            (format!("/api/namespaces/{trick}/pods/p/logs"), "GET"),
            (format!("/api/namespaces/{trick}/pods/p/logs?follow=true"), "GET"),
            (format!("/api/namespaces/local/pods/{trick}"), "GET"),
            (format!("/api/namespaces/local/pods/{trick}/logs"), "GET"),
            (format!("/api/namespaces/local/pods/{trick}/logs"), "HEAD"),
            (format!("/logs/{trick}/data"), "PATCH"),
            (format!("/logs/{trick}/markers"), "POST"),
            (format!("/logs/{trick}/end"), "POST"),
            (format!("/{trick}"), "GET"),
        ] {
            let mut connection = lab.connect();
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: 0\r\n\r\n");
            connection.send(request.as_bytes());
            if method == "HEAD" {
                continue;
            }
            let status = connection.answer().map_or(0, |answer| answer.status);
            let empty = status == 200 && is_dull(&trick) && path.ends_with("/pods");
            assert!((400..500).contains(&status) || empty, "{method} {path}: {status}");
        }
        for parameter in ["container", "stream", "instance"] {
            let path = format!("/api/namespaces/local/pods/p/logs?{parameter}={trick}");
            let status = lab.get(&path).status;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
    assert_eq!(lab.tree(), tree);
    assert_eq!(lab.get("/api/namespaces/local/pods/p/logs").body, b"kept\n");
}

#[test]
fn bytes_that_are_no_text_are_refused_in_every_place() {
    let lab = Lab::new();
    for body in [
        &b"{\"name\":\"\xc0\xae\xc0\xae\"}"[..],
        b"{\"name\":\"\xff\"}",
        b"{\"name\":\"stdout\",\"pod\":\"\xed\xa0\x80\"}",
        b"{\"name\":\"stdout\",\"pod\":\"\\ud800\"}",
        b"\xef\xbb\xbf{\"name\":\"stdout\"}",
    ] {
        let head = "POST /logs HTTP/1.1\r\ncontent-type: application/json";
        let status = lab.connect().request(head, body).status;
        assert!(matches!(status, 400 | 422), "{body:?}: {status}");
    }
    let tree = lab.tree();
    assert!(tree.iter().all(|name| !name.starts_with("/store/i/")), "{tree:?}");
}

#[test]
fn keys_with_other_names_are_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("1.key"), [7; 32]).unwrap();
    for name in [
        "..key",
        "1.key.bak",
        "256.key",
        "-1.key",
        "01.key",
        "+1.key",
        "a.key",
        "1 .key",
        ".key",
        "１.key",
    ] {
        std::fs::write(folder.path().join(name), [7; 32]).unwrap();
    }
    std::fs::write(folder.path().join("sign"), "../1").unwrap();
    let flags =
        ["--store", "memory:", "--listen", "127.0.0.1:0", "--auth", "hmac", "--key-dir", path];
    let (status, problem) = refused(&flags);
    assert_eq!(status, Some(1), "{problem}");
    assert!(problem.contains("key"), "{problem}");
}
