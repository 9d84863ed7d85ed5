//! A collector of the tests' own: it takes traces by OTLP, over gRPC and over HTTP on the same port.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    trace::v1 as otlp,
};
use prost::Message;
use rustls::{ServerConfig, crypto::ring::default_provider};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Pair;

/// How HTTP/2, and so gRPC, begins.
const HTTP_2: &[u8] = b"PRI ";

/// Lives as long as the test program.
#[derive(Clone)]
pub(crate) struct Collector {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// A span as it was received; ids are hex.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty: none.
    pub(crate) parent: String,
    /// Lists have a space between their entries.
    pub(crate) attributes: HashMap<String, String>,
    /// Spans that it links to.
    pub(crate) links: Vec<String>,
    pub(crate) is_error: bool,
    pub(crate) took: Duration,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// The same over TLS, by both protocols.
    pub(crate) fn start_tls(own: &Pair) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(vec![own.certificate()], own.private_key()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// On a thread of its own: a daemon that stops sends its last spans while the test waits for it.
    fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), tls, spans: Arc::default() };
        let taking = collector.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(taking.accept(listener));
        });
        collector
    }

    async fn accept(self, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let taking = self.clone();
            tokio::spawn(async move { taking.talk(socket).await });
        }
    }

    /// The section of `routes.toml` that leads here.
    pub(crate) fn telemetry(&self, more: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("[telemetry]\notlp_endpoint = \"{scheme}://{}\"\n{more}\n", self.address)
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Everything so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// What there is of a trace so far.
    pub(crate) fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == id).collect()
    }

    async fn talk(&self, mut socket: TcpStream) {
        if let Some(tls) = &self.tls {
            // a client that does not trust it goes
            let Ok(mut stream) = tls.accept(socket).await else { return };
            return match stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                true => self.talk_grpc(stream).await,
                false => self.talk_http(&mut stream).await,
            };
        }
        let mut beginning = [0; HTTP_2.len()];
        // a client that has gone away wants nothing
        if socket.peek(&mut beginning).await.is_ok() {
            match beginning == HTTP_2 {
                true => self.talk_grpc(socket).await,
                false => self.talk_http(&mut socket).await,
            }
        }
    }

    async fn talk_grpc(&self, socket: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let taking = self.clone();
            tokio::spawn(async move {
                let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
                assert_eq!(request.uri().path(), path);
                let (mut body, mut message) = (request.into_body(), Vec::new());
                while let Some(chunk) = body.data().await {
                    let chunk = chunk.unwrap();
                    body.flow_control().release_capacity(chunk.len()).unwrap();
                    message.extend_from_slice(&chunk);
                }
                // a byte for compression and four for the length
                taking.take(&message[5..]);
                let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut answer = respond.send_response(head, false).unwrap();
                answer.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
                let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
                answer.send_trailers(ok).unwrap();
            });
        }
    }

    async fn talk_http(&self, socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
        let mut bytes = Vec::new();
        let body = loop {
            let mut chunk = vec![0; 16_384];
            let read = socket.read(&mut chunk).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            bytes.extend_from_slice(&chunk[..read]);
            if let Some(body) = whole_body(&bytes) {
                break body;
            }
        };
        self.take(body);
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    fn take(&self, message: &[u8]) {
        let request = ExportTraceServiceRequest::decode(message).unwrap();
        let mut spans = self.spans.lock().unwrap();
        for resource in request.resource_spans {
            let of = attributes(resource.resource.unwrap().attributes);
            assert_eq!(
                (of["service.name"].as_str(), of["service.instance.id"].as_str()),
                ("turnstiled", "hq-1")
            );
            let received = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(received.map(Span::of));
        }
    }
}

impl Span {
    fn of(span: otlp::Span) -> Self {
        let took = span.end_time_unix_nano.checked_sub(span.start_time_unix_nano).unwrap();
        Self {
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: attributes(span.attributes),
            links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
            is_error: span.status.is_some_and(|status| status.code() == otlp::status::StatusCode::Error),
            took: Duration::from_nanos(took),
        }
    }

    /// An attribute, or `""`.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// That there is one root and every other span is below it; the root.
#[track_caller]
pub(crate) fn assert_connected(spans: &[Span]) -> &Span {
    let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:#?}");
    let roots: Vec<&Span> = spans.iter().filter(|span| !ids.contains(span.parent.as_str())).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    roots[0]
}

fn whole_body(request: &[u8]) -> Option<&[u8]> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    request[end + 4..].get(..length.trim().parse().unwrap())
}

fn attributes(list: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> HashMap<String, String> {
    list.into_iter().map(|entry| (entry.key, text(entry.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            list.values.into_iter().map(|value| text(Some(value))).collect::<Vec<_>>().join(" ")
        }
        other => panic!("an attribute of another kind: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
