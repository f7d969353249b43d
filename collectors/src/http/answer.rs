//! What senders are told.

use super::reason::{Reason, Refused};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Body;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use raven_model::stream::Stream;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;

/// What clients of Elasticsearch look for.
const ELASTIC: &str = "x-elastic-product";

/// An answer.
pub type Answer = Response<Either<Full<Bytes>, Long>>;

/// The text of one that is written as it is taken.
pub type Long = Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>;

/// JSON. Clients of Elasticsearch look for the header before they believe anything.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, Either::Left(Full::new(text.into())))
}

/// JSON that is written as it is taken.
pub fn long(text: impl Body<Data = Bytes, Error = Infallible> + 'static) -> Answer {
    typed(StatusCode::OK, Either::Right(Box::pin(text)))
}

/// All of it is durable, and there is nothing to say about it.
pub fn nothing() -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn typed(status: StatusCode, body: Either<Full<Bytes>, Long>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ELASTIC, HeaderValue::from_static("Elasticsearch"));
    answer
}

/// For health checks.
pub fn alive() -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(b"raven\n"))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// It was not taken. `whole`: the body was read to its end.
pub fn refused(stream: Stream, refused: &Refused, whole: bool) -> Answer {
    let status = refused.reason.status(stream);
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
    if stream != Stream::Winevent {
        headers.remove(ELASTIC);
    }
    if !whole {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
