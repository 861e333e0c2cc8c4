//! Which format and which coding a request asks for (RFC 9110, 12.4 and 12.5), as pure functions of its headers.

/// The page formats on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The format that `accept` (all fields of that name, joined by commas) prefers; text when it prefers none.
pub fn format(accept: &str) -> Format {
    let (mut text, mut openmetrics) = (Preference::NONE, Preference::NONE);
    let accept = accept.to_ascii_lowercase();
    for item in accept.split(',') {
        let Some(range) = Range::parse(item) else { continue };
        match range.name {
            "application/openmetrics-text" if matches!(range.version, None | Some("1.0.0")) => {
                openmetrics = openmetrics.max(Preference { q: range.q, specific: 3 });
            }
            "text/plain" if matches!(range.version, None | Some("0.0.4")) => {
                text = text.max(Preference { q: range.q, specific: 3 });
            }
            "text/*" => text = text.or(range.q, 2),
            "application/*" => openmetrics = openmetrics.or(range.q, 2),
            "*/*" => {
                text = text.or(range.q, 1);
                openmetrics = openmetrics.or(range.q, 1);
            }
            _ => {}
        }
    }
    // Of equals, the one that was named rather than matched by a wildcard; then text, which everybody reads.
    let prefers = openmetrics.q > 0 && (openmetrics.q, openmetrics.specific) > (text.q, text.specific);
    if prefers { Format::OpenMetrics } else { Format::Text }
}

/// Whether `accept_encoding` takes gzip.
pub fn takes_gzip(accept_encoding: &str) -> bool {
    let mut wildcard = false;
    let accept_encoding = accept_encoding.to_ascii_lowercase();
    for item in accept_encoding.split(',') {
        let Some(range) = Range::parse(item) else { continue };
        match range.name {
            "gzip" | "x-gzip" => return range.q > 0,
            "*" => wildcard = range.q > 0,
            _ => {}
        }
    }
    wildcard
}

/// How much something is wanted; a more specific range overrides a less specific one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Preference {
    /// Thousandths.
    q: u16,
    specific: u8,
}

impl Preference {
    const NONE: Self = Self { q: 0, specific: 0 };

    fn or(self, q: u16, specific: u8) -> Self {
        if specific > self.specific { Self { q, specific } } else { self }
    }

    fn max(self, other: Self) -> Self {
        if (other.specific, other.q) > (self.specific, self.q) { other } else { self }
    }
}

/// One element of either header.
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// Thousandths.
    q: u16,
}

impl<'a> Range<'a> {
    /// Of lower case; `None` if it has a malformed weight.
    fn parse(item: &'a str) -> Option<Self> {
        let mut parts = item.split(';').map(str::trim);
        let mut range = Self { name: parts.next()?, version: None, q: 1000 };
        for part in parts {
            match part.split_once('=') {
                Some((name, value)) if name.trim() == "q" => {
                    let weight: f32 = value.trim().parse().ok()?;
                    range.q = (0.0..=1.0).contains(&weight).then_some((weight * 1000.0).round() as u16)?;
                }
                Some((name, value)) if name.trim() == "version" => {
                    range.version = Some(value.trim().trim_matches('"'));
                }
                _ => {}
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses_the_format() {
        #[track_caller]
        fn check(accept: &str, expected: Format) {
            assert_eq!(format(accept), expected, "{accept}");
        }
        use Format::{OpenMetrics, Text};
        // Prometheus 2.42, 2.53, 3.x, and one that asks for protobuf first.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OpenMetrics,
        );
        check(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Text,
        );
        check("", Text);
        check("*/*", Text);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Text);
        check("application/openmetrics-text", OpenMetrics);
        check("application/openmetrics-text;q=0.5,text/plain;q=0.5", Text);
        check("application/openmetrics-text; version=1.0.0; q=0.5, text/plain; q=0.9", Text);
        check("application/openmetrics-text;q=0", Text);
        check("application/openmetrics-text;q=0,*/*", Text);
        check("application/openmetrics-text;version=2.0.0", Text);
        check("application/openmetrics-text;q=nonsense", Text);
        check("application/openmetrics-text;q=7", Text);
        check("Application/OpenMetrics-Text; Version=1.0.0", OpenMetrics);
        check(";;;,,,=q;q=", Text);
    }

    #[test]
    fn gzip_only_when_asked_for() {
        #[track_caller]
        fn check(accept_encoding: &str, expected: bool) {
            assert_eq!(takes_gzip(accept_encoding), expected, "{accept_encoding}");
        }
        check("gzip", true);
        check("deflate, gzip;q=0.5", true);
        check("*", true);
        check("identity", false);
        check("gzip;q=0", false);
        check("gzip;q=0, *", false);
        check("*, gzip;q=0", false);
        check("br", false);
        check("", false);
    }
}
