//! What the daemon says: the metric catalogue (one row a metric) with the pages and the document made from it, and
//! connections as lines.
//!
//! To add a metric, add a row to the file of its section in `catalogue/`, then run the tests once with
//! `SYNFIN_BLESS=1` and review what changed in `docs/METRICS.md` and `tests/golden/`.

mod catalogue;
pub mod connection;
pub mod connection_json;
mod document;
mod human;
mod label;
mod metric;
mod number;
mod openmetrics;
mod page;
mod text;

pub use catalogue::{CATALOGUE, Section};
pub use document::document;
pub use human::{WallTime, comm_text, human_duration};
pub use label::label_from_bytes;
pub use metric::{Build, Kind, Metric, Reading, Samples};
pub use openmetrics::OPENMETRICS_CONTENT_TYPE;
pub use page::Page;
pub use text::TEXT_CONTENT_TYPE;

#[cfg(test)]
pub(crate) mod golden;
