//! Certificates by the command `openssl`, as people make them.

use std::io;
use std::path::Path;
use std::process::Command;

/// The options by which `openssl genpkey` makes a kind of key.
pub type Key = &'static [&'static str];

pub const RSA_2048: Key = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
pub const RSA_4096: Key = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"];
pub const RSA_PSS: Key = &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"];
pub const P_256: Key = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub const P_384: Key = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub const P_521: Key = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
pub const ED25519: Key = &["-algorithm", "ED25519"];

/// Whether the command is there. Says so where it isn't.
pub fn is_installed() -> bool {
    let is_installed = Command::new("openssl").arg("version").output().is_ok();
    if !is_installed {
        assert!(std::env::var_os("CI").is_none(), "there is no openssl");
        eprintln!("skipped: there is no openssl");
    }
    is_installed
}

/// Runs `openssl` in `directory`. Returns what it printed.
pub fn openssl(directory: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("openssl {}: {said}", arguments.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes a new key to `NAME.key`.
pub fn key(directory: &Path, name: &str, kind: Key) -> io::Result<()> {
    let file = format!("{name}.key");
    openssl(directory, &[&["genpkey", "-out", &file], kind].concat()).map(drop)
}

/// Writes a certificate that vouches for itself, of X.509 version 3, to `NAME.pem`.
pub fn self_signed(directory: &Path, name: &str, subject: &str, hash: &str) -> io::Result<()> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN={subject}");
    openssl(
        directory,
        &[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-subj",
            &subject,
            hash,
            "-days",
            "2",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
    )
    .map(drop)
}

/// Writes a certificate of X.509 version 1 to `NAME.pem`, signed by `issuer` or by itself.
pub fn version_1(
    directory: &Path,
    name: &str,
    subject: &str,
    issuer: Option<&str>,
) -> io::Result<()> {
    let (key, request, certificate) =
        (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
    let subject = format!("/CN={subject}");
    openssl(directory, &["req", "-new", "-key", &key, "-out", &request, "-subj", &subject])?;
    let sign = ["x509", "-req", "-in", &request, "-out", &certificate, "-days", "2"];
    let (authority, authority_key) =
        issuer.map(|name| (format!("{name}.pem"), format!("{name}.key"))).unwrap_or_default();
    let by: &[&str] = match issuer {
        Some(_) => &["-CA", &authority, "-CAkey", &authority_key, "-CAcreateserial"],
        None => &["-signkey", &key],
    };
    openssl(directory, &[&sign[..], by].concat())?;
    // Newer releases make version 3 so, and version 1 by another command.
    let is_version_1 = || -> io::Result<bool> {
        let text = openssl(directory, &["x509", "-in", &certificate, "-noout", "-text"])?;
        Ok(text.contains("Version: 1 (0x0)"))
    };
    if !is_version_1()? {
        let sign = ["req", "-x509v1", "-in", &request, "-out", &certificate, "-days", "2"];
        let by: &[&str] = if issuer.is_some() { &by[..4] } else { &["-key", &key] };
        openssl(directory, &[&sign[..], by].concat())?;
        assert!(is_version_1()?, "{certificate} isn't of version 1");
    }
    Ok(())
}

/// The SHA-256 of a certificate, as `openssl x509 -fingerprint` prints it.
pub fn fingerprint(directory: &Path, certificate: &str) -> io::Result<String> {
    openssl(directory, &["x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"])
}
