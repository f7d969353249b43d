//! The certificate and key that TLS listeners use until the operator brings others: self-signed, made once by the
//! `keygen` role.

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use time::{Duration, OffsetDateTime};

/// Senders are given it by hand: it is to outlast them.
const VALID: Duration = Duration::days(3653);

/// A box whose clock was wrong at its first start is still trusted.
const BEFORE: Duration = Duration::days(366);

/// RFC 5280, ub-common-name.
const COMMON_NAME_MAX: usize = 64;

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for the device `{device}`: {error}")]
pub struct KeygenError {
    /// Its name.
    device: String,
    /// Why.
    #[source]
    error: rcgen::Error,
}

/// A certificate for `device`, and its key (PKCS #8), both PEM. ECDSA with P-256, which old senders know too.
///
/// # Errors
/// The name cannot stand in a certificate, or the kernel gives no random numbers.
pub fn keys(device: &str) -> Result<(String, String), KeygenError> {
    make(device, OffsetDateTime::now_utc()).map_err(|error| KeygenError { device: device.to_owned(), error })
}

fn make(device: &str, now: OffsetDateTime) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![host_name(device)])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, device.chars().take(COMMON_NAME_MAX).collect::<String>());
    params.not_before = now - BEFORE;
    params.not_after = now + VALID;
    // No key usage: older OpenSSL does not trust a self-signed certificate that says it signs no certificates.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The device's name as a DNS name, which is what senders compare: letters, digits, `-`, `_` and `.`.
fn host_name(device: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
    device.chars().map(fit).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use std::sync::Arc;
    use std::time::{Duration as Since1970, SystemTime, UNIX_EPOCH};

    /// Whether a sender that was given the certificate believes it for `name`, so long from now.
    fn is_believed(certificate: &str, name: &str, years: u64) -> bool {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let then = UnixTime::since_unix_epoch(now + Since1970::from_hours(24 * 365 * years));
        verifier.verify_server_cert(&der, &[], &ServerName::try_from(name).unwrap(), &[], then).is_ok()
    }

    #[test]
    fn the_certificate_is_believed_for_ten_years_under_the_name_of_the_device() {
        let (certificate, key) = keys("arena-north").unwrap();
        assert!(is_believed(&certificate, "arena-north", 0) && is_believed(&certificate, "arena-north", 9));
        assert!(!is_believed(&certificate, "arena-north", 11) && !is_believed(&certificate, "arena-south", 0));
        assert!(matches!(PrivateKeyDer::from_pem_slice(key.as_bytes()), Ok(PrivateKeyDer::Pkcs8(_))));
    }

    #[test]
    fn any_name_of_a_device_makes_a_certificate() {
        for device in ["Arena Nord", "Zürich", "a", &"x".repeat(200), "10.0.0.1", ""] {
            assert!(keys(device).is_ok(), "{device}");
        }
        assert_eq!(host_name("Arena Nord/ü"), "arena-nord--");
    }

    #[test]
    fn no_two_devices_have_the_same_key() {
        assert_ne!(keys("a").unwrap().1, keys("a").unwrap().1);
    }
}
