//! The look into every network namespace: the figures of each, with or without its socket tables.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::clock;
use super::walk::{read_counters, read_host_figures, read_ports};
use crate::event::NetnsId;
use crate::host::{NetnsBook, NetnsNames, enter_netns, find_namespaces, read_netns_cookie};
use crate::input::{HostFigures, NamespaceReading};

/// What was read in one namespace, before it has a name.
#[derive(Debug)]
struct Read {
    id: NetnsId,
    cookie: Option<u64>,
    own: bool,
    names: NetnsNames,
    host: HostFigures,
    ports: Option<(String, String)>,
}

/// What was read in all of them.
#[derive(Debug)]
pub struct Survey {
    read: Vec<Read>,
    /// Namespaces that could not be entered.
    pub refused: u64,
    /// CPU time, without that of the visits.
    pub took: Duration,
}

/// How much is read in each namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Counters and populations, and what the last whole look has told of the rest.
    Counters,
    /// Sysctls too.
    Whole,
}

/// Moves the calling thread into every namespace of the host, one after the other, and calls `visit` there before the figures are read.
/// The thread stays in the last one.
///
/// # Errors
/// Those of `visit`, and of the list of namespaces.
pub fn survey(depth: Depth, mut visit: impl FnMut() -> io::Result<()>) -> io::Result<Survey> {
    let (started, mut visits) = (clock::thread_cpu(), Duration::ZERO);
    let (mut read, mut refused) = (Vec::new(), 0);
    for found in find_namespaces()? {
        match enter(&found.file, found.own) {
            Ok(()) => {}
            Err(error) if found.own => return Err(error),
            Err(error) => {
                tracing::debug!("network namespace {} is left out: {error}", found.id.0);
                refused += 1;
                continue;
            }
        }
        let begun = clock::thread_cpu();
        visit()?;
        visits += clock::thread_cpu().saturating_sub(begun);
        let (host, ports) = match depth {
            Depth::Counters => (read_counters(), None),
            Depth::Whole => (read_host_figures(), read_ports()),
        };
        read.push(Read { id: found.id, cookie: read_netns_cookie(), own: found.own, names: found.names, host, ports });
    }
    Ok(Survey { read, refused, took: clock::thread_cpu().saturating_sub(started + visits) })
}

/// The first is the one in which the thread is.
fn enter(file: &File, own: bool) -> io::Result<()> {
    if own { Ok(()) } else { enter_netns(file) }
}

impl Survey {
    /// With the names that `book` has for the namespaces.
    pub fn name(self, book: &mut NetnsBook) -> Vec<NamespaceReading> {
        let living: Vec<_> = self.read.iter().map(|read| (read.id, read.cookie, &read.names)).collect();
        let names = book.name_all(&living);
        let named = |(read, name): (Read, String)| {
            let Read { id, cookie, own, host, ports, .. } = read;
            NamespaceReading { id, cookie, name, own, host, ports }
        };
        self.read.into_iter().zip(names).map(named).collect()
    }
}
