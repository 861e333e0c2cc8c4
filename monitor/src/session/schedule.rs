//! When to walk over the socket tables: often while it is cheap, seldom when it is not.

use std::time::{Duration, Instant};

/// A walk, with taking it in, may take one part in so many of the time of one CPU.
const SHARE: u32 = 200;
/// However dear, so often it is done: no TIME_WAIT socket, which lives for 60 s, comes and goes between two walks.
const LONGEST: Duration = Duration::from_secs(50);

/// A walk brought forward waits until the last one has taken less than one part in so many of the time since.
const SHARE_FORWARD: u32 = 20;
/// Walks that may be brought forward before as many have come in their turn: in the long run no more than twice the share is spent.
const SPARE: u32 = 3;

/// Decides by the cost of the last walk.
#[derive(Debug)]
pub struct Schedule {
    least: Duration,
    interval: Duration,
    /// Of the last walk.
    took: Duration,
    /// From when on the next walk may be brought forward; `None` when it has been.
    forward: Option<Instant>,
    spare: u32,
    /// `None`: at once.
    next: Option<Instant>,
    possible: bool,
}

impl Schedule {
    /// The first walk is due at once; later ones at least `least` apart.
    pub fn new(least: Duration) -> Self {
        Self { least, interval: least, took: Duration::ZERO, forward: None, spare: SPARE, next: None, possible: true }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.possible && self.next.is_none_or(|next| now >= next)
    }

    /// A walk is over that took `took`, taking in what it brought included.
    pub fn done(&mut self, now: Instant, took: Duration) {
        self.took = took;
        self.interval = self.interval_after(took);
        if self.forward.is_some() {
            self.spare = SPARE.min(self.spare + 1);
        }
        self.next = Some(now + self.interval);
        self.forward = Some(now + self.interval.min(self.least.max(took * SHARE_FORWARD)));
    }

    /// Something happened that only a walk can tell more of: the next one comes as early as its cost allows, if any is spare.
    /// One that is due already is under way, or about to be.
    pub fn bring_forward(&mut self, now: Instant) {
        if let (Some(next), Some(forward)) = (self.next, self.forward)
            && forward < next
            && now < next
            && self.spare > 0
        {
            self.spare -= 1;
            (self.next, self.forward) = (Some(forward), None);
        }
    }

    fn interval_after(&self, took: Duration) -> Duration {
        (took * SHARE).clamp(self.least, self.least.max(LONGEST))
    }

    /// Another least time between two walks; it counts from the last one.
    pub fn set_least(&mut self, least: Duration) {
        self.least = least;
        let after = self.interval_after(self.took);
        let before = std::mem::replace(&mut self.interval, after);
        self.next = self.next.map(|next| next - before + self.interval);
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
    fn another_least_time_counts_from_the_last_walk() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(1));
        schedule.set_least(Duration::from_secs(2));
        assert!(schedule.is_due(start), "the first waits for nothing");
        schedule.done(start, Duration::from_millis(1));
        schedule.set_least(Duration::from_secs(5));
        assert!(
            !schedule.is_due(start + Duration::from_millis(4999)) && schedule.is_due(start + Duration::from_secs(5))
        );
        schedule.set_least(Duration::from_millis(100));
        assert_eq!(schedule.interval(), Duration::from_millis(200), "as dear as it is");
        assert!(
            !schedule.is_due(start + Duration::from_millis(199)) && schedule.is_due(start + Duration::from_millis(200))
        );
    }

    #[test]
    fn a_walk_brought_forward_waits_for_its_cost_and_is_spared_elsewhere() {
        let ms = Duration::from_millis;
        let mut now = Instant::now();
        let mut schedule = Schedule::new(ms(1000));
        // Brought forward or not, cost of the walk, from when on the next is due, milliseconds after it.
        let mut check = |forward, took_ms, due_ms| {
            schedule.done(now, ms(took_ms));
            if forward {
                schedule.bring_forward(now);
                schedule.bring_forward(now);
            }
            assert!(!schedule.is_due(now + ms(due_ms - 1)) && schedule.is_due(now + ms(due_ms)), "{took_ms} {due_ms}");
            now += ms(due_ms);
            schedule.bring_forward(now);
        };
        check(true, 5, 1000);
        check(true, 60, 1200);
        check(true, 24, 1000);
        check(true, 60, 1200);
        // None is spare until the next has come in its turn.
        check(true, 60, 12_000);
        check(true, 60, 1200);
        check(true, 60, 12_000);
        check(false, 60, 12_000);
        check(true, 10_000, 50_000);
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
