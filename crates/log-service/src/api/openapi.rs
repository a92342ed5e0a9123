//! The document about the interface: `OpenAPI` 3.1, made from the table of routes and from the types of
//! bodies.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;
use relay_protocol::problem::Problem;
use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value as Json, json};

use super::routes::{self, Route};

/// What is said of an operation.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    pub(super) caller: Caller,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Form>,
    pub(super) answers: Vec<Answer>,
    /// Statuses with a problem for a body.
    pub(super) refusals: &'static [u16],
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever can connect.
    Anybody,
    /// Whoever has a token that allows to read.
    Reader,
    /// A pod, with its token.
    Pod,
    /// Whoever has the stream's id.
    Writer,
}

/// A parameter of the query or a header.
#[derive(Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) value: Value,
    pub(super) about: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Query,
    Header,
}

/// What a parameter may be.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Text,
    Integer,
    Truth,
    OneOf(&'static [&'static str]),
}

/// An answer that is no refusal.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) forms: Vec<Form>,
    pub(super) headers: &'static [Header],
}

/// A header of an answer.
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
}

/// A body of one media type.
pub(super) struct Form {
    media_type: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Form {
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self { media_type: "application/json", schema: SchemaGenerator::subschema_for::<T> }
    }

    /// One JSON object per line. The schema is that of a line: `OpenAPI` 3.1 knows no other.
    pub(super) fn lines<T: JsonSchema>(media_type: &'static str) -> Self {
        Self { media_type, schema: SchemaGenerator::subschema_for::<T> }
    }

    pub(super) fn text(media_type: &'static str) -> Self {
        Self { media_type, schema: SchemaGenerator::subschema_for::<String> }
    }

    pub(super) fn bytes(media_type: &'static str) -> Self {
        Self { media_type, schema: |_| Schema::default() }
    }

    fn content(forms: &[Self], generator: &mut SchemaGenerator) -> Json {
        let media = |form: &Self| {
            let schema = (form.schema)(generator);
            (form.media_type.to_owned(), json!({ "schema": schema }))
        };
        forms.iter().map(media).collect()
    }
}

/// `GET /openapi.json`
pub(super) async fn serve() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let document = document(&routes::all());
        serde_json::to_string_pretty(&document).expect("a document is made of text") + "\n"
    });
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn document(routes: &[Route]) -> Json {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.contract = Contract::Serialize;
    let mut generator = settings.into_generator();
    let paths: Map<String, Json> =
        routes.iter().map(|route| (route.path.to_owned(), path(route, &mut generator))).collect();
    let problem = json!({
        "description": "Why not, and what would help.",
        "content": { "application/problem+json": { "schema": generator.subschema_for::<Problem>() } },
    });
    let info = json!({
        "title": "Relay's log service",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Keeps log streams and serves them. What the parts mean to each other is in docs/http-api.md.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": { "Problem": problem },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn path(route: &Route, generator: &mut SchemaGenerator) -> Json {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Json> = names
        .map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    let operations = route
        .operations
        .iter()
        .map(|(method, operation)| (method.as_str().to_lowercase(), operation.describe(generator)));
    let mut path: Map<String, Json> = operations.collect();
    if !parameters.is_empty() {
        path.insert("parameters".to_owned(), parameters.into());
    }
    path.into()
}

impl Operation {
    fn describe(&self, generator: &mut SchemaGenerator) -> Json {
        let mut responses: Map<String, Json> = Map::new();
        for Answer { status, about, forms, headers } in &self.answers {
            let mut answer = json!({ "description": about });
            for Header { name, about } in *headers {
                let header = json!({ "description": about, "schema": { "type": "string" } });
                answer["headers"][*name] = header;
            }
            if !forms.is_empty() {
                answer["content"] = Form::content(forms, generator);
            }
            responses.insert(status.to_string(), answer);
        }
        for status in self.refusals {
            let reference = json!({ "$ref": "#/components/responses/Problem" });
            responses.insert(status.to_string(), reference);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.about,
            "responses": responses,
            "security": self.caller.security(),
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.iter().map(Parameter::describe).collect();
        }
        if let Some(body) = &self.body {
            let content = Form::content(std::slice::from_ref(body), generator);
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        operation
    }
}

impl Caller {
    /// With `--auth none` nobody needs a token.
    fn security(self) -> Json {
        match self {
            Self::Reader | Self::Pod => json!([{ "token": [] }, {}]),
            Self::Anybody | Self::Writer => json!([]),
        }
    }
}

impl Parameter {
    fn describe(&self) -> Json {
        let Self { name, place, value, about } = self;
        let place = match place {
            Place::Query => "query",
            Place::Header => "header",
        };
        let schema = match value {
            Value::Text => json!({ "type": "string" }),
            Value::Integer => json!({ "type": "integer", "minimum": -1 }),
            Value::Truth => json!({ "type": "boolean" }),
            Value::OneOf(values) => json!({ "type": "string", "enum": values }),
        };
        json!({ "name": name, "in": place, "description": about, "schema": schema })
    }
}
