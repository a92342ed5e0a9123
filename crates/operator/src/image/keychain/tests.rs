use super::{
    super::name::Name, Credential, Fingerprint, Form, Keychain, MAX_TRIED, is_match, read,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::json;

/// The usernames of the credentials that are tried for an image, of secrets that have these keys. A username is its key.
fn tried(keys: &[&str], image: &str) -> Vec<String> {
    let secret = |key: &&str| {
        let json = json!({"auths": {*key: {"username": key, "password": "secret"}}});
        read(Form::DockerConfigJson, json.to_string().as_bytes()).unwrap()
    };
    let keychain = Keychain::of(keys.iter().map(secret));
    let credentials = keychain.matching(&Name::parse(image).unwrap());
    credentials.into_iter().map(|credential| credential.username).collect()
}

#[test]
fn keys_match_as_the_kubelet_matches_them() {
    for (key, image, matches) in [
        ("ghcr.io", "ghcr.io/acme/app", true),
        ("https://ghcr.io", "ghcr.io/acme/app", true),
        ("http://ghcr.io/", "ghcr.io/acme/app", true),
        ("https://ghcr.io/v2/", "ghcr.io/acme/app", true),
        ("GHCR.io", "ghcr.io/acme/app", true),
        ("ghcr.io/acme", "ghcr.io/acme/app", true),
        ("ghcr.io/acme/app", "ghcr.io/acme/app", true),
        ("ghcr.io/v2/acme", "ghcr.io/acme/app", true),
        ("ghcr.io/acme/app/deep", "ghcr.io/acme/app", false),
        ("ghcr.io/other", "ghcr.io/acme/app", false),
        ("ghcr.io:443", "ghcr.io/acme/app", false),
        ("registry:5000", "registry:5000/app", true),
        ("registry", "registry:5000/app", false),
        ("registry:5001", "registry:5000/app", false),
        ("*.azurecr.io", "acme.azurecr.io/app", true),
        ("*.azurecr.io", "azurecr.io/app", false),
        ("*.azurecr.io", "eu.acme.azurecr.io/app", false),
        ("*.*.azurecr.io", "eu.acme.azurecr.io/app", true),
        ("acme*.azurecr.io", "acme-eu.azurecr.io/app", true),
        ("[a-c]cme.azurecr.io", "acme.azurecr.io/app", true),
        ("*.azurecr.io:5000", "acme.azurecr.io:5000/app", true),
        ("*.azurecr.io/app", "acme.azurecr.io/app", true),
        ("*", "ghcr.io/acme/app", false),
        ("ghcr.io/*", "ghcr.io/acme/app", false),
        ("", "ghcr.io/acme/app", false),
        ("https://index.docker.io/v1/", "nginx", true),
        ("https://index.docker.io/v1", "nginx", true),
        ("index.docker.io", "docker.io/acme/app", true),
        ("docker.io", "index.docker.io/acme/app", true),
        ("registry-1.docker.io", "acme/app", true),
        ("docker.io", "registry-1.docker.io/acme/app", true),
        ("docker.io/acme", "acme/app", true),
        ("docker.io/other", "acme/app", false),
        ("hub.docker.io", "nginx", false),
        // A repository may be called like the API's version.
        ("ghcr.io/v1/acme", "ghcr.io/v1/acme/app", false),
        ("ghcr.io/acme", "ghcr.io/v1/acme/app", false),
    ] {
        let expected: &[&str] = if matches { &[key] } else { &[] };
        assert_eq!(tried(&[key], image), expected, "{key} for {image}");
    }
}

#[test]
fn every_match_is_tried_and_the_more_exact_one_first() {
    let keys = ["ghcr.io", "*.io", "ghcr.io/acme", "ghcr.io/acme/app", "docker.io"];
    let expected = ["ghcr.io/acme/app", "ghcr.io/acme", "ghcr.io", "*.io"];
    assert_eq!(tried(&keys, "ghcr.io/acme/app"), expected);
}

#[test]
fn the_same_credential_is_tried_once_and_not_too_many_are() {
    let secret = |name: String| {
        let json = json!({"auths": {"ghcr.io": {"username": name, "password": "x"}}});
        read(Form::DockerConfigJson, json.to_string().as_bytes()).unwrap()
    };
    let name = Name::parse("ghcr.io/acme/app").unwrap();
    let twice = Keychain::of([secret("a".to_owned()), secret("a".to_owned())]);
    assert_eq!(twice.matching(&name).len(), 1);
    let many = Keychain::of((0..100).map(|number| secret(number.to_string())));
    let tried: Vec<_> = many.matching(&name).into_iter().map(|each| each.username).collect();
    let first: Vec<_> = (0..MAX_TRIED).map(|number| number.to_string()).collect();
    assert_eq!(tried, first, "in the order in which the pod names its secrets");
}

#[test]
fn both_forms_are_read_and_what_cannot_be_read_is_left_out() {
    let padded = STANDARD.encode("me:pass:word");
    let bare = padded.trim_end_matches('=');
    let entries = json!({
        "a.io": {"auth": padded},
        "b.io": {"auth": bare},
        "c.io": {"username": "me", "password": "pass:word", "email": "me@c.io"},
        "d.io": {"username": "ignored", "password": "ignored", "auth": padded},
        "none.io": {},
        "bad.io": {"auth": "?"},
        "worse.io": {"auth": STANDARD.encode("nothing")},
        "worst.io": 7,
    });
    let expected = [Credential { username: "me".to_owned(), password: "pass:word".to_owned() }];
    let forms = [
        (Form::of("kubernetes.io/dockercfg").unwrap().0, entries.clone()),
        (
            Form::of("kubernetes.io/dockerconfigjson").unwrap().0,
            json!({"auths": entries, "credsStore": "x"}),
        ),
    ];
    for (form, json) in forms {
        let keychain = Keychain::of(read(form, json.to_string().as_bytes()));
        for good in ["a.io", "b.io", "c.io", "d.io"] {
            assert_eq!(keychain.matching_place(good, "app"), expected, "{good}");
        }
        for bad in ["none.io", "bad.io", "worse.io", "worst.io"] {
            assert_eq!(keychain.matching_place(bad, "app"), [], "{bad}");
        }
    }
    assert_eq!(Form::of("Opaque"), None);
    assert_eq!(read(Form::DockerConfigJson, b"{"), None);
    assert_eq!(read(Form::Dockercfg, b"[]"), None);
    assert_eq!(read(Form::DockerConfigJson, b"{}"), Some(Vec::new()));
}

#[test]
fn a_fingerprint_is_that_of_the_credentials_and_their_order() {
    let credential = |username: &str, password: &str| Credential {
        username: username.to_owned(),
        password: password.to_owned(),
    };
    let (one, two) = (credential("a", "bc"), credential("ab", "c"));
    let of = |endpoints: &[&[&Credential]]| {
        let owned = |all: &&[&Credential]| all.iter().map(|one| (*one).clone()).collect();
        let endpoints: Vec<Vec<Credential>> = endpoints.iter().map(owned).collect();
        Fingerprint::of(endpoints.iter().map(Vec::as_slice))
    };
    assert_eq!(of(&[&[&one, &two]]), of(&[&[&one.clone(), &two]]));
    let all = [
        of(&[&[]]),
        of(&[&[&one]]),
        of(&[&[&two]]),
        of(&[&[&one, &two]]),
        of(&[&[&two, &one]]),
        of(&[&[&one], &[]]),
        of(&[&[], &[&one]]),
        of(&[&[&one], &[&two]]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(all.iter().skip(at + 1).all(|another| one != another));
    }
    assert_eq!(format!("{one:?}"), "Credential", "nothing of it is shown");
}

#[test]
fn globs_are_those_of_the_go_library() {
    for (glob, word, matches) in [
        ("*", "", true),
        ("*", "abc", true),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "abcd", false),
        ("a*b*c", "aXbYbZc", true),
        ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("[abc]x", "bx", true),
        ("[^abc]x", "bx", false),
        ("[^abc]x", "dx", true),
        ("[a-f]*", "food", true),
        ("[", "[", false),
        ("[]a]", "a", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(is_match(glob, word), matches, "{glob} {word}");
    }
}

proptest! {
    #[test]
    fn no_key_and_no_secret_is_too_odd_to_be_read(key in "\\PC{0,40}", json in "\\PC{0,60}") {
        drop(tried(&[&key], "ghcr.io/acme/app"));
        drop(read(Form::DockerConfigJson, json.as_bytes()));
        drop(read(Form::Dockercfg, json.as_bytes()));
        prop_assert!(is_match("*", &key));
    }

    #[test]
    fn a_host_matches_itself_with_any_word_a_star(
        host in "[a-z0-9]{1,6}(\\.[a-z0-9]{1,6}){1,3}",
        starred in 0..4_usize,
    ) {
        let words: Vec<_> = host.split('.').collect();
        let glob: Vec<_> = words.iter().enumerate().map(|(at, word)| {
            if at == starred { "*" } else { *word }
        }).collect();
        prop_assert_eq!(tried(&[&glob.join(".")], &format!("{host}/app")).len(), 1);
        prop_assert_eq!(tried(&[&format!("x{}", glob.join("."))], &format!("{host}/app")).len(),
            usize::from(starred == 0 && host.starts_with('x')));
    }
}

#[test]
fn of_a_secret_with_very_many_entries_only_so_many_are_read() {
    let entries = |count: usize| {
        let entry =
            |at: usize| (format!("registry-{at}.test"), json!({"auth": STANDARD.encode("a:b")}));
        json!({"auths": (0..count).map(entry).collect::<serde_json::Map<_, _>>()}).to_string()
    };
    for (count, are_read) in [(256, 256), (40_000, 256)] {
        let read = read(Form::DockerConfigJson, entries(count).as_bytes()).unwrap();
        assert_eq!(read.len(), are_read);
    }
}
