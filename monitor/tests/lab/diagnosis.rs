//! `synfin diagnose` under test: asked and judged.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Daemon, Scraper, program};
use super::netns::Netns;
use super::page::Page;
use super::promql;

/// For sockets and roots; removed at the end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-diagnose-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A directory in it that stands for the root of a host without sysctl files.
    pub fn root(&self) -> String {
        let root = self.0.join("root");
        std::fs::create_dir_all(root.join("etc/sysctl.d")).expect("directories");
        root.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What it said.
pub struct Said {
    pub status: i32,
    pub report: Value,
}

impl Said {
    /// Ids of the findings, but for NS-001: the tests beside this one have namespaces and traffic of their own.
    pub fn ids(&self) -> Vec<&str> {
        let ids = self.findings().iter().map(|finding| finding["id"].as_str().expect("an id"));
        ids.filter(|id| *id != "NS-001").collect()
    }

    pub fn findings(&self) -> &Vec<Value> {
        self.report["findings"].as_array().expect("a list of findings")
    }

    #[track_caller]
    pub fn finding(&self, id: &str) -> &Value {
        let found = self.findings().iter().find(|finding| finding["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#}", self.report))
    }

    /// The finding `id` has this severity, the exit status goes with it, and what it says contains each of `words`.
    #[track_caller]
    pub fn check(&self, id: &str, severity: &str, words: &[&str]) {
        let finding = self.finding(id);
        assert_eq!(finding["severity"], severity, "{finding:#}");
        assert!(severity == "info" || self.status == 1, "status {} for {finding:#}", self.status);
        let said = finding.to_string();
        for word in words {
            assert!(said.contains(word), "{word} is not in {finding:#}");
        }
        let unchecked = self.report["unchecked"].as_array().expect("a list");
        let ids: Vec<_> = unchecked.iter().map(|one| one["id"].as_str().expect("an id")).collect();
        let found = self.ids();
        let expected: Vec<_> = unchecked_here().iter().copied().filter(|rule| !found.contains(rule)).collect();
        assert_eq!(ids, expected, "{unchecked:?}");
    }
}

impl Said {
    /// The measured number `name` of the finding `id`.
    #[track_caller]
    pub fn measured(&self, id: &str, name: &str) -> f64 {
        let numbers = self.finding(id)["measured"].as_array().expect("a list of numbers");
        let number = numbers.iter().find(|number| number["name"] == name);
        number.and_then(|number| number["value"].as_f64()).unwrap_or_else(|| panic!("no {name} in {numbers:#?}"))
    }

    /// The finding says all that one must: whose, why, numbers with unit and source, the limit and how it is made, what to do and
    /// what not.
    #[track_caller]
    pub fn check_whole(&self, id: &str) {
        let finding = self.finding(id);
        for list in ["whose", "fixes", "not_helpful", "measured"] {
            assert!(finding[list].as_array().is_some_and(|lines| !lines.is_empty()), "no {list}: {finding:#}");
        }
        for number in finding["measured"].as_array().expect("checked") {
            let text = |field: &str| number[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(number["value"].is_number() && text("unit") && text("source"), "{number:#}");
        }
        let limit = &finding["threshold"];
        assert!(
            limit["value"].is_number() && limit["formula"].as_str().is_some_and(|text| text.len() > 10),
            "{limit:#}"
        );
        assert!(finding["why"].as_str().is_some_and(|why| why.len() > 40), "{finding:#}");
    }
}

/// A namespace with a daemon in it, and its page before the trouble.
pub struct Rig {
    pub netns: Netns,
    pub daemon: Daemon,
    pub root: String,
    pub socket: String,
    scraper: RefCell<Scraper>,
    before: Page,
    _directory: Directory,
}

impl Rig {
    /// `sysctls`: of the namespace, set before the daemon starts.
    pub fn new(name: &str, sysctls: &[(&str, &str)]) -> Self {
        Self::with(name, sysctls, &[])
    }

    /// The same with further arguments of `synfin run`.
    pub fn with(name: &str, sysctls: &[(&str, &str)], arguments: &[&str]) -> Self {
        let (netns, directory) = (Netns::new(), Directory::new(name));
        sysctls.iter().for_each(|(key, value)| netns.sysctl(key, value));
        let (socket, root) = (directory.path("s.sock"), directory.root());
        let daemon = Daemon::start(&netns, &[&["--socket", &socket], arguments].concat());
        super::wait_until("the local socket", Duration::from_secs(5), || Path::new(&socket).exists());
        let mut scraper = Scraper::connect(&netns);
        let before = scraper.scrape();
        Self { netns, daemon, root, socket, scraper: RefCell::new(scraper), before, _directory: directory }
    }

    /// What the daemon says once `id` is found: the whole finding with this severity and `words`; the query and the command that
    /// are to verify it do so. A command that counts must count at least `least`.
    #[track_caller]
    pub fn find(&self, id: &str, severity: &str, words: &[&str], least: u64) -> Said {
        let said = ask_until(id, words, &self.netns, &self.socket, &self.root);
        said.check(id, severity, words);
        said.check_whole(id);
        let verify = &said.finding(id)["verify"];
        let (query, command) = (verify["promql"].as_str().expect("text"), verify["ss"].as_str().expect("text"));
        // Ports and the like are on the page as of the last census.
        let give_up = Instant::now() + Duration::from_secs(20);
        while let Err(said) = promql::fires(query, &self.before, &self.scraper.borrow_mut().scrape()) {
            assert!(Instant::now() < give_up, "{query}\nfinds nothing on the page, or is none:\n{said}");
            std::thread::sleep(Duration::from_millis(500));
        }
        let output = self.netns.run(|| Command::new("sh").args(["-c", command]).output()).expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{command}: {complaints}");
        match printed.trim().parse::<u64>() {
            Ok(number) => assert!(number >= least, "{command} counts {number}, at least {least} were expected"),
            Err(_) => assert!(!printed.trim().is_empty(), "{command} prints nothing"),
        }
        said
    }

    /// What people see.
    pub fn text(&self) -> (i32, String) {
        let mut command = command(&["--socket", &self.socket, "--for", "2s", "--root", &self.root]);
        let output = self.netns.run(|| command.output()).expect("the program starts");
        (output.status.code().expect("it was not killed"), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("diagnose").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn judge(child: Child) -> Said {
    let output = child.wait_with_output().expect("its end");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let status = output.status.code().expect("it was not killed");
    let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    Said { status, report }
}

/// Asks the daemon behind `socket` about the last two seconds or more.
pub fn ask(netns: &Netns, socket: &str, root: &str) -> Said {
    ask_for("2s", netns, socket, root)
}

/// Asks it about so long or more.
pub fn ask_for(window: &str, netns: &Netns, socket: &str, root: &str) -> Said {
    let mut command = command(&["--json", "--socket", socket, "--for", window, "--root", root]);
    judge(netns.run(|| command.spawn()).expect("the program starts"))
}

/// The same again and again until `id` is found and says all of `words`: ports are counted by the census, which comes seldom on a busy
/// machine, and a finding may be there for what was before.
pub fn ask_until(id: &str, words: &[&str], netns: &Netns, socket: &str, root: &str) -> Said {
    let give_up = Instant::now() + Duration::from_secs(30);
    let says_all = |finding: &Value| {
        let said = finding.to_string();
        finding["id"] == id && words.iter().all(|word| said.contains(word))
    };
    loop {
        let said = ask(netns, socket, root);
        if said.findings().iter().any(says_all) || Instant::now() > give_up {
            return said;
        }
    }
}

/// Watches by itself, and calls `trouble` in the namespace again and again meanwhile.
pub fn watch(netns: &Netns, root: &str, mut trouble: impl FnMut() + Send) -> Said {
    let mut command = command(&["--json", "--socket", "", "--for", "3s", "--root", root]);
    let mut child = netns.run(|| command.spawn()).expect("the program starts");
    netns.run(|| {
        while child.try_wait().expect("our child").is_none() {
            trouble();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    judge(child)
}

pub fn start(netns: &Netns, socket: &str) -> Daemon {
    let daemon = Daemon::start(netns, &["--socket", socket]);
    super::wait_until("the local socket", Duration::from_secs(5), || Path::new(socket).exists());
    daemon
}

/// Rules that cannot be checked in a namespace of this kernel: before Linux 6.1 the size of the table of connections, of which the
/// default of tcp_max_tw_buckets is half, can be told from the sysctls of the first namespace alone.
pub fn unchecked_here() -> &'static [&'static str] {
    if Path::new("/proc/sys/net/ipv4/tcp_ehash_entries").exists() { &[] } else { &["TW-010"] }
}
