//! The OpenAPI document against itself, and its problem documents against the ones that are served.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::health::OPENAPI;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// The place of a media type in the document, and what stands there.
type Content<'a> = (String, &'a Value);

fn members<'a>(place: &str, of: &'a Value) -> Vec<Content<'a>> {
    let members = of.as_object().into_iter().flatten();
    members
        .map(|(name, value)| (format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), value))
        .collect()
}

/// Every body that is asked for or answered.
fn bodies(document: &Value) -> Vec<Content<'_>> {
    let paths = members("#/paths", &document["paths"]);
    let operations: Vec<_> = paths.iter().flat_map(|(place, path)| members(place, path)).collect();
    let asked = operations
        .iter()
        .map(|(place, operation)| (format!("{place}/requestBody"), &operation["requestBody"]));
    let answered = (operations.iter())
        .flat_map(|(place, operation)| members(&format!("{place}/responses"), &operation["responses"]));
    let shared = members("#/components/responses", &document["components"]["responses"]);
    let bodies = asked.chain(answered).chain(shared).filter(|(_, body)| body["content"].is_object());
    bodies.flat_map(|(place, body)| members(&format!("{place}/content"), &body["content"])).collect()
}

fn examples(body: &Value) -> Vec<&Value> {
    let named = body["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
    body.get("example").into_iter().chain(named).collect()
}

/// A schema of the document, whose references lead into it.
fn validator(document: &Value, schema: &Value) -> Validator {
    let whole = json!({ "allOf": [schema], "components": document["components"] });
    jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap()
}

#[test]
fn every_body_has_an_example_and_each_is_as_its_schema_says() {
    let document = document();
    let bodies = bodies(&document);
    assert!(bodies.len() > 60, "{}", bodies.len());
    let mut wrong = Vec::new();
    for (place, body) in bodies {
        let examples = examples(body);
        if examples.is_empty() {
            wrong.push(format!("{place} has no example"));
            continue;
        }
        let validator = validator(&document, &body["schema"]);
        for example in examples {
            wrong.extend(validator.iter_errors(example).map(|error| format!("{place}: {error}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn examples_of_problems_have_the_status_they_stand_at() {
    let document = document();
    let answers = (members("", &document["paths"]).into_iter())
        .flat_map(|(_, path)| members("", path))
        .flat_map(|(_, operation)| members("", &operation["responses"]));
    let mut seen = 0;
    for (status, answer) in answers {
        let answer = match answer["$ref"].as_str() {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
            None => answer,
        };
        for example in examples(&answer["content"]["application/problem+json"]) {
            let code = actix_web::http::StatusCode::from_u16(status.trim_start_matches('/').parse().unwrap())
                .unwrap();
            assert_eq!(example["status"], code.as_u16(), "{example}");
            assert_eq!(example["title"], code.canonical_reason().unwrap(), "{example}");
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
}

/// Where devices call, and wherever something is refused; `info` says that it holds everywhere.
#[test]
fn trace_headers_are_named_to_devices_and_with_every_problem() {
    let document = document();
    let named = |answer: &Value| {
        let reference = |name: &str| answer["headers"][name]["$ref"].as_str().unwrap_or_default().to_owned();
        ["traceparent", "X-Amzn-Trace-Id"]
            .map(|name| document.pointer(&reference(name).replace('#', "")).is_some())
    };
    let problems = members("", &document["components"]["responses"]);
    assert!(problems.len() > 10 && problems.iter().all(|(_, problem)| named(problem) == [true; 2]));
    let operations = members("", &document["paths"]).into_iter().flat_map(|(_, path)| members("", path));
    let of_devices: Vec<&Value> = operations
        .map(|(_, operation)| operation)
        .filter(|operation| ["gates", "other devices"].iter().any(|tag| operation["tags"][0] == *tag))
        .collect();
    assert!(of_devices.len() >= 6, "{}", of_devices.len());
    for operation in of_devices {
        let parameters = operation["parameters"].as_array().unwrap();
        for name in ["TraceParent", "XAmznTraceId"] {
            let reference = format!("#/components/parameters/{name}");
            assert!(parameters.iter().any(|parameter| parameter["$ref"] == reference), "{operation}");
            assert!(document.pointer(&reference[1..]).is_some());
        }
        let own = members("", &operation["responses"])
            .into_iter()
            .filter(|(_, answer)| answer.get("$ref").is_none());
        own.for_each(|(status, answer)| assert_eq!(named(answer), [true; 2], "{status}: {operation}"));
    }
}
