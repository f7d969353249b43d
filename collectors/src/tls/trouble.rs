//! What can go wrong on a TLS listener, in operators' words.

use crate::inbox::Trouble;
use crate::session::Opening;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

const fn trouble(reason: &'static str, remedy: &'static str) -> Trouble {
    Trouble { reason, remedy }
}

/// Syslog without TLS.
pub const PLAIN: Trouble =
    trouble("tls_plain_text", "plain syslog on the TLS port: use 601, or switch the sender to TLS");
/// Neither TLS nor syslog.
pub const OTHER: Trouble =
    trouble("tls_not_tls", "no TLS came here: look at the first bytes for what the sender speaks");
/// A sender that did not finish.
pub const SLOW: Trouble = trouble(
    "tls_handshake_time",
    "the TLS handshake was not finished within 10 s: the sender waits for something else, or packets are lost on the way",
);
/// A sender that went on and on.
pub const LONG: Trouble =
    trouble("tls_handshake_length", "the TLS handshake is longer than 256 KiB: shorten the sender's certificate chain");
/// A sender that left.
pub const LEFT: Trouble = trouble(
    "tls_handshake_left",
    "the sender closed the connection during the TLS handshake: often it does not trust the certificate shown here; give it the certificate in collect.syslog.certificate or the CA of that",
);
const VERSION: Trouble = trouble(
    "tls_old_version",
    "the sender speaks SSL or TLS below 1.2: update it, or use plain TCP on a port in collect.syslog.tcp",
);
const CIPHERS: Trouble = trouble(
    "tls_no_common_cipher",
    "no cipher, curve or signature in common: allow ECDHE with AES-GCM or ChaCha20-Poly1305 on the sender",
);
const NO_CERTIFICATE: Trouble = trouble(
    "tls_no_client_certificate",
    "collect.syslog.client_ca asks senders for a certificate and this one shows none: give it one that this CA signed",
);
const UNKNOWN_CA: Trouble = trouble(
    "tls_unknown_ca",
    "the sender's certificate is signed by none of collect.syslog.client_ca: add its CA there, or give the sender another certificate",
);
const EXPIRED: Trouble = trouble(
    "tls_certificate_time",
    "the sender's certificate is not valid at this time: renew it, and look at the clocks of both",
);
const BAD_CERTIFICATE: Trouble = trouble(
    "tls_bad_client_certificate",
    "the sender's certificate is not usable (its purpose must be client authentication): give it another one",
);
const DISTRUSTED: Trouble = trouble(
    "tls_sender_refused",
    "the sender refused the certificate shown here: give it the certificate in collect.syslog.certificate or the CA of that, and look at the name that it expects",
);
const BROKEN: Trouble = trouble(
    "tls_broken",
    "the sender broke the rules of TLS: something on the way changes bytes, or it is no TLS sender",
);

/// What an error of the TLS library means; `opening` is what came first.
pub fn of(error: &Error, opening: &Opening) -> Trouble {
    match error {
        Error::InvalidMessage(_) => of_opening(opening).unwrap_or(BROKEN),
        // What the library misses first in an old hello is some extension.
        Error::PeerIncompatible(_) if is_old_hello(opening.bytes()) => VERSION,
        Error::PeerIncompatible(incompatible) => of_incompatible(incompatible),
        Error::NoCertificatesPresented => NO_CERTIFICATE,
        Error::InvalidCertificate(wrong) => of_certificate(wrong),
        Error::AlertReceived(alert) => of_alert(*alert),
        _ => BROKEN,
    }
}

/// What can be told from the first bytes: a handshake record begins with 0x16.
pub fn of_opening(opening: &Opening) -> Option<Trouble> {
    match opening.bytes() {
        [] | [0x16, ..] => None,
        // SSL 2.0: a length with its highest bit set, then a client hello.
        [0x80..=0xff, _, 1, ..] => Some(VERSION),
        _ if opening.is_syslog() => Some(PLAIN),
        _ => Some(OTHER),
    }
}

/// A client hello (RFC 8446, 4.1.2) whose version is below TLS 1.2; 1.3 says 1.2 there.
const fn is_old_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, _, _, _, 1, _, _, _, 3, 0..=2, ..])
}

const fn of_incompatible(incompatible: &PeerIncompatible) -> Trouble {
    match incompatible {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired => VERSION,
        _ => CIPHERS,
    }
}

const fn of_certificate(wrong: &CertificateError) -> Trouble {
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => UNKNOWN_CA,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => EXPIRED,
        _ => BAD_CERTIFICATE,
    }
}

const fn of_alert(alert: AlertDescription) -> Trouble {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate
        // Another certificate of the same name is trusted there.
        | AlertDescription::DecryptError => DISTRUSTED,
        AlertDescription::ProtocolVersion => VERSION,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => CIPHERS,
        _ => BROKEN,
    }
}
