//! A way through an HTTP proxy: `CONNECT` (RFC 9110, 9.3.6) for every kind of destination, so that the proxy passes bytes
//! and looks up names, and TLS is between us and the receiver.

use crate::attempt::Failure;
use crate::feed::Feed;
use crate::secrets::Own;
use crate::source::Source;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest head of a proxy's answer.
const HEAD_MAX: usize = 16 * 1024;

/// A proxy, and how we show it who we are.
#[derive(Clone)]
pub struct Proxy {
    /// `host:port`.
    pub address: String,
    authorization: Option<String>,
}

impl Proxy {
    /// The one of a destination, where it has one.
    pub fn of<S: Source>(feed: &Feed<S>) -> Result<Option<Self>, Failure> {
        let Some(address) = feed.to.proxy_address() else { return Ok(None) };
        let shown = feed.secrets.credentials("proxy_credentials", feed.to.proxy_credentials.as_ref())?;
        Ok(Some(Self { address: address.to_owned(), authorization: shown.map(Own::authorization) }))
    }

    /// Has the proxy at the other end of `stream` connect to `to`, `host:port`.
    pub async fn tunnel(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), to: &str) -> Result<(), Failure> {
        let proxy = &self.address;
        let broken = |error: std::io::Error| Failure::retry(format!("the proxy {proxy}: {error}"));
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            request = format!("{request}Proxy-Authorization: {authorization}\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        // What comes behind the head is the receiver's: byte by byte, not one too many.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.map_err(broken)? == 0 {
                return Err(Failure::retry(format!("the proxy {proxy} closed the connection")));
            }
            head.extend_from_slice(&byte);
            if head.len() > HEAD_MAX {
                return Err(Failure::config(format!("{proxy} is no HTTP proxy: its answer does not end")));
            }
        }
        self.judge(&String::from_utf8_lossy(&head), to)
    }

    fn judge(&self, head: &str, to: &str) -> Result<(), Failure> {
        let proxy = &self.address;
        let line: String =
            head.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        let status =
            line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|digits| digits.parse().ok());
        match status {
            Some(200..=299) => Ok(()),
            // tinyproxy says 401 where 407 is meant.
            Some(401 | 407) => Err(Failure::config(format!("the proxy {proxy} wants other credentials ({line})"))),
            Some(400..=499) => {
                Err(Failure::config(format!("the proxy {proxy} does not let us through to {to} ({line})")))
            }
            Some(_) => Err(Failure::retry(format!("the proxy {proxy} does not reach {to} ({line})"))),
            None => Err(Failure::config(format!("{proxy} is no HTTP proxy: it began with `{line}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Class;
    use proptest::prelude::*;

    /// What becomes of a connection to a proxy that answers `answer`, and what it was asked and what is left to read.
    fn asked(answer: &[u8]) -> (Result<(), Failure>, String, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(100_000);
            theirs.write_all(answer).await.expect("room");
            let proxy = Proxy { address: "proxy:3128".to_owned(), authorization: Some("Basic eDp5".to_owned()) };
            let mut request = vec![0; 1000];
            let (passed, read) = tokio::join!(
                async {
                    let passed = proxy.tunnel(&mut ours, "noc.example:2514").await;
                    let mut rest = Vec::new();
                    ours.shutdown().await.expect("open");
                    (passed, {
                        ours.read_to_end(&mut rest).await.expect("read");
                        rest
                    })
                },
                async {
                    let read = theirs.read(&mut request).await.expect("read");
                    drop(theirs);
                    read
                }
            );
            request.truncate(read);
            (passed.0, String::from_utf8(request).expect("text"), passed.1)
        })
    }

    #[test]
    fn a_tunnel_is_asked_for_and_what_follows_is_the_receivers() {
        let (passed, request, rest) = asked(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nINFO {}\r\n");
        assert_eq!(passed, Ok(()));
        let wanted =
            "CONNECT noc.example:2514 HTTP/1.1\r\nHost: noc.example:2514\r\nProxy-Authorization: Basic eDp5\r\n\r\n";
        assert_eq!(request, wanted);
        assert_eq!(rest, b"INFO {}\r\n");
    }

    #[test]
    fn what_a_proxy_refuses_is_said_and_classed() {
        for (answer, class, words) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Class::Config, "wants other credentials"),
            ("HTTP/1.0 401 Unauthorized\r\n\r\n", Class::Config, "wants other credentials"),
            ("HTTP/1.0 403 Access violation\r\n\r\n", Class::Config, "does not let us through to noc.example:2514"),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", Class::Retry, "does not reach noc.example:2514"),
            ("220 mail ESMTP\r\n\r\n", Class::Config, "is no HTTP proxy"),
            ("HTTP/1.1 200", Class::Retry, "closed the connection"),
        ] {
            let failure = asked(answer.as_bytes()).0.expect_err(answer);
            assert!(failure.class == class && failure.words.contains(words), "{failure:?}");
            assert!(!failure.words.contains("eDp5"));
        }
        let endless = asked(&vec![b'x'; 2 * HEAD_MAX]).0.expect_err("endless");
        assert!(endless.words.contains("does not end"), "{endless:?}");
    }

    proptest! {
        #[test]
        fn any_answer_is_judged_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..64)) {
            let proxy = Proxy { address: "proxy:3128".to_owned(), authorization: None };
            let _ = proxy.judge(&String::from_utf8_lossy(&answer), "noc:1");
            let _ = proxy.judge(&format!("HTTP/1.{}", String::from_utf8_lossy(&answer)), "noc:1");
        }
    }
}
