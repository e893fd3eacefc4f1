//! TLS for accepted connections, with rustls. Without the feature `tls` a configuration that asks for it is
//! refused.

use crate::config;

/// Why a server has no TLS although it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Built without.
    #[error("tls.certificate is set, and this windlass was built without TLS: build it with `--features tls`")]
    NotBuilt,
    /// A file cannot be read, or is not PEM of the right kind.
    #[cfg(feature = "tls")]
    #[error("reading {path} for {setting}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: tokio_rustls::rustls::pki_types::pem::Error,
    },
    /// The certificate and the key do not serve together.
    #[cfg(feature = "tls")]
    #[error("tls.certificate and tls.key cannot serve")]
    Unfit(#[from] tokio_rustls::rustls::Error),
}

#[cfg(feature = "tls")]
mod built {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::server::TlsStream;

    use super::{TlsError, config};

    /// Takes encrypted connections.
    #[derive(Clone)]
    pub struct Tls(TlsAcceptor);

    impl Tls {
        /// Reads the files that the configuration names; nothing where it names none.
        pub fn load(config: &config::Tls) -> Result<Option<Self>, TlsError> {
            let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
                return Ok(None);
            };
            let chain = || {
                let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
                if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
            };
            let chain = chain().map_err(unreadable("tls.certificate", certificate))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable("tls.key", key))?;
            let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Some(Self(TlsAcceptor::from(Arc::new(server)))))
        }

        /// Shakes hands with a peer, however long that takes it.
        pub async fn accept(self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            self.0.accept(stream).await
        }
    }

    fn unreadable(setting: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
        move |source| TlsError::File { setting, path: path.to_owned(), source }
    }
}

#[cfg(not(feature = "tls"))]
mod built {
    use std::io;

    use tokio::net::TcpStream;

    use super::{TlsError, config};

    /// There is none in this build.
    #[derive(Clone, Copy)]
    pub enum Tls {}

    impl Tls {
        /// Refuses a configuration that asks for it.
        pub fn load(config: &config::Tls) -> Result<Option<Self>, TlsError> {
            if config.certificate.is_some() { Err(TlsError::NotBuilt) } else { Ok(None) }
        }

        /// Never called.
        pub async fn accept(self, _: TcpStream) -> io::Result<TcpStream> {
            match self {}
        }
    }
}

pub use built::Tls;
