//! How images are made.

use std::fs;

use crate::lab::{Copied, IMAGES, archive, image, succeed};

#[test]
fn the_same_programs_make_the_same_images() {
    let copied = Copied::with_programs();
    drop(succeed(&mut copied.script("images")));
    for name in IMAGES {
        let (descriptor, platforms) = image(name);
        let again = copied.image(name).descriptor();
        // One for several platforms, or with another name, is another archive.
        if *descriptor == again {
            let made = copied.path().join(format!("bin/images/relay-{name}.tar"));
            assert!(fs::read(made).unwrap() == fs::read(archive(name)).unwrap(), "{name}");
        } else {
            assert!(
                platforms.len() > 1 || descriptor["digest"] == again["digest"],
                "{name}: {again}"
            );
        }
    }
}

#[test]
fn another_program_makes_another_image() {
    let copied = Copied::with_files();
    let first = succeed(&mut copied.script("images"));
    copied.replace("bin/relay-operator", "operator", "operator of tomorrow");
    let second = succeed(&mut copied.script("images"));
    let differ: Vec<_> =
        first.lines().zip(second.lines()).filter(|(one, two)| one != two).collect();
    assert!(
        matches!(differ[..], [(one, _)] if one.ends_with("/relay-operator:0.1.0")),
        "{differ:?}"
    );
}

/// What is refused, and how: replaced text in `Dockerfile`, and the sentence.
const REFUSED: [(&str, &str, &str); 12] = [
    ("USER 65532:65532", "VOLUME /logs", "VOLUME is not known here"),
    ("USER 65532:65532", "user 65532", "user is not known here"),
    ("USER 65532:65532", "ADD x /x", "ADD is not known here"),
    (
        "COPY --from=build /src/bin/relay-log",
        "COPY /src/bin/relay-log",
        "only COPY --from=build is known here",
    ),
    (
        "--from=build /src/bin/relay-log",
        "--from=build --chmod=700 /src/bin/relay-log",
        "only COPY --from=build is known here",
    ),
    (
        "/src/bin/relay-log-service /",
        "/src/bin/relay-log-service /src/bin/relay /",
        "several files go only to a folder, whose name ends with /",
    ),
    (
        "/src/bin/relay-log-service /",
        "/src/target/x /",
        "only files of /src/bin are copied, and /etc/ssl/certs/ca-certificates.crt",
    ),
    (
        "/src/bin/relay-log-service /",
        "/src/bin/relay-* /",
        "bin/relay-* is missing: run `make build`",
    ),
    ("title=\"relay-log-service\"", "title=relay-log-service", "a label is NAME=\"VALUE\""),
    ("title=\"relay-log-service\"", "title=\"$TITLE\"", "a label is NAME=\"VALUE\""),
    (
        "ENTRYPOINT [\"/relay-log-service\"]",
        "ENTRYPOINT /relay-log-service",
        "ENTRYPOINT is a list of strings",
    ),
    (
        "ENTRYPOINT [\"/relay-log-service\"]",
        "ENTRYPOINT [\"/relay-log-service\", 1]",
        "ENTRYPOINT is a list of strings",
    ),
];

#[test]
fn what_the_script_does_not_know_is_refused_with_its_file_and_line() {
    for (from, to, sentence) in REFUSED {
        let copied = Copied::with_files();
        copied.replace("Dockerfile", from, to);
        let text = fs::read_to_string(copied.path().join("Dockerfile")).unwrap();
        // Labels go over several lines: the first counts.
        let begin = if from.starts_with("title") { "LABEL" } else { to };
        let line = text.lines().position(|line| line.contains(begin)).unwrap() + 1;
        let output = copied.script("images").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{to} was taken");
        assert!(said.starts_with(&format!("Dockerfile:{line}: {sentence}")), "{to}: {said}");
        assert!(!copied.path().join("bin/images/relay-log-service.tar").exists());
    }
}

#[test]
fn a_stage_that_is_not_from_scratch_is_no_image() {
    let copied = Copied::with_files();
    copied.replace("Dockerfile", "FROM scratch AS operator", "FROM debian AS operator");
    let output = copied.script("images").output().unwrap();
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "Dockerfile: no stage is FROM scratch AS operator\n"
    );
}
