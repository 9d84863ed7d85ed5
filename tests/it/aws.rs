//! What the daemon delivers to, made in the emulator and read back from it.

use std::{collections::HashMap, io::Read};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};

use crate::moto::Moto;

/// The emulator's account.
pub(crate) const ACCOUNT: &str = "123456789012";

const TOPIC: &str = "internal";
const QUEUE: &str = "listener";
const STREAM: &str = "exits";
const BUCKET: &str = "archive";
const TABLE: &str = "card-state";

/// A topic with a queue behind it, a stream, a bucket and a table.
pub(crate) struct Estate {
    config: SdkConfig,
    topic_arn: String,
    queue_url: String,
}

impl Estate {
    pub(crate) async fn make(moto: &Moto) -> Self {
        let config = moto.sdk_config();
        let topic_arn = create_topic(&config, TOPIC).await;
        let queue_url = create_queue(&config, QUEUE).await;
        subscribe(&config, &topic_arn, QUEUE).await;
        let kinesis = aws_sdk_kinesis::Client::new(&config);
        kinesis.create_stream().stream_name(STREAM).shard_count(2).send().await.unwrap();
        let bucket = s3_client(&config).create_bucket().bucket(BUCKET);
        bucket.create_bucket_configuration(location()).send().await.unwrap();
        create_table(&aws_sdk_dynamodb::Client::new(&config), TABLE).await;
        Self { config, topic_arn, queue_url }
    }

    /// The sinks of the contract's sample, and one that writes files.
    pub(crate) fn sinks(&self) -> String {
        let topic_arn = &self.topic_arn;
        format!(
            r#"
            [sinks.internal]
            type = "sns"
            topic_arn = "{topic_arn}"
            required = true
            [sinks.exits]
            type = "kinesis"
            stream = "{STREAM}"
            [sinks.archive]
            type = "s3"
            bucket = "{BUCKET}"
            prefix = "events"
            format = "ndjson"
            compression = "gzip"
            max_age = "300ms"
            [sinks.card-state]
            type = "dynamodb"
            table = "{TABLE}"
            [sinks.files]
            type = "file"
            dir = "sinks/files"

            [[routes]]
            name = "internal"
            types = ["card.*", "access.entry.*", "presence.*", "building.**"]
            to = ["internal", "card-state"]
            [[routes]]
            name = "exits"
            types = ["access.exit.*"]
            to = ["exits", "card-state"]
            [[routes]]
            name = "archive"
            types = ["**"]
            to = ["archive"]
            personal = true
            [[routes]]
            name = "files"
            types = ["**"]
            to = ["files"]
            "#
        )
    }

    /// Takes what the queue behind the topic holds.
    pub(crate) async fn drain_queue(&self) -> Vec<String> {
        let messages = drain(&self.config, &self.queue_url).await;
        messages.into_iter().map(|message| message.body.unwrap()).collect()
    }

    /// What the stream holds, in order for each key.
    pub(crate) async fn read_stream(&self) -> Vec<String> {
        read_shards(&self.config, STREAM).await
    }

    /// Every line of every object in the bucket, by key of the object.
    pub(crate) async fn read_archive(&self) -> Vec<String> {
        read_bucket(&self.config, BUCKET).await
    }

    /// An item of the table.
    pub(crate) async fn item(&self, key: &str, sort_key: &str) -> Option<HashMap<String, AttributeValue>> {
        let client = aws_sdk_dynamodb::Client::new(&self.config);
        let request = client.get_item().table_name(TABLE);
        let request = request.key("PK", AttributeValue::S(key.to_owned()));
        request.key("SK", AttributeValue::S(sort_key.to_owned())).send().await.unwrap().item
    }
}

pub(crate) async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) {
    create_table_with(client, name, &["PK", "SK"]).await;
}

/// A table with these keys, strings all.
pub(crate) async fn create_table_with(client: &aws_sdk_dynamodb::Client, name: &str, keys: &[&str]) {
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (name, key_type) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
        let attribute =
            AttributeDefinition::builder().attribute_name(*name).attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(key_type);
        request = request.attribute_definitions(attribute.build().unwrap()).key_schema(key.build().unwrap());
    }
    request.send().await.unwrap();
}

pub(crate) async fn create_queue(config: &SdkConfig, name: &str) -> String {
    let mut request = aws_sdk_sqs::Client::new(config).create_queue().queue_name(name);
    if name.ends_with(".fifo") {
        request = request.attributes(QueueAttributeName::FifoQueue, "true");
    }
    request.send().await.unwrap().queue_url.unwrap()
}

pub(crate) async fn create_topic(config: &SdkConfig, name: &str) -> String {
    let mut request = aws_sdk_sns::Client::new(config).create_topic().name(name);
    if name.ends_with(".fifo") {
        request = request.attributes("FifoTopic", "true");
    }
    request.send().await.unwrap().topic_arn.unwrap()
}

pub(crate) async fn subscribe(config: &SdkConfig, topic_arn: &str, queue: &str) {
    aws_sdk_sns::Client::new(config)
        .subscribe()
        .topic_arn(topic_arn)
        .protocol("sqs")
        .endpoint(format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:{queue}"))
        .attributes("RawMessageDelivery", "true")
        .send()
        .await
        .unwrap();
}

/// Receives and deletes until the queue has nothing more.
pub(crate) async fn drain(config: &SdkConfig, queue_url: &str) -> Vec<Message> {
    let client = aws_sdk_sqs::Client::new(config);
    let mut all = Vec::new();
    loop {
        let request = client
            .receive_message()
            .queue_url(queue_url)
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let messages = request.send().await.unwrap().messages.unwrap_or_default();
        if messages.is_empty() {
            return all;
        }
        let entry = |(place, message): (usize, &Message)| {
            let handle = message.receipt_handle.clone().unwrap();
            DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(handle)
                .build()
                .unwrap()
        };
        let entries = messages.iter().enumerate().map(entry).collect();
        let deleted =
            client.delete_message_batch().queue_url(queue_url).set_entries(Some(entries)).send().await;
        assert_eq!(deleted.unwrap().failed(), []);
        all.extend(messages);
    }
}

pub(crate) async fn read_stream(
    client: &aws_sdk_kinesis::Client,
    stream: &str,
) -> HashMap<String, Vec<String>> {
    let mut read: HashMap<String, Vec<String>> = HashMap::new();
    for shard in client.list_shards().stream_name(stream).send().await.unwrap().shards() {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let iterator = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let records = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
        for record in records.records() {
            let data = String::from_utf8(record.data().as_ref().to_vec()).unwrap();
            read.entry(record.partition_key().unwrap().to_owned()).or_default().push(data);
        }
    }
    read
}

/// What a stream holds, shard by shard, in order.
pub(crate) async fn read_shards(config: &SdkConfig, stream: &str) -> Vec<String> {
    let by_key = read_stream(&aws_sdk_kinesis::Client::new(config), stream).await;
    by_key.into_values().flatten().collect()
}

/// Every line of every object in a bucket, by key of the object; what is compressed ends with `.gz`.
pub(crate) async fn read_bucket(config: &SdkConfig, bucket: &str) -> Vec<String> {
    let client = s3_client(config);
    let mut lines = Vec::new();
    let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.unwrap().contents() {
            let key = object.key().unwrap();
            let object = client.get_object().bucket(bucket).key(key).send().await.unwrap();
            let bytes = object.body.collect().await.unwrap().to_vec();
            let mut text = String::new();
            match key.ends_with(".gz") {
                true => flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text),
                false => bytes.as_slice().read_to_string(&mut text),
            }
            .unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines
}

pub(crate) fn s3_client(config: &SdkConfig) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build())
}

pub(crate) fn location() -> aws_sdk_s3::types::CreateBucketConfiguration {
    let region = aws_sdk_s3::types::BucketLocationConstraint::EuCentral1;
    aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(region).build()
}
