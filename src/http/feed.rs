//! The live feed: Server-Sent Events, for as long as the token lasts and the reader keeps up.

use std::time::Duration;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures_util::stream;
use tokio::{
    sync::mpsc::{self, Sender},
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Services,
    answers::HeadOnly,
    ask,
    auth::person::{Person, Role},
    error::ApiError,
    fields::{Fields, short_text, text},
    origin, sse,
};
use crate::{
    actors::{
        admin::RecordAdmin,
        feeds::{Fed, Feed, FeedError},
    },
    clock,
    domain::{
        event::{AuditRead, Body},
        feed::{FeedFilter, FeedPlace, MAX_FEED_PATTERNS},
        ids::BuildingId,
        pattern::Pattern,
        scope::Scope,
    },
};

/// A feed that says nothing says so this often, which also shows that its reader is there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How long a reader may leave what he was sent; then the feed ends. The place that he has come to he can go on from.
const MAX_UNREAD: Duration = Duration::from_secs(10);
/// How long a feed lasts that was opened with a key instead of a token. It ends with the key, too: before the next event
/// or heartbeat.
const MAX_FEED_OF_A_KEY: Duration = Duration::from_secs(15 * 60);
/// Pieces that wait for the connection beside the one that is offered to it.
const MAX_WAITING_PIECES: usize = 1;
/// The longest `types`, in characters.
const MAX_TYPES_CHARS: usize = 4_096;

const LAST_EVENT_ID: &str = "Last-Event-ID";

/// `GET /v1/events/stream`
///
/// # Errors
/// As the contract has them; 410 if what comes after `Last-Event-ID` is not in this log.
pub async fn stream(
    services: Data<Services>,
    request: HttpRequest,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    let seen = person.scope(&[Role::Security, Role::Auditor])?;
    let query = read_query(request.query_string())?;
    let scope = narrowed(&services, seen, query.building.as_ref())?;
    let after = last_event_id(&request)?;
    let filter = FeedFilter { types: query.types, scope };
    let read = AuditRead {
        building: filter.scope.only().cloned(),
        what: "events.stream".to_owned(),
        types: query.types_as_sent,
        ..AuditRead::default()
    };
    let feed = services.feeds.open(filter, after)?;
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    // for proxies that would gather the feed into larger pieces
    response.insert_header(("X-Accel-Buffering", "no"));
    if request.extensions().contains::<HeadOnly>() {
        return Ok(response.finish());
    }
    let (body, origin) = (Body::AuditRead(read), origin(person.as_actor(), &request));
    ask(&services.admin, |reply| RecordAdmin { body, origin, reply }).await??;
    let left = person.expires_at.map_or(MAX_FEED_OF_A_KEY, |expires| expires.since(clock::wall()));
    let until = Instant::now() + left;
    let (sender, pieces) = mpsc::channel(MAX_WAITING_PIECES);
    let lasts = Lasts { until, key_id: person.key_id, services: services.clone() };
    actix_web::rt::spawn(pump(feed, sender, lasts));
    let pieces = stream::unfold(pieces, async |mut pieces| {
        let piece: Bytes = pieces.recv().await?;
        Some((Ok::<_, ApiError>(piece), pieces))
    });
    Ok(response.streaming(Box::pin(pieces)))
}

/// How long a feed lasts.
struct Lasts {
    until: Instant,
    /// And no longer than this key.
    key_id: Option<String>,
    services: Data<Services>,
}

impl Lasts {
    fn is_revoked(&self) -> bool {
        self.key_id.as_ref().is_some_and(|id| !self.services.auth.devices.has(id))
    }
}

/// What there is to say next.
enum Next {
    Events(Result<Option<Vec<Fed>>, FeedError>),
    Heartbeat,
    Expired,
}

/// Sends what the log has until the token is over, the server stops, or the reader is gone or too slow.
async fn pump(mut feed: Feed, sender: Sender<Bytes>, lasts: Lasts) {
    let mut piece = sse::opening(feed.place());
    let mut is_last = false;
    loop {
        if !piece.is_empty() {
            match timeout(MAX_UNREAD, sender.send(piece.into())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    lasts.services.metrics.feed_dropped.inc();
                    tracing::warn!(place = %feed.place(), "a feed is dropped: its reader does not keep up");
                    return;
                }
            }
        }
        if is_last {
            return;
        }
        (piece, is_last) = next_piece(&mut feed, &sender, &lasts).await;
        // others on this thread have their turn, also while nothing of what is read is for this reader
        yield_now().await;
    }
}

/// What to send next, and whether it is the last. An empty piece is not sent.
async fn next_piece(feed: &mut Feed, sender: &Sender<Bytes>, lasts: &Lasts) -> (String, bool) {
    let heartbeat = Instant::now() + HEARTBEAT_EVERY;
    loop {
        let next = tokio::select! {
            biased;
            () = sender.closed() => return (String::new(), true),
            () = sleep_until(lasts.until) => Next::Expired,
            () = sleep_until(heartbeat) => Next::Heartbeat,
            events = feed.next() => Next::Events(events),
        };
        // before anything more is shown
        if lasts.is_revoked() {
            return (sse::ending("the key is revoked"), true);
        }
        return match next {
            Next::Expired => (sse::ending("the token has expired"), true),
            Next::Heartbeat => (sse::heartbeat(feed.place()), false),
            Next::Events(Ok(None)) => (sse::ending("the server stops"), true),
            Next::Events(Ok(Some(events))) if events.is_empty() => {
                yield_now().await;
                continue;
            }
            Next::Events(Ok(Some(events))) => (written(feed.place(), &events), false),
            Next::Events(Err(error)) => {
                tracing::error!(%error, place = %feed.place(), "a feed cannot read the log; run `turnstiled wal verify`");
                (sse::ending("the log cannot be read on; the server's own log says why"), true)
            }
        };
    }
}

fn written(place: &FeedPlace, events: &[Fed]) -> String {
    let mut text = String::new();
    for Fed { sequence, event_type, json } in events {
        let place = FeedPlace { log: place.log.clone(), sequence: *sequence };
        sse::push_event(&mut text, place, event_type, &String::from_utf8_lossy(json));
    }
    text
}

struct FeedQuery {
    types: Vec<Pattern>,
    types_as_sent: Option<String>,
    building: Option<BuildingId>,
}

fn read_query(query: &str) -> Result<FeedQuery, ApiError> {
    let mut fields = Fields::of_query(query)?;
    let types = fields.optional("types", |value| {
        let sent: String = short_text(MAX_TYPES_CHARS)(value)?;
        let patterns = sent.split(',').map(|pattern| pattern.trim().parse::<Pattern>());
        let patterns = patterns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        match patterns.len() {
            ..=MAX_FEED_PATTERNS => Ok((patterns, sent)),
            count => Err(format!("must be at most {MAX_FEED_PATTERNS} patterns, has {count}")),
        }
    });
    let building = fields.optional("building", text::<BuildingId>);
    let (types, types_as_sent) = types.map_or((Vec::new(), None), |(types, sent)| (types, Some(sent)));
    fields.finish(Some(FeedQuery { types, types_as_sent, building })).map_err(ApiError::Invalid)
}

/// What may be seen of what is asked for.
fn narrowed(services: &Services, seen: Scope, asked: Option<&BuildingId>) -> Result<Scope, ApiError> {
    let Some(building) = asked else { return Ok(seen) };
    let building = services.building(building.as_str())?;
    if !seen.covers(Some(building.id.as_str())) {
        return Err(ApiError::Forbidden(format!(
            "this needs the role security or auditor for building {}",
            building.id
        )));
    }
    Ok(Scope::building(building.id.clone()))
}

fn last_event_id(request: &HttpRequest) -> Result<Option<FeedPlace>, ApiError> {
    let Some(value) = request.headers().get(header::HeaderName::from_static("last-event-id")) else {
        return Ok(None);
    };
    let malformed = |error: &dyn std::fmt::Display| ApiError::Malformed(error.to_string());
    let text = value.to_str().map_err(|_| malformed(&format!("{LAST_EVENT_ID} is not text")))?;
    // what a browser sends that has seen no id yet
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| malformed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_its_types_and_building() {
        let query = read_query("types=access.**,card.*&building=hq").unwrap();
        assert_eq!(query.types.len(), 2);
        assert_eq!(query.types_as_sent.as_deref(), Some("access.**,card.*"));
        assert_eq!(query.building.unwrap().as_str(), "hq");
        assert!(read_query("").unwrap().types.is_empty());
        let many = vec!["a"; MAX_FEED_PATTERNS + 1].join(",");
        for bad in
            ["types=", "types=a..b", "types=a,", "colour=red", "building=%20", &format!("types={many}")]
        {
            assert!(matches!(read_query(bad), Err(ApiError::Invalid(_))), "{bad}");
        }
    }
}
