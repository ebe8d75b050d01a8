//! Object lock: until a day nobody removes or changes an object, where the store can do that.
//! Owns: the keys that requests are signed with; what was learnt of the store. Called by: [`super::store`]. Never: asks a store that
//! has none twice; locks what nobody asked to be locked.
//!
//! The client knows no lock, and each header of Amazon's has to be signed. So requests pass here on their way out: one that
//! carries a [`Hold`] gets the headers and a new signature. Locking an object once it is there would leave a moment in which
//! it can be removed.
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    ClientOptions, HeaderValue,
    aws::{AwsAuthorizer, AwsCredentialProvider},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
        ReqwestConnector,
    },
};
use outcry::{record::when::utc, tiers::unhex};
use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

/// Who may end a lock early.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// Who has the right for it; locked where the store can, else not.
    Auto,
    /// Who has the right for it; a store that cannot is refused.
    Governance,
    /// Nobody, not even the account's owner: choose it knowing that nothing can be taken back for years.
    Compliance,
    /// Nothing is locked.
    Off,
}

/// An object is to be kept until a moment, milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// How.
    pub mode: Mode,
    /// Until when.
    pub until_ms: u64,
}

const CAN: u8 = 1;
const CANNOT: u8 = 2;

#[derive(Debug, Default)]
struct Inner {
    keys: OnceLock<(AwsCredentialProvider, String)>,
    learnt: AtomicU8,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Locking(Arc<Inner>);

impl Locking {
    /// What connects, with this on the way.
    pub(super) fn connector(&self) -> Connector {
        Connector(self.clone())
    }

    /// Whose keys, and for which region.
    pub(super) fn signs_with(&self, keys: AwsCredentialProvider, region: String) {
        let _ = self.0.keys.set((keys, region));
    }

    /// Does the store lock? `None`: nothing was to be locked so far.
    pub fn locks(&self) -> Option<bool> {
        match self.0.learnt.load(Relaxed) {
            CAN => Some(true),
            CANNOT => Some(false),
            _ => None,
        }
    }
}

/// Hands out clients whose requests pass by a [`Locking`].
#[derive(Debug)]
pub(super) struct Connector(Locking);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, locking: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    locking: Locking,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

// What `#[async_trait]` makes of the trait, written by hand.
impl HttpService for Service {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            match request.extensions().get::<Hold>().copied() {
                Some(hold) if hold.mode != Mode::Off => self.held(request, hold).await,
                _ => self.client.execute(request).await,
            }
        })
    }
}

impl Service {
    async fn held(&self, request: HttpRequest, hold: Hold) -> Result<HttpResponse, HttpError> {
        let learnt = &self.locking.0.learnt;
        if hold.mode == Mode::Auto && learnt.load(Relaxed) == CANNOT {
            return self.client.execute(request).await;
        }
        let answer = self.client.execute(self.signed(request.clone(), hold).await?).await?;
        if answer.status().is_success() {
            learnt.store(CAN, Relaxed);
            return Ok(answer);
        }
        // Every store has its own words for it: 400 InvalidRequest "Bucket is missing Object Lock Configuration", 501.
        let (parts, body) = answer.into_parts();
        let whole: Vec<Bytes> = body.bytes_stream().try_collect().await?;
        let whole = whole.concat();
        let text = String::from_utf8_lossy(&whole).to_ascii_lowercase().replace(' ', "");
        let cannot = parts.status.as_u16() == 501 || (parts.status.as_u16() == 400 && text.contains("objectlock"));
        if cannot {
            learnt.store(CANNOT, Relaxed);
            if hold.mode == Mode::Auto {
                return self.client.execute(request).await;
            }
        }
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(whole)))
    }

    async fn signed(&self, mut request: HttpRequest, hold: Hold) -> Result<HttpRequest, HttpError> {
        let failed = |e: object_store::Error| HttpError::new(HttpErrorKind::Request, e);
        let Some((keys, region)) = self.locking.0.keys.get() else { return Ok(request) };
        let keys = keys.get_credential().await.map_err(failed)?;
        let mode = if hold.mode == Mode::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
        let until =
            HeaderValue::from_str(&utc(hold.until_ms)).unwrap_or(HeaderValue::from_static("9999-12-31T00:00:00Z"));
        let headers = request.headers_mut();
        // The first signature's, of the same body.
        let digest = headers.get("x-amz-content-sha256").and_then(|sum| unhex(sum.to_str().ok()?));
        headers.remove("authorization");
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(mode));
        headers.insert("x-amz-object-lock-retain-until-date", until);
        let signs = AwsAuthorizer::new(&keys, "s3", region).with_sign_payload(digest.is_some());
        signs.try_authorize(&mut request, digest.as_ref().map(<[u8; 32]>::as_slice)).map_err(failed)?;
        Ok(request)
    }
}
