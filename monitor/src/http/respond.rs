//! From a request to its answer.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::negotiate::{self, Format};
use super::{Limits, Source, WebConfig};
use crate::aggregate::Snapshot;
use crate::host::process;
use crate::present::{Build, OPENMETRICS_CONTENT_TYPE, Page, Reading, TEXT_CONTENT_TYPE};

type Answer = Response<Full<Bytes>>;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What answers need.
pub struct Responder<S> {
    pub source: Arc<S>,
    pub web_config: Arc<WebConfig>,
    pub telemetry_path: String,
    pub limits: Limits,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Landing,
    Healthy,
    Ready,
    Unknown,
}

fn route(path: &str, telemetry_path: &str) -> Route {
    match path {
        path if path == telemetry_path => Route::Metrics,
        "/" => Route::Landing,
        "/-/healthy" | "/healthz" => Route::Healthy,
        "/-/ready" | "/readyz" => Route::Ready,
        _ => Route::Unknown,
    }
}

/// Checks a value of `--web.telemetry-path`.
///
/// # Errors
/// One line when no request could reach it.
pub fn parse_telemetry_path(path: &str) -> Result<String, String> {
    let reachable = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    match route(path, "/metrics") {
        Route::Healthy | Route::Ready => Err(format!("`{path}` is taken by the health checks")),
        _ if !path.starts_with('/') => Err(format!("`{path}` must begin with `/`")),
        _ if !reachable => Err(format!("`{path}` has a character that no path has")),
        Route::Metrics | Route::Landing | Route::Unknown => Ok(path.to_owned()),
    }
}

impl<S: Source> Responder<S> {
    /// Never fails: what goes wrong is a status and a line of text.
    pub async fn answer<B: Body>(&self, request: Request<B>) -> Answer {
        let config = self.web_config.current();
        let mut answer = match timeout(self.limits.request, self.admit(&request, &config.users)).await {
            Ok(answer) => answer,
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long; try again\n"),
        };
        for (name, value) in &config.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    async fn admit<B: Body>(&self, request: &Request<B>, users: &std::collections::BTreeMap<String, String>) -> Answer {
        // The body is never read; hyper closes the connection when more of it comes than is already here.
        if request.body().size_hint().lower() > self.limits.body_bytes {
            return with(
                plain(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n"),
                header::CONNECTION,
                "close",
            );
        }
        if !users.is_empty() {
            let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
            if !self.web_config.authenticator.admits(users, authorization).await {
                return with(
                    plain(StatusCode::UNAUTHORIZED, "user name or password is missing or wrong\n"),
                    header::WWW_AUTHENTICATE,
                    "Basic realm=\"synfin\", charset=\"UTF-8\"",
                );
            }
        }
        let route = route(request.uri().path(), &self.telemetry_path);
        if route != Route::Unknown && !matches!(*request.method(), Method::GET | Method::HEAD) {
            let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            return with(answer, header::ALLOW, "GET, HEAD");
        }
        match route {
            Route::Metrics => self.metrics(request.headers()).await,
            Route::Landing => typed(StatusCode::OK, HTML, landing(&self.telemetry_path)),
            Route::Healthy if self.source.healthy() => plain(StatusCode::OK, "healthy\n"),
            Route::Healthy => plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon makes no progress\n"),
            Route::Ready => match self.source.ready() {
                Ok(()) => plain(StatusCode::OK, "ready\n"),
                Err(missing) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
            },
            Route::Unknown => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let format = negotiate::format(&joined(headers, header::ACCEPT));
        let gzip = negotiate::takes_gzip(&joined(headers, header::ACCEPT_ENCODING));
        let Some(snapshot) = self.source.snapshot().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting or ending; try again\n");
        };
        // Milliseconds of work that must not delay the loop that reads events.
        let encoded = tokio::task::spawn_blocking(move || encode(&snapshot, format, gzip)).await;
        match encoded.map_err(anyhow::Error::from).and_then(|result| result) {
            Ok(body) => {
                let content_type = match format {
                    Format::Text => TEXT_CONTENT_TYPE,
                    Format::OpenMetrics => OPENMETRICS_CONTENT_TYPE,
                };
                let answer = typed(StatusCode::OK, content_type, body);
                let answer = with(answer, header::VARY, "Accept, Accept-Encoding");
                if gzip { with(answer, header::CONTENT_ENCODING, "gzip") } else { answer }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot encode the metrics page");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the page; the log says why\n")
            }
        }
    }
}

fn encode(snapshot: &Snapshot, format: Format, gzip: bool) -> anyhow::Result<Vec<u8>> {
    let process = process::read();
    if let Err(error) = &process {
        tracing::debug!(%error, "a page without process metrics");
    }
    let page = Page::new(&Reading { snapshot, process: process.as_ref().ok(), build: Build::CURRENT });
    let text = match format {
        Format::Text => page.text()?,
        Format::OpenMetrics => page.openmetrics(),
    };
    if !gzip {
        return Ok(text.into_bytes());
    }
    // Level 1 makes a page of metrics 10 times smaller; higher ones cost more CPU than the bytes are worth.
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// All fields of a name as one list (RFC 9110, 5.3); what is not text counts as absent.
fn joined(headers: &HeaderMap, name: HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn landing(telemetry_path: &str) -> String {
    let Build { version, revision } = Build::CURRENT;
    let path = telemetry_path.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>synfin</title></head><body>\n\
         <h1>synfin</h1>\n<p>Watches the life of every TCP connection of this host.</p>\n\
         <p>Version {version}, revision {revision}</p>\n\
         <ul><li><a href=\"{path}\">Metrics</a></li><li><a href=\"/-/healthy\">Healthy</a></li>\
         <li><a href=\"/-/ready\">Ready</a></li></ul>\n</body></html>\n"
    )
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, PLAIN, text)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    with(answer, header::CONTENT_TYPE, content_type)
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact() {
        #[track_caller]
        fn check(path: &str, expected: Route) {
            assert_eq!(route(path, "/metrics"), expected, "{path}");
        }
        check("/metrics", Route::Metrics);
        check("/", Route::Landing);
        check("/-/healthy", Route::Healthy);
        check("/healthz", Route::Healthy);
        check("/-/ready", Route::Ready);
        check("/readyz", Route::Ready);
        check("/metrics/", Route::Unknown);
        check("//", Route::Unknown);
        check("/index.html", Route::Unknown);
        check("", Route::Unknown);
        assert_eq!(route("/", "/"), Route::Metrics);
    }

    #[test]
    fn a_telemetry_path_can_be_reached() {
        #[track_caller]
        fn check(path: &str, expected: Result<&str, &str>) {
            assert_eq!(parse_telemetry_path(path), expected.map(str::to_owned).map_err(str::to_owned));
        }
        check("/metrics", Ok("/metrics"));
        check("/", Ok("/"));
        check("/a/b", Ok("/a/b"));
        check("metrics", Err("`metrics` must begin with `/`"));
        check("", Err("`` must begin with `/`"));
        check("/a?b", Err("`/a?b` has a character that no path has"));
        check("/a b", Err("`/a b` has a character that no path has"));
        check("/-/ready", Err("`/-/ready` is taken by the health checks"));
    }
}
