//! A model: whatever pods write and in whichever order, a log has it all, in the order of the times.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use relay_tests::{program::is_long_run, service::Service};
use serde_json::{Value, json};

use super::{body, now};
use crate::lab::{Writer, client};

/// One line of a pod, captured so many milliseconds after the test began.
#[derive(Clone, Debug)]
struct Line {
    pod: usize,
    time: u64,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0..4_usize, 0..40_u64).prop_map(|(pod, time)| Line { pod, time });
    prop::collection::vec(line, 1..24)
}

/// What each pod wrote, with rising times.
fn by_pod(lines: &[Line]) -> BTreeMap<usize, Vec<u64>> {
    let mut pods: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for line in lines {
        pods.entry(line.pod).or_default().push(line.time);
    }
    for times in pods.values_mut() {
        times.sort_unstable();
    }
    pods
}

fn read(service: &Service, workflow: &str, query: &str, last: Option<&str>) -> String {
    let url = format!("{}/api/workflows/{workflow}/triggers/t/logs?{query}", service.url());
    let mut request = client().get(url);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().unwrap().text().unwrap()
}

/// Ids and texts of the lines of an event stream.
fn events(text: &str) -> Vec<(String, String)> {
    let events = text.split("\n\n").filter_map(|event| {
        let (id, data) = event.strip_prefix("id: ")?.split_once("\ndata: ")?;
        let record: Value = serde_json::from_str(data).unwrap();
        Some((id.to_owned(), record["text"].as_str()?.trim_end().to_owned()))
    });
    events.collect()
}

fn check(
    service: &Service,
    workflow: &str,
    lines: &[Line],
    tail: usize,
) -> Result<(), TestCaseError> {
    let begin = now();
    let pods = by_pod(lines);
    let mut expected = Vec::new();
    for (pod, times) in &pods {
        let part = json!({ "workflow": workflow, "trigger": "t" });
        let mut writer = Writer::at(service, &body(&format!("{workflow}-{pod}"), &part)).0;
        for (number, time) in times.iter().enumerate() {
            let text = format!("{time:02} {pod} {number}\n");
            let at = format!("{}={}", writer.position(), begin + time);
            writer.write_timed(text.as_bytes(), &at);
            expected.push(text.trim_end().to_owned());
        }
        if pod % 2 == 0 {
            writer.finish();
        }
    }
    let sorted = |mut lines: Vec<String>| {
        lines.sort_unstable();
        lines
    };
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let whole = shown(&read(service, workflow, "", None));
    // Times rise, and lines of equal times keep the order of their stream.
    let times = |lines: &[String]| {
        lines.iter().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    prop_assert_eq!(times(&whole), sorted(times(&expected)));
    prop_assert_eq!(sorted(whole.clone()), sorted(expected));
    let last = shown(&read(service, workflow, &format!("tail={tail}"), None));
    let from = whole.len().saturating_sub(tail);
    prop_assert_eq!(times(&last), times(&whole[from..]));
    let last = events(&read(service, workflow, &format!("format=sse&tail={tail}"), None));
    let text = |events: &[(String, String)]| {
        events.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>()
    };
    for (seen, (id, _)) in last.iter().enumerate() {
        let rest = events(&read(service, workflow, "format=sse", Some(id)));
        prop_assert_eq!(sorted(text(&rest)), sorted(text(&last[seen + 1..])), "after {}", seen + 1);
    }
    let all = events(&read(service, workflow, "format=sse", None));
    let (id, _) = &all[tail % all.len()];
    let rest = events(&read(service, workflow, "format=sse", Some(id)));
    let seen = all[..=tail % all.len()].iter().chain(&rest).map(|(_, text)| text.clone());
    prop_assert_eq!(sorted(seen.collect()), sorted(whole));
    Ok(())
}

#[test]
fn a_log_of_many_pods_has_every_line_once_in_order_however_it_is_read() {
    let service = Service::in_memory();
    let cases = if is_long_run() { 400 } else { 24 };
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let number = std::cell::Cell::new(0_u32);
    let run = runner.run(&(lines(), 0..30_usize), |(lines, tail)| {
        number.set(number.get() + 1);
        check(&service, &format!("w{}", number.get()), &lines, tail)
    });
    run.unwrap();
}
