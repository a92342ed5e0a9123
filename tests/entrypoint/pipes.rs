//! The pipes that take the place of the command's output, and what else can reach them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use relay_protocol::write::EndReason;
use relay_tests::process::{Running, as_first_process, is_root, run_under, under};

use crate::lab::{Lab, numbers, open_folder};

/// A user that nobody else is, so that its share of pipe memory is this test's own.
fn user_of_this_test() -> String {
    (1_000_000 + std::process::id()).to_string()
}

fn become_user(user: &str) -> [&str; 6] {
    ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
}

#[test]
fn writes_to_the_output_of_the_first_process_stand_in_the_log() {
    let lab = Lab::new();
    let script = "echo one; echo two > /proc/1/fd/1; echo three >> /proc/1/fd/2";
    let finished = run_under(as_first_process(&lab.entrypoint()), ["bash", "-c", script]);
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(lab.bytes("stdout"), b"one\ntwo\n");
    assert_eq!(lab.bytes("stderr"), b"three\n");
}

/// As nginx and Apache do it; Docker answered with EACCES for years.
#[test]
fn a_process_that_dropped_its_user_opens_dev_stdout_again() {
    let lab = Lab::new();
    let inner = "echo out > /dev/stdout; echo err > /dev/stderr; echo more >> /proc/self/fd/1";
    let mut words = if is_root() { become_user("65534").to_vec() } else { vec!["env"] };
    words.extend(["bash", "-c", inner]);
    let finished = run_under(lab.entrypoint(), words);
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(lab.bytes("stdout"), b"out\nmore\n");
    assert_eq!(lab.bytes("stderr"), b"err\n");
}

/// Takes pipe memory until the kernel gives no more, and keeps it.
const TAKE_ALL: &str = r#"
    my $taken = 0;
    while (1) {
        pipe(my $r, my $w) or die;
        fcntl($w, 1031, 1 << 20) or last;
        push @kept, $r, $w;
        $taken++;
    }
    $| = 1; print "$taken\n"; sleep 1000 while 1;
"#;

/// A child that is killed with its owner.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Another program of the same user, on the same node, has all that `fs.pipe-user-pages-soft`
/// allows: new pipes hold two pages and do not grow.
#[test]
fn a_user_without_pipe_memory_left_loses_nothing() {
    if !is_root() {
        println!("not run: needs root, to be a user whose pipes nobody else misses");
        return;
    }
    let lab = Lab::new();
    let mut holder = Command::new("perl");
    holder.args(["-e", TAKE_ALL]);
    let folder = open_folder();
    let user = user_of_this_test();
    let mortal = ["--pdeathsig", "KILL"];
    let holder = under(&[&become_user(&user)[..], &mortal[..]].concat(), &holder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl can be started");
    let mut entrypoint = under(&become_user(&user), &lab.entrypoint_in(&folder));
    let mut holder = Holder(holder);
    let mut taken = String::new();
    BufReader::new(holder.0.stdout.as_mut().unwrap()).read_line(&mut taken).unwrap();
    assert!(taken.trim().parse::<u32>().unwrap() > 0, "{taken}");
    // 4097 bytes do not fit into one page: what a full pipe takes of them comes in two parts.
    let script = "perl -e 'printf STDERR \"%d\\n\", fcntl(STDOUT, 1032, 0)'; seq 1 300000; \
        head -c 4097 /dev/zero | tr '\\0' 'x'; exit 3";
    let running = Running::start(entrypoint.args(["--", "bash", "-c", script]));
    assert_eq!(running.finish().shell_status(), 3);
    let bytes = lab.bytes("stdout");
    assert!(bytes == [numbers(1..=300_000), vec![b'x'; 4_097]].concat(), "{}", bytes.len());
    lab.account("stdout").assert_whole(EndReason::Eof);
    let size: u32 = String::from_utf8(lab.bytes("stderr")).unwrap().trim().parse().unwrap();
    assert!(size < 65_536, "the pipe of {size} bytes is not a small one: nothing was proven");
}
