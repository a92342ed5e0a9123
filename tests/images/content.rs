//! What is in images is what the Dockerfiles say, and no more.

use std::{collections::BTreeSet, fs, path::Path};

use relay_tests::program::workspace;
use serde_json::json;

use crate::{
    archive::OfPlatform,
    dockerfile::{stage, stages},
    lab::{IMAGES, image, image_here, programs},
};

/// The folders above these files.
fn folders<'a>(files: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let above = files.flat_map(|file| Path::new(file).ancestors().skip(1));
    above.map(|folder| folder.display().to_string()).filter(|folder| !folder.is_empty()).collect()
}

#[test]
fn an_image_holds_what_its_dockerfile_copies_and_nothing_else() {
    for name in IMAGES {
        for OfPlatform { platform, files, .. } in &image(name).1 {
            let wanted = stage(name).files(&programs(platform));
            let mut names = folders(wanted.keys());
            names.extend(wanted.keys().cloned());
            assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), names, "{name}");
            for (path, bytes) in &wanted {
                let is_same = files[path].bytes == *bytes;
                assert!(is_same, "{path} of {name} for {platform} is not what was built");
            }
        }
    }
}

#[test]
fn everybody_may_read_what_is_in_an_image_and_run_its_programs_and_nobody_may_write() {
    for name in IMAGES {
        for (path, entry) in &image_here(name).files {
            let runs = entry.is_folder || entry.bytes.starts_with(b"\x7fELF");
            assert_eq!(entry.mode, if runs { 0o755 } else { 0o644 }, "{path} of {name}");
        }
    }
}

#[test]
fn an_image_is_run_as_its_dockerfile_says() {
    for name in IMAGES {
        let stage = stage(name);
        let one = |instruction| {
            let [only] = stage.all(instruction).collect::<Vec<_>>()[..] else {
                panic!("{instruction} of {name}")
            };
            only.to_owned()
        };
        let entrypoint: serde_json::Value = serde_json::from_str(&one("ENTRYPOINT")).unwrap();
        let wanted =
            json!({ "User": one("USER"), "Entrypoint": entrypoint, "Labels": stage.labels() });
        for each in &image(name).1 {
            assert_eq!(each.config["config"], wanted, "{name} for {}", each.platform);
        }
    }
}

#[test]
fn images_are_of_nobody_and_start_their_program() {
    let programs = ["/relay-log-service", "/relay-operator", "/relay", "/relay/lib/entrypoint"];
    for (name, program) in IMAGES.into_iter().zip(programs) {
        let image = image_here(name);
        let config = &image.config["config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], json!([program]));
        let title = &config["Labels"]["org.opencontainers.image.title"];
        assert_eq!(*title, format!("relay-{name}"));
        assert!(image.files[program.trim_start_matches('/')].mode & 0o111 == 0o111);
    }
}

/// Whether a program names an interpreter, which loads libraries.
fn has_interpreter(elf: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        let field = elf[at..at + bytes].iter().rev();
        field.fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (begin, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|header| number(begin + header * size, 4) == 3)
}

#[test]
fn no_program_in_an_image_needs_a_library() {
    assert!(has_interpreter(&fs::read("/proc/self/exe").unwrap()), "this test's own program does");
    for name in IMAGES {
        for each in &image(name).1 {
            for (path, entry) in &each.files {
                if entry.bytes.starts_with(b"\x7fELF") {
                    assert!(
                        !has_interpreter(&entry.bytes),
                        "{path} of {name} for {}",
                        each.platform
                    );
                }
            }
        }
    }
}

#[test]
fn both_dockerfiles_build_alike_and_with_the_version_of_rust_that_is_used_here() {
    let first = stages("Dockerfile").remove(0);
    let other = stages("Dockerfile.tools").remove(0);
    assert_eq!((&first.from, &first.instructions), (&other.from, &other.instructions));
    let toolchain = fs::read_to_string(workspace().join("rust-toolchain.toml")).unwrap();
    let (_, version) = toolchain.split_once("channel = \"").unwrap();
    let (version, _) = version.split_once('"').unwrap();
    assert_eq!(first.from, format!("rust:{version}-bookworm AS build"));
    assert_eq!(first.all("WORKDIR").collect::<Vec<_>>(), ["/src"]);
}
