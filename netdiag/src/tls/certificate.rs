//! What a certificate says of itself, for people. Whether that is so decides nobody here.

use raven_model::diag::services::Certificate;
use std::net::{Ipv4Addr, Ipv6Addr};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Names that are shown.
const NAMES: usize = 64;
/// Characters of one.
const NAME_SHOWN: usize = 256;
const DAY: i64 = 24 * 60 * 60;

/// Of a certificate as a server sent it; `now` in seconds since 1970.
pub fn describe(der: &[u8], now: u64) -> Certificate {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Certificate { unread: Some("it is no certificate (X.509)".to_owned()), ..Certificate::default() };
    };
    let validity = certificate.validity();
    let (not_before_s, not_after_s) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    Certificate {
        subject: cut(&certificate.subject().to_string()),
        issuer: cut(&certificate.issuer().to_string()),
        names: names(&certificate),
        not_before_s,
        not_after_s,
        days_left: not_after_s.saturating_sub(now).div_euclid(DAY),
        unread: None,
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name).take(NAMES).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some(cut(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|octets| Ipv4Addr::from(octets).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|octets| Ipv6Addr::from(octets).to_string())).ok()
        }
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn der() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(["noc.example".to_owned(), "192.0.2.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "noc");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_days_are_told() {
        let der = der();
        let not_after = 1_769_904_000;
        let certificate = describe(&der, not_after - 3 * 86_400 - 1);
        assert_eq!((certificate.subject.as_str(), certificate.issuer.as_str()), ("CN=noc", "CN=noc"));
        assert_eq!(certificate.names, ["noc.example", "192.0.2.1"]);
        assert_eq!((certificate.not_after_s, certificate.days_left), (1_769_904_000, 3));
        assert_eq!(describe(&der, not_after + 1).days_left, -1);
        assert_eq!(describe(&der, u64::MAX).unread, None);
    }

    #[test]
    fn a_certificate_cut_anywhere_is_none() {
        let der = der();
        assert!((0..der.len()).all(|n| describe(&der[..n], 0).unread.is_some()));
    }

    proptest! {
        #[test]
        fn any_byte_may_be_another(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8), now: u64) {
            let mut der = der();
            for (at, byte) in changes {
                let at = at % der.len();
                der[at] = byte;
            }
            let certificate = describe(&der, now);
            prop_assert!(certificate.names.len() <= NAMES && certificate.subject.chars().count() <= NAME_SHOWN);
        }
    }
}
