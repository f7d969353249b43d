//! Certificates and revocation lists: kept as they are, in DER, with what can be said of them without a network.

use crate::pem;
use crate::report::shown;
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

const DAY: i64 = 24 * 60 * 60;

/// From when to when something holds, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Validity {
    /// Whole days that are left; negative when it is over.
    pub fn days_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(DAY)
    }
}

/// An X.509 certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: String,
    validity: Validity,
}

impl Certificate {
    /// All certificates of a PEM text, at least one; the error says what is wrong, without the text.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, &'static str> {
        let sections = pem::sections(text)?;
        if sections.iter().any(|section| section.label.ends_with("PRIVATE KEY")) {
            return Err("holds a private key, which does not belong here");
        }
        let labels = ["CERTIFICATE", "X509 CERTIFICATE"];
        if sections.is_empty() || !sections.iter().all(|section| labels.contains(&section.label)) {
            return Err("expected certificates in PEM");
        }
        sections.iter().map(|section| Self::from_der(&section.der)).collect()
    }

    fn from_der(der: &[u8]) -> Result<Self, &'static str> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| "a certificate is damaged")?;
        if !rest.is_empty() {
            return Err("there are bytes behind a certificate");
        }
        let validity = Validity {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        };
        Ok(Self { der: der.to_vec(), subject: shown(&parsed.subject().to_string()), validity })
    }

    /// Whom it names, such as `CN=venue-17, O=Example`, in printable ASCII.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// From when to when it holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// In DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The bits of its public key.
    pub(crate) fn public_key(&self) -> Option<Vec<u8>> {
        self.parsed().map(|parsed| parsed.public_key().subject_public_key.data.to_vec())
    }

    /// Whether its issuer's name is that of `other`. Whether the signature is right is for the two ends to see.
    pub(crate) fn names_as_issuer(&self, other: &Self) -> bool {
        let (Some(own), Some(other)) = (self.parsed(), other.parsed()) else { return false };
        own.issuer().as_raw() == other.subject().as_raw()
    }

    /// Whether it may be used by a client: no extended key usage, or one that has it (RFC 5280, 4.2.1.12).
    pub(crate) fn is_for_clients(&self) -> bool {
        let usage = self.parsed().and_then(|parsed| {
            let usage = parsed.extended_key_usage().ok().flatten()?;
            Some(usage.value.client_auth || usage.value.any)
        });
        usage.unwrap_or(true)
    }

    fn parsed(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| parsed)
    }

    pub(crate) fn write(&self, out: &mut String) {
        pem::write(out, "CERTIFICATE", &[], &self.der);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject)
    }
}

/// A certificate revocation list.
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    next_update: Option<i64>,
}

impl Crl {
    /// The lists of a PEM text, at least one.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, &'static str> {
        let sections = pem::sections(text)?;
        if sections.is_empty() || sections.iter().any(|section| section.label != "X509 CRL") {
            return Err("expected revocation lists in PEM");
        }
        sections.iter().map(|section| Self::from_der(&section.der)).collect()
    }

    fn from_der(der: &[u8]) -> Result<Self, &'static str> {
        match CertificateRevocationList::from_der(der) {
            Ok(([], list)) => {
                Ok(Self { der: der.to_vec(), next_update: list.next_update().map(|time| time.timestamp()) })
            }
            _ => Err("a revocation list is damaged"),
        }
    }

    /// Until when it holds, in seconds since 1970; OpenVPN connects nowhere with one that is older.
    pub fn next_update(&self) -> Option<i64> {
        self.next_update
    }

    pub(crate) fn write(&self, out: &mut String) {
        pem::write(out, "X509 CRL", &[], &self.der);
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({} bytes)", self.der.len())
    }
}

/// A day as 2027-05-31, UTC.
pub(crate) fn day(time: i64) -> String {
    match x509_parser::time::ASN1Time::from_timestamp(time) {
        Ok(time) => {
            let date = time.to_datetime();
            format!("{}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
        }
        Err(_) => "a day that no calendar has".to_owned(),
    }
}
