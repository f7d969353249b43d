//! Where to post: `http://host[:port]/path?query`; and dates as HTTP writes them.

use hyper::Uri;
use hyper::header::HeaderValue;
use raven_model::calendar::{days_in_month, days_since_1970};

/// A parsed destination.
#[derive(Debug)]
pub struct Target {
    /// `host:port`, for connecting.
    pub authority: String,
    /// As in the `Host` field.
    pub host: HeaderValue,
    /// Path and query.
    pub path: Uri,
    /// The `Authorization` field, if any.
    pub authorization: Option<HeaderValue>,
}

impl Target {
    /// Reads the `to` of a destination.
    pub fn parse(to: &str) -> Result<Self, String> {
        let expected = |why: &str| format!("`{to}` {why}; expected `http://host[:port]/path`");
        let uri: Uri = to.parse().map_err(|error| expected(&format!("is not a URL ({error})")))?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(expected("does not begin with `http://` or `https://`")),
        };
        let authority = uri.authority().filter(|a| !a.host().is_empty()).ok_or_else(|| expected("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(expected("holds a user name or password, which do not belong into a URL"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port)),
            host: HeaderValue::from_str(authority.as_str())
                .map_err(|error| expected(&format!("names an impossible host ({error})")))?,
            authorization: None,
            path: path.parse().map_err(|error| expected(&format!("has an impossible path ({error})")))?,
        })
    }
}

/// Seconds since 1970 of an IMF-fixdate (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let day: u32 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u32 + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    if !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    Some((days_since_1970(year, month, day).cast_unsigned() * 24 + hour) * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_and_path() {
        for (to, authority, host, path) in [
            ("http://noc.example", "noc.example:80", "noc.example", "/"),
            ("http://noc.example:8080/in?site=a", "noc.example:8080", "noc.example:8080", "/in?site=a"),
            ("https://noc.example/in", "noc.example:443", "noc.example", "/in"),
            ("http://[2001:db8::1]:81/x", "[2001:db8::1]:81", "[2001:db8::1]:81", "/x"),
        ] {
            let target = Target::parse(to).expect(to);
            assert_eq!(
                (target.authority.as_str(), target.host.to_str().expect("text"), target.path.to_string().as_str()),
                (authority, host, path)
            );
        }
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused_with_the_reason() {
        for (to, why) in [
            ("ftp://noc/", "begin with"),
            ("noc:80", "begin with"),
            ("/path", "begin with"),
            ("http://a:b@noc/", "password"),
            ("http://", "URL"),
        ] {
            let error = Target::parse(to).expect_err(to);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn dates_are_read_as_rfc_9110_writes_them() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 00:00:01 GMT"), Some(951_782_401));
        for bad in [
            "",
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 99:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }
}
