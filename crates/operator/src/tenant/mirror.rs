//! A kind of objects as a watch shows it, each reduced to what plans depend on.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use kube::{ResourceExt, runtime::watcher::Event};

/// Objects of one kind by namespace and name. What belongs to no namespace is kept under the empty
/// one.
#[derive(Debug)]
pub(super) struct Mirror<Seen> {
    held: Held<Seen>,
    /// While the watch lists all again: what it has named so far.
    listed: Held<Seen>,
    /// Newest version that the watch has shown.
    latest: u64,
    /// How many objects of a namespace are kept.
    most: usize,
}

type Held<Seen> = HashMap<String, BTreeMap<String, Seen>>;

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that a plan depends on.
    Nothing,
    /// The object of this namespace and name.
    Of(String, String),
    /// Perhaps everything: the watch has listed all.
    All,
}

impl<Seen> Default for Mirror<Seen> {
    fn default() -> Self {
        Self { held: Held::new(), listed: Held::new(), latest: 0, most: usize::MAX }
    }
}

impl<Seen: PartialEq> Mirror<Seen> {
    /// Keeps so many objects of a namespace, and no others while these are there: for kinds of which anybody can make
    /// any number, and of which only some matter.
    pub(super) fn at_most(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// What is held of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Option<&BTreeMap<String, Seen>> {
        self.held.get(namespace)
    }

    /// Takes in the answer to a write, unless the watch has come as far: then it knows that, and perhaps more.
    pub(super) fn wrote<K: ResourceExt>(
        &mut self,
        object: &K,
        reduce: impl Fn(&K) -> Option<Seen>,
    ) {
        if version(object) > self.latest {
            let (namespace, name) = key(object);
            put(&mut self.held, self.most, (&namespace, name), reduce(object));
        }
    }

    /// Takes in what a watch says. `reduce` gives nothing for objects that no plan depends on.
    pub(super) fn take<K: ResourceExt>(
        &mut self,
        event: Event<K>,
        reduce: impl Fn(&K) -> Option<Seen>,
    ) -> Change {
        if let Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) = &event {
            self.latest = self.latest.max(version(object));
        }
        match event {
            Event::Init => self.listed = Held::new(),
            Event::InitApply(object) => {
                let (namespace, name) = key(&object);
                put(&mut self.listed, self.most, (&namespace, name), reduce(&object));
            }
            Event::InitDone => {
                self.held = mem::take(&mut self.listed);
                return Change::All;
            }
            Event::Apply(object) => {
                let (namespace, name) = key(&object);
                if put(&mut self.held, self.most, (&namespace, name.clone()), reduce(&object)) {
                    return Change::Of(namespace, name);
                }
            }
            Event::Delete(object) => {
                let (namespace, name) = key(&object);
                if put(&mut self.held, self.most, (&namespace, name.clone()), None) {
                    return Change::Of(namespace, name);
                }
            }
        }
        Change::Nothing
    }
}

/// Versions of one kind are numbers that grow; 0 if there is none.
fn version<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn key<K: ResourceExt>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Puts an object in its place, or takes it away; says whether that changed anything.
fn put<Seen: PartialEq>(
    held: &mut Held<Seen>,
    most: usize,
    (namespace, name): (&str, String),
    seen: Option<Seen>,
) -> bool {
    let Some(seen) = seen else {
        let Some(there) = held.get_mut(namespace) else { return false };
        let removed = there.remove(&name).is_some();
        if there.is_empty() {
            held.remove(namespace);
        }
        return removed;
    };
    let there = held.entry(namespace.to_owned()).or_default();
    let is_full = there.len() >= most && !there.contains_key(&name);
    if is_full || there.get(&name) == Some(&seen) {
        return false;
    }
    there.insert(name, seen);
    true
}

#[cfg(test)]
mod tests {
    use super::{Change, Mirror};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{ResourceExt, runtime::watcher::Event};

    fn object(name: &str, value: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.namespace = Some("here".to_owned());
        object.labels_mut().insert("value".to_owned(), value.to_owned());
        object
    }

    fn value(object: &ConfigMap) -> Option<String> {
        object.labels().get("value").filter(|value| !value.is_empty()).cloned()
    }

    fn take(mirror: &mut Mirror<String>, event: Event<ConfigMap>) -> Change {
        mirror.take(event, value)
    }

    #[test]
    fn what_a_second_list_does_not_name_is_gone() {
        let mut mirror = Mirror::default();
        let change = |name: &str| Change::Of("here".to_owned(), name.to_owned());
        assert_eq!(take(&mut mirror, Event::Apply(object("a", "1"))), change("a"));
        assert_eq!(take(&mut mirror, Event::Apply(object("a", "1"))), Change::Nothing);
        for event in [Event::Init, Event::InitApply(object("b", "2"))] {
            assert_eq!(take(&mut mirror, event), Change::Nothing);
            assert!(mirror.of("here").unwrap().contains_key("a"), "a list is not over");
        }
        assert_eq!(take(&mut mirror, Event::InitDone), Change::All);
        assert_eq!(mirror.of("here").unwrap().keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(take(&mut mirror, Event::Apply(object("b", ""))), change("b"));
        assert_eq!(take(&mut mirror, Event::Delete(object("b", "2"))), Change::Nothing);
        assert_eq!(mirror.of("here"), None);
    }

    #[test]
    fn no_more_than_so_many_are_kept_of_a_namespace() {
        let mut mirror = Mirror::at_most(1);
        let change = |name: &str| Change::Of("here".to_owned(), name.to_owned());
        assert_eq!(take(&mut mirror, Event::Apply(object("a", "1"))), change("a"));
        assert_eq!(take(&mut mirror, Event::Apply(object("b", "1"))), Change::Nothing);
        assert_eq!(take(&mut mirror, Event::Apply(object("a", "2"))), change("a"));
        assert_eq!(take(&mut mirror, Event::Delete(object("a", "2"))), change("a"));
        assert_eq!(take(&mut mirror, Event::Apply(object("b", "2"))), change("b"));
    }

    #[test]
    fn what_was_written_is_seen_until_the_watch_knows_better() {
        let at = |version: &str, value: &str| {
            let mut object = object("a", value);
            object.metadata.resource_version = Some(version.to_owned());
            object
        };
        let mut mirror = Mirror::default();
        mirror.wrote(&at("10", "1"), value);
        assert_eq!(mirror.of("here").unwrap()["a"], "1");
        assert_eq!(take(&mut mirror, Event::Apply(at("10", "1"))), Change::Nothing);
        take(&mut mirror, Event::Apply(at("11", "2")));
        mirror.wrote(&at("10", "1"), value);
        assert_eq!(mirror.of("here").unwrap()["a"], "2", "an answer that comes late");
        take(&mut mirror, Event::Delete(at("12", "2")));
        mirror.wrote(&at("11", "2"), value);
        assert_eq!(mirror.of("here"), None);
    }
}
