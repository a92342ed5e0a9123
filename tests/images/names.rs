//! What images are called, and for which machines they are.

use std::fs;

use crate::lab::{BUILT, Copied, HERE, IMAGES, succeed};

#[test]
fn images_are_called_as_the_variables_say() {
    let copied = Copied::with_files();
    let printed = succeed(&mut copied.script("images"));
    for (name, line) in IMAGES.into_iter().zip(printed.lines()) {
        let descriptor = copied.image(name).descriptor();
        let called = &descriptor["annotations"]["io.containerd.image.name"];
        assert_eq!(*called, format!("dev.local/relay-{name}:{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(
            line,
            format!("{} {}", descriptor["digest"].as_str().unwrap(), called.as_str().unwrap())
        );
    }
    let mut script = copied.script("images");
    drop(succeed(script.env("IMAGE_REGISTRY", "registry.test:5000/tools").env("IMAGE_TAG", "7")));
    let annotations = &copied.image("tools").descriptor()["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "registry.test:5000/tools/relay-tools:7");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "7");
}

#[test]
fn one_image_is_for_several_platforms_each_with_its_own_programs() {
    let other = if HERE == "amd64" { "arm64" } else { "amd64" };
    let copied = Copied::with_files();
    fs::create_dir(copied.path().join("bin").join(other)).unwrap();
    for name in BUILT {
        let text = format!("{name} for {other}");
        fs::write(copied.path().join("bin").join(other).join(name), text).unwrap();
    }
    drop(succeed(copied.script("images").args(["amd64", "arm64"])));
    let platforms = copied.image("operator").platforms();
    let found: Vec<_> = platforms.iter().map(|each| each.platform.as_str()).collect();
    assert_eq!(found, ["amd64", "arm64"]);
    for each in &platforms {
        let text = if each.platform == HERE {
            "relay-operator".to_owned()
        } else {
            format!("relay-operator for {other}")
        };
        assert_eq!(each.files["relay-operator"].bytes, text.into_bytes());
    }
    let output = copied.script("images").arg("riscv64").output().unwrap();
    assert!(!output.status.success(), "there are no programs for it");
}
