//! What is said of each operation.

use relay_protocol::{
    read::{PodList, PodLogs, Record, WorkflowStepState, WorkflowTriggerState, WorkflowTriggers},
    write::{CreateStream, EndStream, MarkRange, StreamCreated, StreamEnded},
};

use crate::api::openapi::{Answer, Caller, Form, Header, Operation, Parameter, Place, Value};

/// Refusals that any operation may give: of the form, of the caller, of the service.
const READING: &[u16] = &[400, 401, 404, 503];
const READING_LOGS: &[u16] = &[400, 401, 404, 406, 409, 416, 503];
/// Of names of workflows that are in several namespaces.
const READING_WORKFLOWS: &[u16] = &[400, 401, 404, 409, 503];
const WRITING: &[u16] = &[400, 404, 408, 409, 413, 415, 416, 422, 429, 500, 503, 507];

const NAMESPACE: Parameter = Parameter {
    name: "namespace",
    place: Place::Query,
    value: Value::Text,
    about: "The namespace whose workflow is meant. Without it, it is the only one with such a \
            workflow that the caller may read; if there are several, the answer is 409 and names \
            them.",
};

const LAST_EVENT_ID: Parameter = Parameter {
    name: "Last-Event-ID",
    place: Place::Header,
    value: Value::Text,
    about: "The id of the last event that was received, to go on behind it.",
};

const RANGE: Parameter = Parameter {
    name: "Range",
    place: Place::Header,
    value: Value::Text,
    about: "Of exact bytes, these only: bytes=a-b.",
};

/// The parameters of all requests for logs; those of a pod have `previous`, too.
const LOG_PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "container",
        place: Place::Query,
        value: Value::Text,
        about: "One container. Needed for the log of a pod that has several.",
    },
    Parameter {
        name: "stream",
        place: Place::Query,
        value: Value::Text,
        about: "One stream: stdout, stderr or another.",
    },
    Parameter {
        name: "instance",
        place: Place::Query,
        value: Value::Text,
        about: "One run of a container, as records name it.",
    },
    Parameter {
        name: "follow",
        place: Place::Query,
        value: Value::Truth,
        about: "Go on as bytes become durable, until the log ends. May begin before the first byte.",
    },
    Parameter {
        name: "tail",
        place: Place::Query,
        value: Value::Integer,
        about: "The last lines only; -1 for all.",
    },
    Parameter {
        name: "since",
        place: Place::Query,
        value: Value::Text,
        about: "Lines captured since then: a duration as 90s or 1h30m, or a time (RFC 3339).",
    },
    Parameter {
        name: "timestamps",
        place: Place::Query,
        value: Value::Truth,
        about: "The capture time before each line of text.",
    },
    Parameter {
        name: "format",
        place: Place::Query,
        value: Value::OneOf(&["text", "raw", "ndjson", "sse"]),
        about: "In place of the header Accept.",
    },
    LAST_EVENT_ID,
    RANGE,
];

const PREVIOUS: Parameter = Parameter {
    name: "previous",
    place: Place::Query,
    value: Value::Truth,
    about: "The run of the container before the last, instead of all.",
};

const CONTENT_RANGE: Parameter = Parameter {
    name: "Content-Range",
    place: Place::Header,
    value: Value::Text,
    about: "Where the bytes belong: bytes a-b/*. Without it, where the stream ends.",
};

const APPENDING: &[Parameter] = &[
    CONTENT_RANGE,
    Parameter {
        name: "Content-Encoding",
        place: Place::Header,
        value: Value::OneOf(&["gzip", "zstd"]),
        about: "How the body is compressed.",
    },
    Parameter {
        name: "Idempotency-Key",
        place: Place::Header,
        value: Value::Text,
        about: "Makes an append without a range safe to repeat.",
    },
    Parameter {
        name: "Relay-Times",
        place: Place::Header,
        value: Value::Text,
        about: "When the bytes from an offset on were captured: offset=ms,…",
    },
    Parameter {
        name: "Relay-Flush",
        place: Place::Header,
        value: Value::OneOf(&["now"]),
        about: "Store at once.",
    },
];

/// What is durable of a stream.
const OFFSETS: &[Header] = &[UPLOAD_OFFSET, GAPS];
const APPENDED: &[Header] = &[
    Header { name: "Content-Range", about: "Where the bytes are: bytes a-b/*." },
    UPLOAD_OFFSET,
    GAPS,
];
const UPLOAD_OFFSET: Header =
    Header { name: "Upload-Offset", about: "The first byte that is neither stored nor marked." };
const GAPS: Header =
    Header { name: "Relay-Gaps", about: "The first 16 missing ranges behind it: a-b,c-d." };

/// A log in all its forms.
fn log() -> Vec<Answer> {
    let forms = || {
        vec![
            Form::text("text/plain"),
            Form::bytes("application/octet-stream"),
            Form::lines::<Record>("application/x-ndjson"),
            Form::text("text/event-stream"),
        ]
    };
    vec![
        Answer { status: 200, about: "The log.", forms: forms(), headers: &[] },
        Answer {
            status: 204,
            about: "An event stream that comes back was read to the end of the log.",
            forms: Vec::new(),
            headers: &[],
        },
        Answer {
            status: 206,
            about: "The range that was asked for.",
            forms: vec![Form::bytes("application/octet-stream")],
            headers: &[Header { name: "Content-Range", about: "Which of the stream's bytes." }],
        },
    ]
}

fn json<T: schemars::JsonSchema>(status: u16, about: &'static str) -> Vec<Answer> {
    vec![Answer { status, about, forms: vec![Form::json::<T>()], headers: &[] }]
}

fn reading(id: &'static str, about: &'static str, answers: Vec<Answer>) -> Operation {
    Operation {
        id,
        about,
        caller: Caller::Reader,
        parameters: Vec::new(),
        body: None,
        answers,
        refusals: READING,
    }
}

fn writing(id: &'static str, about: &'static str, answers: Vec<Answer>) -> Operation {
    Operation {
        id,
        about,
        caller: Caller::Writer,
        parameters: Vec::new(),
        body: None,
        answers,
        refusals: WRITING,
    }
}

pub(super) fn create() -> Operation {
    let about = "Creates a stream, or finds the caller's own.";
    Operation {
        caller: Caller::Pod,
        body: Some(Form::json::<CreateStream>()),
        refusals: &[400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 503, 507],
        ..writing("createStream", about, json::<StreamCreated>(200, "The stream."))
    }
}

pub(super) fn append(id: &'static str) -> Operation {
    let about = "Appends bytes. Both methods mean the same.";
    let told = "The bytes are durable.";
    let answer = Answer { status: 202, about: told, forms: Vec::new(), headers: APPENDED };
    Operation {
        parameters: APPENDING.to_vec(),
        body: Some(Form::bytes("application/octet-stream")),
        ..writing(id, about, vec![answer])
    }
}

pub(super) fn head() -> Operation {
    let about = "Says in Upload-Offset and Relay-Gaps what is durable of the stream.";
    let answer = Answer { status: 200, about: "In headers.", forms: Vec::new(), headers: OFFSETS };
    Operation { refusals: &[404, 500, 503], ..writing("getOffset", about, vec![answer]) }
}

pub(super) fn mark() -> Operation {
    let about = "Says that bytes will never come.";
    let told = "The marker is durable.";
    let answer = Answer { status: 202, about: told, forms: Vec::new(), headers: &[] };
    Operation {
        body: Some(Form::json::<MarkRange>()),
        refusals: &[400, 404, 408, 409, 413, 415, 422, 500, 503, 507],
        ..writing("markBytes", about, vec![answer])
    }
}

pub(super) fn end() -> Operation {
    let about = "Says that the stream is over.";
    Operation {
        body: Some(Form::json::<EndStream>()),
        refusals: &[400, 404, 408, 409, 413, 415, 422, 500, 503, 507],
        ..writing("endStream", about, json::<StreamEnded>(202, "The end is durable."))
    }
}

pub(super) fn pods() -> Operation {
    let about = "Lists the pods of a namespace that have a log.";
    reading("listPods", about, json::<PodList>(200, "The pods, by name."))
}

pub(super) fn pod() -> Operation {
    reading("getPod", "Says what is kept of a pod.", json::<PodLogs>(200, "Its streams."))
}

pub(super) fn pod_logs() -> Operation {
    let parameters = LOG_PARAMETERS.iter().copied().chain([PREVIOUS]).collect();
    let about = "Reads or follows the log of a container of a pod.";
    Operation { parameters, refusals: READING_LOGS, ..reading("readPodLog", about, log()) }
}

fn of_workflow(refusals: &'static [u16], operation: Operation) -> Operation {
    let mut parameters = operation.parameters;
    parameters.push(NAMESPACE);
    Operation { parameters, refusals, ..operation }
}

pub(super) fn triggers() -> Operation {
    let about = "Lists the triggers of a workflow that have a log.";
    let answers = json::<WorkflowTriggers>(200, "The triggers, by id.");
    of_workflow(READING_WORKFLOWS, reading("listTriggers", about, answers))
}

pub(super) fn trigger() -> Operation {
    let about = "Says what is kept of a trigger.";
    let answers = json::<WorkflowTriggerState>(200, "The trigger with its streams.");
    of_workflow(READING_WORKFLOWS, reading("getTrigger", about, answers))
}

pub(super) fn trigger_logs() -> Operation {
    let about = "Reads or follows the log of a trigger: the streams of all its pods together. A \
                 trigger is always in progress, so followers stay until they leave.";
    let operation = reading("readTriggerLog", about, log());
    let parameters = LOG_PARAMETERS.to_vec();
    of_workflow(READING_LOGS, Operation { parameters, ..operation })
}

pub(super) fn step() -> Operation {
    let about = "Says what is kept of a step of a run.";
    let answers = json::<WorkflowStepState>(200, "The step with its streams.");
    of_workflow(READING_WORKFLOWS, reading("getStep", about, answers))
}

pub(super) fn step_logs() -> Operation {
    let about = "Reads or follows the log of a step of a run: the streams of all its pods \
                 together. Following ends when all of them have ended.";
    let operation = reading("readStepLog", about, log());
    let parameters = LOG_PARAMETERS.to_vec();
    of_workflow(READING_LOGS, Operation { parameters, ..operation })
}

pub(super) fn operating(
    id: &'static str,
    about: &'static str,
    form: Form,
    refusals: &'static [u16],
) -> Operation {
    let answer =
        Answer { status: 200, about: "Yes, or the text.", forms: vec![form], headers: &[] };
    Operation { caller: Caller::Anybody, refusals, ..reading(id, about, vec![answer]) }
}

pub(super) fn document() -> Operation {
    let answer = Answer {
        status: 200,
        about: "An OpenAPI 3.1 document.",
        forms: vec![Form::json::<serde_json::Map<String, serde_json::Value>>()],
        headers: &[],
    };
    Operation {
        caller: Caller::Anybody,
        refusals: &[],
        ..reading("getOpenApi", "This document.", vec![answer])
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_PARAMETERS, PREVIOUS, Place, Value};
    use crate::read::query::Query;

    #[test]
    fn the_parameters_that_are_told_are_those_that_are_understood() {
        let mut told = Vec::new();
        for parameter in LOG_PARAMETERS.iter().chain([&PREVIOUS]) {
            let example = match (parameter.name, parameter.value) {
                ("since", _) => "5s",
                (_, Value::Text) => "main",
                (_, Value::Integer) => "-1",
                (_, Value::Truth) => "true",
                (_, Value::OneOf(values)) => values[0],
            };
            if matches!(parameter.place, Place::Query) {
                told.push((parameter.name.to_owned(), example.to_owned()));
            }
        }
        Query::parse(&told).unwrap();
        let unknown = Query::parse(&[("x".to_owned(), String::new())]).unwrap_err().to_string();
        let (_, known) = unknown.split_once("there are ").unwrap();
        let mut known: Vec<&str> = known.split(" and ").flat_map(|some| some.split(", ")).collect();
        let mut told: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
    }
}
