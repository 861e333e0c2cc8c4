//! Input that somebody chose to hurt: very many peers, units that come and go, names that no page should have to show.

mod lab;

use lab::cgroup::{Cgroup, alone, own_unit};
use lab::daemon::{Daemon, Scraper};
use lab::netns::Netns;
use lab::page::Page;
use lab::place::Family;
use lab::promtool;
use lab::sockets::*;
use lab::storm::{Call, play};
use lab::tables;
use lab::time_wait::*;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt;

const PORT: u16 = 4000;
/// The bound of the contract, on any host with the default configuration.
const SERIES_LIMIT: usize = 2000;
/// With a census of 200,000 sockets in hand.
const RESIDENT_LIMIT_KIB: u64 = 160 * 1024;

fn address() -> SocketAddr {
    Family::V4.loopback(1, PORT)
}

fn start(netns: &Netns) -> (Daemon, Scraper) {
    let daemon = Daemon::start(netns, &["--socket", ""]);
    let scraper = Scraper::connect(netns);
    (daemon, scraper)
}

/// Bounded, and valid by Prometheus' own tool.
#[track_caller]
fn check_page(scraper: &mut Scraper) -> Page {
    let text = scraper.scrape_text();
    promtool::check(&text);
    let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(series < SERIES_LIMIT, "{series} series");
    let page = Page::parse(&text);
    assert_eq!(page.0.len(), series, "no series comes twice");
    page
}

/// Address number `n` of 127.0.0.0/8, from `base` on.
fn loopback(base: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) + base + n)
}

#[test]
fn two_hundred_thousand_peers_stay_within_the_bounds() {
    const PEERS: u32 = 100_000;
    let netns = Netns::new();
    netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    netns.sysctl("net.ipv4.ip_local_reserved_ports", &PORT.to_string());
    netns.sysctl("net.ipv4.tcp_max_tw_buckets", "400000");
    netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
    let destination = Family::V4.loopback(1, PORT - 1);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let (everywhere, here) = netns.run(|| (listen_with(everywhere, 1024), listen_with(destination, 1024)));
    let (daemon, _) = start(&netns);
    std::thread::scope(|scope| {
        // As many remote ends of clients that close first …
        scope.spawn(|| {
            netns.enter();
            let call = |n| {
                let destination = SocketAddrV4::new(loopback(1 << 16, n), PORT).into();
                Call { source: None, destination, server_first: false }
            };
            play(&everywhere, (0..PEERS).map(call));
        });
        // … as peers of a server that closes first.
        scope.spawn(|| {
            netns.enter();
            let call = |n| {
                let source = Some(SocketAddrV4::new(loopback(1 << 23, n), 0).into());
                Call { source, destination, server_first: true }
            };
            play(&here, (0..PEERS).map(call));
        });
    });
    let judge = |daemon: &Daemon, scraper: &mut Scraper, name: &str| {
        let page = check_page(scraper);
        assert_eq!(tables::small(&tables::gauges(&page)), tables::small(&tables::ss(&netns)), "{name} and ss");
        assert_eq!(makers(&page), tables::gauges(&page)["time_wait"], "{name}");
        let by_role = |role: &str| page.sum("synfin_time_wait_sockets", &[&format!("role=\"{role}\"")]);
        let [clients, servers, unknown] = ["client", "server", "unknown"].map(by_role);
        let folded = page.value("synfin_rows_folded{metric=\"time_wait_sockets\"}");
        let (resident, peak) = (daemon.resident_kib(), daemon.peak_resident_kib());
        eprintln!(
            "{name}: {clients} clients, {servers} servers, {unknown} unknown; {folded} folded; {} series; {resident} KiB, {peak} at most",
            page.0.len(),
        );
        // Only a census tells the role of a socket without a record.
        let lost = page.sum("synfin_events_lost_total", &[]);
        assert!(unknown <= lost, "{name}: {unknown} without a role, {lost} records lost");
        assert!(peak < RESIDENT_LIMIT_KIB, "{name}: {peak} KiB resident");
        (page, folded)
    };
    let mut scraper = Scraper::connect(&netns);
    judge(&daemon, &mut scraper, "by events");
    drop((scraper, daemon));
    // What another daemon counts that finds them there.
    let (daemon, mut scraper) = start(&netns);
    let (page, folded) = judge(&daemon, &mut scraper, "by a census");
    let by_role = ["client", "server", "unknown"]
        .map(|role| page.sum("synfin_time_wait_sockets", &[&format!("role=\"{role}\"")]));
    assert!(by_role[0] >= f64::from(PEERS) && by_role[1] >= f64::from(PEERS) && by_role[2] == 0.0, "{by_role:?}");
    let of_server = format!("endpoint=\"{}\"", destination);
    let of_server = page.sum("synfin_time_wait_sockets", &[&of_server, "role=\"server\""]);
    assert_eq!(of_server, f64::from(PEERS), "one maker, however many peers");
    assert!(folded >= f64::from(PEERS) - 4096.0, "{folded} folded");
}

#[test]
fn units_that_come_and_go_leave_the_sums_exact() {
    const UNITS: usize = 300;
    const EACH: usize = 3;
    let _alone = alone();
    let netns = Netns::new();
    let (daemon, mut scraper) = start(&netns);
    let before = settled(&mut scraper);
    let listener = netns.run(|| listen(address()));
    for n in 0..UNITS {
        let unit = Cgroup::new(&format!("fleeting-{n}"));
        unit.inside(|| netns.run(|| connections(&listener, First::Client, EACH)));
        drop(unit);
        if n % 50 == 0 {
            let page = check_page(&mut scraper);
            assert_eq!(makers(&page), tables::gauges(&page)["time_wait"], "after {n} units");
        }
    }
    let page = settled(&mut scraper);
    check_page(&mut scraper);
    let total = check_total(&netns, &page);
    let made = (UNITS * EACH) as u64;
    assert_eq!(total - makers(&before), made);
    assert_eq!(entered(&page) - entered(&before), made);
    assert_eq!(
        page.sum("synfin_time_wait_sockets", &[&format!("endpoint=\"{}\"", address())]) + other(&page),
        made as f64
    );
    assert!(!daemon.has_ended(), "{}", daemon.log());
    eprintln!("{} units have a name of their own", named(&page).len());
}

/// What is folded of the clients.
fn other(page: &Page) -> f64 {
    page.sum("synfin_time_wait_sockets", &["endpoint=\"other\"", "role=\"client\""])
}

/// Names of the test's units on the page.
fn named(page: &Page) -> Vec<&str> {
    let entered = page.0.keys().filter(|series| series.starts_with("synfin_time_wait_entered_total"));
    entered.filter_map(|series| series.split("unit=\"").nth(1)).filter(|unit| unit.contains("fleeting")).collect()
}

#[test]
fn a_unit_has_its_name_in_the_first_scrape_after_it_came() {
    const UNITS: usize = 8;
    let _alone = alone();
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns);
    let listener = netns.run(|| listen(address()));
    for n in 0..UNITS {
        // Each so soon after the one before that its name has not been looked for again by itself.
        let unit = Cgroup::new(&format!("new-{n}"));
        unit.inside(|| netns.run(|| connections(&listener, First::Client, 5)));
        let page = scraper.scrape();
        let of = |unit: &str| {
            page.sum("synfin_time_wait_entered_total", &["role=\"client\"", &format!("unit=\"{unit}\"")]) as u64
        };
        assert_eq!((of(&unit.unit), of("unknown")), (5, 0));
    }
}

#[test]
fn any_name_that_the_kernel_takes_comes_out_as_a_label() {
    let _alone = alone();
    let netns = Netns::new();
    let (daemon, mut scraper) = start(&netns);
    let listener = netns.run(|| listen(address()));
    let pid = std::process::id();
    // Name of the directory, and the value of the label as the page spells it.
    let long = [b"x".repeat(200), b".service".to_vec()].concat();
    let cases: [(Vec<u8>, String); 7] = [
        (b"quo\"te.service".to_vec(), r#"quo\"te.service"#.into()),
        (b"back\\slash\\.service".to_vec(), r"back\\slash\\.service".into()),
        (b"both\\\",}{\".service".to_vec(), r#"both\\\",}{\".service"#.into()),
        (b"\xff\xfe\x80.service".to_vec(), r"\\xff\\xfe\\x80.service".into()),
        (b"bell\x07\x1b[31m.service".to_vec(), r"bell\\x07\\x1b[31m.service".into()),
        ("größe \u{202e}.service".as_bytes().to_vec(), r"größe \\xe2\\x80\\xae.service".into()),
        (long, String::new()),
    ];
    // Told apart from those of another run, without a change to what is odd about them.
    let prefix = format!("lab{pid}-");
    let cgroups: Vec<(Cgroup, String)> = cases
        .into_iter()
        .map(|(name, label)| {
            let name = [prefix.as_bytes(), &name].concat();
            let unit = match label.as_str() {
                "" => synfin::host::unit_of_path(&[b"/", name.as_slice()].concat()),
                label => format!("{prefix}{label}"),
            };
            let cgroup = Cgroup::named(OsStr::from_bytes(&name), unit.clone());
            (cgroup.unwrap_or_else(|error| panic!("a cgroup {unit}: {error}")), unit)
        })
        .collect();
    let newline = Cgroup::named(OsStr::new("new\nline.service"), String::new());
    assert_eq!(newline.err().and_then(|error| error.raw_os_error()), Some(libc::EINVAL), "the kernel takes no newline");

    let held: Vec<_> = cgroups
        .iter()
        .map(|(cgroup, _)| {
            cgroup.inside(|| {
                netns.run(|| {
                    connections(&listener, First::Client, 2);
                    pair(&listener)
                })
            })
        })
        .collect();
    check_page(&mut scraper);
    let page = settled(&mut scraper);
    check_page(&mut scraper);
    check_total(&netns, &page);
    for (_, unit) in &cgroups {
        assert_eq!(time_wait(&page, "client", &address().to_string(), unit), 2, "{unit}");
        // A client, and no server: the listener is somebody else's.
        let open = page.value(&format!("synfin_tcp_unit_sockets{{state=\"established\",unit=\"{unit}\"}}"));
        assert_eq!(open, 1.0, "{unit}");
    }
    drop(held);
    assert!(!daemon.has_ended(), "{}", daemon.log());
}

#[test]
fn a_child_belongs_to_the_unit_that_made_its_listener() {
    let _alone = alone();
    let netns = Netns::new();
    let (maker, server, client) = (Cgroup::new("maker"), Cgroup::new("server"), Cgroup::new("client"));
    let (_daemon, mut scraper) = start(&netns);
    let (listener, late, idle) = netns.run(|| {
        let (listener, late) = maker.inside(|| {
            let listen = |port| listen(Family::V4.loopback(1, port));
            (listen(PORT), listen(PORT + 1))
        });
        let call = |listener: &std::net::TcpListener, first| {
            let mut to = client.inside(|| Some(connect(listener.local_addr().expect("it is bound"))));
            // Accepted and closed by a process that is elsewhere.
            server.inside(|| {
                let mut from = Some(listener.accept().expect("accept").0);
                let (early, after) = if first == First::Client { (&mut to, &mut from) } else { (&mut from, &mut to) };
                drop(early.take());
                read_to_end(after.as_ref().expect("not closed yet"));
            });
        };
        (0..9).for_each(|_| call(&listener, First::Server));
        (0..4).for_each(|_| call(&late, First::Client));
        let idle: Vec<_> = (0..3)
            .map(|_| {
                let to = client.inside(|| connect(address()));
                (to, server.inside(|| listener.accept().expect("accept").0))
            })
            .collect();
        (listener, late, idle)
    });
    let page = settled(&mut scraper);
    check_total(&netns, &page);
    let towards = |port: u16| Family::V4.loopback(1, port).to_string();
    let sockets = |unit: &Cgroup, state: &str| {
        page.sum("synfin_tcp_unit_sockets", &[&format!("state=\"{state}\""), &format!("unit=\"{}\"", unit.unit)])
    };
    let entered = |role: &str, unit: &Cgroup| {
        let labels = [format!("role=\"{role}\""), format!("unit=\"{}\"", unit.unit)];
        page.sum("synfin_time_wait_entered_total", &[&labels[0], &labels[1]])
    };
    assert_eq!(time_wait(&page, "server", &towards(PORT), &maker.unit), 9);
    assert_eq!(time_wait(&page, "client", &towards(PORT + 1), &client.unit), 4);
    assert_eq!((entered("server", &maker), entered("client", &client)), (9.0, 4.0));
    assert_eq!((sockets(&maker, "established"), sockets(&client, "established")), (3.0, 3.0));
    assert_eq!(sockets(&maker, "listen"), 2.0);
    for role in ["client", "server", "unknown"] {
        assert_eq!(entered(role, &server), 0.0, "who accepts and closes owns nothing");
    }
    assert_eq!(sockets(&server, "established"), 0.0);
    assert_eq!(time_wait(&page, "client", &towards(PORT), &own_unit()), 0);
    drop((listener, late, idle));
}
