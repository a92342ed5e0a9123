//! The tools come to a volume by the entrypoint itself.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use relay_tests::{
    process::{Finished, Running, bare_entrypoint},
    program::program,
};

fn install(words: &[&str], folder: &Path) -> Finished {
    Running::start(bare_entrypoint().arg("install").args(words).arg(folder)).finish()
}

fn refused(words: &[&str], folder: &Path) -> String {
    let finished = install(words, folder);
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stdout.is_empty(), "{finished:?}");
    finished.stderr
}

#[test]
fn what_was_installed_is_verified_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(&["--verify"], folder.path()).contains("lib/entrypoint"));
    for words in [&[][..], &[], &["--verify"]] {
        let finished = install(words, folder.path());
        assert!(finished.status.success(), "{finished:?}");
    }
    let installed = folder.path().join("lib/entrypoint");
    assert_eq!(fs::read(&installed).unwrap(), fs::read(program("entrypoint")).unwrap());
    let ran = Running::start(Command::new(&installed).args(["--", "echo", "here"])).finish();
    assert_eq!(ran.stdout, b"here\n");
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "entrypoint.sha256"])
        .current_dir(folder.path().join("lib"))
        .output();
    assert!(checked.unwrap().status.success());
}

#[test]
fn a_program_that_is_there_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lib")).unwrap();
    let there = folder.path().join("lib/entrypoint");
    fs::write(&there, "another").unwrap();
    for words in [&[][..], &["--verify"]] {
        let error = refused(words, folder.path());
        assert!(error.contains("another program") && error.contains("sha256"), "{error}");
    }
    assert_eq!(fs::read(&there).unwrap(), b"another");
}

#[test]
fn verification_finds_what_pods_would_stumble_over() {
    let folder = tempfile::tempdir().unwrap();
    let lib = folder.path().join("lib");
    assert!(install(&[], folder.path()).status.success());
    fs::set_permissions(lib.join("entrypoint"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(refused(&["--verify"], folder.path()).contains("may not be run by everyone"));
    fs::remove_file(lib.join("entrypoint.sha256")).unwrap();
    // To install again mends both.
    assert!(install(&[], folder.path()).status.success());
    assert!(install(&["--verify"], folder.path()).status.success());
    fs::write(lib.join("entrypoint.sha256"), "0").unwrap();
    assert!(refused(&["--verify"], folder.path()).contains("checksum"));
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let error = refused(&[], Path::new("/proc/nowhere"));
    assert!(error.contains("failed to make the folder /proc/nowhere/lib"), "{error}");
}

#[test]
fn a_umask_does_not_lock_anybody_out() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("umask 077; exec \"$0\" install {}", folder.path().display());
    let mut shell = Command::new("sh");
    let finished = Running::start(shell.args(["-c", &script]).arg(program("entrypoint"))).finish();
    assert!(finished.status.success(), "{finished:?}");
    for name in ["lib", "lib/entrypoint", "lib/entrypoint.sha256"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o555, 0o555, "{name}: {mode:o}");
    }
}
