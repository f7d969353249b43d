//! Certificates of the operations centre: an authority, and what it signs for the receiver.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// How long a certificate is good.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// For decades.
    Far,
    /// It was, years ago.
    Past,
}

impl Authority {
    /// A new one, whose own certificate lies in `dir`.
    fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), dir: dir.to_owned() })
    }

    /// For a receiver of that name. The appliance whose configuration lies in `dir` trusts it, by `secret:noc-ca.pem`.
    pub fn trusted(dir: &Path, name: &str) -> Result<Self> {
        let this = Self::new(&dir.join("authority"))?;
        this.sign(name, Until::Far)?;
        let secret = dir.join("secrets/noc-ca.pem");
        fs::create_dir_all(dir.join("secrets"))?;
        fs::copy(this.file(), &secret)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        Ok(this)
    }

    /// Where its own certificate lies.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Where the receiver's certificate and key lie.
    pub fn receiver(&self) -> [PathBuf; 2] {
        ["server.crt", "server.key"].map(|name| self.dir.join(name))
    }

    /// Puts a new certificate for `name` in the receiver's place.
    pub fn sign(&self, name: &str, until: Until) -> Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let last_year = match until {
            Until::Far => 2100,
            Until::Past => 2021,
        };
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let [certificate, private] = self.receiver();
        fs::write(certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        Ok(fs::write(private, key.serialize_pem())?)
    }
}
