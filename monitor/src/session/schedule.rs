//! When to walk over the socket tables: often while it is cheap, seldom when it is not.

use std::time::{Duration, Instant};

/// A walk, with taking it in, may take one part in so many of the time of one CPU.
const SHARE: u32 = 200;
/// However dear, so often it is done: no TIME_WAIT socket, which lives for 60 s, comes and goes between two walks.
const LONGEST: Duration = Duration::from_secs(50);

/// Decides by the cost of the last walk.
#[derive(Debug)]
pub struct Schedule {
    least: Duration,
    interval: Duration,
    /// `None`: at once.
    next: Option<Instant>,
    possible: bool,
}

impl Schedule {
    /// The first walk is due at once; later ones at least `least` apart.
    pub fn new(least: Duration) -> Self {
        Self { least, interval: least, next: None, possible: true }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.possible && self.next.is_none_or(|next| now >= next)
    }

    /// A walk is over that took `took`, taking in what it brought included.
    pub fn done(&mut self, now: Instant, took: Duration) {
        self.interval = (took * SHARE).clamp(self.least, self.least.max(LONGEST));
        self.next = Some(now + self.interval);
    }

    /// What it was to bring came in another way: the interval begins anew.
    pub fn postpone(&mut self, now: Instant) {
        self.next = Some(now + self.interval);
    }

    /// Whatever the last one cost, the next is due at once.
    pub fn hasten(&mut self) {
        self.next = None;
    }

    /// Whether walks can be had at all.
    pub fn is_possible(&self) -> bool {
        self.possible
    }

    /// There is no way to walk on this host.
    pub fn never(&mut self) {
        self.possible = false;
    }

    /// Time between the last walk and the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_the_cost() {
        let check = |least_ms, took_ms, interval_ms| {
            let mut schedule = Schedule::new(Duration::from_millis(least_ms));
            schedule.done(Instant::now(), Duration::from_millis(took_ms));
            assert_eq!(schedule.interval(), Duration::from_millis(interval_ms), "{took_ms} ms");
        };
        check(1000, 0, 1000);
        check(1000, 5, 1000);
        check(1000, 24, 4800);
        check(1000, 10_000, 50_000);
        check(90_000, 10_000, 90_000);
    }

    #[test]
    fn the_first_is_due_at_once_and_the_next_after_the_interval() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(1));
        assert!(schedule.is_due(start));
        schedule.done(start, Duration::ZERO);
        assert!(!schedule.is_due(start + Duration::from_millis(999)));
        assert!(schedule.is_due(start + Duration::from_secs(1)));
        schedule.postpone(start + Duration::from_millis(500));
        assert!(!schedule.is_due(start + Duration::from_millis(1499)));
        assert!(schedule.is_due(start + Duration::from_millis(1500)));
        schedule.hasten();
        assert!(schedule.is_due(start));
        assert!(schedule.is_possible());
        schedule.never();
        assert!(!schedule.is_due(start + Duration::from_secs(9)) && !schedule.is_possible());
    }
}
