//! `relay ls`: what is kept.

use jiff::Timestamp;
use relay_protocol::{
    name::{Namespace, PodName},
    read::{PodList, PodLogs, StreamState},
    time::UnixMillis,
    write::EndReason,
};

use crate::{
    client::{Client, ClientError},
    output::{Output, WriteError},
    render::Printed,
};

/// What to list.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) namespace: Namespace,
    /// The streams of this pod; all pods if absent.
    pub(crate) pod: Option<PodName>,
    pub(crate) form: Form,
}

/// How to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

/// Why nothing was listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "no log of pod {pod} in namespace {namespace}: `{program} ls -n {namespace}` lists the pods that have one{advice}"
    )]
    NoLog { pod: PodName, namespace: Namespace, program: &'static str, advice: String },
    #[error(
        "nothing in namespace {namespace} is yours to see: `kubectl auth can-i get pods --subresource=log -n {namespace}`"
    )]
    NotAllowed { namespace: Namespace },
    #[error("failed to write the list as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Output(#[from] WriteError),
}

/// Prints the list.
///
/// # Errors
///
/// All of [`ListError`].
pub(crate) async fn run(client: &Client, request: &Request) -> Result<(), ListError> {
    let mut output = Output::new();
    let text = match &request.pod {
        None => {
            let list = client.pods(&request.namespace).await.map_err(|error| {
                // The list of a namespace without logs is empty.
                if error.is_not_found() && client.is_in_cluster() {
                    return ListError::NotAllowed { namespace: request.namespace.clone() };
                }
                error.into()
            })?;
            if list.pods.is_empty() && request.form == Form::Table {
                output.tell(&format!("no logs in namespace {}", request.namespace)).await;
                return Ok(());
            }
            match request.form {
                Form::Json => serde_json::to_string(&list)? + "\n",
                Form::Table => table(&pods(&list)),
            }
        }
        Some(pod) => {
            let logs = client.pod(&request.namespace, pod).await.map_err(|error| {
                if error.is_not_found() {
                    let namespace = request.namespace.clone();
                    let (program, advice) = (client.program(), client.advice(&namespace));
                    return ListError::NoLog { pod: pod.clone(), namespace, program, advice };
                }
                error.into()
            })?;
            match request.form {
                Form::Json => serde_json::to_string(&logs)? + "\n",
                Form::Table => table(&streams(&logs)),
            }
        }
    };
    let mut printed = Printed { stdout: text.into_bytes(), stderr: Vec::new() };
    Ok(output.print(&mut printed).await?)
}

fn pods(list: &PodList) -> Vec<Vec<String>> {
    let header = ["POD", "CONTAINERS", "RUNS", "BYTES", "CREATED", "STATE"];
    let row = |pod: &PodLogs| {
        let count = |names: Vec<&str>| {
            let names: std::collections::BTreeSet<_> = names.into_iter().collect();
            names.len().to_string()
        };
        let bytes: u64 = pod.streams.iter().map(|stream| stream.length).sum();
        let created = pod.streams.iter().map(|stream| stream.created).min();
        vec![
            pod.pod.to_string(),
            count(pod.streams.iter().map(|stream| stream.source.container.as_str()).collect()),
            count(pod.streams.iter().map(|stream| stream.source.instance.as_str()).collect()),
            bytes.to_string(),
            created.map(time).unwrap_or_default(),
            state_of_pod(&pod.streams),
        ]
    };
    std::iter::once(header.map(str::to_owned).to_vec()).chain(list.pods.iter().map(row)).collect()
}

fn streams(logs: &PodLogs) -> Vec<Vec<String>> {
    let header = ["CONTAINER", "RUN", "STREAM", "BYTES", "CREATED", "STATE"];
    let row = |stream: &StreamState| {
        vec![
            stream.source.container.to_string(),
            stream.source.instance.to_string(),
            stream.source.stream.to_string(),
            stream.length.to_string(),
            time(stream.created),
            state(stream),
        ]
    };
    std::iter::once(header.map(str::to_owned).to_vec())
        .chain(logs.streams.iter().map(row))
        .collect()
}

/// A pod runs while any of its streams does; then the one created last tells how it ended.
fn state_of_pod(streams: &[StreamState]) -> String {
    let running = streams.iter().find(|stream| stream.end.is_none());
    running.or(streams.last()).map(state).unwrap_or_default()
}

fn state(stream: &StreamState) -> String {
    let status = stream.exit.map(|exit| format!(", status {exit}")).unwrap_or_default();
    match stream.end {
        None => "running".to_owned(),
        Some(EndReason::Eof) => format!("ended{status}"),
        Some(EndReason::Killed) => format!("killed{status}"),
        Some(EndReason::Abandoned) => "abandoned".to_owned(),
    }
}

fn time(UnixMillis(millis): UnixMillis) -> String {
    let time =
        i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map(|time| format!("{time:.0}")).unwrap_or_default()
}

/// Columns as wide as their longest cell, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{pods, streams, table};
    use relay_protocol::read::{PodList, PodLogs};

    fn pod() -> PodLogs {
        serde_json::from_str(
            r#"{"namespace":"local","pod":"build-7","streams":[
            {"container":"main","instance":"a1","stream":"stdout","created":1000,"length":12,"end":"eof","exit":7},
            {"container":"main","instance":"a1","stream":"stderr","created":1000,"length":0}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn pods_and_streams_are_listed_in_columns() {
        let list = table(&pods(&PodList { pods: vec![pod()] }));
        let expected = "POD      CONTAINERS  RUNS  BYTES  CREATED               STATE\n\
                        build-7  1           1     12     1970-01-01T00:00:01Z  running\n";
        assert_eq!(list, expected);
        let list = table(&streams(&pod()));
        let expected = "CONTAINER  RUN  STREAM  BYTES  CREATED               STATE\n\
                        main       a1   stdout  12     1970-01-01T00:00:01Z  ended, status 7\n\
                        main       a1   stderr  0      1970-01-01T00:00:01Z  running\n";
        assert_eq!(list, expected);
    }
}
