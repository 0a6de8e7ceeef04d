//! Ways to reach a nats-server: what it is configured with, and what its clients are given.

use std::path::{Path, PathBuf};

use laneway_bus::ConnectOptions;
use laneway_contract::Prefix;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// The seed and the public half of a key that is in the documentation of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

/// A way in. Its files go with it.
pub struct Access {
    /// What stands in the configuration of the server.
    pub server: String,
    /// The first token of every subject.
    pub prefix: Prefix,
    nkey: Option<PathBuf>,
    tls: Option<PathBuf>,
    /// What stands before the host of the URL.
    user: &'static str,
    _files: Option<TempDir>,
}

impl Access {
    /// No credentials, no TLS, the usual prefix.
    #[must_use]
    pub fn plain() -> Self {
        Self { server: String::new(), prefix: Prefix::default(), nkey: None, tls: None, user: "", _files: None }
    }

    /// Another prefix.
    #[must_use]
    pub fn prefixed(prefix: &str) -> Self {
        Self { prefix: Prefix::parse(prefix).expect("a prefix"), ..Self::plain() }
    }

    /// Only the holder of a key is let in.
    #[must_use]
    pub fn nkey() -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let seed = files.path().join("user.nk");
        std::fs::write(&seed, format!("{SEED}\n")).expect("a seed");
        let server = format!("authorization {{ users = [ {{ nkey: {PUBLIC} }} ] }}\n");
        Self { server, nkey: Some(seed), _files: Some(files), ..Self::plain() }
    }

    /// Only who knows the password is let in.
    #[must_use]
    pub fn password() -> Self {
        let server = "authorization { users = [ { user: \"lane way\", password: \"s3:cr@t\" } ] }\n".to_owned();
        Self { server, user: "lane%20way:s3%3Acr%40t@", ..Self::plain() }
    }

    /// Only who knows the token is let in.
    #[must_use]
    pub fn token() -> Self {
        Self { server: "authorization { token: \"s3cr@t\" }\n".to_owned(), user: "s3cr%40t@", ..Self::plain() }
    }

    /// Where clients connect to the server that listens at `url`.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replacen("://", &format!("://{}", self.user), 1)
    }

    /// Both sides show a certificate of one authority.
    #[must_use]
    pub fn tls() -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let folder = files.path().to_owned();
        certificates(&folder);
        let file = |name: &str| folder.join(name).display().to_string();
        let server = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
        Self { server, tls: Some(folder), _files: Some(files), ..Self::plain() }
    }

    /// The flags with which any verb of `laneway` comes in.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--prefix".to_owned(), self.prefix.as_str().to_owned()];
        let mut file = |flag: &str, path: PathBuf| flags.extend([flag.to_owned(), path.display().to_string()]);
        if let Some(seed) = &self.nkey {
            file("--nkey", seed.clone());
        }
        if let Some(folder) = &self.tls {
            file("--tls-ca", folder.join("ca.pem"));
            file("--tls-cert", folder.join("client.pem"));
            file("--tls-key", folder.join("client.key"));
        }
        flags
    }

    /// The same for a connection from here.
    #[must_use]
    pub fn options(&self, url: &str) -> ConnectOptions {
        let file = |name: &str| self.tls.as_ref().map(|folder| folder.join(name));
        ConnectOptions {
            nkey: self.nkey.clone(),
            tls_ca: file("ca.pem"),
            tls_cert: file("client.pem"),
            tls_key: file("client.key"),
            ..ConnectOptions::new(self.url(url), self.prefix.clone(), "test")
        }
    }
}

/// An authority, and what it has signed for a server at 127.0.0.1 and a client.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file");
    let (mut authority, key) = (CertificateParams::default(), KeyPair::generate().expect("a key"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", authority.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(authority, key);
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}
