//! The topics: what they are to be, whether they are, and how they come to be.
//! Owns: nothing. Called by: `outcry audit topics`; the start, which looks. Never: removes anything, or adds partitions to a topic
//! that is there: keys would move, and with them the order of their messages.
use super::client::{self, ClientError};
use outcry::{config::KafkaRules, ship::events::Topic};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest that the cluster is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where the cluster is not there at the start it is looked for again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// What each topic is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Partitions: what can be read side by side. For good: keys live in partitions.
    pub partitions: i32,
    /// Copies of each.
    pub replication: i32,
    /// Copies that must have a message before it is acknowledged.
    pub min_insync: i32,
    /// How long messages stay.
    pub retention_ms: i64,
    /// Longest batch.
    pub message_bytes: i64,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            partitions: 256,
            replication: 3,
            min_insync: 2,
            retention_ms: 7 * 24 * 3_600_000,
            message_bytes: 1 << 20,
        }
    }
}

/// How a setting of a topic is beside what it is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As much, or more.
    Good,
    /// Less.
    Weaker,
    /// The topic is not there.
    Missing,
    /// It is not told: the user may not describe it.
    Untold,
}

impl Verdict {
    /// As tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Weaker => "WEAKER",
            Verdict::Missing => "MISSING",
            Verdict::Untold => "not told",
        }
    }
}

/// A setting of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The topic.
    pub topic: String,
    /// What.
    pub name: &'static str,
    /// What it is to be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// How that is.
    pub verdict: Verdict,
}

/// Why topics cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster.
    #[error("{0}. Do kafka.brokers, kafka.tls and kafka.sasl name the cluster and a user that may describe topics?")]
    Cluster(#[from] KafkaError),
    /// A topic.
    #[error("{topic}: {code}. The user needs the rights to create and alter topics; replication needs as many brokers")]
    Topic {
        /// Which.
        topic: String,
        /// Why.
        code: Code,
    },
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A cluster, to look at its topics.
pub struct Topics {
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    names: [String; 3],
}

/// What is known of a topic that is there.
struct Found {
    partitions: usize,
    replication: usize,
    configs: BTreeMap<String, (Option<String>, bool)>,
}

const SETTINGS: [&str; 4] = ["min.insync.replicas", "retention.ms", "compression.type", "max.message.bytes"];

impl Layout {
    fn wanted(&self, setting: &str) -> String {
        match setting {
            "min.insync.replicas" => self.min_insync.to_string(),
            "retention.ms" => self.retention_ms.to_string(),
            "compression.type" => "zstd".to_owned(),
            _ => self.message_bytes.to_string(),
        }
    }

    fn verdict(&self, setting: &str, found: &str) -> Verdict {
        let at_least = |least: i64| match found.parse::<i64>() {
            // Messages stay for ever.
            Ok(-1) if setting == "retention.ms" => Verdict::Good,
            Ok(n) if n >= least => Verdict::Good,
            _ => Verdict::Weaker,
        };
        match setting {
            "min.insync.replicas" => at_least(self.min_insync.into()),
            "retention.ms" => at_least(self.retention_ms),
            // Batches are stored as they come, which is in zstd.
            "compression.type" if found == "producer" || found == "zstd" => Verdict::Good,
            "compression.type" => Verdict::Weaker,
            _ => at_least(self.message_bytes),
        }
    }
}

impl Topics {
    /// Connects when it is asked.
    ///
    /// # Errors
    /// [`TopicsError`]
    pub fn new(rules: &KafkaRules) -> Result<Topics, TopicsError> {
        let config = client::config(rules, "outcry-topics")?;
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let names = [client::name(rules, Topic::Auctions), client::name(rules, Topic::Results), client::dead(rules)];
        Ok(Topics { admin, runtime, names })
    }

    fn look(&self, name: &str) -> Result<Option<Found>, TopicsError> {
        // Of all topics: asked for by name, one that is not there would be made.
        let all = self.admin.inner().fetch_metadata(None, PATIENCE)?;
        let Some(topic) = all.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
        let configs = self.configs(name)?;
        let configs = configs.entries.into_iter().map(|entry| {
            let ours = matches!(entry.source, ConfigSource::DynamicTopic);
            (entry.name, (entry.value, ours))
        });
        Ok(Some(Found {
            partitions: topic.partitions().len(),
            replication: topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0),
            configs: configs.collect(),
        }))
    }

    fn configs(&self, name: &str) -> Result<ConfigResource, TopicsError> {
        let resource = [ResourceSpecifier::Topic(name)];
        let asked = self.admin.describe_configs(&resource, &options());
        let failed = |code| TopicsError::Topic { topic: name.to_owned(), code };
        let one = self.runtime.block_on(asked)?.into_iter().next();
        one.unwrap_or(Err(Code::UnknownTopicOrPartition)).map_err(failed)
    }

    /// How all topics are.
    ///
    /// # Errors
    /// [`TopicsError`]
    pub fn judge(&self, layout: &Layout) -> Result<Vec<Setting>, TopicsError> {
        let mut all = Vec::new();
        for topic in &self.names {
            let found = self.look(topic)?;
            let mut put = |name: &'static str, wanted: String, found: Option<(String, Verdict)>| {
                let (found, verdict) = found.unwrap_or(("-".to_owned(), Verdict::Missing));
                all.push(Setting { topic: topic.clone(), name, wanted, found, verdict });
            };
            let least = |n: usize, least: i32| {
                let good = i32::try_from(n).is_ok_and(|n| n >= least);
                (n.to_string(), if good { Verdict::Good } else { Verdict::Weaker })
            };
            let of = found.as_ref();
            put("partitions", layout.partitions.to_string(), of.map(|f| least(f.partitions, layout.partitions)));
            put("replication", layout.replication.to_string(), of.map(|f| least(f.replication, layout.replication)));
            for setting in SETTINGS {
                let there = of.map(|f| match f.configs.get(setting).and_then(|(value, _)| value.clone()) {
                    Some(value) => (value.clone(), layout.verdict(setting, &value)),
                    None => ("?".to_owned(), Verdict::Untold),
                });
                put(setting, layout.wanted(setting), there);
            }
        }
        Ok(all)
    }

    /// Makes what is missing and mends what is weaker, but for partitions and copies of topics that are there; over when every broker
    /// that is asked knows them.
    ///
    /// # Errors
    /// [`TopicsError`]
    pub fn apply(&self, layout: &Layout) -> Result<(), TopicsError> {
        for topic in &self.names {
            let failed = |code| TopicsError::Topic { topic: topic.clone(), code };
            let wanted = SETTINGS.map(|setting| (setting, layout.wanted(setting)));
            match self.look(topic)? {
                None => {
                    let copies = TopicReplication::Fixed(layout.replication);
                    let mut new = NewTopic::new(topic, layout.partitions, copies);
                    for (setting, value) in &wanted {
                        new = new.set(setting, value);
                    }
                    let made = self.runtime.block_on(self.admin.create_topics([&new], &options()))?;
                    made.into_iter()
                        .next()
                        .unwrap_or(Err((topic.clone(), Code::Unknown)))
                        .map_err(|(_, code)| failed(code))?;
                }
                Some(found) => {
                    // What is told replaces all that was set before: so that is told again.
                    let mut all: BTreeMap<&str, String> = BTreeMap::new();
                    for (name, (value, ours)) in &found.configs {
                        if let (Some(value), true) = (value, *ours) {
                            all.insert(name, value.clone());
                        }
                    }
                    let before = all.clone();
                    for (setting, value) in &wanted {
                        let there =
                            found.configs.get(*setting).and_then(|(value, _)| value.as_deref()).unwrap_or_default();
                        if layout.verdict(setting, there) != Verdict::Good {
                            all.insert(setting, value.clone());
                        }
                    }
                    if all == before {
                        continue;
                    }
                    let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
                    for (name, value) in &all {
                        change = change.set(name, value);
                    }
                    let done = self.runtime.block_on(self.admin.alter_configs([&change], &options()))?;
                    done.into_iter()
                        .next()
                        .unwrap_or(Err((rdkafka::admin::OwnedResourceSpecifier::Topic(topic.clone()), Code::Unknown)))
                        .map_err(|(_, code)| failed(code))?;
                }
            }
        }
        // A topic that was made is known to all brokers a little later.
        let until = Instant::now() + PATIENCE;
        for topic in &self.names {
            while self.look(topic)?.is_none() {
                if Instant::now() > until {
                    return Err(TopicsError::Topic { topic: topic.clone(), code: Code::UnknownTopicOrPartition });
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Looks at the topics once the cluster is there, on a thread of its own, and warns of what is weaker than it is to be.
pub fn watch(rules: KafkaRules, reach: Arc<super::reach::Reach>, mut log: impl FnMut(&str) + Send + 'static) {
    let look = move || {
        let layout = Layout::default();
        loop {
            match Topics::new(&rules).and_then(|topics| topics.judge(&layout)) {
                Ok(settings) => {
                    let weak = |s: &&Setting| matches!(s.verdict, Verdict::Weaker | Verdict::Missing);
                    let mut topics: Vec<&str> = settings.iter().filter(weak).map(|s| &s.topic[..]).collect();
                    topics.dedup();
                    for topic in topics {
                        let of = settings.iter().filter(weak).filter(|s| s.topic == topic);
                        let says: Vec<String> =
                            of.map(|s| format!("{} {} instead of {}", s.name, s.found, s.wanted)).collect();
                        log(&format!(
                            "WARNING: kafka topic {topic} is weaker than it should be: {}. `outcry audit topics --apply` mends what can be",
                            says.join(", ")
                        ));
                    }
                    return;
                }
                Err(TopicsError::Cluster(why)) if !reach.stopped() => {
                    log(&format!("kafka: topics cannot be looked at yet: {why}"));
                    let mut rested = Duration::ZERO;
                    while rested < AGAIN && !reach.stopped() {
                        std::thread::sleep(Duration::from_millis(100));
                        rested += Duration::from_millis(100);
                    }
                }
                Err(why) => return log(&format!("WARNING: kafka: topics cannot be looked at: {why}")),
            }
            if reach.stopped() {
                return;
            }
        }
    };
    // Without it nobody is warned, and nothing else is amiss.
    let _ = std::thread::Builder::new().name("outcry-topics".to_owned()).spawn(look);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaker_is_what_keeps_less() {
        let layout = Layout::default();
        for (setting, found, verdict) in [
            ("min.insync.replicas", "2", Verdict::Good),
            ("min.insync.replicas", "1", Verdict::Weaker),
            ("retention.ms", "-1", Verdict::Good),
            ("retention.ms", "3600000", Verdict::Weaker),
            ("retention.ms", "604800000", Verdict::Good),
            ("compression.type", "producer", Verdict::Good),
            ("compression.type", "gzip", Verdict::Weaker),
            ("max.message.bytes", "1000012", Verdict::Weaker),
            ("max.message.bytes", "1048588", Verdict::Good),
            ("max.message.bytes", "", Verdict::Weaker),
        ] {
            assert_eq!(layout.verdict(setting, found), verdict, "{setting} {found}");
        }
    }
}
