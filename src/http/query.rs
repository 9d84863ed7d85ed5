//! The query of a request: each parameter once, and none at all where `/openapi.json` has none.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use actix_web::{dev::ServiceRequest, web::Query};
use serde_json::Value;

use super::{error::ApiError, fields::FieldError, health::OPENAPI};

/// Who looks after the process, scrapes it, or follows a link to the documents may ask with parameters of their own.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"];

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
        // where there are parameters their reader names unknown ones beside whatever else is wrong
        if known.is_empty() {
            errors.push(FieldError::as_sent(super::cut(&name), "is not a parameter of this request"));
        } else if !seen.insert(name.clone()) {
            errors.push(FieldError::as_sent(name, "is there more than once"));
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
    fn doubled_ones_are_named_and_all_where_there_are_none() {
        let said = |query: &str, known: &[&str]| -> Vec<(String, String)> {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            match check(query, &known) {
                Ok(()) => Vec::new(),
                Err(ApiError::Invalid(errors)) => {
                    errors.into_iter().map(|error| (error.field, error.detail)).collect()
                }
                Err(error) => panic!("{error}"),
            }
        };
        let named = |name: &str, detail: &str| (name.to_owned(), detail.to_owned());
        assert_eq!(
            said("sink=a&cursor=b&limit=3", &["sink", "cursor"]),
            [],
            "the reader of the query names limit"
        );
        let doubled = "is there more than once";
        assert_eq!(said("sink=a&limit=3&sink=b", &["sink", "cursor"]), [named("sink", doubled)]);
        let unknown = "is not a parameter of this request";
        assert_eq!(said("limit=3&c%20d", &[]), [named("limit", unknown), named("c d", unknown)]);
    }
}
