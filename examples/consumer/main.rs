//! A small consumer of what turnstiled sends to an SQS queue or a Kinesis stream: each event once, one a line on stdout.
//!
//! ```sh
//! cargo run --example consumer -- sqs https://sqs.eu-central-1.amazonaws.com/000000000000/listener
//! cargo run --example consumer -- kinesis turnstiled-exits
//! ```
//!
//! It ends when there is nothing more to read. Credentials, region and endpoint come from the AWS SDK's own chain. It
//! uses nothing of turnstiled's own code: what a consumer has to know is in `once.rs`.

mod once;
mod queue;
mod stream;

use std::{env, error::Error, io::Write};

use aws_config::BehaviorVersion;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use once::Once;

const USAGE: &str = "usage: consumer sqs QUEUE_URL | consumer kinesis STREAM";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let mut once = Once::default();
    let mut print = |event: &str| Ok(writeln!(std::io::stdout(), "{event}")?);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sqs", queue_url] => {
            let client = aws_sdk_sqs::Client::new(&config);
            queue::read(&client, queue_url, &mut once, &mut print).await?;
        }
        ["kinesis", stream] => {
            let client = aws_sdk_kinesis::Client::new(&config);
            stream::read(&client, stream, &mut once, &mut print).await?;
        }
        _ => return Err(USAGE.into()),
    }
    writeln!(std::io::stderr(), "{} events, {} repeats", once.handled, once.repeats)?;
    Ok(())
}
