//! Log lines with the id of the trace that the thread works for at the moment. `tracing`'s own spans would do it at the
//! price of one for each request, also where nothing is logged.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Format, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::trace::current;

/// The fields of a line for people, with the trace behind them.
pub(super) struct TracedFields;

impl<'writer> FormatFields<'writer> for TracedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(writer.by_ref(), fields)?;
        match current::trace() {
            Some(trace) => write!(writer, " trace_id={}", trace.trace_id_hex()),
            None => Ok(()),
        }
    }
}

/// A line for machines, with the trace as its last member.
pub(super) struct TracedJson(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for TracedJson
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = current::trace() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(members) => writeln!(writer, "{members},\"trace_id\":\"{}\"}}", trace.trace_id_hex()),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::{self as lines, format::JsonFields};

    use super::*;
    use crate::domain::trace::TraceContext;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn log_one_with_and_one_without() {
        let trace = TraceContext { trace_id: [0xab; 16], span_id: [1; 8], is_sampled: false };
        let entered = current::enter(Some(trace));
        tracing::info!(sink = "exits", "a line");
        drop(entered);
        tracing::info!("another");
    }

    #[test]
    fn lines_of_a_trace_carry_its_id() {
        let id = "ab".repeat(16);
        let (people, machines) = (Kept::default(), Kept::default());
        let to = people.clone();
        let human = lines::fmt()
            .without_time()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .fmt_fields(TracedFields);
        tracing::subscriber::with_default(human.finish(), log_one_with_and_one_without);
        let [with, without] = people.lines().try_into().unwrap();
        assert!(with.ends_with(&format!("a line sink=\"exits\" trace_id={id}")), "{with}");
        assert!(without.ends_with("another"), "{without}");

        let to = machines.clone();
        let json = lines::fmt().with_writer(move || to.clone()).fmt_fields(JsonFields::new());
        let json = json.event_format(TracedJson(lines::format().json().flatten_event(true)));
        tracing::subscriber::with_default(json.finish(), log_one_with_and_one_without);
        let read: Vec<serde_json::Value> =
            machines.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&read[0]["trace_id"], &read[0]["sink"]), (&id.into(), &"exits".into()));
        assert_eq!(
            (&read[1]["trace_id"], &read[1]["message"]),
            (&serde_json::Value::Null, &"another".into())
        );
    }
}
