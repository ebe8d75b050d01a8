//! Messages to Kafka: idempotent, acknowledged by every copy that the topic asks for.
//! Owns: a librdkafka producer and its threads, which were made on the CPUs of control and stay there. Runs on: the shipper's
//! thread. Called by: it. Never: gives a message up because time has passed; says that one is there before Kafka has said so.
//! Full: a queue without room takes no more.
use super::client::{self, ClientError};
use outcry::{
    config::KafkaRules,
    ship::{
        events::Topic,
        shipper::{Fate, Full, IN_FLIGHT_MAX, Letter, Parcel, Producer, To, Token},
    },
};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, Headers, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Longest message that is sent: what topics take that `outcry audit topics` makes.
pub const MESSAGE_MAX: usize = 1_000_000;
/// What may lie in the queue: messages in flight have a few kilobytes at most, but for the odd one.
const QUEUE_KB: usize = 128 * 1024;
/// A batch goes when it has so much, however short it has waited: more would hold what may be in flight without compressing better.
const BATCH_BYTES: usize = 128 * 1024;
/// A context for zstd is made for each batch: the faster level's is small, and batches of this size lose little by it.
const ZSTD_LEVEL: &str = "1";

/// What came of a parcel; the parcel, where it was not acknowledged.
pub type Told = (Token, Fate, Option<Box<Parcel>>);

/// What librdkafka says, from its threads and from ours.
#[derive(Debug)]
pub struct Listening {
    topics: [String; 3],
    alone: bool,
    told: Mutex<Vec<Told>>,
    said: Mutex<Vec<String>>,
}

impl Listening {
    fn say(&self, line: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // Who reads this says each line once a minute at most.
        if said.len() < 64 {
            said.push(line);
        }
    }
}

impl ClientContext for Listening {
    // What matters comes as an error too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a producer is told by whoever makes the next.
        if !matches!(error.rdkafka_error_code(), Some(Code::Fatal | Code::GaplessGuarantee)) {
            self.say(format!("{error}: {reason}"));
        }
    }
}

impl ProducerContext for Listening {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let told = match result {
            Ok(_) => (Token(token as u64), Fate::Acknowledged, None),
            Err((error, message)) => {
                let fate = fate(error, self.alone);
                (Token(token as u64), fate, parcel(message, &self.topics).map(Box::new))
            }
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }
}

/// What an error means for what is to be done.
fn fate(error: &KafkaError, alone: bool) -> Fate {
    let why = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::BadMessage
            // Some batch was refused, for whatever reason: alone each message says its own.
            | Code::GaplessGuarantee,
        ) => {
            if alone {
                Fate::Refused(why)
            } else {
                Fate::BatchRefused(why)
            }
        }
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation
            | Code::InvalidRequiredAcks,
        ) => Fate::Stopped(why),
        _ => Fate::Fatal(why),
    }
}

fn parcel<M: Message>(message: &M, topics: &[String; 3]) -> Option<Parcel> {
    let to = match topics.iter().position(|topic| topic == message.topic())? {
        0 => To::Topic(Topic::Auctions),
        1 => To::Topic(Topic::Results),
        _ => To::Dead,
    };
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.filter_map(|h| Some((known(h.key)?, text(h.value)))).collect();
    let payload = message.payload().unwrap_or_default().to_vec();
    Some(Parcel { to, key: text(message.key()), headers, payload })
}

/// Headers that we give.
fn known(name: &str) -> Option<&'static str> {
    const ALL: [&str; 8] = ["id", "type", "schema", "position", "reason", "attempts", "topic", "bytes"];
    ALL.into_iter().find(|known| *known == name)
}

/// See the module.
pub struct Kafka {
    producer: BaseProducer<Listening>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("in_flight", &self.producer.in_flight_count()).finish_non_exhaustive()
    }
}

impl Kafka {
    /// A producer; with `alone` each message travels in a batch of its own.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn new(rules: &KafkaRules, client_id: &str, alone: bool) -> Result<Kafka, ClientError> {
        let mut config = client::config(rules, client_id)?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            .set("compression.level", ZSTD_LEVEL)
            // The partitioner of Kafka's own clients: who reads by key finds it where they would.
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", MESSAGE_MAX.to_string())
            .set("batch.size", BATCH_BYTES.to_string())
            .set("linger.ms", rules.linger_ms.to_string())
            .set("queue.buffering.max.messages", (4 * IN_FLIGHT_MAX).to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KB.to_string())
            // A batch that is refused for good ends the producer, so that what is behind it does not get ahead.
            .set("enable.gapless.guarantee", if alone { "false" } else { "true" });
        if alone {
            config.set("batch.num.messages", "1");
        }
        let topics = [client::name(rules, Topic::Auctions), client::name(rules, Topic::Results), client::dead(rules)];
        let listening = Listening { topics, alone, told: Mutex::default(), said: Mutex::default() };
        Ok(Kafka { producer: config.create_with_context(listening)? })
    }

    fn listening(&self) -> &Listening {
        self.producer.client().context()
    }

    /// Hands out what came of parcels since, in the place of what is in `into`, whose room is used next.
    pub fn turn(&self, into: &mut Vec<Told>) {
        into.clear();
        let told = || self.listening().told.lock().unwrap_or_else(PoisonError::into_inner);
        // A call takes the fates of one batch. To wait in it would be to be woken for each.
        loop {
            let before = told().len();
            self.producer.poll(Duration::ZERO);
            if told().len() == before {
                return std::mem::swap(&mut *told(), into);
            }
        }
    }

    /// Waits so long for what was sent to be there, and lets none of it wait for others.
    pub fn hurry(&self, most: Duration) {
        // Not there in time is no error of it.
        let _ = self.producer.flush(most);
    }

    /// What librdkafka said.
    pub fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.listening().said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It can do nothing more, and what that means.
    pub fn fatal(&self) -> Option<Fate> {
        let (code, why) = self.producer.client().fatal_error()?;
        Some(match code {
            Code::GaplessGuarantee => Fate::BatchRefused(why),
            _ => Fate::Fatal(format!("{code}: {why}")),
        })
    }
}

impl Producer for Kafka {
    fn send(&mut self, letter: &Letter<'_>, token: Token) -> Result<(), Result<Full, Fate>> {
        let listening = self.listening();
        let topic = match letter.to {
            To::Topic(Topic::Auctions) => &listening.topics[0],
            To::Topic(Topic::Results) => &listening.topics[1],
            To::Dead => &listening.topics[2],
        };
        let mut record = BaseRecord::with_opaque_to(topic, token.0 as usize).key(letter.key).payload(letter.payload);
        // Headers are five allocations.
        if !letter.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(letter.headers.len());
            for (key, value) in letter.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            record = record.headers(headers);
        }
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(Code::QueueFull) => Err(Ok(Full)),
            // It was in no batch yet: nobody else's fate hangs on it.
            Err((error, _)) => Err(Err(fate(&error, true))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_they_mean() {
        let of = |code, alone| fate(&KafkaError::MessageProduction(code), alone);
        assert!(matches!(of(Code::MessageSizeTooLarge, false), Fate::BatchRefused(_)));
        assert!(matches!(of(Code::MessageSizeTooLarge, true), Fate::Refused(_)));
        assert!(matches!(of(Code::TopicAuthorizationFailed, false), Fate::Stopped(_)));
        assert!(matches!(of(Code::UnknownTopic, true), Fate::Stopped(_)));
        assert!(matches!(of(Code::GaplessGuarantee, false), Fate::BatchRefused(_)));
        for code in [Code::Fenced, Code::PurgeQueue, Code::OutOfOrderSequenceNumber] {
            assert!(matches!(of(code, false), Fate::Fatal(_)), "{code:?}");
        }
    }
}
