//! Whose word DSPs' certificates need: authorities read from the system or from a file, and parsed, so that a bidder core only
//! takes them.
//! Owns: nothing. Runs on: the main thread at the start, control at a reload. Called by: `boot`. Never: on a bidder core.
use outcry::{
    config::TlsRules,
    messages::{Anchor, Tls, Trust},
    record::digest::digest,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::path::PathBuf;

/// Why a DSP could not be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file of authorities.
    #[error("dsp {name}: ca_file {path}: {why}")]
    File {
        /// The DSP.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no authorities.
    #[error(
        "dsp {name}: the system has no certificates of authorities ({why}). Install the package ca-certificates, or set ca_file"
    )]
    System {
        /// The DSP.
        name: String,
        /// What was found.
        why: String,
    },
    /// No certificate can be for this.
    #[error("dsp {name}: no certificate can be for the host {host}")]
    Name {
        /// The DSP.
        name: String,
        /// Its host.
        host: String,
    },
}

/// Authorities of a configuration, each read once.
#[derive(Debug, Default)]
pub struct Authorities {
    known: Vec<TlsRules>,
    trusts: Vec<Trust>,
}

impl Authorities {
    /// How this host of a DSP proves who it is.
    ///
    /// # Errors
    /// [`TrustError`]
    pub fn of(&mut self, name: &str, host: &str, rules: &TlsRules) -> Result<Tls, TrustError> {
        if ServerName::try_from(host).is_err() {
            return Err(TrustError::Name { name: name.to_owned(), host: host.to_owned() });
        }
        let trust = match (rules, self.known.iter().position(|known| known == rules)) {
            (TlsRules::Anybody, _) => None,
            (_, Some(at)) => Some(at),
            (TlsRules::System | TlsRules::File(_), None) => {
                self.trusts.push(read(name, rules)?);
                self.known.push(rules.clone());
                Some(self.trusts.len() - 1)
            }
        };
        Ok(Tls { name: host.to_owned(), trust })
    }

    /// All that were needed.
    pub fn all(self) -> Vec<Trust> {
        self.trusts
    }
}

fn read(name: &str, rules: &TlsRules) -> Result<Trust, TrustError> {
    let mut roots = RootCertStore::empty();
    if let TlsRules::File(path) = rules {
        let wrong = |why: String| TrustError::File { name: name.to_owned(), path: path.clone(), why };
        let certs = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
        for cert in certs {
            // All of them: one that is left out in silence is looked for elsewhere.
            roots.add(cert.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("no certificate in it".to_owned()));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        // Systems carry some that nobody can read.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TrustError::System { name: name.to_owned(), why });
        }
    }
    let anchors = roots.roots.iter().map(|root| Anchor {
        subject: root.subject.to_vec(),
        key: root.subject_public_key_info.to_vec(),
        constraints: root.name_constraints.as_ref().map(|constraints| constraints.to_vec()),
    });
    let anchors: Vec<Anchor> = anchors.collect();
    let mut all = Vec::new();
    for anchor in &anchors {
        for part in [&anchor.subject, &anchor.key, anchor.constraints.as_ref().unwrap_or(&Vec::new())] {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
    }
    Ok(Trust { digest: digest(&all), anchors })
}
