//! What readers see of lines and streams.

use relay_tests::lab::Lab;

#[test]
fn a_line_without_its_newline_is_not_lost_at_the_end() {
    let lab = Lab::new();
    assert!(lab.run("prompt", &[], "printf 'one\\ntwo'").status.success());
    assert_eq!(lab.logs(&["prompt"]), b"one\ntwo");
}

#[test]
fn both_streams_are_read_in_the_order_in_which_they_were_written() {
    let lab = Lab::new();
    let script = "echo 1; sleep 0.05; echo 2 >&2; sleep 0.05; echo 3; sleep 0.05; echo 4 >&2";
    assert!(lab.run("both", &[], script).status.success());
    assert_eq!(lab.logs(&["both"]), b"1\n2\n3\n4\n");
    assert_eq!(lab.logs(&["both", "--stream", "stderr"]), b"2\n4\n");
    assert_eq!(lab.logs(&["both", "--tail", "2"]), b"3\n4\n");
}

#[test]
fn the_ends_of_the_streams_stand_behind_the_lines_of_all_of_them() {
    let lab = Lab::new();
    let output = lab.run("ends", &[], "echo out; sleep 0.05; echo err >&2; exit 3");
    assert_eq!(output.status.code(), Some(3));
    let records = String::from_utf8(lab.logs(&["ends", "-o", "json"])).unwrap();
    let kinds: Vec<&str> = records
        .lines()
        .map(|record| match record {
            record if record.contains(r#""text":"out\n""#) => "out",
            record if record.contains(r#""text":"err\n""#) => "err",
            record if record.contains(r#""marker":{"kind":"end","reason":"eof","exit":3}"#) => {
                "end"
            }
            other => other,
        })
        .collect();
    assert_eq!(kinds, ["out", "err", "end", "end"]);
}
