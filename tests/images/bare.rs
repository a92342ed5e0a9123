//! Images are enough for their programs, with nothing but what a node adds: a file that names the DNS.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    process::{self, Command},
    thread,
};

use relay_tests::{
    certificate::Authority,
    process::{Finished, Running, is_root},
    program::is_long_run,
    service::Service,
};
use tempfile::TempDir;

use crate::{
    archive::OfPlatform,
    lab::{HERE, IMAGES, image, image_here, succeed},
};

/// What an image holds, as a container sees it.
struct Root {
    folder: TempDir,
}

impl Root {
    fn of(image: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        image_here(image).unpack(folder.path());
        Self { folder }
    }

    /// Runs its program as the user that the image names.
    fn run(&self, program: &str, words: &[&str]) -> Finished {
        let mut command = Command::new("chroot");
        command.arg("--userspec=65532:65532").arg(self.folder.path()).arg(program).args(words);
        Running::start(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")).finish()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Whether this can be tested: only root may change the root. Says so if not.
#[expect(clippy::print_stderr, reason = "for whoever wonders what was tested")]
fn may_change_root() -> bool {
    if !is_root() {
        eprintln!("not tested: only root may run programs in a root of their own");
    }
    is_root()
}

#[test]
fn every_program_runs_from_nothing_but_its_image() {
    if !may_change_root() {
        return;
    }
    let programs = [
        ("log-service", "/relay-log-service"),
        ("operator", "/relay-operator"),
        ("cli", "/relay"),
        ("cli", "/kubectl-relay"),
    ];
    for (image, program) in programs {
        let finished = Root::of(image).run(program, &["--help"]);
        assert_eq!(finished.shell_status(), 0, "{program}: {}", finished.stderr);
        assert!(String::from_utf8(finished.stdout).unwrap().contains("Usage: "), "{program}");
    }
}

#[test]
fn every_program_for_the_other_kind_of_machine_runs_too() {
    if !is_long_run() {
        return;
    }
    for name in IMAGES {
        let is_other = |each: &&OfPlatform| each.platform != HERE;
        let other = image(name).1.iter().find(is_other).expect("there are images for both");
        let folder = tempfile::tempdir().unwrap();
        other.unpack(folder.path());
        let program = other.config["config"]["Entrypoint"][0].as_str().unwrap();
        let machine = if other.platform == "arm64" { "aarch64" } else { "x86_64" };
        let mut qemu = Command::new(format!("qemu-{machine}-static"));
        qemu.arg(folder.path().join(program.trim_start_matches('/'))).arg("--version");
        let printed = succeed(&mut qemu);
        assert!(printed.ends_with(&format!(" {}\n", env!("CARGO_PKG_VERSION"))), "{printed}");
    }
}

#[test]
fn the_image_of_tools_is_what_its_own_program_installs() {
    if !may_change_root() {
        return;
    }
    let root = Root::of("tools");
    // Files of processes are where the program finds itself, in every container.
    fs::create_dir(root.folder.path().join("proc")).unwrap();
    let script = r#"mount --bind /proc "$0/proc" && exec chroot --userspec=65532:65532 "$0" /relay/lib/entrypoint install --verify /relay"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(root.folder.path());
    let finished = Running::start(&mut command).finish();
    assert_eq!(finished.shell_status(), 0, "{}", finished.stderr);
    assert!(
        String::from_utf8(finished.stdout)
            .unwrap()
            .starts_with("/relay/lib/entrypoint is this program")
    );
}

/// The name that only it knows.
const NAME: &str = "relay-log-service.relay-system.svc";

/// Tells everybody that a name is this machine, until the test's process ends. Returns the address of
/// this DNS, which is no other process's: its port is always the same.
fn serve_names() -> Ipv4Addr {
    // Not where the DNS of machines is.
    let [.., first, second, third] = process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, first | 64, second, third);
    let socket = UdpSocket::bind((address, 53)).expect("root may take any port of loopback");
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            drop(socket.send_to(&answer(&question[..length]), from));
        }
    });
    address
}

/// The answer to a question: 127.0.0.1 for the address of [`NAME`], and that there is no such thing for others.
fn answer(question: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = NAME
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .chain([0])
        .collect();
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_known = question[12..end - 4] == name[..];
    let is_address = question[end - 4..end - 2] == [0, 1];
    let mut answer = question[..end].to_vec();
    // An answer, final, to one question, with one address or none.
    answer[2..12].copy_from_slice(&[
        0x85,
        if is_known { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(is_known && is_address),
        0,
        0,
        0,
        0,
    ]);
    if is_known && is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

#[test]
fn the_command_line_looks_names_up_and_trusts_the_list_of_its_image() {
    if !may_change_root() {
        return;
    }
    let dns = serve_names();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("authority of the test");
    let issued = authority.issue(NAME);
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("tls.crt"), issued.certificate).unwrap();
    fs::write(path("tls.key"), issued.key).unwrap();
    let flags = ["--tls-cert-file", &path("tls.crt"), "--tls-key-file", &path("tls.key")];
    let service = Service::with(&[&["--store", "memory:"][..], &flags].concat());
    let port = service.url().rsplit(':').next().unwrap().to_owned();
    let root = Root::of("cli");
    root.write("etc/resolv.conf", &format!("nameserver {dns}\n"));
    let list =
        |name: &str| root.run("/relay", &["ls", "--log-url", &format!("https://{name}:{port}")]);

    let finished = list(NAME);
    assert!(
        finished.stderr.contains("certificate"),
        "nobody on the net vouches for it: {}",
        finished.stderr
    );
    root.write("etc/ssl/certs/ca-certificates.crt", &authority.pem());
    let finished = list(NAME);
    assert_eq!(finished.shell_status(), 0, "{}", finished.stderr);
    let finished = list("unknown.relay-system.svc");
    assert!(finished.stderr.contains("failed to lookup address"), "{}", finished.stderr);
}
