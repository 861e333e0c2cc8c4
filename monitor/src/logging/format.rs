//! One event as one line: logfmt or JSON.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// How events are written.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub format: LogFormat,
    /// The reader is the journal: priority in front, no time.
    pub journal: bool,
}

/// Keeps the fields of a span as JSON text, from which both formats are made.
pub struct LineFields;

/// Key and value in the order of writing.
type Pairs = Vec<(String, Value)>;

impl<'writer> FormatFields<'writer> for LineFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        // Later fields of the same span are appended; a newline parts them, which JSON text never holds.
        writeln!(writer, "{}", serde_json::to_string(&collected.finish()?).map_err(|_| fmt::Error)?)
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut collected = Collected::default();
        event.record(&mut collected);
        let mut spans = Pairs::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                spans.extend(fields.lines().filter_map(|line| serde_json::from_str::<Pairs>(line).ok()).flatten());
            }
        }
        let metadata = event.metadata();
        let time = match self.journal {
            true => None,
            false => {
                let mut text = String::new();
                SystemTime.format_time(&mut Writer::new(&mut text))?;
                Some(text)
            }
        };
        let message = collected.message.take();
        let mut pairs = Pairs::new();
        pairs.extend(time.map(|time| ("ts".to_owned(), Value::from(time))));
        pairs.push(("level".to_owned(), Value::from(level_word(metadata.level()))));
        pairs.push(("target".to_owned(), Value::from(metadata.target())));
        pairs.extend(message.map(|message| ("msg".to_owned(), Value::from(message))));
        pairs.extend(spans);
        pairs.extend(collected.finish()?);
        if self.journal {
            write!(writer, "<{}>", priority(metadata.level()))?;
        }
        match self.format {
            LogFormat::Logfmt => writeln!(writer, "{}", logfmt(&pairs)),
            LogFormat::Json => writeln!(writer, "{}", json(pairs)),
        }
    }
}

/// Gathers the fields of one event or span.
#[derive(Default)]
struct Collected {
    message: Option<String>,
    pairs: Pairs,
}

impl Collected {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = Some(text),
            (name, value) => self.pairs.push((name.to_owned(), value)),
        }
    }
}

impl VisitOutput<Result<Pairs, fmt::Error>> for Collected {
    fn finish(self) -> Result<Pairs, fmt::Error> {
        Ok(self.pairs)
    }
}

impl Visit for Collected {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The causes too: `Display` of an error names the outermost alone.
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, Value::from(text));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::from(format!("{value:?}")));
    }
}

/// `key=value key="two words"`.
fn logfmt(pairs: &Pairs) -> String {
    let mut line = String::new();
    for (key, value) in pairs {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(key.chars().map(|c| if c.is_ascii_graphic() && c != '=' && c != '"' { c } else { '_' }));
        line.push('=');
        match value {
            Value::String(text) if is_bare(text) => line.push_str(text),
            Value::String(text) => quote(text, &mut line),
            other => {
                let _ = write!(line, "{other}");
            }
        }
    }
    line
}

/// Whether a value needs no quotes.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c > ' ' && c != '=' && c != '"' && c != '\\' && !c.is_control())
}

/// Go's and logfmt's quoting: `\"`, `\\`, `\n`, and `\u00XX` for other control characters.
fn quote(text: &str, line: &mut String) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// One object. A field that repeats a key (a span's and the event's) keeps the last value.
fn json(pairs: Pairs) -> Value {
    Value::Object(pairs.into_iter().collect())
}

fn level_word(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The priorities of syslog (RFC 5424, 6.2.1).
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn logfmt_quotes_what_would_break_a_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(logfmt(&vec![("k".to_owned(), Value::from(text))]), format!("k={expected}"));
        };
        check("plain", "plain");
        check("/a/b.sock", "/a/b.sock");
        check("two words", "\"two words\"");
        check("", "\"\"");
        check("a=b", "\"a=b\"");
        check("say \"hi\"", r#""say \"hi\"""#);
        check("back\\slash", r#""back\\slash""#);
        check("two\nlines\t", r#""two\nlines\t""#);
        check("\u{1b}[31m", r#""\u001b[31m""#);
        check("größe", "größe");
    }

    #[test]
    fn keys_cannot_break_a_line() {
        assert_eq!(logfmt(&vec![("a b=\"c".to_owned(), Value::from(1))]), "a_b__c=1");
    }

    /// What the real subscriber writes for the events of `emit`.
    fn written(line: Line, emit: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || sink.clone())
            .fmt_fields(LineFields)
            .event_format(line);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), emit);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_with_span_fields_before_its_own() {
        let emit = || {
            let span = tracing::info_span!("probe", probe = "iter_tcp", tries = tracing::field::Empty);
            span.record("tries", 2);
            let _entered = span.enter();
            let error = io::Error::other("no \"room\"");
            tracing::warn!(target: "synfin::kernel", bytes = 4096, ok = false, error = &error as &dyn std::error::Error, "ring is\nsmall");
        };
        let logfmt = Line { format: LogFormat::Logfmt, journal: true };
        assert_eq!(
            written(logfmt, emit),
            "<4>level=warn target=synfin::kernel msg=\"ring is\\nsmall\" probe=iter_tcp tries=2 bytes=4096 ok=false error=\"no \\\"room\\\"\"\n"
        );
        let json = written(Line { format: LogFormat::Json, journal: true }, emit);
        let value: Value = serde_json::from_str(json.trim_end().strip_prefix("<4>").unwrap()).unwrap();
        let expected = serde_json::json!({
            "level": "warn", "target": "synfin::kernel", "msg": "ring is\nsmall", "probe": "iter_tcp", "tries": 2,
            "bytes": 4096, "ok": false, "error": "no \"room\"",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn outside_the_journal_the_line_starts_with_the_time() {
        let line = written(Line { format: LogFormat::Logfmt, journal: false }, || tracing::info!("up"));
        let (time, rest) = line.strip_prefix("ts=").unwrap().split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(rest.starts_with("level=info target=synfin::logging"), "{rest}");
    }
}
