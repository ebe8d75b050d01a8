//! DSPs behind TLS, and authorities to sign their certificates.
use super::{Dsp, serve};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Who signs certificates; its own lies in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Where the exchange finds it.
    pub file: PathBuf,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("signs itself");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("outcry-test-ca-{}-{number}.pem", std::process::id()));
        std::fs::write(&file, cert.pem()).expect("a file");
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// The keys of a DSP that it has signed.
    pub fn keys(&self) -> String {
        format!("ca_file = \"{}\"\n", self.file.display())
    }

    /// A certificate for this name or address; it may have expired.
    pub fn sign(&self, name: &str, expired: bool) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 12, 31);
        }
        let cert = params.signed_by(&key, &self.issuer).expect("signs");
        Certified { cert: cert.der().clone(), key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Who a DSP says it is, and what proves it.
pub struct Certified {
    /// The certificate.
    pub cert: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A server that speaks these versions, and this protocol.
pub fn server(who: Certified, versions: &[&'static SupportedProtocolVersion], alpn: &[u8]) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![who.cert], who.key).expect("fits");
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// Connections that have ended: with the other side's word that this was all, and cut off.
#[derive(Debug, Default)]
pub struct Ends([AtomicU64; 2]);

impl Ends {
    /// How many of both.
    pub fn counts(&self) -> [u64; 2] {
        [0, 1].map(|at: usize| self.0[at].load(Ordering::Acquire))
    }
}

/// A DSP on threads of its own; lives as long as the process.
pub fn dsp(config: ServerConfig, answer: Dsp) -> SocketAddr {
    watched(config, answer).0
}

/// The same, and how its connections end.
pub fn watched(config: ServerConfig, answer: Dsp) -> (SocketAddr, Arc<Ends>) {
    let (config, ends) = (Arc::new(config), Arc::new(Ends::default()));
    let all = Arc::clone(&ends);
    let addr = listen(move |stream| {
        let Ok(conn) = ServerConnection::new(Arc::clone(&config)) else { return };
        let end = serve(StreamOwned::new(conn, stream), answer);
        all.0[usize::from(end.is_err())].fetch_add(1, Ordering::Release);
    });
    (addr, ends)
}

/// Somebody who listens, and does this with each connection on a thread of its own.
pub fn listen(with: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("addr");
    let with = Arc::new(with);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let with = Arc::clone(&with);
            std::thread::spawn(move || with(stream));
        }
    });
    addr
}
