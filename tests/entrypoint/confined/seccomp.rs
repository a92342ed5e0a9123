//! The system calls that container runtimes allow by default, as a filter for the kernel.

use std::{collections::HashMap, process::Command};

/// Allowed by the default profiles of containerd and of CRI-O alike, for a container without
/// capabilities. `clone` and `clone3` stand in [`filter`].
const ALLOWED: &str = include_str!("runtime-default.txt");

/// `BPF_LD | BPF_W | BPF_ABS`: load a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JSET | BPF_K`.
const JUMP_IF_ANY: u16 = 0x45;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO`, to be joined with the number of the error.
const ERROR: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Offsets in `struct seccomp_data`: the number of the call, and the low half of its first argument.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// All `CLONE_NEW…`: a container makes no namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// A program for `bwrap --seccomp`. What it does not allow fails with EPERM.
pub(super) fn filter() -> Vec<u8> {
    let numbers = numbers();
    let mut program = vec![step(LOAD, 0, 0, NUMBER)];
    for name in ALLOWED.split_whitespace() {
        // Some calls exist on one architecture only.
        if let Some(number) = numbers.get(name) {
            program.push(step(JUMP_IF_EQUAL, 0, 1, *number));
            program.push(step(RETURN, 0, 0, ALLOW));
        }
    }
    // Its flags cannot be seen, so C libraries are told to use `clone`.
    program.push(step(JUMP_IF_EQUAL, 0, 1, numbers["clone3"]));
    program.push(step(RETURN, 0, 0, ERROR | ENOSYS));
    program.push(step(JUMP_IF_EQUAL, 0, 3, numbers["clone"]));
    program.push(step(LOAD, 0, 0, FIRST_ARGUMENT));
    program.push(step(JUMP_IF_ANY, 1, 0, NEW_NAMESPACES));
    program.push(step(RETURN, 0, 0, ALLOW));
    program.push(step(RETURN, 0, 0, ERROR | EPERM));
    program.concat()
}

/// One `struct sock_filter`.
fn step(code: u16, if_true: u8, if_false: u8, value: u32) -> Vec<u8> {
    let mut bytes = code.to_ne_bytes().to_vec();
    bytes.extend([if_true, if_false]);
    bytes.extend(value.to_ne_bytes());
    bytes
}

/// The numbers of this architecture's system calls, from the headers of the C library.
fn numbers() -> HashMap<String, u32> {
    let headers = ["-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"];
    let output = Command::new("gcc").args(headers).output().expect("gcc can be run");
    let text = String::from_utf8(output.stdout).expect("definitions are text");
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    let found: HashMap<_, _> = text.lines().filter_map(number).collect();
    assert!(found.len() > 200, "{text}");
    found
}
