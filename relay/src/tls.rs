//! TLS: the operator's certificate and key, read once, at the start. What is wrong with them is said with the file.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{RelayError, TlsFiles};

/// What encrypts connections with these files.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, RelayError> {
    let chain = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unusable(&files.cert, explain(&error)))?;
    if chain.is_empty() {
        return Err(unusable(&files.cert, "it holds no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|error| unusable(&files.key, explain(&error)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable(&files.key, format!("it is not the key of the certificate in {}", files.cert.display()))
        }
        rustls::Error::InvalidCertificate(why) => {
            unusable(&files.cert, format!("the certificate is not valid: {why:?}"))
        }
        other => unusable(&files.key, other.to_string()),
    })?;
    // WebSockets need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds no private key in PEM".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        other => format!("it is no PEM: {other}"),
    }
}

fn unusable(path: &Path, reason: String) -> RelayError {
    RelayError::Tls { path: path.to_owned(), reason }
}
