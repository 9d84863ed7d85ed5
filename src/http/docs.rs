//! `GET /docs`: the OpenAPI document as a page to be read, in any browser and on paper, without a script. Made once
//! from the document itself, so that both say the same.

use std::{fmt::Write, sync::OnceLock};

use actix_web::{HttpResponse, http::header};
use serde_json::{Map, Value};

use super::health::OPENAPI;

const STYLE: &str = include_str!("docs.css");

/// Nothing is loaded and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How deep schemas within schemas are shown; none of ours is deeper.
const MAX_DEPTH: usize = 6;

/// `GET /docs`
pub(super) async fn page() -> HttpResponse {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = PAGE.get_or_init(|| render(&serde_json::from_str(OPENAPI).unwrap_or_default()));
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(page.as_str())
}

/// The page. What a document lacks, the page lacks.
fn render(document: &Value) -> String {
    let mut page = Page { document, html: String::new() };
    page.whole();
    page.html
}

struct Page<'a> {
    document: &'a Value,
    html: String,
}

impl<'a> Page<'a> {
    fn whole(&mut self) {
        let info = |name| text(&self.document["info"], name);
        let (title, version, about) =
            (escape(info("title")), escape(info("version")), escape(info("description")));
        self.put(&format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title} {version}: HTTP API</title><style>{STYLE}</style>\
             <header><h1>{title} <small>{version}</small></h1><p>{about}</p>\
             <p>The same for programs: <a href=/openapi.json>openapi.json</a> (OpenAPI 3.1).</p></header><main>"
        ));
        self.contents();
        self.credentials();
        for tag in array(&self.document["tags"]) {
            self.section(tag);
        }
        self.errors();
        self.put("<section><h2 id=schemas>Schemas</h2>");
        for (name, schema) in members(at(self.document, "/components/schemas")) {
            let name = escape(name);
            self.put(&format!("<article id=\"schema-{name}\"><h3>{name}</h3>"));
            self.schema(schema, 0);
            self.put("</article>");
        }
        self.put("</section></main>");
    }

    /// Every operation with its path and method, in the order of the document.
    fn operations(&self) -> Vec<(&'a str, &'a str, &'a Value)> {
        let of_path = |(path, methods): (&'a String, &'a Value)| {
            members(methods).map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        };
        members(&self.document["paths"]).flat_map(of_path).collect()
    }

    fn contents(&mut self) {
        self.put("<nav><h2>Contents</h2>");
        for tag in array(&self.document["tags"]) {
            let name = text(tag, "name");
            self.put(&format!("<h3><a href=\"#tag-{0}\">{1}</a></h3><ul>", anchor(name), escape(name)));
            for (path, method, operation) in self.operations() {
                if has_tag(operation, name) {
                    let (id, summary) =
                        (escape(text(operation, "operationId")), escape(text(operation, "summary")));
                    let (method, path) = (method.to_uppercase(), escape(path));
                    self.put(&format!("<li><a href=\"#{id}\"><code>{method} {path}</code></a> {summary}"));
                }
            }
            self.put("</ul>");
        }
        self.put("</nav>");
    }

    fn credentials(&mut self) {
        self.put("<section><h2>Credentials</h2><dl>");
        for (name, scheme) in members(at(self.document, "/components/securitySchemes")) {
            let how = match text(scheme, "type") {
                "apiKey" => format!("header <code>{}</code>", escape(text(scheme, "name"))),
                _ => format!("<code>Authorization: Bearer</code> {}", escape(text(scheme, "bearerFormat"))),
            };
            let about = escape(text(scheme, "description"));
            self.put(&format!("<dt>{}<dd>{how}: {about}", escape(name)));
        }
        self.put("</dl></section>");
    }

    /// What each answer without success may say.
    fn errors(&mut self) {
        self.put("<section><h2>Errors</h2><dl>");
        for (_, answer) in members(at(self.document, "/components/responses")) {
            let examples: Vec<&Value> = members(at(answer, "/content/application~1problem+json/examples"))
                .map(|(_, example)| &example["value"])
                .collect();
            let Some(first) = examples.first() else { continue };
            self.put(&format!("<dt>{} {}", first["status"], escape(text(first, "title"))));
            self.put(&format!("<dd>{}<ul>", escape(text(answer, "description"))));
            for example in examples {
                self.put(&format!("<li><q>{}</q>", escape(text(example, "detail"))));
            }
            self.put("</ul>");
        }
        self.put("</dl></section>");
    }

    fn section(&mut self, tag: &Value) {
        let name = text(tag, "name");
        let (id, title, about) = (anchor(name), escape(name), escape(text(tag, "description")));
        self.put(&format!("<section><h2 id=\"tag-{id}\">{title}</h2><p>{about}</p>"));
        for (path, method, operation) in self.operations() {
            if has_tag(operation, name) {
                self.operation(path, method, operation);
            }
        }
        self.put("</section>");
    }

    fn operation(&mut self, path: &str, method: &str, operation: &'a Value) {
        let (id, summary) = (escape(text(operation, "operationId")), escape(text(operation, "summary")));
        let (method, path, about) =
            (method.to_uppercase(), escape(path), escape(text(operation, "description")));
        self.put(&format!(
            "<article id=\"{id}\"><h3>{summary}</h3><p><code class=path><b>{method}</b> {path}</code></p>\
             <p>{}</p><p>{about}</p>",
            callers(operation)
        ));
        let parameters = array(&operation["parameters"]);
        if !parameters.is_empty() {
            self.put("<h4>Parameters</h4><table><tr><th>name<th>in<th>is<th>meaning");
            for parameter in parameters {
                let parameter = self.resolve(parameter);
                let is = kind(&parameter["schema"]);
                let needed = if parameter["required"] == true { "" } else { " (may be left out)" };
                let cells = [text(parameter, "name"), text(parameter, "in")].map(escape);
                let about = escape(text(parameter, "description"));
                self.put(&format!(
                    "<tr><td><code>{}</code>{needed}<td>{}<td>{is}<td>{about}",
                    cells[0], cells[1]
                ));
            }
            self.put("</table>");
        }
        if operation["requestBody"].is_object() {
            self.put("<h4>Body</h4>");
            self.content(at(operation, "/requestBody/content"));
        }
        self.put("<h4>Answers</h4><dl>");
        for (status, answer) in members(&operation["responses"]) {
            let answer = self.resolve(answer);
            self.put(&format!("<dt>{}<dd>{}", escape(status), escape(text(answer, "description"))));
            if status.starts_with('2') {
                self.content(&answer["content"]);
            }
        }
        self.put("</dl></article>");
    }

    fn content(&mut self, content: &'a Value) {
        for (media_type, body) in members(content) {
            self.put(&format!("<p><small>{}</small></p>", escape(media_type)));
            self.schema(&body["schema"], 0);
            let named = members(&body["examples"]).map(|(_, example)| &example["value"]);
            for example in body.get("example").into_iter().chain(named) {
                let example = match example {
                    Value::String(text) => text.clone(),
                    json => serde_json::to_string_pretty(json).unwrap_or_default(),
                };
                self.put(&format!("<pre>{}</pre>", escape(&example)));
            }
        }
    }

    /// A table of members, or a word.
    fn schema(&mut self, schema: &'a Value, depth: usize) {
        if depth == 0 && schema["$ref"].is_string() {
            return self.put(&format!("<p>{}</p>", kind(schema)));
        }
        let schema = self.resolve(schema);
        if schema["items"].is_object() {
            self.put(&format!("<p>{}, each:</p>", kind(schema)));
            return if depth < MAX_DEPTH {
                self.schema(&schema["items"], depth + 1)
            };
        }
        let properties: Vec<_> = members(&schema["properties"]).collect();
        if properties.is_empty() {
            return self.put(&format!("<p>{}</p>", kind(schema)));
        }
        let about = escape(text(schema, "description"));
        self.put(&format!("<p>{about}</p><table><tr><th>member<th>is<th>meaning"));
        let required = array(&schema["required"]);
        for (name, member) in properties {
            let needed =
                if required.iter().any(|required| required == name) { "" } else { " (may be left out)" };
            let (is, about) = (kind(member), escape(text(member, "description")));
            self.put(&format!("<tr><td><code>{}</code>{needed}<td>{is}<td>{about}", escape(name)));
            if depth < MAX_DEPTH
                && (member["properties"].is_object() || at(member, "/items/properties").is_object())
            {
                self.schema(member, depth + 1);
            }
        }
        self.put("</table>");
    }

    /// What a `$ref` within this document leads to.
    fn resolve(&self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    fn put(&mut self, html: &str) {
        // writing to a String cannot fail
        let _ = self.html.write_str(html);
    }
}

/// Who may call: OpenAPI 3.1 lets a requirement list roles.
fn callers(operation: &Value) -> String {
    let of_scheme = |(scheme, roles): (&String, &Value)| {
        let roles: Vec<_> = array(roles).iter().filter_map(Value::as_str).map(escape).collect();
        if roles.is_empty() { escape(scheme) } else { format!("{} ({})", escape(scheme), roles.join(" or ")) }
    };
    let callers: Vec<_> = array(&operation["security"]).iter().flat_map(members).map(of_scheme).collect();
    let who = if callers.is_empty() { "anyone".to_owned() } else { callers.join(" or ") };
    format!("For: <b>{who}</b>")
}

/// A schema in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    let mut words: Vec<String> = match &schema["type"] {
        Value::String(one) => vec![escape(one)],
        Value::Array(several) => several.iter().filter_map(Value::as_str).map(escape).collect(),
        _ => Vec::new(),
    };
    words.extend(schema["format"].as_str().map(escape));
    if let Some(values) = schema["enum"].as_array() {
        words = values.iter().map(|value| format!("<code>{}</code>", escape(&value.to_string()))).collect();
    }
    for name in ["pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "default"]
    {
        if let Some(value) = schema.get(name) {
            words.push(format!("{name} <code>{}</code>", escape(&value.to_string())));
        }
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        words.extend(array(&schema[name]).iter().map(kind));
    }
    if schema["items"].is_object() && !at(schema, "/items/properties").is_object() {
        words.push(format!("of {}", kind(&schema["items"])));
    }
    words.join(", ")
}

/// What a JSON pointer leads to, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    value.pointer(pointer).unwrap_or(&NULL)
}

fn has_tag(operation: &Value, name: &str) -> bool {
    array(&operation["tags"]).iter().any(|tag| tag == name)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn anchor(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '-' }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_schema_and_answer_is_on_the_page() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let html = render(&document);
        let page = Page { document: &document, html: String::new() };
        assert!(page.operations().len() > 20);
        for (path, method, operation) in page.operations() {
            let id = text(operation, "operationId");
            assert!(
                html.contains(&format!("<article id=\"{id}\">")),
                "{method} {path} has no tag of the document"
            );
            assert!(!array(&operation["tags"]).is_empty() && !text(operation, "summary").is_empty());
        }
        for (name, _) in members(&document["components"]["schemas"]) {
            assert!(html.contains(&format!("id=\"schema-{name}\"")));
        }
        for status in ["400 Bad Request", "410 Gone", "503 Service Unavailable"] {
            assert!(html.contains(&format!("<dt>{status}<dd>")), "{status}");
        }
        let links = html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
        for link in links {
            assert!(html.contains(&format!("id=\"{link}\"")), "#{link} leads nowhere");
        }
    }

    #[test]
    fn what_a_document_says_is_no_markup() {
        let document = serde_json::json!({ "info": { "title": "<script>\"&" } });
        let html = render(&document);
        assert!(html.contains("&lt;script&gt;&quot;&amp;") && !html.contains("<script>"));
    }
}
