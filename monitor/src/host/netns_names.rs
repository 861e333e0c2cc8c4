//! Names by which people know a network namespace: the host's, that of `ip netns`, that of the unit or container that lives in it.

use std::collections::{BTreeMap, BTreeSet};

use super::unit::{bounded, printable, unit_of_path};
use crate::aggregate::{HOST_NAMESPACE, OTHER};
use crate::event::NetnsId;

/// What a namespace may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetnsNames {
    /// Process 1 lives in it.
    pub host: bool,
    /// Of iproute2; any bytes but `/`.
    pub name: Option<Vec<u8>>,
    /// Cgroup path of a process in it.
    pub cgroup: Option<Vec<u8>>,
}

/// From the surest to the last resort. A name gives way only to a surer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Host,
    Name,
    Unit,
    Number,
}

impl NetnsNames {
    /// Adds what is not known yet.
    pub fn merge(&mut self, more: Self) {
        self.host |= more.host;
        self.name = self.name.take().or(more.name);
        self.cgroup = self.cgroup.take().or(more.cgroup);
    }

    fn best(&self, id: NetnsId) -> (Rank, String) {
        match (self.host, &self.name, &self.cgroup) {
            (true, _, _) => (Rank::Host, HOST_NAMESPACE.to_owned()),
            (false, Some(name), _) => (Rank::Name, bounded(printable(name))),
            (false, None, Some(cgroup)) => (Rank::Unit, unit_of_path(cgroup)),
            (false, None, None) => (Rank::Number, format!("net:[{}]", id.0)),
        }
    }
}

/// What tells a namespace from a later one with its number.
type Identity = (NetnsId, Option<u64>);

/// Names given so far, so that a namespace keeps its own and no two have the same.
#[derive(Debug, Default)]
pub struct NetnsBook(BTreeMap<Identity, (Rank, String)>);

impl NetnsBook {
    /// Names all living namespaces, in their order. What is not among them is forgotten.
    pub fn name_all(&mut self, living: &[(NetnsId, Option<u64>, &NetnsNames)]) -> Vec<String> {
        let mut before = std::mem::take(&mut self.0);
        let mut wanting = Vec::new();
        for &(id, cookie, names) in living {
            let (rank, name) = names.best(id);
            match before.remove(&(id, cookie)) {
                Some(held) if held.0 <= rank => drop(self.0.insert((id, cookie), held)),
                Some(_) | None => wanting.push((rank, id, cookie, name)),
            }
        }
        let mut taken: BTreeSet<String> = self.0.values().map(|(_, name)| name.clone()).collect();
        // The surest first, so that nobody takes a name that belongs to another.
        wanting.sort();
        for (rank, id, cookie, mut name) in wanting {
            let reserved = name == OTHER || (name == HOST_NAMESPACE && rank != Rank::Host);
            if reserved || taken.contains(&name) {
                name = format!("{name}[{}]", id.0);
            }
            while !taken.insert(name.clone()) {
                name.push('\'');
            }
            self.0.insert((id, cookie), (rank, name));
        }
        let name = |&(id, cookie, _): &(NetnsId, Option<u64>, _)| {
            self.0.get(&(id, cookie)).map_or_else(String::new, |(_, name)| name.clone())
        };
        living.iter().map(name).collect()
    }
}

/// The cgroup path in the text of `/proc/<pid>/cgroup`: that of cgroup v2 or, where nobody uses it, of systemd's v1 hierarchy. `None`
/// for the root, which names nothing.
pub fn cgroup_of(text: &[u8]) -> Option<Vec<u8>> {
    let path = |prefix: &[u8]| {
        let line = text.split(|&byte| byte == b'\n').find_map(|line| {
            let (at, _) = line.windows(prefix.len()).enumerate().find(|(_, part)| *part == prefix)?;
            line[..at].iter().all(u8::is_ascii_digit).then(|| &line[at + prefix.len()..])
        });
        // Above the root of the reader's cgroup namespace paths begin with `/..`.
        line.filter(|path| path.split(|&byte| byte == b'/').any(|part| !part.is_empty() && part != b".."))
            .map(<[u8]>::to_vec)
    };
    path(b"::").or_else(|| path(b":name=systemd:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8]) -> NetnsNames {
        NetnsNames { name: Some(name.to_vec()), ..NetnsNames::default() }
    }

    fn of_unit(path: &str) -> NetnsNames {
        NetnsNames { cgroup: Some(path.into()), ..NetnsNames::default() }
    }

    fn name_all(book: &mut NetnsBook, living: &[(u32, u64, &NetnsNames)]) -> Vec<String> {
        let living: Vec<_> = living.iter().map(|&(id, cookie, names)| (NetnsId(id), Some(cookie), names)).collect();
        book.name_all(&living)
    }

    #[test]
    fn the_name_that_people_know_comes_first() {
        let check = |names: NetnsNames, expected: &str| {
            assert_eq!(name_all(&mut NetnsBook::default(), &[(7, 1, &names)]), [expected]);
        };
        let host = |names| NetnsNames { host: true, ..names };
        check(host(named(b"blue")), "host");
        check(named(b"blue"), "blue");
        check(NetnsNames { cgroup: Some(b"/x.service".to_vec()), ..named(b"blue") }, "blue");
        check(of_unit("/system.slice/docker-0a1b.scope"), "docker-0a1b.scope");
        check(of_unit("/../../kubepods.slice/cri-containerd-77.scope/init"), "cri-containerd-77.scope");
        check(of_unit("/docker/0a1b"), "/docker/0a1b");
        check(NetnsNames::default(), "net:[7]");
        check(named(b"a\"b\n\xff"), "a\"b\\x0a\\xff");
        check(named(b"host"), "host[7]");
        check(named(b"other"), "other[7]");
        check(named(&[b'x'; 255]), &format!("{}…{}", "x".repeat(40), "x".repeat(77)));
    }

    #[test]
    fn no_two_have_the_same_name_and_each_keeps_its_own() {
        let mut book = NetnsBook::default();
        let (unit, blue, none) = (of_unit("/a.service"), named(b"blue"), NetnsNames::default());
        let mut check = |why, living: &[(u32, u64, &NetnsNames)], expected: &[&str]| {
            assert_eq!(name_all(&mut book, living), expected, "{why}");
        };
        check("two of a unit", &[(8, 1, &unit), (7, 2, &unit)], &["a.service[8]", "a.service"]);
        check("each keeps its own", &[(7, 2, &unit), (8, 1, &unit)], &["a.service", "a.service[8]"]);
        check("the first is gone", &[(8, 1, &unit)], &["a.service[8]"]);
        check("a surer name", &[(8, 1, &blue), (9, 3, &unit)], &["blue", "a.service"]);
        check("the surer name is gone", &[(8, 1, &none)], &["blue"]);
        check("its number in a new life", &[(8, 4, &none)], &["net:[8]"]);
        check("somebody else's number", &[(8, 4, &none), (9, 5, &named(b"net:[8]"))], &["net:[8]", "net:[8][9]"]);
        check(
            "one that asks for more",
            &[(1, 6, &named(b"x[2]")), (2, 7, &named(b"x")), (3, 8, &named(b"x"))],
            &["x[2]", "x", "x[3]"],
        );
        check(
            "taken all the same",
            &[(1, 16, &named(b"x[4]")), (2, 7, &named(b"x")), (4, 9, &named(b"x"))],
            &["x[4]", "x", "x[4]'"],
        );
    }

    #[test]
    fn a_cgroup_is_found_in_either_hierarchy() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(cgroup_of(text.as_bytes()), expected.map(|path| path.as_bytes().to_vec()), "{text}");
        };
        check("0::/system.slice/a.service\n", Some("/system.slice/a.service"));
        check("9:name=systemd:/docker/0a\n8:pids:/docker/0a\n0::/\n", Some("/docker/0a"));
        check("1:name=systemd:/b.scope\n0::/a.scope\n", Some("/a.scope"));
        check("0::/a::b\n", Some("/a::b"));
        check("0::/\n", None);
        check("0::/../..\n", None);
        check("8:pids:/x\n", None);
        check("", None);
    }
}
