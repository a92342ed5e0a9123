//! A command whose stdin is a terminal.

use std::process::{Command, Stdio};

use relay_tests::{
    process::{NO_SERVICE, Notes, Running},
    program::program,
};

/// Runs `script` in bash on a new terminal, under the entrypoint with these options.
fn on_terminal(options: &str, script: &str, notes: &Notes) -> Running {
    let command = format!(
        "exec {} --log-url {NO_SERVICE} --flush-max 0 {options} -- bash -c '{script}'",
        program("entrypoint").display()
    );
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &command, "/dev/null"]).env("NOTES", notes.path());
    Running::start(terminal.env("RELAY_GRACE", "1s").stdin(Stdio::piped()))
}

/// Of Tekton, which leaves stdin at `/dev/null`, and of tini before it handed the foreground over.
#[test]
fn a_command_on_a_terminal_reads_from_it_in_the_foreground() {
    for options in ["", "--signal-group"] {
        let notes = Notes::new();
        // The last two fields are the process group and the one in the foreground.
        let script = "test -t 0 && echo tty >> $NOTES; \
            set -- $(cut -d\")\" -f2 /proc/$$/stat); echo \"group $(($3 == $6))\" >> $NOTES; \
            echo ready >> $NOTES; read line; echo \"read $line\" >> $NOTES; exit 4";
        let mut terminal = on_terminal(options, script, &notes);
        notes.wait_for("ready");
        terminal.type_in(b"hello\n");
        notes.wait_for("read hello");
        assert_eq!(terminal.finish().shell_status(), 4, "{options}");
        assert!(notes.text().starts_with("tty\ngroup 1\nready\n"), "{options}: {}", notes.text());
    }
}

/// dumb-init killed its child with the hang-up that it caused itself; here somebody hangs up.
#[test]
fn a_terminal_that_hangs_up_tells_the_command_once() {
    let notes = Notes::new();
    let script = "trap \"echo hup >> $NOTES\" HUP; exec 3<> <(:); echo ready >> $NOTES; \
        for i in {1..600}; do grep -q hup $NOTES && break; read -t 0.05 -u 3; done; \
        for i in {1..10}; do read -t 0.05 -u 3; done; echo end >> $NOTES";
    let terminal = on_terminal("", script, &notes);
    notes.wait_for("ready");
    terminal.send(9);
    notes.wait_for("end");
    assert_eq!(notes.text(), "ready\nhup\nend\n");
}
