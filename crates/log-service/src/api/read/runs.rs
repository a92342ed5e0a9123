//! Which streams of a pod a request is about, by run of the container. Pure.

use relay_protocol::{name::ContainerName, time::UnixMillis};

use crate::{
    hub::IndexEntry,
    read::query::{Query, Runs},
};

/// The streams of one run of a container, standard output first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) created: UnixMillis,
    pub(super) streams: Vec<IndexEntry>,
}

/// The pod has several containers, and the request names none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod has several containers: add container= (relay logs -c) with one of {0}")]
pub(super) struct Ambiguous(String);

/// The container that the request is about; `None` while there is none.
pub(super) fn container(
    entries: &[IndexEntry],
    query: &Query,
) -> Result<Option<ContainerName>, Ambiguous> {
    if query.container.is_some() {
        return Ok(query.container.clone());
    }
    let mut names: Vec<&ContainerName> =
        entries.iter().map(|entry| &entry.source.container).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [] => Ok(None),
        [name] => Ok(Some(name.clone())),
        _ => Err(Ambiguous(names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "))),
    }
}

/// The runs of a container, in the order in which they began, with the streams asked for.
pub(super) fn runs(entries: &[IndexEntry], container: &ContainerName, query: &Query) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.source.container == *container) {
        let same = |run: &&mut Run| run.streams[0].source.instance == entry.source.instance;
        if let Some(run) = runs.iter_mut().find(same) {
            run.created = run.created.min(entry.created);
            run.streams.push(entry.clone());
        } else {
            runs.push(Run { created: entry.created, streams: vec![entry.clone()] });
        }
    }
    runs.sort_by_key(|run| run.created);
    if query.runs == Runs::Previous {
        runs.pop();
        runs = runs.pop().into_iter().collect();
    }
    let wanted = |entry: &IndexEntry| {
        query.stream.as_ref().is_none_or(|stream| *stream == entry.source.stream)
            && query.instance.as_ref().is_none_or(|instance| *instance == entry.source.instance)
    };
    for run in &mut runs {
        run.streams.retain(wanted);
        run.streams.sort_by_key(rank);
    }
    runs.retain(|run| !run.streams.is_empty());
    runs
}

/// Lines of equal times: standard output, standard error, others by name.
pub(super) fn rank(entry: &IndexEntry) -> (u8, String) {
    match entry.source.stream.as_str() {
        "stdout" => (0, String::new()),
        "stderr" => (1, String::new()),
        other => (2, other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{container, runs};
    use crate::{
        hub::IndexEntry,
        read::query::{Query, Runs},
    };
    use relay_protocol::{capability::StreamUuid, read::StreamRef, time::UnixMillis};

    fn entry(container: &str, instance: &str, stream: &str, created: u64) -> IndexEntry {
        let source = StreamRef {
            pod: None,
            container: container.parse().unwrap(),
            instance: instance.parse().unwrap(),
            stream: stream.parse().unwrap(),
        };
        IndexEntry { source, uuid: StreamUuid([0; 16]), created: UnixMillis(created) }
    }

    fn shown(entries: &[IndexEntry], query: &Query) -> Vec<Vec<String>> {
        let main = "main".parse().unwrap();
        let name =
            |entry: &IndexEntry| format!("{}/{}", entry.source.instance, entry.source.stream);
        runs(entries, &main, query)
            .iter()
            .map(|run| run.streams.iter().map(name).collect())
            .collect()
    }

    #[test]
    fn runs_come_in_the_order_of_their_creation_and_stdout_comes_first() {
        let entries = [
            entry("main", "a", "stderr", 1),
            entry("side", "x", "stdout", 1),
            entry("main", "a", "stdout", 2),
            entry("main", "b", "stdout", 3),
        ];
        let all = Query::default();
        assert_eq!(shown(&entries, &all), [vec!["a/stdout", "a/stderr"], vec!["b/stdout"]]);
        let previous = Query { runs: Runs::Previous, ..Query::default() };
        assert_eq!(shown(&entries, &previous), [["a/stdout", "a/stderr"]]);
        let only = Query { stream: Some("stderr".parse().unwrap()), ..Query::default() };
        assert_eq!(shown(&entries, &only), [["a/stderr"]]);
        let one = Query { instance: Some("b".parse().unwrap()), ..Query::default() };
        assert_eq!(shown(&entries, &one), [["b/stdout"]]);
        let first = Query { runs: Runs::Previous, ..Query::default() };
        assert!(shown(&entries[3..], &first).is_empty());
    }

    #[test]
    fn a_pod_with_several_containers_asks_which() {
        let entries = [entry("side", "x", "stdout", 1), entry("main", "a", "stdout", 2)];
        let error = container(&entries, &Query::default()).unwrap_err().to_string();
        assert!(error.ends_with("one of main, side"), "{error}");
        let named = Query { container: Some("new".parse().unwrap()), ..Query::default() };
        assert_eq!(container(&entries, &named), Ok(named.container.clone()));
        assert_eq!(container(&[], &Query::default()), Ok(None));
    }
}
