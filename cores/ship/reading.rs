//! Topics read from a time to their ends: what whoever looks at Kafka needs.
//! Owns: a consumer without a group: what it reads is committed nowhere. Called by: `outcry audit`. Never: waits for messages that
//! were not there when it began.
use super::client::{self, ClientError};
use outcry::config::KafkaRules;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers, Message},
    topic_partition_list::Offset,
};
use std::{collections::BTreeMap, time::Duration};

/// Longest that the cluster is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why topics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster.
    #[error("{0}. Do kafka.brokers, kafka.tls and kafka.sasl name the cluster and a user that may read?")]
    Cluster(#[from] KafkaError),
    /// It was there and is not any more.
    #[error("kafka gave nothing for {} s: are its brokers up? Of {topic} partition {partition} offset {offset} is waited for", PATIENCE.as_secs())]
    Silent {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it is to go on.
        offset: i64,
    },
}

/// Where a partition is, and where it ends.
type Places = BTreeMap<(String, i32), (i64, i64)>;

/// See the module.
pub struct Reading {
    consumer: BaseConsumer,
    places: Places,
    /// Messages that there are to be read at most.
    pub total: u64,
}

impl Reading {
    /// Of these topics, from a moment on (milliseconds since 1970) or from their beginnings. One that is not there is empty.
    ///
    /// # Errors
    /// [`ReadingError`]
    pub fn new(rules: &KafkaRules, topics: &[String], from_ms: Option<u64>) -> Result<Reading, ReadingError> {
        let mut config = client::config(rules, "outcry-audit")?;
        config
            .set("group.id", "outcry-audit")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let all = consumer.fetch_metadata(None, PATIENCE)?;
        let mut wanted = TopicPartitionList::new();
        let mut places = Places::new();
        for topic in all.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name())) {
            for partition in topic.partitions() {
                let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
                if low < high {
                    places.insert((topic.name().to_owned(), partition.id()), (low, high));
                    let at =
                        from_ms.map_or(Offset::Offset(low), |ms| Offset::Offset(i64::try_from(ms).unwrap_or(i64::MAX)));
                    wanted.add_partition_offset(topic.name(), partition.id(), at)?;
                }
            }
        }
        if from_ms.is_some() && wanted.count() > 0 {
            let found = consumer.offsets_for_times(wanted, PATIENCE)?;
            for element in found.elements() {
                if let Some((at, high)) = places.get_mut(&(element.topic().to_owned(), element.partition())) {
                    *at = element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(*high);
                }
            }
        }
        places.retain(|_, (at, high)| at < high);
        let mut assigned = TopicPartitionList::new();
        for ((topic, partition), (at, _)) in &places {
            assigned.add_partition_offset(topic, *partition, Offset::Offset(*at))?;
        }
        consumer.assign(&assigned)?;
        let total = places.values().map(|(at, high)| (high - at) as u64).sum();
        Ok(Reading { consumer, places, total })
    }

    /// Hands on every message, those of a partition in their order.
    ///
    /// # Errors
    /// [`ReadingError`], or what `each` says.
    pub fn each<E: From<ReadingError>>(
        mut self,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(((topic, partition), (at, _))) = self.places.first_key_value() {
            let message = match self.consumer.poll(PATIENCE) {
                Some(Ok(message)) => message,
                Some(Err(e)) => return Err(ReadingError::from(e).into()),
                None => {
                    let (topic, partition, offset) = (topic.clone(), *partition, *at);
                    return Err(ReadingError::Silent { topic, partition, offset }.into());
                }
            };
            let key = (message.topic().to_owned(), message.partition());
            let Some((at, high)) = self.places.get_mut(&key) else { continue };
            if message.offset() < *high {
                each(&message)?;
            }
            *at = message.offset() + 1;
            if *at >= *high {
                self.places.remove(&key);
            }
        }
        Ok(())
    }
}

/// A header of a message.
pub fn header<M: Message>(message: &M, name: &str) -> Option<String> {
    let headers = message.headers()?;
    headers.iter().find(|h| h.key == name).map(|h| String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())
}
