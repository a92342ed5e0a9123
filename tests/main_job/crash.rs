//! The log service is killed while it takes in a log.

use std::{fs, time::Duration};

use relay_tests::{program::is_long_run, wait::eventually};

use relay_tests::lab::Lab;

/// Bytes of output during which the service is killed: 1 GiB in the long run.
fn output_bytes() -> u64 {
    if is_long_run() { 1 << 30 } else { 192 << 20 }
}

#[test]
fn kill_9_of_the_service_in_the_middle_leaves_the_log_byte_exact() {
    let mut lab = Lab::new();
    let copy = lab.folder.path().join("copy");
    // Incompressible, so that what lies in the store grows with what was taken in.
    let script = format!("head -c {} /dev/urandom | tee {}", output_bytes(), copy.display());
    let mut program = lab.entrypoint("crash").args(["--", "sh", "-c", &script]).spawn().unwrap();
    for share in [5, 2] {
        let taken_in = output_bytes() / share;
        let store = lab.folder.path().join("logs");
        eventually(Duration::from_mins(2), "the store grows", || size(&store) > taken_in);
        lab.service.kill_9();
        lab.service.restart();
    }
    assert!(program.wait().unwrap().success());
    let logged = lab.folder.path().join("logged");
    let status = lab
        .relay()
        .args(["logs", "crash", "--stream", "stdout", "-o", "raw"])
        .stdout(fs::File::create(&logged).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::metadata(&logged).unwrap().len(), output_bytes());
    let equal = std::process::Command::new("cmp").arg(&logged).arg(&copy).status().unwrap();
    assert!(equal.success());
}

/// Bytes in all files below a folder; files may vanish meanwhile.
fn size(folder: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
