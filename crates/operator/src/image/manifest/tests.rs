use super::{
    Entry, IMAGE_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    Manifest, Nodes, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, choose, read_config,
    read_manifest,
};
use crate::image::{Platform, digest::Digest};
use proptest::prelude::*;
use serde_json::{Value, json};

fn platform(text: &str) -> Platform {
    let mut words = text.split('/');
    let mut next = || words.next().unwrap_or_default();
    Platform::new(next(), next(), next())
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// An index whose entries are for these platforms; a digest is that of the number of its entry.
fn index(platforms: &[&str]) -> Vec<Entry> {
    let entry = |(at, text): (usize, &&str)| Entry {
        digest: digest(&at.to_string()),
        platform: (!text.is_empty()).then(|| platform(text)),
        has_features: false,
    };
    platforms.iter().enumerate().map(entry).collect()
}

#[test]
fn an_index_gives_what_containerd_would_run() {
    // The platforms of an index, where the pod runs, and which entry it runs.
    let cases: &[(&[&str], &str, Option<usize>)] = &[
        (&["linux/amd64", "linux/arm64"], "linux/arm64", Some(1)),
        (&["linux/amd64", "linux/arm64/v8"], "linux/arm64", Some(1)),
        (&["linux/arm/v7", "linux/arm64"], "linux/arm64/v8", Some(1)),
        (&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
        (&["windows/amd64", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
        (&["linux/amd64/v1"], "linux/amd64", Some(0)),
        (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/amd64/v3"], "linux/amd64", None),
        (&["linux/386"], "linux/amd64", Some(0)),
        (&["linux/386", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/arm/v6", "linux/arm/v7"], "linux/arm", Some(1)),
        (&["linux/arm/v6"], "linux/arm", Some(0)),
        (&["linux/arm/v7"], "linux/arm/v6", None),
        (&["linux/arm/v5"], "linux/arm64", Some(0)),
        (&["linux/arm64"], "linux/arm/v7", None),
        (&["linux/amd64"], "linux/arm64", None),
        (&["", "linux/amd64"], "linux/amd64", Some(1)),
        (&["", "linux/amd64"], "linux/arm64", Some(0)),
        (&["Linux/x86_64"], "linux/amd64", Some(0)),
        (&["unknown/unknown"], "linux/amd64", None),
        (&[], "linux/amd64", None),
    ];
    for (platforms, on, expected) in cases {
        let index = index(platforms);
        let chosen = choose(&index, &platform(on), Nodes::Younger);
        let expected = expected.map(|at| digest(&at.to_string()));
        assert_eq!(chosen.map(|entry| entry.digest.clone()), expected, "{platforms:?} on {on}");
    }
}

fn read(json: &Value, media_type: &str) -> Result<Manifest, String> {
    read_manifest(json.to_string().as_bytes(), Some(media_type))
}

#[test]
fn manifests_of_both_kinds_and_both_makers_are_read() {
    let config = json!({"mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": digest("config").as_str(), "size": 1});
    let layers = json!([{"mediaType": "x", "digest": digest("layer").as_str(), "size": 1}]);
    let image = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let entries = json!([
        {"mediaType": OCI_IMAGE_MEDIA_TYPE, "digest": digest("0").as_str(), "size": 1, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": digest("1").as_str(), "platform": {"os": "linux", "architecture": "amd64", "os.features": ["x"]}},
        {"digest": digest("2").as_str()},
    ]);
    let list = json!({"schemaVersion": 2, "manifests": entries, "annotations": {"a": "b"}});
    let entry = |name: &str, on: Option<&str>, has_features| Entry {
        digest: digest(name),
        platform: on.map(platform),
        has_features,
    };
    let expected = Manifest::Index(vec![
        entry("0", Some("linux/arm64"), false),
        entry("1", Some("linux/amd64"), true),
        entry("2", None, false),
    ]);
    for media_type in [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, "text/plain", ""] {
        assert_eq!(read(&image, media_type), Ok(Manifest::Image(digest("config"))), "{media_type}");
    }
    let with_charset = format!("{OCI_IMAGE_INDEX_MEDIA_TYPE}; charset=utf-8");
    for media_type in [&with_charset, IMAGE_MANIFEST_LIST_MEDIA_TYPE, "text/plain"] {
        assert_eq!(read(&list, media_type).as_ref(), Ok(&expected), "{media_type}");
    }
    for media_type in [OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE] {
        assert!(read(&image, media_type).is_err(), "{media_type}");
    }
    assert!(read(&list, OCI_IMAGE_MEDIA_TYPE).is_err());
}

#[test]
fn what_two_programs_might_understand_differently_is_refused() {
    let config = json!({"mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": digest("config").as_str()});
    let entries = json!([{"digest": digest("0").as_str()}]);
    for (wrong, why) in [
        (json!({"config": config, "manifests": entries}), "contradicts itself"),
        (json!({"layers": [], "manifests": entries}), "contradicts itself"),
        (json!({"mediaType": OCI_IMAGE_INDEX_MEDIA_TYPE, "config": config}), "contradicts itself"),
        (json!({"mediaType": OCI_IMAGE_MEDIA_TYPE, "manifests": entries}), "contradicts itself"),
        (json!({}), "contradicts itself"),
        (json!({"schemaVersion": 1, "fsLayers": [], "history": []}), "version 1"),
        (
            json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest("x").as_str()}}),
            "an artifact",
        ),
        (
            json!({"config": {"mediaType": IMAGE_CONFIG_MEDIA_TYPE, "digest": "sha256:../x"}}),
            "no digest",
        ),
        (json!({"manifests": [{"digest": "latest"}]}), "without a digest"),
        (json!({"manifests": vec![json!({"digest": digest("0").as_str()}); 1025]}), "1024 entries"),
        (json!({"manifests": 7}), "not that of an image"),
        (json!([]), "not that of an image"),
    ] {
        let refused = read_manifest(wrong.to_string().as_bytes(), None).unwrap_err();
        assert!(refused.contains(why), "{refused}: {wrong}");
    }
    assert!(read_manifest(b"<html>", None).is_err());
    let twice = format!(r#"{{"config": {config}, "config": {config}}}"#);
    assert!(read_manifest(twice.as_bytes(), None).is_err());
    // Go takes the last of these.
    let (zero, one) = (digest("0"), digest("1"));
    for odd in [
        format!(r#"{{"config": {config}, "Config": {config}}}"#),
        format!(r#"{{"manifests": [], "MANIFESTS": [{{"digest": "{zero}"}}]}}"#),
        format!(r#"{{"manifests": [{{"digest": "{zero}", "Digest": "{one}"}}]}}"#),
        format!(
            r#"{{"manifests": [{{"digest": "{zero}", "platform": {{"os": "linux", "Architecture": "arm64"}}}}]}}"#
        ),
        format!(
            r#"{{"config": {{"mediaType": "{IMAGE_CONFIG_MEDIA_TYPE}", "digest": "{zero}", "dige\u017ft": "{one}"}}}}"#
        ),
    ] {
        let refused = read_manifest(odd.as_bytes(), None).unwrap_err();
        assert!(refused.contains("in two ways"), "{refused}: {odd}");
    }
}

#[test]
fn a_configuration_is_read_as_go_reads_it() {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    for (json, entrypoint, cmd) in [
        (r#"{"config":{"Entrypoint":["a"],"Cmd":["b","c"]}}"#, words(&["a"]), words(&["b", "c"])),
        (r#"{"config":{"Entrypoint":null}}"#, None, None),
        (r#"{"config":{"Entrypoint":[],"Cmd":[""]}}"#, words(&[]), words(&[""])),
        (r#"{"config":null}"#, None, None),
        (r"{}", None, None),
        (r#"{"config":{"entrypoint":["a"],"CMD":["b"]}}"#, words(&["a"]), words(&["b"])),
        (r#"{"Config":{"Entrypoint":["a"]},"config":{"Cmd":["b"]}}"#, words(&["a"]), words(&["b"])),
        (
            r#"{"config":{"Cmd":["a",null,"\u0000\ud83d\ude00$(X)"]}}"#,
            None,
            words(&["a", "", "\0😀$(X)"]),
        ),
        (r#"{"container_config":{"Cmd":["x"]},"history":[{"Cmd":["x"]}]}"#, None, None),
    ] {
        let image = read_config(json.as_bytes()).unwrap();
        assert_eq!((image.config.entrypoint, image.config.cmd), (entrypoint, cmd), "{json}");
    }
    let image = read_config(br#"{"os":"linux","architecture":"arm64","variant":"v8"}"#).unwrap();
    assert_eq!(image.platform, platform("linux/arm64"));
    for wrong in [
        "",
        "[]",
        "null",
        "{",
        "{}x",
        r#"{"config":7}"#,
        r#"{"config":{"Cmd":"sh"}}"#,
        r#"{"config":[]}"#,
        r#"{"config":{"Entrypoint":["a"],"entrypoint":["b"]}}"#,
        r#"{"config":{"Entrypoint":["b","x"],"Entrypoint":[null]}}"#,
        r#"{"config":{"Cmd":["b"]},"Config":{"cmd":null}}"#,
    ] {
        assert!(read_config(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_command_is_as_long_as_a_pod_can_hold() {
    let config = |words: &str| format!(r#"{{"config":{{"Entrypoint":["/app"{words}]}}}}"#);
    let long = read_config(config(&",\"x\"".repeat(4000)).as_bytes()).unwrap();
    assert_eq!(long.config.entrypoint.map(|words| words.len()), Some(4001));
    for longer in [",\"\"".repeat(6000), format!(",\"{}\"", "x".repeat(128 << 10))] {
        let refused = read_config(config(&longer).as_bytes()).unwrap_err();
        assert_eq!(refused, "its command is too long");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), json in "[\\[\\]{}:,\"a-zA-Z0-9 ]{0,100}") {
        for bytes in [bytes.as_slice(), json.as_bytes()] {
            drop(read_manifest(bytes, None));
            drop(read_config(bytes));
        }
    }

    #[test]
    fn words_come_back_as_they_were_written(entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>) {
        let json = json!({"config": {"Entrypoint": entrypoint, "Cmd": cmd}}).to_string();
        let image = read_config(json.as_bytes()).unwrap();
        prop_assert_eq!(image.config.entrypoint, entrypoint);
        prop_assert_eq!(image.config.cmd, cmd);
    }
}
