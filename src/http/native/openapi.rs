//! The OpenAPI document, made from the table of routes and the schemas of the wire types.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::http::native::routes::{Gives, ROUTES, Route, Takes};
use crate::http::problem::ProblemDocument;

/// Schemas by name.
pub type Schemas = Vec<(String, RefOr<Schema>)>;
/// Adds the schema of a wire type, with those it uses, and gives its name.
pub type Shape = fn(&mut Schemas) -> String;

/// The [`Shape`] of `T`.
pub fn shape<T: ToSchema>(schemas: &mut Schemas) -> String {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    name
}

/// `GET /openapi.json`: made once, as whoever asks needs no token.
pub async fn serve() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// The whole document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let problem = reference(&shape::<ProblemDocument>(&mut schemas));
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas, &problem);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_ascii_lowercase(), operation);
    }
    let schemas: BTreeMap<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| (name, unsigned(serde_json::to_value(schema).unwrap_or_default())))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "windlass",
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

/// The schema with numbers that are never negative said to be as wide as they are: a derived one calls them
/// `int64`, which ends in the middle of what is taken and given.
fn unsigned(mut schema: Value) -> Value {
    let wider = match schema.get("format").and_then(Value::as_str) {
        Some("int64") => Some("uint64"),
        Some("int32") => Some("uint32"),
        Some(_) | None => None,
    };
    if let Some(wider) = wider.filter(|_| schema.get("minimum").is_some_and(|least| least.as_f64() == Some(0.0))) {
        schema["format"] = Value::from(wider);
    }
    match schema {
        Value::Object(fields) => fields.into_iter().map(|(name, part)| (name, unsigned(part))).collect(),
        Value::Array(parts) => parts.into_iter().map(unsigned).collect(),
        plain => plain,
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn operation(route: &Route, schemas: &mut Schemas, problem: &Value) -> Value {
    let mut responses = Map::new();
    for (status, gives) in route.gives {
        responses.insert(status.to_string(), good_answer(*gives, schemas));
    }
    responses.insert(
        "default".to_owned(),
        json!({"description": "A problem.", "content": {"application/problem+json": {"schema": problem}}}),
    );
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses,
    });
    let content = match route.takes {
        Takes::Nothing => None,
        Takes::Bytes => Some(json!({"*/*": {}})),
        Takes::Json(shape) => Some(json!({"application/json": {"schema": reference(&shape(schemas))}})),
    };
    if let Some(content) = content {
        operation["requestBody"] = json!({"content": content});
    }
    if route.right().is_some() {
        // The empty one: a server without credentials asks for none.
        operation["security"] = json!([{"token": []}, {}]);
    }
    operation
}

fn good_answer(gives: Gives, schemas: &mut Schemas) -> Value {
    match gives {
        Gives::Nothing => json!({"description": "Done."}),
        Gives::Text => json!({"description": "Text.", "content": {"text/plain": {}}}),
        Gives::JsonLines => json!({"description": "JSON, a line each.", "content": {"application/x-ndjson": {}}}),
        Gives::AnyJson => json!({"description": "JSON.", "content": {"application/json": {}}}),
        Gives::Json(shape) => {
            let schema = reference(&shape(schemas));
            json!({"description": "Done.", "content": {"application/json": {"schema": schema}}})
        }
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |name: &str, place: &str| {
        let whole = name.ends_with("_ms") || matches!(name, "limit" | "from");
        let kind = if whole { "integer" } else { "string" };
        json!({"name": name, "in": place, "required": place == "path", "schema": {"type": kind}})
    };
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| parameter(name, "path"));
    in_path.chain(route.query.iter().map(|name| parameter(name, "query"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_document_leads_somewhere_and_ids_are_unique() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("a name");
            assert!(schemas.contains_key(name), "{name} is used and not defined");
        }
        let mut ids: Vec<&str> = ROUTES.iter().map(|route| route.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ROUTES.len());
        let offset = &schemas["DiscardRequest"]["properties"]["offsets"]["items"];
        assert_eq!((&offset["format"], offset["minimum"].as_f64()), (&json!("uint64"), Some(0.0)), "{offset}");
    }
}
