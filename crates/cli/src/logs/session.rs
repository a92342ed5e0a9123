//! Connects, prints, and connects again.

use std::{cell::Cell, future::pending};

use bytes::Bytes;
use relay_protocol::context::{Context, Part};
use reqwest::{Response, StatusCode, Url};
use tokio::time::sleep;

use super::{
    LogsError, Print, Request, Runs, STALL, Subject, reader::Reader, retry::Retry, streams,
};
use crate::{
    client::{Client, ClientError, part_segments},
    output::Output,
    position::has_ended,
    render::{Form, Printed, Screen},
};

/// Attempts without an answer before the user is told.
const QUIET_ATTEMPTS: u32 = 3;

/// Reading of one log, over all its connections.
pub(super) struct Session<'a> {
    client: &'a Client,
    request: &'a Request,
    reader: Reader,
    output: Output,
    retry: Retry,
    connections: u64,
    /// Set as soon as anything of the log arrives.
    begun: &'a Cell<bool>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        client: &'a Client,
        request: &'a Request,
        screen: Screen,
        begun: &'a Cell<bool>,
    ) -> Self {
        Self {
            client,
            request,
            reader: Reader::new(request.print, screen),
            output: Output::new(),
            retry: Retry::default(),
            connections: 0,
            begun,
        }
    }

    /// Reads to the end of the log.
    pub(super) async fn read(mut self) -> Result<(), LogsError> {
        self.prepare().await?;
        loop {
            match self.connection().await {
                Ok(()) if !self.request.follow || self.is_over().await => return Ok(()),
                Ok(()) => {}
                Err(error) if self.may_go_on(&error) => {}
                Err(error) => return Err(error),
            }
            if self.retry.wait().await == QUIET_ATTEMPTS {
                self.output
                    .tell("the log service does not answer any more; trying until it does…")
                    .await;
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), LogsError> {
        if !self.request.follow || self.request.tail.is_none() {
            return Ok(());
        }
        match streams(self.client, self.request).await {
            Ok(streams) => self.reader.begin_behind(&streams, &self.request.selection),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// One connection, to its orderly end.
    async fn connection(&mut self) -> Result<(), LogsError> {
        let mut response = self.open().await?;
        self.connections += 1;
        self.reader.check(&response)?;
        let mut printed = Printed::default();
        while let Some(chunk) = self.next(&mut response).await? {
            self.begun.set(true);
            self.retry.reset();
            let taken = self.reader.take(&chunk, &mut printed);
            // What came before a malformed record is good.
            self.output.print(&mut printed).await?;
            taken?;
        }
        if self.reader.is_cut() { Err(LogsError::Cut) } else { Ok(()) }
    }

    async fn next(&self, response: &mut Response) -> Result<Option<Bytes>, LogsError> {
        let stall =
            async { if self.request.follow { pending().await } else { sleep(STALL).await } };
        tokio::select! {
            chunk = response.chunk() => Ok(chunk.map_err(|error| self.client.failed(&error))?),
            () = stall => Err(LogsError::Stalled),
        }
    }

    /// Asks for the log, from where the reader is.
    async fn open(&mut self) -> Result<Response, LogsError> {
        let resumes = self.connections > 0;
        let headers = if resumes { self.reader.resume() } else { self.reader.first_headers() };
        let request = self.client.get(self.address()).headers(headers);
        self.client.send(request).await.map_err(|error| match error {
            error if error.is_not_found() => self.no_log(),
            ClientError::HeadTooLong if resumes => LogsError::TooManyStreams,
            error => error.into(),
        })
    }

    fn address(&self) -> Url {
        let resumes = self.connections > 0;
        let Request { namespace, subject, selection, runs, follow, tail, since, print } =
            self.request;
        let (mut segments, asked) = match subject {
            Subject::Pod(pod) => {
                (vec!["api", "namespaces", namespace.as_str(), "pods", pod.as_str()], None)
            }
            Subject::Part(context) => (part_segments(context), Some(namespace.to_string())),
        };
        segments.push("logs");
        let mut url = self.client.resource(&segments);
        let since = since
            .as_ref()
            .map(|since| if resumes { since.time.to_string() } else { since.text.clone() });
        let parameters = [
            ("namespace", asked),
            ("container", selection.container.as_ref().map(ToString::to_string)),
            ("stream", selection.stream.as_ref().map(ToString::to_string)),
            ("previous", (*runs == Runs::BeforeLast).then(|| "true".to_owned())),
            ("follow", follow.then(|| "true".to_owned())),
            // Later connections go on from a position; the last lines were read by the first.
            ("tail", tail.filter(|_| !resumes).map(|lines| lines.to_string())),
            ("since", since),
            ("timestamps", (*print == Print::Records(Form::Timestamps)).then(|| "true".to_owned())),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        url
    }

    /// Whether an orderly end of the answer is the end of the log: the service may be stopping.
    async fn is_over(&self) -> bool {
        if let Subject::Part(Context { part: Part::Trigger(_), .. }) = self.request.subject {
            return false;
        }
        if self.reader.has_seen_the_end() {
            return true;
        }
        let streams = streams(self.client, self.request).await;
        streams.is_ok_and(|streams| has_ended(&streams, &self.request.selection))
    }

    fn may_go_on(&self, error: &LogsError) -> bool {
        let is_behind_the_end = matches!(
            error,
            LogsError::Client(ClientError::Refused {
                status: StatusCode::RANGE_NOT_SATISFIABLE,
                ..
            })
        );
        let is_countable = match self.reader {
            // Bytes are counted from the first; which one that was is not known with these.
            Reader::Raw { received: 1.. } => {
                self.request.tail.is_none() && self.request.since.is_none()
            }
            _ => true,
        };
        self.request.follow
            && self.connections > 0
            && is_countable
            && (is_behind_the_end || error.is_retryable())
    }

    fn no_log(&self) -> LogsError {
        let Request { namespace, subject, selection, runs, .. } = self.request;
        let run = if *runs == Runs::BeforeLast { "an earlier run of " } else { "" };
        let container = selection.container.as_ref();
        let container = container.map(|name| format!("container {name} of ")).unwrap_or_default();
        let what = format!("{run}{container}{subject} in namespace {namespace}");
        let (program, advice) = (self.client.program(), self.client.advice(namespace));
        match subject {
            Subject::Pod(_) => {
                LogsError::NoLog { what, namespace: namespace.clone(), program, advice }
            }
            Subject::Part(_) => LogsError::NoPart { what, advice },
        }
    }
}
