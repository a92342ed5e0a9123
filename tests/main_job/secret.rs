//! A secret in the environment of the command, which prints it.

use std::{fs, io::Read, path::Path, process::Command};

use relay_tests::lab::Lab;

const SECRET: &str = "tok-tok-SECRET1";

#[test]
fn a_secret_leaves_the_container_nowhere() {
    let lab = Lab::new();
    let script = "echo \"a $TOKEN b\"; printf 'tok-tok-'; sleep 0.3; echo 'tok-SECRET1 c'; echo \"$TOKEN\" >&2";
    let output = lab
        .entrypoint("secret")
        .env("TOKEN", SECRET)
        .args(["--mask-env", "TOKEN", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(lab.logs(&["secret", "--stream", "stdout"]), b"a *** b\ntok-*** c\n");
    assert_eq!(lab.logs(&["secret", "--stream", "stderr"]), b"***\n");
    let stored = everything_below(lab.folder.path());
    assert!(stored.iter().any(|file| contains(file, b"a *** b")), "the search itself works");
    for file in stored.iter().chain([&output.stdout, &output.stderr]) {
        assert!(!contains(file, SECRET.as_bytes()));
    }
}

/// The content of every file below a folder, segments decompressed.
fn everything_below(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything_below(&path));
        } else {
            let mut raw = Vec::new();
            fs::File::open(&path).unwrap().read_to_end(&mut raw).unwrap();
            found.push(raw);
            found.push(
                Command::new("zstd").args(["-dcq", "--"]).arg(&path).output().unwrap().stdout,
            );
        }
    }
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
