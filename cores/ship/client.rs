//! What librdkafka is told of the cluster, for whoever talks to it: the shipper, `outcry audit`.
//! Owns: nothing. Called by: [`super::producer`], [`super::topics`], [`super::reading`]. Never: prints a password.
use outcry::{config::KafkaRules, ship::events::Topic};
use rdkafka::ClientConfig;
use std::path::PathBuf;

/// Why it cannot be told. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This program was built without it.
    #[error(
        "kafka.tls and kafka.sasl = \"scram-...\" need TLS, which this build does not have: build with --features kafka-tls, or take a package, which has it"
    )]
    NoTls,
    /// The password.
    #[error(
        "kafka.password_file {path}: {source}. Have it readable by the user that outcry runs as, and by nobody else"
    )]
    Password {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// librdkafka does not take it.
    #[error("{0}")]
    Config(#[from] rdkafka::error::KafkaError),
}

/// Reaches the cluster, as who we are.
///
/// # Errors
/// [`ClientError`]
pub fn config(rules: &KafkaRules, client_id: &str) -> Result<ClientConfig, ClientError> {
    let mut config = ClientConfig::new();
    let brokers: Vec<String> = rules.brokers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    config.set("bootstrap.servers", brokers.join(","));
    config.set("client.id", client_id);
    // A connection that nothing goes over is closed by brokers after a while: no news.
    config.set("log.connection.close", "false");
    let scram = rules.sasl.as_ref().is_some_and(|sasl| sasl.mechanism != outcry::config::Mechanism::Plain);
    if (rules.tls || scram) && !cfg!(feature = "kafka-tls") {
        return Err(ClientError::NoTls);
    }
    let protocol = match (rules.tls, rules.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(ca) = &rules.ca {
        config.set("ssl.ca.location", ca.to_string_lossy());
    }
    if let Some((certificate, key)) = &rules.certificate {
        config.set("ssl.certificate.location", certificate.to_string_lossy());
        config.set("ssl.key.location", key.to_string_lossy());
    }
    if let Some(sasl) = &rules.sasl {
        let read = std::fs::read_to_string(&sasl.password_file);
        let password = read.map_err(|source| ClientError::Password { path: sasl.password_file.clone(), source })?;
        config.set("sasl.mechanism", sasl.mechanism.name());
        config.set("sasl.username", &sasl.user);
        config.set("sasl.password", password.trim_end_matches(['\r', '\n']));
    }
    Ok(config)
}

/// A topic's whole name.
pub fn name(rules: &KafkaRules, topic: Topic) -> String {
    format!("{}{}", rules.prefix, topic.name())
}

/// The name of the topic of dead letters.
pub fn dead(rules: &KafkaRules) -> String {
    format!("{}dead", rules.prefix)
}
