//! Private keys: which form they have, and whether they belong to a certificate.

use crate::certificate::Certificate;
use crate::pem;
use crate::secret::Secret;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use x509_parser::x509::SubjectPublicKeyInfo;

/// How a key is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// `PRIVATE KEY` (RFC 5208)
    Pkcs8,
    /// `RSA PRIVATE KEY` (RFC 8017)
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915)
    Sec1,
    /// `ENCRYPTED PRIVATE KEY`: wants a passphrase.
    EncryptedPkcs8,
}

impl KeyForm {
    fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
            Self::EncryptedPkcs8 => "ENCRYPTED PRIVATE KEY",
        }
    }

    fn of(label: &str) -> Option<Self> {
        [Self::Pkcs8, Self::Pkcs1, Self::Sec1, Self::EncryptedPkcs8].into_iter().find(|form| form.label() == label)
    }
}

/// A private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateKey {
    form: KeyForm,
    /// Value of `DEK-Info`, when it is encrypted in OpenSSL's old way: wants a passphrase.
    dek_info: Option<String>,
    bytes: Secret<Vec<u8>>,
}

/// Whether a key and a certificate belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Yes,
    No,
    /// Not to be seen from here: encrypted, or of a kind that is not known.
    Unknown,
}

impl PrivateKey {
    /// Reads the one key of a PEM text; the error says what is wrong, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut keys = pem::sections(text)?.into_iter().filter(|section| section.label != "EC PARAMETERS");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err("expected one private key in PEM");
        };
        let form = KeyForm::of(key.label).ok_or("expected a private key: PKCS #8, RSA or EC, in PEM")?;
        let dek_info = dek_info(form, &key.headers)?;
        if dek_info.is_none() && !is_sequence(&key.der) {
            return Err("the private key is damaged");
        }
        Ok(Self { form, dek_info, bytes: Secret::new(key.der.to_vec()) })
    }

    /// Whether somebody has to give a passphrase before it can be used.
    pub fn needs_passphrase(&self) -> bool {
        self.form == KeyForm::EncryptedPkcs8 || self.dek_info.is_some()
    }

    pub(crate) fn write(&self, out: &mut String) {
        let headers = self.dek_info.as_deref().map(|info| [("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", info)]);
        let headers = headers.as_ref().map_or(&[][..], |headers| &headers[..]);
        pem::write(out, self.form.label(), headers, self.bytes.expose());
    }

    /// Whether it is the key of `certificate`. ring computes the public half for RSA of 2048 to 8192 bits, P-256, P-384
    /// and Ed25519; of another EC key the public half that lies beside the private one is compared.
    pub(crate) fn fits(&self, certificate: &Certificate) -> Match {
        if self.needs_passphrase() {
            return Match::Unknown;
        }
        let Some(public) = certificate.public_key() else { return Match::Unknown };
        match self.computed_public().or_else(|| self.enclosed_public()) {
            Some(own) if own == public => Match::Yes,
            Some(_) => Match::No,
            None => Match::Unknown,
        }
    }

    fn computed_public(&self) -> Option<Vec<u8>> {
        let bytes = self.bytes.expose().as_slice();
        let der = match self.form {
            KeyForm::Pkcs8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bytes)),
            KeyForm::Pkcs1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(bytes)),
            KeyForm::Sec1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(bytes)),
            KeyForm::EncryptedPkcs8 => return None,
        };
        let key = any_supported_type(&der).ok()?;
        let public = key.public_key()?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&public).ok()?;
        Some(info.subject_public_key.data.to_vec())
    }

    /// RFC 5915: `SEQUENCE { version, privateKey, [0] parameters, [1] publicKey BIT STRING }`, in PKCS #8 as an OCTET
    /// STRING behind version and algorithm.
    fn enclosed_public(&self) -> Option<Vec<u8>> {
        let bytes = self.bytes.expose().as_slice();
        match self.form {
            KeyForm::Sec1 => public_of_sec1(bytes),
            KeyForm::Pkcs8 => {
                let inner = elements(bytes)?.into_iter().find(|element| element.tag() == Tag::OctetString)?;
                public_of_sec1(inner.data)
            }
            _ => None,
        }
    }
}

fn dek_info(form: KeyForm, headers: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
    let value = match headers {
        [] => return Ok(None),
        [("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", value)] if form != KeyForm::EncryptedPkcs8 => value,
        _ => return Err("the private key has headers that are not known"),
    };
    let plain = value.len() <= 80 && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ','));
    if plain { Ok(Some((*value).to_owned())) } else { Err("the private key's DEK-Info is damaged") }
}

/// One SEQUENCE and nothing behind it.
pub(crate) fn is_sequence(der: &[u8]) -> bool {
    matches!(Any::from_der(der), Ok((rest, any)) if rest.is_empty() && any.tag() == Tag::Sequence)
}

fn elements(der: &[u8]) -> Option<Vec<Any<'_>>> {
    let (_, sequence) = Any::from_der(der).ok()?;
    let (mut rest, mut found) = (sequence.data, Vec::new());
    while !rest.is_empty() && found.len() < 16 {
        let (behind, any) = Any::from_der(rest).ok()?;
        found.push(any);
        rest = behind;
    }
    Some(found)
}

fn public_of_sec1(der: &[u8]) -> Option<Vec<u8>> {
    let tagged = elements(der)?.into_iter().find(|any| any.class() == Class::ContextSpecific && any.tag().0 == 1)?;
    let (_, bits) = Any::from_der(tagged.data).ok()?;
    // The first byte of a BIT STRING counts unused bits.
    bits.data.get(1..).filter(|_| bits.tag() == Tag::BitString).map(<[u8]>::to_vec)
}
