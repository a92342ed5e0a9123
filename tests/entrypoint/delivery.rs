//! What the real log service has of a command's output after all that can happen on the way.

mod busy;
mod proxy;

use std::{fs, time::Duration};

use relay_protocol::{read::Marker, write::EndReason};
use relay_tests::{
    process::{Notes, Running, bare_entrypoint},
    service::Service,
    wait::eventually,
};

use crate::lab::{Lab, numbers, send_to};
use busy::BusyService;
use proxy::Proxy;

/// Five parts of 100,000 lines, each noted and followed by a pause.
fn five_parts(notes: &Notes) -> String {
    format!(
        "for i in 1 2 3 4 5; do seq ${{i}}00000 ${{i}}99999; echo part $i. >> {}; sleep 0.2; done",
        notes.path().display()
    )
}

/// Keeps a script waiting for [`go`].
fn wait_for_go(notes: &Notes) -> String {
    format!("while ! grep -q go {}; do sleep 0.02; done", notes.path().display())
}

fn go(notes: &Notes) {
    fs::write(notes.path(), "go\n").expect("the notes can be written");
}

#[test]
fn a_service_that_is_killed_and_started_again_has_every_byte_once() {
    let mut lab = Lab::new();
    let notes = Notes::new();
    let running = lab.start(&[], &five_parts(&notes));
    for part in ["part 2.", "part 4."] {
        notes.wait_for(part);
        lab.service.kill_9();
        lab.service.restart();
    }
    assert_eq!(running.finish().shell_status(), 0);
    assert!(lab.bytes("stdout") == numbers(100_000..=599_999));
    lab.account("stdout").assert_whole(EndReason::Eof);
}

#[test]
fn a_service_that_stands_still_for_a_while_has_every_byte_once() {
    let lab = Lab::new();
    let notes = Notes::new();
    let script = format!("{}; {}", five_parts(&notes), wait_for_go(&notes));
    let running = lab.start(&[], &script);
    notes.wait_for("part 1.");
    send_to(lab.service.process().id(), "STOP");
    notes.wait_for("part 5.");
    // Longer than a connection may take to open, and than the command's output takes.
    let stopped = std::time::SystemTime::now();
    eventually(Duration::from_secs(30), "six seconds", || {
        stopped.elapsed().unwrap() > Duration::from_secs(6)
    });
    send_to(lab.service.process().id(), "CONT");
    go(&notes);
    assert_eq!(running.finish().shell_status(), 0);
    assert!(lab.bytes("stdout") == numbers(100_000..=599_999));
    lab.account("stdout").assert_whole(EndReason::Eof);
}

#[test]
fn an_answer_that_is_lost_after_the_commit_costs_and_doubles_nothing() {
    let lab = Lab::new();
    let proxy = Proxy::start(lab.service.url());
    let notes = Notes::new();
    let running = lab.start(&["--log-url", &proxy.url()], &five_parts(&notes));
    assert_eq!(running.finish().shell_status(), 0);
    assert!(proxy.lost_answers() > 3, "{}", proxy.lost_answers());
    assert!(lab.bytes("stdout") == numbers(100_000..=599_999));
    lab.account("stdout").assert_whole(EndReason::Eof);
}

#[test]
fn what_a_full_buffer_drops_is_marked_and_the_rest_is_right() {
    let mut lab = Lab::new();
    lab.service.kill_9();
    let notes = Notes::new();
    let path = notes.path();
    let script =
        format!("seq 1000000 2499999; echo written >> {}; {}", path.display(), wait_for_go(&notes));
    let running = lab.start(&["--block-max", "0"], &script);
    notes.wait_for("written");
    lab.service.restart();
    go(&notes);
    assert_eq!(running.finish().shell_status(), 0);
    let account = lab.account("stdout");
    let written = numbers(1_000_000..=2_499_999);
    assert_eq!(account.end, Some(EndReason::Eof));
    assert_eq!(account.length, written.len() as u64);
    assert!(!account.texts.is_empty() && !account.markers.is_empty(), "{account:?}");
    assert!(account.markers.iter().all(|(_, _, marker)| *marker == Marker::Dropped));
    for (offset, text) in &account.texts {
        let at = usize::try_from(*offset).unwrap();
        assert!(written[at..].starts_with(text.as_bytes()), "at {offset}");
    }
}

#[test]
fn a_buffer_that_is_full_at_the_end_is_delivered_when_the_service_goes_on() {
    let lab = Lab::new();
    send_to(lab.service.process().id(), "STOP");
    // 8.5 MB: more than the buffer of 8 MiB holds.
    let running = lab.start(&[], "seq 1000000 2062499");
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    eventually(Duration::from_secs(30), "the command has ended", || {
        fs::read_to_string(&children).unwrap().is_empty()
    });
    send_to(lab.service.process().id(), "CONT");
    drop(running.finish());
    let account = lab.account("stdout");
    assert_eq!((account.length, account.end), (8_500_000, Some(EndReason::Eof)));
}

#[test]
fn a_service_that_lost_its_memory_is_told_what_it_had() {
    let mut lab = Lab::of(Service::in_memory());
    let notes = Notes::new();
    let script = format!("seq 1000 1999; {}; seq 2000 2999", wait_for_go(&notes));
    let running = lab.start(&[], &script);
    eventually(Duration::from_secs(30), "the first part is stored", || {
        lab.try_bytes("stdout").is_some_and(|bytes| bytes.len() == 5_000)
    });
    lab.service.kill_9();
    lab.service.restart();
    go(&notes);
    assert_eq!(running.finish().shell_status(), 0);
    let account = lab.account("stdout");
    assert_eq!(account.markers, [(0, 5_000, Marker::Restarted)]);
    assert_eq!(account.text().as_bytes(), numbers(2_000..=2_999));
    assert_eq!((account.length, account.end), (10_000, Some(EndReason::Eof)));
}

#[test]
fn after_sigterm_all_that_was_written_is_delivered() {
    let lab = Lab::new();
    let notes = Notes::new();
    let script = format!(
        "n=0; trap 'echo \"rounds $n\" >> {0}; echo bye; exit 5' TERM; echo ready >> {0}; \
         while :; do seq 1000 1999; n=$((n + 1)); done",
        notes.path().display()
    );
    let running = lab.start(&[], &script);
    notes.wait_for("ready");
    eventually(Duration::from_secs(30), "something is stored", || {
        lab.try_bytes("stdout").is_some_and(|bytes| !bytes.is_empty())
    });
    running.send(15);
    assert_eq!(running.finish().shell_status(), 5);
    let rounds = notes.text().lines().find_map(|line| line.strip_prefix("rounds ")?.parse().ok());
    // The signal may come between a round's end and its count.
    let logged = lab.bytes("stdout");
    let expected = |rounds| [numbers(1_000..=1_999).repeat(rounds), b"bye\n".to_vec()].concat();
    let rounds: usize = rounds.unwrap();
    assert!(logged == expected(rounds) || logged == expected(rounds + 1), "{}", logged.len());
    lab.account("stdout").assert_whole(EndReason::Eof);
}

/// The time until SIGKILL is shorter than the time that delivery would have had.
#[test]
fn sigterm_after_the_end_shortens_delivery_and_what_is_lost_is_marked() {
    let service = BusyService::start();
    let mut command = bare_entrypoint();
    command.args(["--log-url", &service.url(), "--flush-max", "30s"]).env("RELAY_GRACE", "6s");
    // 7 MB: more than may be on the way, and less than the buffer holds.
    let running = Running::start(command.args(["--", "bash", "-c", "seq 1000000 1874999; exit 3"]));
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    eventually(Duration::from_secs(30), "the command has ended", || {
        service.told(|told| told.refused > 0) && fs::read_to_string(&children).unwrap().is_empty()
    });
    running.send(15);
    let finished = running.finish();
    assert_eq!(finished.shell_status(), 3);
    assert!(finished.taken < Duration::from_secs(25), "{:?}", finished.taken);
    service.told(|told| {
        assert!(told.marks.iter().all(|mark| mark.reason.as_deref() == Some("exit")));
        assert!(told.marks.iter().map(|mark| mark.range.length()).sum::<u64>() > 1_000_000);
        assert!(told.ends.iter().any(|end| end.length == 7_000_000), "{:?}", told.ends);
    });
}

#[test]
fn a_copy_is_what_the_service_has() {
    let lab = Lab::new();
    let finished = lab.start(&["--tee"], "seq 1 200000; seq 1 100000 >&2").finish();
    assert!(finished.stdout == lab.bytes("stdout") && finished.stdout == numbers(1..=200_000));
    assert!(finished.stderr.as_bytes() == lab.bytes("stderr"));
}

#[test]
fn a_secret_is_masked_in_pieces_and_as_the_last_thing_said() {
    let lab = Lab::new();
    let script = "printf 'a s3cr3t-'; sleep 0.3; printf 'value'; printf -- '-123 b\\n'; \
                  printf 'e s3cr3t-value-12' >&2; sleep 0.3; printf '3\\n' >&2; \
                  printf 's3cr3t-value-123s3cr3t-value-123 '; printf 's3cr3t-value-123' >&2; \
                  printf 's3cr3t-value'";
    let mut command = lab.entrypoint();
    command.env("SECRET", "s3cr3t-value-123");
    command.args(["--mask-env", "SECRET", "--", "bash", "-c", script]);
    assert_eq!(Running::start(&mut command).finish().shell_status(), 0);
    assert_eq!(String::from_utf8(lab.bytes("stdout")).unwrap(), "a *** b\n*** ***");
    assert_eq!(String::from_utf8(lab.bytes("stderr")).unwrap(), "e ***\n***");
}
