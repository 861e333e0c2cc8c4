//! Small sockets attributed to their makers: remembered, inferred, unknown; sums exact whatever is folded.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::aggregate::EphemeralRange;
use crate::event::{Family, KernelTime, mapped};

const HERE: NetnsId = NetnsId(1);

fn addr(host: u8) -> [u8; 16] {
    mapped(Ipv4Addr::new(10, 0, 0, host))
}

fn socket(sport: u16, host: u8, dport: u16) -> SmallSocket {
    let tuple = Tuple { family: Family::Inet, saddr: addr(1), daddr: addr(host), sport, dport };
    SmallSocket { netns: HERE, tuple, substate: Substate::TimeWait, remaining_ms: 1 }
}

/// Port 80 is listened on, the range is the default.
fn count(owners: &mut Owners<u32>, k: usize, sockets: &[SmallSocket]) -> SmallByMaker<u32> {
    let ranges = EphemeralRanges { own: EphemeralRange::parse("32768 60999", "").ok(), ..EphemeralRanges::default() };
    let mut listening = Listening::default();
    listening.add(HERE, Endpoint { addr: [0; 16], port: 80 });
    let mut makers = Makers::new(owners, &listening, &ranges, 64);
    for socket in sockets {
        makers.add(socket);
    }
    makers.finish(k)
}

#[test]
fn a_maker_is_remembered_else_inferred_else_unknown() {
    let check =
        |name, remembered: Option<OwnedBy<u32>>, socket: SmallSocket, role, endpoint: Option<(u8, u16)>, unit| {
            let mut owners = Owners::new(8);
            if let Some(by) = remembered {
                owners.remember(HERE, &socket.tuple, by, Substate::TimeWait, KernelTime(1), |_, _| ());
                owners.file(|_, _| ());
            }
            let endpoint = endpoint.map(|(host, port)| Endpoint { addr: addr(host), port });
            let row = count(&mut owners, 1, &[socket]).time_wait.rows.remove(0).row;
            assert_eq!(row, MakerRow { role, endpoint, unit, sockets: 1 }, "{name}");
        };
    let by = |role, unit| Some(OwnedBy { role, unit });
    let (client, server) = (Role::Client, Role::Server);
    check("remembered client", by(client, Some(7)), socket(40_000, 9, 443), client, Some((9, 443)), Unit::Known(7));
    check("remembered server", by(server, Some(7)), socket(80, 9, 40_000), server, Some((1, 80)), Unit::Known(7));
    check("memory beats inference", by(client, Some(7)), socket(80, 9, 443), client, Some((9, 443)), Unit::Known(7));
    check("unit not learnt", by(client, None), socket(40_000, 9, 443), client, Some((9, 443)), Unit::Unknown);
    check("opening not seen", by(Role::Unknown, Some(7)), socket(80, 9, 5), server, Some((1, 80)), Unit::Known(7));
    check("older than the daemon, listening", None, socket(80, 9, 40_000), server, Some((1, 80)), Unit::Unknown);
    check("older, connected", None, socket(40_000, 9, 443), client, Some((9, 443)), Unit::Unknown);
    check("older, not certain", None, socket(40_000, 9, 40_000), Role::Unknown, None, Unit::Unknown);
}

#[test]
fn each_namespace_has_its_own_row_with_the_time_that_is_left() {
    let elsewhere = SmallSocket { netns: NetnsId(2), remaining_ms: 7_000, ..socket(80, 9, 5) };
    let sockets = [elsewhere, elsewhere, SmallSocket { remaining_ms: 59_000, ..socket(80, 9, 5) }];
    let rows = count(&mut Owners::new(0), 9, &sockets).time_wait.rows;
    let found: Vec<_> = rows.iter().map(|held| (held.netns, held.row.sockets)).take(3).collect();
    assert_eq!(found, [(Some(NetnsId(2)), 2), (Some(HERE), 1), (None, 0)]);
    assert_eq!((rows[0].left.of_step(1), rows[1].left.of_step(11)), (2, 1));
}

#[test]
fn the_two_kinds_are_told_apart() {
    let small = SmallSocket { substate: Substate::FinWait2, ..socket(80, 9, 5) };
    let counted = count(&mut Owners::new(0), 4, &[small, socket(80, 9, 6), socket(80, 9, 7)]);
    assert_eq!((counted.time_wait.total, counted.fin_wait2.total), (2, 1));
}

#[test]
fn what_is_folded_keeps_its_role_and_is_counted() {
    let sockets = [socket(80, 9, 1), socket(80, 9, 2), socket(40_000, 9, 443), socket(40_001, 8, 443)];
    let population = count(&mut Owners::new(0), 1, &sockets).time_wait;
    let rest: Vec<_> = population.rows[1..]
        .iter()
        .map(|held| &held.row)
        .map(|row| (row.role, row.endpoint, row.unit, row.sockets))
        .collect();
    assert_eq!(
        rest,
        [
            (Role::Client, None, Unit::Other, 2),
            (Role::Server, None, Unit::Other, 0),
            (Role::Unknown, None, Unit::Other, 0),
        ]
    );
    assert_eq!((population.total, population.folded), (4, 2));
}

#[test]
fn a_census_leaves_only_the_living_in_memory() {
    let mut owners = Owners::new(8);
    let by = OwnedBy { role: Role::Client, unit: Some(7) };
    for sport in [40_000, 40_001] {
        owners.remember(HERE, &socket(sport, 9, 443).tuple, by, Substate::TimeWait, KernelTime(1), |_, _| ());
        owners.file(|_, _| ());
    }
    count(&mut owners, 4, &[socket(40_000, 9, 443)]);
    owners.settle(KernelTime(2), |_, _| ());
    assert_eq!(owners.len(), 1);
}

proptest! {
    #[test]
    fn sums_are_exact_whatever_is_remembered_and_folded(
        sockets in prop::collection::vec((any::<u16>(), 0..20_u8, 0..500_u16, any::<bool>(), 0..70_000_u32), 0..300),
        remembered in 0..300_usize,
        k in 0..40_usize,
    ) {
        let sockets: Vec<_> = (sockets.into_iter())
            .map(|(sport, host, dport, time_wait, remaining_ms)| {
                let substate = if time_wait { Substate::TimeWait } else { Substate::FinWait2 };
                SmallSocket { substate, remaining_ms, ..socket(sport, host, dport) }
            })
            .collect();
        let mut owners = Owners::new(100);
        for (n, socket) in (0..).zip(sockets.iter().take(remembered)) {
            let by = OwnedBy { role: Role::ALL[n as usize % 3], unit: (n % 5 > 0).then_some(n % 40) };
            owners.remember(HERE, &socket.tuple, by, Substate::TimeWait, KernelTime(1), |_, _| ());
            owners.file(|_, _| ());
        }
        let counted = count(&mut owners, k, &sockets);
        let of = |substate| sockets.iter().filter(|socket| socket.substate == substate).count() as u64;
        for (population, total) in [(&counted.time_wait, of(Substate::TimeWait)), (&counted.fin_wait2, of(Substate::FinWait2))] {
            prop_assert_eq!(population.total, total);
            prop_assert_eq!(population.rows.iter().map(|held| held.row.sockets).sum::<u64>(), total);
            prop_assert!(population.rows.iter().all(|held| held.left.weight() == held.row.sockets));
            prop_assert!(population.rows.len() <= k + Role::COUNT);
        }
    }
}
