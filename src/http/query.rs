//! The query of a request: only the parameters that `/openapi.json` has for it, each once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use actix_web::{dev::ServiceRequest, web::Query};
use serde_json::Value;

use super::{
    error::{ApiError, FieldError},
    health::OPENAPI,
};

/// Who looks after the process, or scrapes it, may ask with parameters of their own.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// By path, then by method in lower case.
type Parameters = HashMap<String, HashMap<String, BTreeSet<String>>>;

static KNOWN: LazyLock<Parameters> =
    LazyLock::new(|| serde_json::from_str(OPENAPI).map(|document| parameters(&document)).unwrap_or_default());

/// Every wrong parameter at once, as with bodies.
///
/// # Errors
/// 422, or 400 if it is no query.
pub(super) fn must_be_known(request: &ServiceRequest) -> Result<(), ApiError> {
    if request.query_string().is_empty() {
        return Ok(());
    }
    let Some(path) = request.match_pattern().filter(|path| !OPEN.contains(&path.as_str())) else {
        return Ok(());
    };
    let method = request.method().as_str().to_ascii_lowercase();
    let known = KNOWN.get(&path).and_then(|methods| methods.get(&method));
    known.map_or(Ok(()), |known| check(request.query_string(), known))
}

fn check(query: &str, known: &BTreeSet<String>) -> Result<(), ApiError> {
    let pairs = Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| ApiError::Malformed(format!("the query cannot be read: {error}")))?;
    let (mut seen, mut errors) = (BTreeSet::new(), Vec::new());
    for (name, _) in pairs.into_inner() {
        if !known.contains(&name) {
            errors.push(FieldError {
                field: super::cut(&name),
                detail: "is not a parameter of this request".to_owned(),
            });
        } else if !seen.insert(name.clone()) {
            errors.push(FieldError { field: name, detail: "is there more than once".to_owned() });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid(errors)) }
}

fn parameters(document: &Value) -> Parameters {
    let empty = serde_json::Map::new();
    let names = |of: &Value| -> Vec<String> {
        let listed = of["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let resolved = listed.iter().map(|parameter| match parameter["$ref"].as_str() {
            Some(place) => document.pointer(place.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => parameter,
        });
        let of_query = resolved.filter(|parameter| parameter["in"] == "query");
        of_query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect()
    };
    let paths = document["paths"].as_object().unwrap_or(&empty).iter();
    paths
        .map(|(path, methods)| {
            let of_path = names(methods);
            let by_method = methods.as_object().unwrap_or(&empty).iter().map(|(method, operation)| {
                (method.clone(), names(operation).into_iter().chain(of_path.iter().cloned()).collect())
            });
            (path.clone(), by_method.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_which_parameters_there_are() {
        let of = |path: &str, method: &str| -> Vec<&str> {
            KNOWN[path][method].iter().map(String::as_str).collect()
        };
        assert_eq!(of("/v1/cards", "get"), ["cursor", "employee_id", "limit", "q", "status"]);
        assert_eq!(of("/v1/dead-letters", "get"), ["cursor", "sink"]);
        assert!(of("/v1/buildings/{building}/entries", "post").is_empty());
    }

    #[test]
    fn unknown_and_doubled_ones_are_all_named() {
        let known = BTreeSet::from(["sink".to_owned(), "cursor".to_owned()]);
        assert!(check("sink=a&cursor=b", &known).is_ok());
        let Err(ApiError::Invalid(errors)) = check("sink=a&limit=3&sink=b&c%20d", &known) else { panic!() };
        let said: Vec<(&str, &str)> =
            errors.iter().map(|error| (error.field.as_str(), error.detail.as_str())).collect();
        let unknown = "is not a parameter of this request";
        assert_eq!(said, [("limit", unknown), ("sink", "is there more than once"), ("c d", unknown)]);
    }
}
