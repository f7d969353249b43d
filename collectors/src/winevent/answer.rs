//! What senders are told.

use super::items::Items;
use super::reason::{Reason, Refused};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

/// An answer.
pub type Answer = Response<Either<Full<Bytes>, Items>>;

/// JSON. Clients of Elasticsearch look for the header before they believe anything.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, Either::Left(Full::new(text.into())))
}

/// An item per action: all of it is durable.
pub fn bulk(items: Items) -> Answer {
    typed(StatusCode::OK, Either::Right(items))
}

fn typed(status: StatusCode, body: Either<Full<Bytes>, Items>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    answer
}

/// For health checks.
pub fn alive() -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(b"raven\n"))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// All of it is durable.
pub fn stored(events: usize) -> Answer {
    json(StatusCode::OK, format!("{{\"events\":{events}}}"))
}

/// None of it was kept. `whole`: the body was read to its end.
pub fn refused(refused: &Refused, whole: bool) -> Answer {
    let status = refused.reason.status();
    let mut error = json!({"type": refused.reason.name(), "reason": refused.detail});
    if let Some(at) = refused.at {
        error["offset"] = at.into();
    }
    let mut answer = json(status, json!({"error": error, "status": status.as_u16()}).to_string());
    let headers = answer.headers_mut();
    match refused.reason {
        Reason::Credentials => {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"raven\""));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"raven\", charset=\"UTF-8\""));
        }
        Reason::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST, PUT, GET, HEAD"))),
        reason if reason.passes() => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("2"))),
        _ => {}
    }
    if !whole {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
