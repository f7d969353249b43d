//! What openvpn's words mean for an operator.

/// Part of a line of its log, or the detail of a stage, and what it means.
const CAUSES: [(&str, &str); 23] = [
    // Certificates first: a failed handshake follows in general words.
    ("alert certificate expired", "certificate expired: the server says so of ours, renew it in the profile"),
    ("error=certificate has expired", "certificate expired: that of the server, or the clock here is wrong"),
    ("certificate is not yet valid", "certificate not yet valid: is the clock right?"),
    ("alert certificate revoked", "certificate revoked: the server says so of ours"),
    ("alert unknown ca", "certificate refused: the server does not know who signed ours"),
    ("alert bad certificate", "certificate refused by the server"),
    ("VERIFY X509NAME ERROR", "the server's certificate has another name than the profile says"),
    ("VERIFY KU ERROR", "the server's certificate is not one of a server"),
    ("VERIFY EKU ERROR", "the server's certificate is not one of a server"),
    ("VERIFY ERROR", "the server's certificate is not signed by the profile's CA"),
    ("tls-crypt unwrap error", "the key of tls-crypt does not fit the server's"),
    ("cannot locate HMAC in incoming packet", "the key of tls-auth does not fit the server's"),
    ("incoming packet authentication failed", "the key of tls-auth does not fit the server's"),
    ("AUTH_FAILED", "auth refused"),
    ("server refused the authentication", "auth refused by the proxy"),
    ("failed to negotiate cipher", "the server has none of the profile's ciphers"),
    ("Cannot resolve host address", "endpoint does not resolve"),
    ("Connection refused", "the server refuses connections on that port"),
    ("No route to host", "no route"),
    ("Network is unreachable", "no route"),
    ("Network unreachable", "no route"),
    ("TLS key negotiation failed to occur", "the server does not answer"),
    ("Inactivity timeout (--ping-restart)", SILENT),
];

/// Why a stage began, in openvpn's words, and what that means.
const DETAILS: [(&str, &str); 6] = [
    ("auth-failure", "auth refused"),
    ("private-key-password-failure", "the password of the private key is wrong"),
    ("server_poll", "the server does not answer"),
    ("ping-restart", SILENT),
    ("connection-reset", "the server closed the connection"),
    ("server-pushed-connection-reset", "the server ended the connection"),
];

const SILENT: &str = "the server fell silent";

/// What a line of its log means; `None` for most. What a server pushed is in it too, and means nothing.
pub fn of(line: &str) -> Option<&'static str> {
    if line.contains("PUSH_REPLY") {
        return None;
    }
    CAUSES.into_iter().find(|(part, _)| line.contains(part)).map(|(_, cause)| cause)
}

/// What the detail of a stage means.
pub fn of_detail(detail: &str) -> Option<&'static str> {
    DETAILS.into_iter().find(|(known, _)| *known == detail).map(|(_, cause)| cause)
}

/// How much a cause explains: a handshake that failed is what follows a certificate that expired, not the reverse.
pub fn weight(cause: &str) -> usize {
    CAUSES.len() - CAUSES.iter().position(|(_, known)| *known == cause).unwrap_or(CAUSES.len())
}

/// True when trying again soon would change nothing: the far end refuses us, and may lock the account.
pub fn is_refusal(cause: &str) -> bool {
    ["auth refused", "certificate expired", "certificate revoked", "certificate refused", "the password of"]
        .iter()
        .any(|begin| cause.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_openvpn_become_words_for_operators() {
        for (line, cause) in [
            ("VERIFY ERROR: depth=0, error=certificate has expired: CN=noc, serial=1", "certificate expired: that of"),
            (
                "OpenSSL: error:0A000415:SSL routines::sslv3 alert certificate expired",
                "certificate expired: the server",
            ),
            ("RESOLVE: Cannot resolve host address: noc.example:1194 (Name or service not known)", "endpoint does not"),
            ("TLS Error: TLS key negotiation failed to occur within 10 seconds", "the server does not answer"),
            ("AUTH: Received control message: AUTH_FAILED", "auth refused"),
            ("socks_username_password_auth: server refused the authentication", "auth refused by the proxy"),
            ("write UDPv4: Network is unreachable (code=101)", "no route"),
        ] {
            assert!(of(line).is_some_and(|told| told.starts_with(cause)), "{line}: {:?}", of(line));
        }
        assert_eq!(of("Initialization Sequence Completed"), None);
        let pushed = "PUSH: Received control message: 'PUSH_REPLY,ping 1,ping-restart 4,route AUTH_FAILED'";
        assert_eq!((of(pushed), of_detail("ping-restart")), (None, Some(SILENT)));
    }

    #[test]
    fn an_expired_certificate_explains_a_failed_handshake() {
        let expired = of("error=certificate has expired").map_or(0, weight);
        assert!(expired > of("TLS key negotiation failed to occur").map_or(0, weight));
        assert!(is_refusal("auth refused") && !is_refusal("no route"));
        assert_eq!(weight("what nobody knows"), 0);
    }
}
