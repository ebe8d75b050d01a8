//! What carries a simulated DSP's bytes: a socket, or TLS over one.
//! Owns: the socket. Runs on: the simulator's thread. Called by: `dsp_sim`. Never: shares code with the exchange's own side of TLS,
//! which it is there to verify; both trust rustls.
use monoio::{
    buf::IoBufMut as _,
    io::{AsyncReadRent as _, AsyncWriteRentExt as _},
    net::TcpStream,
};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    sync::Arc,
};

/// What is read of a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// A server that shows these certificates, PEM, its own first, and has this key to it.
///
/// # Errors
/// What cannot be read, or does not belong together.
pub fn server(certs: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certs).and_then(|certs| certs.collect::<Result<Vec<_>, _>>());
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A connection.
pub(super) struct Wire {
    stream: TcpStream,
    tls: Option<Tls>,
}

struct Tls {
    conn: ServerConnection,
    bytes: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Wire> {
        let tls = match tls {
            Some(config) => {
                let conn = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Some(Tls { conn, bytes: Vec::with_capacity(READ_BYTES) })
            }
            None => None,
        };
        Ok(Wire { stream, tls })
    }

    /// Reads into `input` behind what it is `filled` with. 0: the end.
    pub(super) async fn read(&mut self, mut input: Vec<u8>, filled: usize) -> (io::Result<usize>, Vec<u8>) {
        let Some(tls) = &mut self.tls else {
            let (read, part) = self.stream.read(input.slice_mut(filled..)).await;
            return (read, part.into_inner());
        };
        let read = loop {
            match tls.conn.reader().read(&mut input[filled..]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => break read,
            }
            let mut bytes = std::mem::take(&mut tls.bytes);
            bytes.clear();
            let (read, bytes) = self.stream.read(bytes).await;
            let len = match read {
                Ok(len) => len,
                Err(e) => break Err(e),
            };
            let mut rest = &bytes[..len];
            let taken = (|| {
                if rest.is_empty() {
                    tls.conn.read_tls(&mut rest)?;
                }
                while !rest.is_empty() {
                    tls.conn.read_tls(&mut rest)?;
                    tls.conn.process_new_packets().map_err(io::Error::other)?;
                }
                Ok(())
            })();
            tls.bytes = bytes;
            // What TLS itself has to say: of the handshake, or why there will be none.
            let said = flush(&mut self.stream, tls).await;
            if let Err(e) = said.and(taken) {
                break Err(e);
            }
        };
        (read, input)
    }

    pub(super) async fn write_all(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(tls) = &mut self.tls else {
            let (written, bytes) = self.stream.write_all(bytes).await;
            return (written.map(drop), bytes);
        };
        let written = tls.conn.writer().write_all(&bytes);
        (written.and(flush(&mut self.stream, tls).await), bytes)
    }
}

async fn flush(stream: &mut TcpStream, tls: &mut Tls) -> io::Result<()> {
    let mut out = Vec::new();
    while tls.conn.wants_write() {
        tls.conn.write_tls(&mut out)?;
    }
    if out.is_empty() {
        return Ok(());
    }
    stream.write_all(out).await.0.map(drop)
}
