//! `[kafka]`: where the record goes besides this machine's disk.
//! Owns: its keys and what they mean together. Called by: `check`, once.
use super::{
    address::Authority,
    check::{Checker, Table},
    kind::{Choice, Dir, Flag, List, Text, Whole},
    schema::{
        Fallback::{Number, Required, Toml, Unset},
        Key, Section, Shape, key, ms,
    },
};
use std::path::PathBuf;

/// Where the record goes besides this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRules {
    /// Some of the cluster's brokers: (host, port); at least one.
    pub brokers: Vec<(String, u16)>,
    /// What topics' names begin with.
    pub prefix: String,
    /// Bytes a second at most, before they are compressed.
    pub bytes_per_s: u64,
    /// So long a message may wait for others of its partition.
    pub linger_ms: u64,
    /// TLS to the brokers.
    pub tls: bool,
    /// Who vouches for them, PEM; `None`: the system's authorities.
    pub ca: Option<PathBuf>,
    /// Our own certificate, PEM, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who we say that we are.
    pub sasl: Option<Sasl>,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is proven.
    pub mechanism: Mechanism,
    /// The name.
    pub user: String,
    /// The file with the password, and nothing else but a line end.
    pub password_file: PathBuf,
}

/// How a password is proven to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mechanism {
    /// It is told.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    #[default]
    ScramSha512,
}

impl Mechanism {
    /// As brokers call it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

const BROKERS_MAX: usize = 32;

const BROKERS: Key<List<Authority>> = key(
    "brokers",
    Required("[\"localhost:9092\"]"),
    List { item: Authority, count: 1..=BROKERS_MAX },
    "Some of the cluster's brokers; they tell of the others.",
);
const PREFIX: Key<Text> = key(
    "prefix",
    Toml("\"outcry.\""),
    Text { max: 64 },
    "What topics' names begin with: auctions, results, dead follow.",
);
const BYTES_PER_S: Key<Whole> = key(
    "bytes_per_s",
    Number(64_000_000),
    Whole { min: 100_000, max: 10_000_000_000, unit: "bytes" },
    "So much goes a second at most, before it is compressed: what a backlog takes from this machine. More than auctions make, \
     or it never drains.",
);
const LINGER_MS: Key<Whole> = key(
    "linger_ms",
    Number(1_000),
    ms(0, 60_000),
    "A message waits so long for others of its partition. What is sent together costs less here and at the brokers, and compresses better.",
);
const TLS: Key<Flag> = key("tls", Unset("true"), Flag, "TLS to the brokers; unset: none.");
const CA: Key<Dir> = key(
    "ca",
    Unset("\"/etc/outcry/kafka-ca.pem\""),
    Dir,
    "Who vouches for the brokers, PEM. Unset: whom the system believes.",
);
const CERTIFICATE: Key<Dir> =
    key("certificate", Unset("\"/etc/outcry/kafka.pem\""), Dir, "Our own certificate, PEM, where brokers ask for one.");
const PRIVATE: Key<Dir> = key("key", Unset("\"/etc/outcry/kafka.key\""), Dir, "The certificate's private key, PEM.");
const SASL: Key<Choice<Mechanism>> = key(
    "sasl",
    Unset("\"scram-sha-512\""),
    Choice(&[
        ("plain", Mechanism::Plain),
        ("scram-sha-256", Mechanism::ScramSha256),
        ("scram-sha-512", Mechanism::ScramSha512),
    ]),
    "How we prove who we are; unset: we do not.",
);
const USER: Key<Text> = key("user", Unset("\"outcry\""), Text { max: 256 }, "Who we say that we are.");
const PASSWORD_FILE: Key<Dir> = key(
    "password_file",
    Unset("\"/etc/outcry/kafka.password\""),
    Dir,
    "The file with the password, and nothing else but a line end.",
);

pub(super) const KAFKA: Section = Section {
    name: "kafka",
    path: "kafka",
    shape: Shape::Optional,
    meaning: "The record goes to Kafka as well, from the journal: nothing is lost while brokers are away, as far as the disk \
              reaches. `outcry audit topics --apply` makes the topics.",
    keys: &[
        &BROKERS,
        &PREFIX,
        &BYTES_PER_S,
        &LINGER_MS,
        &TLS,
        &CA,
        &CERTIFICATE,
        &PRIVATE,
        &SASL,
        &USER,
        &PASSWORD_FILE,
    ],
    sections: &[],
};

impl Checker<'_, '_> {
    /// `recorded`: there is a journal to be sent.
    pub(super) fn kafka(&mut self, table: Table<'_, '_>, recorded: bool) -> KafkaRules {
        let key = |name| KAFKA.key(name);
        if !recorded {
            let allowed = "no [kafka] where record.durability is \"none\": it is the journal that is sent".to_owned();
            self.rule(table.at, KAFKA.path.to_owned(), "the section".to_owned(), allowed, None);
        }
        let tls = self.find(table, &TLS).is_some_and(|got| got.value);
        let (ca, certificate, private) =
            (self.find(table, &CA), self.find(table, &CERTIFICATE), self.find(table, &PRIVATE));
        let secret = [("ca", &ca), ("certificate", &certificate), ("key", &private)];
        for (name, at) in secret.into_iter().filter_map(|(name, got)| got.as_ref().map(|got| (name, got.at))) {
            if !tls {
                let found = format!("{name} without TLS");
                self.rule(at, key("tls"), found, "true".to_owned(), Some("true".to_owned()));
            }
        }
        let pair = match (certificate, private) {
            (Some(certificate), Some(private)) => Some((certificate.value, private.value)),
            (None, None) => None,
            (Some(one), None) => {
                self.rule(one.at, key("key"), "nothing beside certificate".into(), PRIVATE_ALLOWED.into(), None);
                None
            }
            (None, Some(one)) => {
                self.rule(one.at, key("certificate"), "nothing beside key".into(), PRIVATE_ALLOWED.into(), None);
                None
            }
        };
        let sasl = self.find(table, &SASL);
        let (user, password) = (self.find(table, &USER), self.find(table, &PASSWORD_FILE));
        let sasl = match (sasl, user, password) {
            (Some(mechanism), Some(user), Some(password)) => {
                Some(Sasl { mechanism: mechanism.value, user: user.value, password_file: password.value })
            }
            (Some(mechanism), user, _) => {
                let missing = if user.is_none() { "user" } else { "password_file" };
                let found = format!("nothing beside sasl with {}", mechanism.value.name());
                self.rule(mechanism.at, key(missing), found, "user and password_file".to_owned(), None);
                None
            }
            (None, user, password) => {
                if let Some(at) = user.map(|got| got.at).or(password.map(|got| got.at)) {
                    let found = "nothing beside user or password_file".to_owned();
                    let allowed = "plain, scram-sha-256, scram-sha-512".to_owned();
                    self.rule(at, key("sasl"), found, allowed, Some("\"scram-sha-512\"".to_owned()));
                }
                None
            }
        };
        KafkaRules {
            brokers: self.get(table, &BROKERS).value.into_iter().map(|broker| broker.value).collect(),
            prefix: self.get(table, &PREFIX).value,
            bytes_per_s: self.get(table, &BYTES_PER_S).value,
            linger_ms: self.get(table, &LINGER_MS).value,
            tls,
            ca: ca.map(|got| got.value),
            certificate: pair,
            sasl,
        }
    }
}

const PRIVATE_ALLOWED: &str = "certificate and key, both";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn it_is_read_and_what_cannot_be_is_told() {
        assert_eq!(load("", 1).unwrap().kafka, None);
        let kafka = |text: &str| load(&format!("[kafka]\nbrokers = [\"a:9092\", \"[::1]:9093\"]\n{text}"), 1);
        let read = kafka("").unwrap().kafka.unwrap();
        let plain = KafkaRules {
            brokers: vec![("a".into(), 9092), ("[::1]".into(), 9093)],
            prefix: "outcry.".into(),
            bytes_per_s: 64_000_000,
            linger_ms: 1_000,
            tls: false,
            ca: None,
            certificate: None,
            sasl: None,
        };
        assert_eq!(KafkaRules { brokers: plain.brokers.clone(), ..read.clone() }, plain);
        assert_eq!(read.brokers[0], ("a".into(), 9092));
        let whole = "tls = true\nca = \"/ca\"\ncertificate = \"/c\"\nkey = \"/k\"\nsasl = \"scram-sha-512\"\nuser = \"u\"\n\
                     password_file = \"/p\"";
        let read = kafka(whole).unwrap().kafka.unwrap();
        assert_eq!(read.sasl.map(|sasl| (sasl.mechanism.name(), sasl.user)), Some(("SCRAM-SHA-512", "u".into())));
        assert_eq!((read.tls, read.certificate), (true, Some(("/c".into(), "/k".into()))));
        for (text, wrong) in [
            ("ca = \"/ca\"", "kafka.tls"),
            ("tls = true\nkey = \"/k\"", "kafka.certificate"),
            ("tls = true\ncertificate = \"/k\"", "kafka.key"),
            ("sasl = \"plain\"", "kafka.user"),
            ("sasl = \"plain\"\nuser = \"u\"", "kafka.password_file"),
            ("user = \"u\"", "kafka.sasl"),
            ("sasl = \"gssapi\"", "kafka.sasl"),
            ("bytes_per_s = 5", "kafka.bytes_per_s"),
            ("[record]\ndurability = \"none\"", "kafka"),
        ] {
            let mistakes = kafka(text).unwrap_err();
            assert_eq!(mistakes.iter().map(|m| &m.key[..]).collect::<Vec<_>>(), [wrong], "{text}");
        }
        assert_eq!(load("[kafka]\n", 1).unwrap_err()[0].key, "kafka.brokers");
        assert!(load("[kafka]\nbrokers = []\n", 1).is_err());
    }
}
