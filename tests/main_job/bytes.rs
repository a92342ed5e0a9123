//! Byte for byte.

use std::fs;

use relay_tests::lab::Lab;

#[test]
fn random_bytes_of_both_streams_come_back_equal() {
    let lab = Lab::new();
    let folder = lab.folder.path().display();
    let script = format!(
        "(head -c 8000000 /dev/urandom | tee {folder}/out) &
         (head -c 6000001 /dev/urandom | tee {folder}/err) >&2 &
         wait"
    );
    assert!(lab.run("random", &[], &script).status.success());
    for (stream, copy) in [("stdout", "out"), ("stderr", "err")] {
        let logged = lab.logs(&["random", "--stream", stream, "-o", "raw"]);
        let printed = fs::read(lab.folder.path().join(copy)).unwrap();
        assert!(!printed.is_empty());
        assert!(logged == printed, "{stream}: {} bytes of {}", logged.len(), printed.len());
    }
}

#[test]
fn a_line_of_many_megabytes_is_one_line() {
    let lab = Lab::new();
    assert!(
        lab.run("long", &[], "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end")
            .status
            .success()
    );
    let logged = lab.logs(&["long"]);
    assert_eq!(logged.len(), 5_000_005);
    assert!(logged.ends_with(b"x\nend\n"));
    assert_eq!(lab.logs(&["long", "--tail", "1"]), b"end\n");
}

#[test]
fn no_output_at_all_is_an_empty_log_that_has_ended() {
    let lab = Lab::new();
    assert!(lab.run("silent", &[], "exit 0").status.success());
    assert_eq!(lab.logs(&["-f", "silent"]), b"");
}
