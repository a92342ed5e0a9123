//! Images in a real registry.

use std::collections::BTreeMap;

use relay_operator::image::{Found, Platforms};
use relay_tests::{
    certificate::Authority,
    registry::{Content, Registry},
};

use crate::lab::{Asker, Lab, REGISTRY, config, config_of, index_of, platform, runs};

/// An index as builders make them: images, what proves how they were made, and one for another system.
async fn pushed_index(registry: &Registry, repository: &str, words: [&str; 2]) -> Content {
    let [amd64, arm64] = words;
    let amd64 = registry.push_image(repository, None, &config_of(amd64, "amd64")).await;
    let arm64 = registry.push_image(repository, None, &config_of(arm64, "arm64")).await;
    let proof = registry.push_image(repository, None, &config_of("proof", "unknown")).await;
    let index = index_of(&[
        ("unknown/unknown", &proof),
        ("windows/amd64", &proof),
        ("linux/arm64/v8", &arm64),
        ("linux/amd64", &amd64),
    ]);
    registry.push_manifest(repository, "multi", &index).await;
    index
}

#[tokio::test]
async fn images_are_found_by_tag_and_digest_for_the_platforms_of_the_pod() {
    let registry = Registry::new();
    let lab = Lab::asking(&[registry.host()]);
    let one = registry.push_image("acme/one", Some("1"), &config_of("one", "amd64")).await;
    for image in ["acme/one:1".to_owned(), format!("acme/one@{}", one.digest)] {
        assert_eq!(lab.find(&format!("{REGISTRY}/{image}")).await, Ok(runs("one")), "{image}");
    }
    let index = pushed_index(&registry, "acme/multi", ["a", "b"]).await;
    let both = BTreeMap::from([
        (platform("linux/amd64"), config("a")),
        (platform("linux/arm64"), config("b")),
    ]);
    let both = Found::PerPlatform(both);
    for image in ["acme/multi:multi".to_owned(), format!("acme/multi:x@{}", index.digest)] {
        let image = format!("{REGISTRY}/{image}");
        let find = async |platforms: &[&str]| lab.find_as(&Asker::on(platforms), &image).await;
        assert_eq!(find(&["linux/amd64"]).await, Ok(runs("a")));
        assert_eq!(find(&["linux/arm64/v8"]).await, Ok(runs("b")));
        assert_eq!(find(&["linux/arm64", "linux/amd64"]).await, Ok(both.clone()));
        let anywhere = Asker { platforms: Platforms::Any, ..Asker::anybody() };
        assert_eq!(lab.find_as(&anywhere, &image).await, Ok(both.clone()));
        let clause = find(&["linux/s390x"]).await.unwrap_err();
        assert!(clause.starts_with("its image is not made for linux/s390x; build it"), "{clause}");
    }
    pushed_index(&registry, "acme/same", ["a", "a"]).await;
    let everywhere = Asker::on(&["linux/amd64", "linux/arm64"]);
    let same = format!("{REGISTRY}/acme/same:multi");
    assert_eq!(lab.find_as(&everywhere, &same).await, Ok(runs("a")));
    let clause = lab.find(&format!("{REGISTRY}/acme/none")).await.unwrap_err();
    assert!(
        clause.starts_with(&format!("{} does not have its image; push it", registry.host())),
        "{clause}"
    );
}

#[tokio::test]
async fn a_registry_with_passwords_and_its_own_authority_is_asked_by_https() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("registries");
    let registry = Registry::guarded(&authority, folder.path());
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, authority.pem()).unwrap();
    let yaml = |authorities: &str| {
        format!(
            "registries: [{{host: {REGISTRY}, endpoints: [{{url: 'https://{}', local: true, credentials: Registry{authorities}}}]}}]",
            registry.host()
        )
    };
    let trusting = Lab::with(&yaml(&format!(", authorities: '{}'", pem.display())));
    registry.push_image("acme/app", Some("1"), &config_of("a", "amd64")).await;
    let image = format!("{REGISTRY}/acme/app:1");
    let asker = Asker::named(&["nobody", "me"]);
    assert_eq!(trusting.find_as(&asker, &image).await, Ok(runs("a")));
    let clause = trusting.find(&image).await.unwrap_err();
    assert!(clause.contains("refuses its image, anonymously;"), "{clause}");
    let clause = Lab::with(&yaml("")).find_as(&asker, &image).await.unwrap_err();
    assert!(clause.contains("cannot be reached") && clause.contains("certificate"), "{clause}");
}
