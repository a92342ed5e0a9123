//! From the digest of an image to what it runs on each platform. Pure: says what to get next.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    config::{Found, ImageConfig, Platform},
    digest::Digest,
    manifest::{Content, Entry, Image, Nodes, choose},
    platforms::Platforms,
    why::Why,
};

/// Indexes within indexes.
const MAX_DEPTH: usize = 3;
/// Platforms of one image for which it is looked up what it runs.
const MAX_PLATFORMS: usize = 16;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Get this.
    Get(Digest),
    /// All is there.
    Done(Result<Found, Why>),
}

/// Where a way down from the image ends.
enum End<'held> {
    Image(&'held ImageConfig),
    Missing(Digest),
    /// There is nothing for the platform.
    Nothing,
    TooDeep,
}

/// Says what an image runs on each of these platforms, or what must be known first.
///
/// An image that is no index is run everywhere, whatever it says that it is for; of an index only what fits is run. On a
/// platform for which it has nothing the pod cannot start, so that nothing has to be known for it.
pub(super) fn descend<'held>(
    root: &Digest,
    platforms: &Platforms,
    held: impl Fn(&Digest) -> Option<&'held Content>,
    wrong: impl Fn(&str) -> Why,
) -> Step {
    let entries = match held(root) {
        None => return Step::Get(root.clone()),
        Some(Content::Image(image)) => {
            return Step::Done(Ok(Found::One(image.config.clone())));
        }
        Some(Content::Index(entries)) => entries,
    };
    let wanted = wanted(entries, platforms);
    if wanted.len() > MAX_PLATFORMS {
        let because = format!("it may run on more than {MAX_PLATFORMS} platforms");
        return Step::Done(Err(wrong(&because)));
    }
    let mut found = BTreeMap::new();
    for platform in &wanted {
        let [younger, older] =
            [Nodes::Younger, Nodes::Older].map(|nodes| walk(entries, platform, nodes, &held));
        match (younger, older) {
            (End::Missing(digest), _) | (_, End::Missing(digest)) => return Step::Get(digest),
            (End::TooDeep, _) | (_, End::TooDeep) => {
                return Step::Done(Err(wrong("its indexes lead too deep")));
            }
            (End::Image(one), End::Image(another)) if one != another => {
                let because = "which of its images runs differs from node to node (os.features)";
                return Step::Done(Err(wrong(because)));
            }
            // Where there is nothing for a node, the pod cannot start.
            (End::Image(config), _) | (_, End::Image(config)) => {
                found.insert(platform.clone(), config.clone());
            }
            (End::Nothing, End::Nothing) => {}
        }
    }
    Step::Done(unite(found).ok_or_else(|| Why::NoPlatform { wanted: wanted.into_iter().collect() }))
}

/// The platforms that count: those of the pod, or all that the index names.
fn wanted(entries: &[Entry], platforms: &Platforms) -> BTreeSet<Platform> {
    match platforms {
        Platforms::Of(all) => all.clone(),
        Platforms::Any => {
            let named = entries.iter().filter_map(|entry| entry.platform.clone());
            // Others are not for nodes: attestations are for `unknown/unknown`.
            named.filter(|platform| platform.os == "linux").collect()
        }
    }
}

fn walk<'held>(
    entries: &'held [Entry],
    platform: &Platform,
    nodes: Nodes,
    held: &impl Fn(&Digest) -> Option<&'held Content>,
) -> End<'held> {
    let mut entries = entries;
    for _ in 0..MAX_DEPTH {
        let Some(entry) = choose(entries, platform, nodes) else { return End::Nothing };
        match held(&entry.digest) {
            None => return End::Missing(entry.digest.clone()),
            Some(Content::Index(deeper)) => entries = deeper,
            Some(Content::Image(Image { config, platform: own })) => {
                let fits = entry.platform.is_some() || platform.runs().contains(own);
                return if fits { End::Image(config) } else { End::Nothing };
            }
        }
    }
    End::TooDeep
}

/// One, if all are equal; `None` if there is none.
fn unite(found: BTreeMap<Platform, ImageConfig>) -> Option<Found> {
    let first = found.values().next()?;
    if found.values().all(|config| config == first) {
        return Some(Found::One(first.clone()));
    }
    Some(Found::PerPlatform(found))
}

#[cfg(test)]
mod tests {
    use super::{
        BTreeMap, Content, Digest, Entry, Found, Image, ImageConfig, Platform, Platforms, Step,
        Why, descend,
    };
    use std::collections::HashMap;

    fn platform(text: &str) -> Platform {
        let mut words = text.split('/');
        let mut next = || words.next().unwrap_or_default();
        Platform::new(next(), next(), next())
    }

    fn config(word: &str) -> ImageConfig {
        ImageConfig { entrypoint: Some(vec![word.to_owned()]), cmd: None }
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// A registry of content by name, and what was got from it.
    #[derive(Default)]
    struct Registry {
        all: HashMap<Digest, Content>,
        got: HashMap<Digest, Content>,
    }

    impl Registry {
        fn image(mut self, name: &str, says: &str, runs: &str) -> Self {
            let image = Image { config: config(runs), platform: platform(says) };
            self.all.insert(digest(name), Content::Image(image));
            self
        }

        fn index(mut self, name: &str, entries: &[(&str, &str)]) -> Self {
            let entry = |(name, on): &(&str, &str)| Entry {
                digest: digest(name),
                platform: (!on.is_empty()).then(|| platform(on)),
                has_features: false,
            };
            let index = Content::Index(entries.iter().map(entry).collect());
            self.all.insert(digest(name), index);
            self
        }

        /// Gets what is asked for until there is an answer.
        fn find(&mut self, platforms: &[&str]) -> Result<Found, Why> {
            let platforms = match platforms {
                [] => Platforms::Any,
                all => Platforms::Of(all.iter().map(|text| platform(text)).collect()),
            };
            let wrong =
                |because: &str| Why::Wrong { registry: String::new(), because: because.to_owned() };
            loop {
                match descend(&digest("root"), &platforms, |digest| self.got.get(digest), wrong) {
                    Step::Done(found) => return found,
                    Step::Get(digest) => {
                        let content = self.all[&digest].clone();
                        assert!(self.got.insert(digest, content).is_none(), "asked for twice");
                    }
                }
            }
        }
    }

    fn per_platform(all: &[(&str, &str)]) -> Found {
        let all = all.iter().map(|(on, runs)| (platform(on), config(runs)));
        Found::PerPlatform(all.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn what_is_no_index_runs_everywhere() {
        let mut registry = Registry::default().image("root", "linux/arm64", "a");
        assert_eq!(registry.find(&["linux/amd64"]), Ok(Found::One(config("a"))));
    }

    #[test]
    fn platforms_are_told_apart_only_where_they_differ() {
        let registry = || {
            Registry::default()
                .index(
                    "root",
                    &[
                        ("1", "linux/amd64"),
                        ("2", "linux/arm64"),
                        ("3", "linux/s390x"),
                        ("4", "unknown/unknown"),
                    ],
                )
                .image("1", "linux/amd64", "a")
                .image("2", "linux/arm64", "a")
                .image("3", "linux/s390x", "b")
                .image("4", "unknown/unknown", "c")
        };
        let find = |platforms: &[&str]| {
            let mut registry = registry();
            let found = registry.find(platforms).unwrap();
            (found, registry.got.len())
        };
        assert_eq!(find(&["linux/amd64"]), (Found::One(config("a")), 2));
        assert_eq!(find(&["linux/amd64", "linux/arm64"]), (Found::One(config("a")), 3));
        let differing = per_platform(&[("linux/amd64", "a"), ("linux/s390x", "b")]);
        assert_eq!(find(&["linux/amd64", "linux/s390x"]), (differing, 3));
        let all = [("linux/amd64", "a"), ("linux/arm64", "a"), ("linux/s390x", "b")];
        assert_eq!(find(&[]), (per_platform(&all), 4));
        let one = find(&["linux/amd64", "linux/riscv64"]);
        assert_eq!(one, (Found::One(config("a")), 2), "it cannot start elsewhere");
    }

    #[test]
    fn what_older_nodes_run_and_younger_ones_do_not_must_be_the_same() {
        let find = |first: &str, second: &[&str]| {
            let mut entries = vec![("1", "linux/amd64")];
            entries.extend(second.iter().map(|name| (*name, "linux/amd64")));
            let mut registry = Registry::default()
                .index("root", &entries)
                .image("1", "linux/amd64", first)
                .image("2", "linux/amd64", "b");
            if let Some(Content::Index(entries)) = registry.all.get_mut(&digest("root")) {
                entries[0].has_features = true;
            }
            registry.find(&["linux/amd64"])
        };
        assert!(matches!(find("a", &["2"]), Err(Why::Wrong { .. })));
        assert_eq!(find("b", &["2"]), Ok(Found::One(config("b"))));
        assert_eq!(find("a", &[]), Ok(Found::One(config("a"))), "younger nodes start nothing");
    }

    #[test]
    fn an_image_for_no_platform_of_the_pod_is_named() {
        let mut registry = Registry::default().index("root", &[("1", "linux/amd64")]);
        let wanted = vec![platform("linux/arm64")];
        assert_eq!(registry.find(&["linux/arm64"]), Err(Why::NoPlatform { wanted }));
        let mut registry = Registry::default().index("root", &[]);
        assert_eq!(registry.find(&[]), Err(Why::NoPlatform { wanted: vec![] }));
    }

    #[test]
    fn what_an_index_does_not_say_the_image_says() {
        let registry =
            || Registry::default().index("root", &[("1", "")]).image("1", "linux/arm64", "a");
        assert_eq!(registry().find(&["linux/arm64"]), Ok(Found::One(config("a"))));
        assert!(registry().find(&["linux/amd64"]).is_err());
    }

    #[test]
    fn indexes_may_lead_to_indexes_but_not_for_ever() {
        let mut registry = Registry::default()
            .index("root", &[("1", "linux/amd64")])
            .index("1", &[("2", "linux/amd64")])
            .image("2", "linux/amd64", "a");
        assert_eq!(registry.find(&["linux/amd64"]), Ok(Found::One(config("a"))));
        let mut endless = Registry::default()
            .index("root", &[("1", "linux/amd64")])
            .index("1", &[("root", "linux/amd64")]);
        assert!(matches!(endless.find(&["linux/amd64"]), Err(Why::Wrong { .. })));
    }

    #[test]
    fn an_image_for_too_many_platforms_is_not_looked_through() {
        let names: Vec<_> = (0..17).map(|number| format!("linux/kind{number}")).collect();
        let entries: Vec<_> = names.iter().map(|name| ("1", name.as_str())).collect();
        let mut registry = Registry::default().index("root", &entries).image("1", "linux/x", "a");
        assert!(matches!(registry.find(&[]), Err(Why::Wrong { .. })));
        assert_eq!(registry.find(&["linux/kind3"]), Ok(Found::One(config("a"))));
    }
}
