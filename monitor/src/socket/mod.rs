//! The local socket, by which the other commands ask the running daemon: one JSON line a question, one a reply.

mod client;
mod file;
mod protocol;
mod server;

pub use client::{AskError, ask};
pub use file::{Place, PlaceError, take_place};
pub use protocol::{Answer, PROTOCOL, Question, Reply, Request, Status};
pub use server::{Answers, Limits, serve};

#[cfg(test)]
mod tests;
