//! HTTPS: certificates, those of senders, and what happens without.

use crate::support::{Client, Rig, eventually, secret};
use raven_model::config::Config;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

crate::tests!(
    events_come_in_over_tls,
    senders_show_a_certificate_where_one_is_asked_for,
    without_a_certificate_nobody_is_served_and_that_is_counted,
    a_new_certificate_is_used_for_new_connections,
    what_is_not_tls_is_counted,
);

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn dial(rig: &Rig, trusted: &str, shown: Option<&(String, String)>) -> io::Result<Client<Tls>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let mut session = ClientConnection::new(Arc::new(config), "raven".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(rig.https)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(Client::over(StreamOwned::new(session, socket)))
}

fn https(config: &mut Config) {
    config.collect.winevent.https = vec!["8443".parse().unwrap()];
}

fn events_come_in_over_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("raven");
    let rig = Rig::with(https, &[("certificate", certificate.as_bytes()), ("key", key.as_bytes())]);
    let mut client = dial(&rig, &authority.pem(), None).unwrap();
    for n in 0..20 {
        let body = crate::support::event(n, 20_000);
        assert_eq!(client.post("/", "", body.as_bytes()).status, 200);
    }
    assert_eq!(client.post("/", "", &vec![b'x'; 17 << 20]).status, 413);
    let kept = rig.kept();
    assert!(kept.len() == 20 && kept.iter().all(|kept| kept.listener == 2));
    let mut plain = rig.connect();
    assert_eq!(plain.post("/", "", b"{\"EventID\":1}").status, 200, "beside plain HTTP");
}

fn senders_show_a_certificate_where_one_is_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.sign("raven");
    let asks = |config: &mut Config| {
        https(config);
        config.collect.winevent.client_ca = Some(secret("senders"));
    };
    let ca = authority.pem();
    let secrets = [("certificate", certificate.as_bytes()), ("key", key.as_bytes()), ("client_ca", ca.as_bytes())];
    let rig = Rig::with(asks, &secrets);
    let mut good = dial(&rig, &ca, Some(&authority.sign("sender"))).unwrap();
    assert_eq!(good.post("/", "", b"{\"EventID\":1}").status, 200);
    for shown in [None, Some(stranger.sign("sender"))] {
        // With TLS 1.3 the sender hears of it behind its handshake.
        let refused = dial(&rig, &ca, shown.as_ref())
            .is_ok_and(|mut bad| bad.write(b"GET / HTTP/1.1\r\nHost: r\r\n\r\n").is_ok() && bad.try_answer().is_some());
        assert!(!refused, "it was served");
    }
    rig.dropped("tls_handshake", 2);
    assert_eq!(rig.kept().len(), 1);
}

fn without_a_certificate_nobody_is_served_and_that_is_counted() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("raven");
    let asks = |config: &mut Config| {
        https(config);
        config.collect.winevent.client_ca = Some(secret("senders"));
    };
    // The authorities that senders are held against are missing.
    let rig = Rig::with(asks, &[("certificate", certificate.as_bytes()), ("key", key.as_bytes())]);
    assert!(dial(&rig, &authority.pem(), None).is_err());
    rig.dropped("no_certificate", 1);
}

fn a_new_certificate_is_used_for_new_connections() {
    let (first, second) = (Authority::new(), Authority::new());
    let (certificate, key) = first.sign("raven");
    let rig = Rig::with(https, &[("certificate", certificate.as_bytes()), ("key", key.as_bytes())]);
    let mut old = dial(&rig, &first.pem(), None).unwrap();
    rig.secrets(&[("certificate", b"nonsense"), ("key", b"nonsense")]);
    assert_eq!(old.post("/", "", b"{\"EventID\":1}").status, 200);
    assert!(dial(&rig, &first.pem(), None).is_ok(), "what is wrong takes no place");
    let (certificate, key) = second.sign("raven");
    rig.secrets(&[("certificate", certificate.as_bytes()), ("key", key.as_bytes())]);
    let mut new = eventually("the new certificate", || dial(&rig, &second.pem(), None).ok());
    assert_eq!(new.post("/", "", b"{\"EventID\":2}").status, 200);
    assert_eq!(old.post("/", "", b"{\"EventID\":3}").status, 200, "what was begun goes on");
}

fn what_is_not_tls_is_counted() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("raven");
    let rig = Rig::with(https, &[("certificate", certificate.as_bytes()), ("key", key.as_bytes())]);
    let mut plain = Client::new(TcpStream::connect(rig.https).unwrap());
    plain.send("GET / HTTP/1.1\r\nHost: r\r\n\r\n");
    // An alert, and the end.
    assert!(plain.try_answer().is_none());
    rig.dropped("tls_handshake", 1);
}
