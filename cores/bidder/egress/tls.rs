//! TLS between a DSP's calls and its sockets: bytes in, bytes out.
//! Owns: what is agreed upon with one DSP, for as long as it is configured so, and the state of each connection. Runs on: each
//! bidder core. Called by: `egress`. Never: reads a file or a socket; shares a session or a ticket with another core, or
//! with another DSP. The `Arc`s are what rustls' signatures ask for: both ends stay on this core.
//!
//! A record is decrypted and encrypted where it lies; rustls allocates once for each, in either direction
//! (`benches/BUDGETS.md`).
use super::super::buffers::Buffers;
use outcry::messages::{Tls, Trust};
use rustls::{
    ClientConfig, Error, HandshakeKind, RootCertStore,
    client::{
        Resumption, UnbufferedClientConnection, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use std::{fmt, sync::Arc};

/// Tickets kept of one DSP: with TLS 1.3 each carries one handshake, and servers hand out two or more.
const TICKETS: usize = 256;
/// What a handshake may send us before we have read any of it: certificates of some kilobytes, and room for those who send
/// their whole authority.
const UNREAD_MAX: usize = 128 << 10;
/// What encryption adds to a record, at most.
const RECORD_ROOM: usize = 64;
/// A handshake's record is encoded into so much at first.
const HELLO_BYTES: usize = 512;

/// Why TLS failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Its certificate has expired, is for another name, or nobody whom we believe signed it.
    Certificate,
    /// That was no TLS, or none that we speak.
    Protocol,
}

impl Failure {
    fn of(error: &Error) -> Failure {
        match error {
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Failure::Certificate,
            _ => Failure::Protocol,
        }
    }
}

/// Who is believed, prepared once for all DSPs of a configuration.
pub struct Verifiers {
    provider: Arc<CryptoProvider>,
    of_trusts: Vec<(u64, Arc<WebPkiServerVerifier>)>,
}

impl Verifiers {
    /// Those of a configuration. Allocates: once per reload, and on that alone.
    pub fn new(trusts: &[Trust]) -> Verifiers {
        let provider = Arc::new(ring::default_provider());
        let der = |bytes: &Vec<u8>| Der::from(bytes.clone());
        let of_trusts = trusts.iter().filter_map(|trust| {
            let roots = trust.anchors.iter().map(|anchor| TrustAnchor {
                subject: der(&anchor.subject),
                subject_public_key_info: der(&anchor.key),
                name_constraints: anchor.constraints.as_ref().map(der),
            });
            let roots = Arc::new(RootCertStore { roots: roots.collect() });
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            // It fails for want of authorities alone, and control sends none without.
            verifier.ok().map(|verifier| (trust.digest, verifier))
        });
        let of_trusts = of_trusts.collect();
        Verifiers { provider, of_trusts }
    }
}

/// What is agreed upon with one DSP, tickets included.
pub struct Client {
    asked: Tls,
    /// The digest of whose word is believed; `None`: it is not looked at.
    digest: Option<u64>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("asked", &self.asked).field("digest", &self.digest).finish()
    }
}

impl Client {
    /// `None`: its name is none that a certificate could have, or nobody is to be believed; control checks both before.
    pub fn new(asked: &Tls, verifiers: &Verifiers) -> Option<Client> {
        let name = ServerName::try_from(asked.name.clone()).ok()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&verifiers.provider));
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let (digest, builder) = match asked.trust {
            Some(trust) => {
                let (digest, verifier) = verifiers.of_trusts.get(trust)?;
                (Some(*digest), builder.with_webpki_verifier(Arc::clone(verifier)))
            }
            None => {
                let algorithms = verifiers.provider.signature_verification_algorithms;
                let anybody = Arc::new(Anybody(algorithms));
                (None, builder.dangerous().with_custom_certificate_verifier(anybody))
            }
        };
        let mut config = builder.with_no_client_auth();
        // Egress speaks nothing else yet; who insists on HTTP/2 is refused in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        // A request that somebody in between sends again is a bid that nobody asked for.
        config.enable_early_data = false;
        Some(Client { asked: asked.clone(), digest, name, config: Arc::new(config) })
    }

    /// Does it ask for the same, of the same authorities? Then its tickets are as good.
    pub fn is_like(&self, other: &Client) -> bool {
        self.asked.name == other.asked.name && self.digest == other.digest
    }
}

/// Believes whoever answers. That he has the key of the certificate he shows is asked all the same: rustls can do no less.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What a step of a handshake came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The DSP has to say something.
    Waits,
    /// It is over. `resumed`: it went on from an earlier one's.
    Done {
        /// From an earlier one's.
        resumed: bool,
    },
    /// It failed.
    Failed(Failure),
}

/// One connection's.
#[derive(Default)]
pub struct Session {
    /// None before the first step: making it costs as much as a step.
    conn: Option<UnbufferedClientConnection>,
    /// What came and is no whole record yet, or was not looked at yet.
    held: Vec<u8>,
    /// What rustls wants to say, before anything else is said.
    out: Vec<u8>,
    /// A step of its handshake is due.
    pub queued: bool,
    /// The stream has ended, and what came before it was not looked at yet.
    pub ended: bool,
    /// An auction waits for its handshake.
    pub awaited: bool,
    /// The DSP was told that nothing more comes.
    farewell: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("held", &self.held.len()).field("queued", &self.queued).finish_non_exhaustive()
    }
}

impl Session {
    /// These bytes came while the handshake was going on. `false`: they are too many.
    pub fn keep(&mut self, bytes: &[u8], buffers: &mut Buffers) -> bool {
        buffers.grow(&mut self.held, bytes.len());
        self.held.extend_from_slice(bytes);
        self.held.len() <= UNREAD_MAX
    }

    /// Goes on with the handshake by what has come.
    pub fn step(&mut self, client: &Client) -> Step {
        if self.conn.is_none() {
            match UnbufferedClientConnection::new(Arc::clone(&client.config), client.name.clone()) {
                Ok(conn) => self.conn = Some(conn),
                Err(e) => return Step::Failed(Failure::of(&e)),
            }
        }
        let Session { conn: Some(conn), held, out, .. } = self else { return Step::Waits };
        let mut plain = Vec::new();
        match pump(conn, held, out, &mut plain) {
            Ok(pumped) => {
                held.drain(..pumped.used);
                // Nothing was asked for: whoever talks now would be taken for answering.
                match pumped.writable {
                    _ if pumped.closed || !plain.is_empty() => Step::Failed(Failure::Protocol),
                    true => Step::Done { resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed) },
                    false => Step::Waits,
                }
            }
            Err(e) => Step::Failed(Failure::of(&e)),
        }
    }

    /// What is to be sent before anything else; empty: nothing is.
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Decrypts what came next, behind what is in `plain`. `Ok(true)`: and that was all, the DSP has said so.
    ///
    /// # Errors
    /// Somebody has changed it, or it is no TLS: nothing more can be read.
    pub fn open(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> Result<bool, Failure> {
        let Session { conn: Some(conn), held, out, .. } = self else { return Err(Failure::Protocol) };
        let pumped = if held.is_empty() {
            scratch.clear();
            scratch.extend_from_slice(bytes);
            let pumped = pump(conn, scratch, out, plain).map_err(|e| Failure::of(&e))?;
            let rest = &scratch[pumped.used..];
            if !rest.is_empty() {
                *held = buffers.get(rest.len());
                held.extend_from_slice(rest);
            }
            pumped
        } else {
            buffers.grow(held, bytes.len());
            held.extend_from_slice(bytes);
            let pumped = pump(conn, held, out, plain).map_err(|e| Failure::of(&e))?;
            held.drain(..pumped.used);
            pumped
        };
        if held.is_empty() {
            buffers.put(std::mem::take(held));
        }
        Ok(pumped.closed)
    }

    /// Encrypts `plain` behind what is in `wire`, and behind what rustls has to say first.
    ///
    /// # Errors
    /// Nothing more can be sent on it.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Failure> {
        wire.append(&mut self.out);
        let Some(conn) = &mut self.conn else { return Err(Failure::Protocol) };
        let UnbufferedStatus { state, .. } = conn.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return Err(Failure::Protocol) };
        let from = wire.len();
        wire.resize(from + plain.len() + RECORD_ROOM, 0);
        let sealed = match traffic.encrypt(plain, &mut wire[from..]) {
            // It comes in more records than one.
            Err(EncryptError::InsufficientSize(size)) => {
                wire.resize(from + size.required_size, 0);
                traffic.encrypt(plain, &mut wire[from..])
            }
            sealed => sealed,
        };
        wire.truncate(from + sealed.map_err(|_| Failure::Protocol)?);
        Ok(())
    }

    /// Says behind what is in `wire` that nothing more comes (RFC 8446 section 6.1), once; nothing where no handshake is over, or
    /// nothing can be sent any more.
    pub fn farewell(&mut self, wire: &mut Vec<u8>) {
        let Session { conn: Some(conn), out, farewell, .. } = self else { return };
        if conn.is_handshaking() || std::mem::replace(farewell, true) {
            return;
        }
        let UnbufferedStatus { state, .. } = conn.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return };
        wire.append(out);
        let from = wire.len();
        wire.resize(from + RECORD_ROOM, 0);
        let said = traffic.queue_close_notify(&mut wire[from..]).unwrap_or(0);
        wire.truncate(from + said);
    }

    /// The connection is gone.
    pub fn end(self, buffers: &mut Buffers) {
        buffers.put(self.held);
    }
}

/// How far it came.
struct Pumped {
    /// Bytes that were read for good.
    used: usize,
    /// The DSP will say nothing more.
    closed: bool,
    /// The handshake is over.
    writable: bool,
}

/// Reads what there is of `bytes`.
fn pump(
    conn: &mut UnbufferedClientConnection,
    bytes: &mut [u8],
    out: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Result<Pumped, Error> {
    let mut pumped = Pumped { used: 0, closed: false, writable: false };
    loop {
        let UnbufferedStatus { mut discard, state } = conn.process_tls_records(&mut bytes[pumped.used..]);
        let mut over = false;
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let from = out.len();
                out.resize(from + HELLO_BYTES, 0);
                let encoded = match data.encode(&mut out[from..]) {
                    Err(EncodeError::InsufficientSize(size)) => {
                        out.resize(from + size.required_size, 0);
                        data.encode(&mut out[from..])
                    }
                    encoded => encoded,
                };
                out.truncate(from + encoded.map_err(|_| Error::EncryptError)?);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => pumped.closed = true,
            ConnectionState::WriteTraffic(_) => (pumped.writable, over) = (true, true),
            ConnectionState::BlockedHandshake | ConnectionState::Closed => over = true,
            // Early data is a server's; whatever comes with a later version is none of ours.
            _ => return Err(Error::HandshakeNotComplete),
        }
        pumped.used += discard;
        if over {
            return Ok(pumped);
        }
    }
}
