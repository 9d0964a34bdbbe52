//! Client certificates, against a server that demands them.

use crate::database::tls::openssl::{self, ED25519, Key, P_256, P_384, RSA_2048};
use crate::database::tls::{TcpServer, WITHOUT, refusal, tls};
use crate::support::connect;
use crate::support::fixtures::{raw, setting};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// Each client's name, its key, and whether its certificate is of X.509 version 1.
const CLIENTS: [(&str, Key, bool); 5] = [
    ("rsa", RSA_2048, false),
    ("rsa-v1", RSA_2048, true),
    ("p-256", P_256, true),
    ("p-384", P_384, false),
    ("ed25519", ED25519, true),
];

/// A server whose role `certified` needs a certificate, and `twofold` a password besides.
fn start() -> io::Result<TcpServer> {
    TcpServer::start(|directory| {
        openssl::key(directory, "server", P_256)?;
        openssl::self_signed(directory, "server", "localhost", "-sha256")?;
        openssl::key(directory, "authority", P_256)?;
        openssl::self_signed(directory, "authority", "authority", "-sha256")?;
        for (name, key, is_version_1) in CLIENTS {
            openssl::key(directory, name, key)?;
            certify(directory, name, "certified", is_version_1)?;
        }
        openssl::key(directory, "twofold", P_256)?;
        certify(directory, "twofold", "twofold", false)?;
        let rules = "local all all trust\n\
                     hostssl all certified 127.0.0.1/32 cert\n\
                     hostssl all twofold 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n";
        fs::write(directory.join("hba.conf"), rules)?;
        Ok(vec![
            "ssl=on".to_owned(),
            format!("ssl_ca_file={}", directory.join("authority.pem").display()),
            format!("hba_file={}", directory.join("hba.conf").display()),
        ])
    })
}

/// Writes the certificate of a client, by the authority.
fn certify(directory: &Path, name: &str, role: &str, is_version_1: bool) -> io::Result<()> {
    if is_version_1 {
        return openssl::version_1(directory, name, role, Some("authority"));
    }
    let (key, request, certificate) =
        (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
    let subject = format!("/CN={role}");
    openssl::openssl(
        directory,
        &["req", "-new", "-key", &key, "-out", &request, "-subj", &subject],
    )?;
    fs::write(directory.join("client.ext"), "extendedKeyUsage=clientAuth\n")?;
    openssl::openssl(
        directory,
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-out",
            &certificate,
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "client.ext",
        ],
    )
    .map(drop)
}

fn started() -> Option<TcpServer> {
    if !openssl::is_installed() {
        return None;
    }
    match start() {
        Ok(server) => Some(server),
        Err(error) if error.to_string().contains(WITHOUT) => {
            eprintln!("skipped: {WITHOUT} of PostgreSQL");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl TcpServer {
    /// The URL of a role that has the certificate and the key in these files.
    fn certified(&self, user: &str, certificate: &str, key: &str) -> String {
        let directory = self.server.directory().display();
        let options = format!(
            "sslmode=require&sslcert={directory}/{certificate}.pem&sslkey={directory}/{key}.key"
        );
        self.url("localhost", &options).replace("//postgres@", &format!("//{user}@"))
    }
}

#[tokio::test]
async fn a_client_authenticates_by_its_certificate() {
    let Some(server) = started() else { return };
    let owner = &mut connect(&server.server.url("postgres")).await.unwrap();
    let roles = "CREATE ROLE certified LOGIN; CREATE ROLE twofold LOGIN PASSWORD 'secret'";
    raw(owner, roles).await.unwrap();
    for (name, ..) in CLIENTS {
        for version in ["TLSv1.2", "TLSv1.3"] {
            // With TLS 1.2 the server takes keys on the curve of `ssl_ecdh_curve` alone.
            if name == "p-384" && version == "TLSv1.2" {
                continue;
            }
            let url = server.certified("certified", name, name);
            let url = format!("{url}&ssl_max_protocol_version={version}&sslcertmode=require");
            let conn = &mut connect(&url).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(setting(conn, "session_authorization").await, "certified");
        }
    }
    let twofold = server.certified("twofold:secret", "twofold", "twofold");
    connect(&twofold).await.unwrap();
    connect(&format!("{twofold}&channel_binding=require")).await.unwrap();

    // Of another role, not sent, and none.
    let of_another = server.certified("certified", "twofold", "twofold");
    let unsent = format!("{}&sslcertmode=disable", server.certified("certified", "rsa", "rsa"));
    let none = server.url("localhost", "sslmode=require").replace("//postgres@", "//certified@");
    for url in [of_another, unsent, none] {
        let error = refusal(&url).await;
        assert!(
            error.contains("certificate authentication failed")
                || error.contains("valid client certificate"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_key_that_others_may_read_or_that_is_not_the_certificates_is_refused() {
    let Some(server) = started() else { return };
    let owner = &mut connect(&server.server.url("postgres")).await.unwrap();
    raw(owner, "CREATE ROLE certified LOGIN").await.unwrap();
    let directory = server.server.directory();
    let (rsa, key) = (server.certified("certified", "rsa", "rsa"), directory.join("rsa.key"));
    let permit = |mode| fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
    connect(&rsa).await.unwrap();
    for mode in [0o640, 0o604, 0o620, 0o610] {
        permit(mode);
        let error = refusal(&rsa).await;
        assert!(error.contains("rsa.key") && error.contains("0600"), "{mode:o}: {error}");
    }
    // Only root can give a file to root, whose group may read it.
    let owner = fs::metadata(&key).unwrap().uid();
    if chown(&key, Some(0), None).is_ok() {
        permit(0o640);
        connect(&rsa).await.unwrap();
        permit(0o644);
        assert!(refusal(&rsa).await.contains("rsa.key"));
        chown(&key, Some(owner), None).unwrap();
    }
    permit(0o600);

    let encrypt = ["pkey", "-in", "rsa.key", "-aes256", "-passout", "pass:secret", "-out"];
    for (name, format) in [("new", None), ("old", Some("-traditional"))] {
        let file = format!("{name}.key");
        let arguments: Vec<_> = encrypt.into_iter().chain([&*file]).chain(format).collect();
        openssl::openssl(directory, &arguments).unwrap();
        let error = refusal(&server.certified("certified", "rsa", name)).await;
        assert!(error.contains("encrypted") && error.contains("openssl pkey"), "{error}");
    }
    let error = refusal(&server.certified("certified", "rsa", "rsa-v1")).await;
    assert!(error.contains("isn't the certificate of sslkey"), "{error}");
    let error = refusal(&server.certified("certified", "missing", "rsa")).await;
    assert!(error.contains("missing.pem"), "{error}");
    let error = refusal(&server.certified("certified", "rsa", "missing")).await;
    assert!(error.contains("missing.key"), "{error}");
}

#[tokio::test]
async fn a_server_may_have_to_ask_for_the_certificate() {
    let (Some(server), Some(tls)) = (started(), tls()) else { return };
    let url = server.certified("postgres", "rsa", "rsa");
    let url = url.replace(&format!(":{}/", server.port), &format!(":{}/", tls.port));
    connect(&url).await.unwrap();
    let error = refusal(&format!("{url}&sslcertmode=require")).await;
    assert!(error.contains("didn't ask for the client's certificate"), "{error}");
}
