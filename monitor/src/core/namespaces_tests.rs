//! Looks into namespaces that come and go: sums that never go back, and rows that add up.

use proptest::prelude::*;

use super::*;

fn reading(id: u32, cookie: u64, name: &str, overflows: u64) -> NamespaceReading {
    NamespaceReading {
        id: NetnsId(id),
        cookie: (cookie > 0).then_some(cookie),
        name: name.into(),
        own: false,
        host: HostFigures {
            time_wait: Some(10),
            time_wait_overflows: Some(overflows),
            tcp_max_tw_buckets: Some(100 * u64::from(id)),
            ..HostFigures::default()
        },
        ports: Some((format!("{} {}", 1000, 1000 + id), String::new())),
    }
}

/// `id cookie name overflows`, and so on.
fn look(namespaces: &mut Namespaces, text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.parse().expect("a number");
    let readings: Vec<_> = words
        .chunks_exact(4)
        .map(|each| reading(number(each[0]) as u32, number(each[1]), each[2], number(each[3])))
        .collect();
    namespaces.take(&readings, 0, None);
    said(namespaces)
}

fn figures(namespaces: &Namespaces) -> NamespaceFigures {
    let mut totals = [0; TcpState::COUNT];
    totals[TcpState::TimeWait.index()] = namespaces.small().time_wait;
    namespaces.figures(&totals, None, None)
}

/// The sum, and each name with its overflows.
fn said(namespaces: &Namespaces) -> String {
    let sum = namespaces.sum_up(HostFigures::default()).time_wait_overflows;
    let mut said = sum.map_or("-".to_owned(), |sum| sum.to_string());
    for row in figures(namespaces).rows {
        said += &format!(" {}={}", row.name, row.counted.time_wait_overflows);
    }
    said
}

#[test]
fn counters_grow_whatever_comes_and_goes() {
    let mut namespaces = Namespaces::new(3);
    let mut check = |why, text: &str, expected: &str| assert_eq!(look(&mut namespaces, text), expected, "{why}");
    check("nothing was read", "", "- other=0");
    check("all that was counted before", "1 1 host 5 2 2 blue 7", "12 blue=7 host=5 other=0");
    check("growth", "1 1 host 6 2 2 blue 9", "15 blue=9 host=6 other=0");
    check("one is gone", "1 1 host 6", "15 blue=9 host=6 other=0");
    check("its number in a new life", "1 1 host 6 2 3 red 4", "19 blue=9 host=6 red=4 other=0");
    check("its name too", "1 1 host 6 2 3 red 4 5 4 blue 1", "20 blue=10 host=6 red=4 other=0");
    check(
        "another takes the place of one gone",
        "1 1 host 6 2 3 red 4 6 5 green 3",
        "23 green=3 host=6 red=4 other=10",
    );
    check("without a place", "1 1 host 6 2 3 red 4 6 5 green 3 7 6 pink 2", "25 green=3 host=6 red=4 other=12");
    check("a look that missed one", "1 1 host 7 6 5 green 3 7 6 pink 3", "27 green=3 host=7 pink=1 other=16");
    check(
        "it goes on where it was",
        "1 1 host 7 2 3 red 5 6 5 green 3 7 6 pink 3",
        "28 green=3 host=7 pink=1 other=17",
    );
    check("a better name", "1 1 host 7 2 3 red 5 6 5 emerald 4 7 6 pink 3", "29 emerald=4 host=7 pink=1 other=17");
}

#[test]
fn before_linux_5_14_counters_tell_a_new_life() {
    let mut namespaces = Namespaces::new(3);
    let mut check = |why, text: &str, expected: &str| assert_eq!(look(&mut namespaces, text), expected, "{why}");
    check("first", "1 0 blue 9", "9 blue=9 other=0");
    check("the same", "1 0 blue 11", "11 blue=11 other=0");
    check("went back: another", "1 0 blue 4", "15 blue=15 other=0");
}

#[test]
fn a_counter_that_cannot_be_read_once_stands() {
    let mut namespaces = Namespaces::new(3);
    look(&mut namespaces, "1 1 host 5");
    let mut blind = reading(1, 1, "host", 0);
    blind.host.time_wait_overflows = None;
    namespaces.take(&[blind], 2, None);
    assert_eq!(said(&namespaces), "5 host=5 other=0");
    assert_eq!(look(&mut namespaces, "1 1 host 6"), "6 host=6 other=0");
}

#[test]
fn rows_have_what_is_theirs_and_the_rest_has_the_rest() {
    let mut namespaces = Namespaces::new(2);
    let mut full = NetnsSockets::default();
    for (netns, sockets) in [(1, 1), (2, 5), (3, 9), (77, 2)] {
        (0..sockets).for_each(|_| full.apply(NetnsId(netns), None, Some(TcpState::Established)));
    }
    let readings = [reading(1, 1, "host", 0), reading(2, 2, "blue", 0), reading(3, 3, "red", 0)];
    namespaces.take(&readings, 4, Some(&full));
    let small = SmallSockets { time_wait: 3, fin_wait2: 4, requests: 2 };
    namespaces.take_census(BTreeMap::from([(NetnsId(3), small), (NetnsId(77), small)]));
    let mut totals = namespaces.small().add_to(&[0; TcpState::COUNT]);
    totals[TcpState::Established.index()] = 17;
    let fullest = BTreeMap::from([(NetnsId(3), 8)]);
    let found = namespaces.figures(&totals, Some(&full), Some(&fullest));
    assert_eq!((found.watched, found.refused, found.folded), (3, 4, 1));
    let states = [TcpState::Established, TcpState::TimeWait, TcpState::FinWait2, TcpState::SynRecv];
    let rows: Vec<_> =
        found.rows.iter().map(|row| (row.name.as_str(), states.map(|state| row.sockets[state.index()]))).collect();
    // As many FIN_WAIT2 as the census saw, of the ten that sockstat counts.
    assert_eq!(rows, [("host", [1, 10, 0, 0]), ("red", [9, 6, 4, 2]), ("other", [7, 10, 0, 0])]);
    let levels = |row: &NamespaceRow| (row.time_wait_limit, row.ports_available, row.ports_used);
    assert_eq!(levels(&found.rows[0]), (Some(100), Some(2), Some(0)));
    assert_eq!(levels(&found.rows[1]), (Some(300), Some(4), Some(8)));
    assert_eq!(levels(&found.rows[2]), (None, None, None));
    // Gone: its row stays, its levels do not.
    namespaces.take(&readings[..1], 0, Some(&full));
    let found = figures(&namespaces);
    let red = found.rows.iter().find(|row| row.name == "red").expect("its row");
    assert_eq!((red.sockets, levels(red)), ([0; TcpState::COUNT], (None, None, None)));
}

proptest! {
    #[test]
    fn no_sum_ever_goes_back_and_rows_make_up_the_sum(
        looks in prop::collection::vec(prop::collection::btree_map(1..7u32, (0..3u64, 0..50u64), 0..6), 1..30),
        places in 0..5usize,
    ) {
        let (mut namespaces, mut before, mut other) = (Namespaces::new(places), 0, 0);
        for look in looks {
            let readings: Vec<_> = look
                .iter()
                .map(|(&id, &(cookie, overflows))| reading(id, cookie, &format!("n{id}"), overflows))
                .collect();
            namespaces.take(&readings, 0, None);
            let sum = namespaces.sum_up(HostFigures::default()).time_wait_overflows.unwrap_or(0);
            prop_assert!(sum >= before, "{} after {}", sum, before);
            before = sum;
            let figures = figures(&namespaces);
            prop_assert_eq!(figures.rows.iter().map(|row| row.counted.time_wait_overflows).sum::<u64>(), sum);
            let time_wait = |row: &NamespaceRow| row.sockets[TcpState::TimeWait.index()];
            prop_assert_eq!(figures.rows.iter().map(time_wait).sum::<u64>(), 10 * readings.len() as u64);
            let rest = figures.rows.last().expect("the rest").counted.time_wait_overflows;
            prop_assert!(rest >= other);
            other = rest;
        }
    }
}
