//! The bound on connections: when it is reached, a new connection takes the place of the one that is missed least.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Activity;

/// All open connections.
pub struct Table {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Entry>,
}

struct Entry {
    activity: Arc<Activity>,
    evict: Arc<Notify>,
}

/// The right of one connection to exist; dropped with it.
pub struct Slot {
    table: Arc<Table>,
    number: u64,
    pub activity: Arc<Activity>,
    evict: Arc<Notify>,
}

impl Table {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// A place for a new connection, taken from another if need be: first from one that has never had an answer, then
    /// from one that is between requests, each time the oldest. So 1,000 silent connections do not push out a scraper
    /// that keeps its connection open.
    ///
    /// `None` when all are being answered.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Option<Slot> {
        let mut open = self.open();
        if open.entries.len() >= self.limit {
            let idle = open
                .entries
                .iter()
                .filter_map(|(number, entry)| entry.activity.idle().map(|(served, since)| (served, since, *number)));
            let (.., number) = idle.min()?;
            if let Some(entry) = open.entries.remove(&number) {
                entry.evict.notify_one();
            }
        }
        let number = open.next;
        open.next += 1;
        let (activity, evict) = (Arc::new(Activity::new(now)), Arc::new(Notify::new()));
        open.entries.insert(number, Entry { activity: activity.clone(), evict: evict.clone() });
        Some(Slot { table: self.clone(), number, activity, evict })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns when another connection has taken the place.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.open().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connection::Phase;
    use super::*;

    #[test]
    fn the_one_missed_least_gives_way() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let table = Table::new(3);
        let numbers = |table: &Table| {
            let mut numbers: Vec<_> = table.open().entries.keys().copied().collect();
            numbers.sort_unstable();
            numbers
        };
        let scraper = table.admit(at(0)).unwrap();
        scraper.activity.enter(Phase::Handling, at(0));
        scraper.activity.enter(Phase::Idle, at(0));
        let _silent = table.admit(at(1)).unwrap();
        let _silent = table.admit(at(2)).unwrap();
        let busy = table.admit(at(3)).unwrap();
        busy.activity.enter(Phase::Handling, at(3));
        // 1, the older of the silent ones, is gone; the older scraper is not.
        assert_eq!(numbers(&table), [0, 2, 3]);
        let busy = [busy, table.admit(at(4)).unwrap()];
        busy[1].activity.enter(Phase::Handling, at(4));
        assert_eq!(numbers(&table), [0, 3, 4]);
        let last = table.admit(at(5)).unwrap();
        last.activity.enter(Phase::Handling, at(5));
        assert_eq!(numbers(&table), [3, 4, 5]);
        assert!(table.admit(at(6)).is_none());
        drop(busy);
        assert!(table.admit(at(6)).is_some());
    }
}
