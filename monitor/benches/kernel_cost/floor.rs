//! The yardstick programs, attached in this process, with a reader that keeps their ring empty.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::RingBuf;
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};

use crate::programs::{self, Figures, Programs};

const POLL: Duration = Duration::from_millis(5);

/// The programs `floor` and `empty` of `monitor-ebpf/src/floor.rs`; dropping it detaches them.
pub struct Floor {
    _ebpf: Ebpf,
    floor: u32,
    empty: u32,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Floor {
    pub fn attach(object: &Path) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's type information")?;
        let mut ebpf = Ebpf::load_file(object).with_context(|| format!("cannot load {}", object.display()))?;
        let mut attach = |name: &str| -> Result<u32> {
            let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load("inet_sock_set_state", &btf)?;
            program.attach()?;
            Ok(program.info()?.id())
        };
        let (floor, empty) = (attach("floor")?, attach("empty")?);
        let mut ring = RingBuf::try_from(ebpf.take_map("RECORDS").context("the object has no map RECORDS")?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let reader = thread::Builder::new().name("floor".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                while ring.next().is_some() {}
                thread::sleep(POLL);
            }
        })?;
        Ok(Self { _ebpf: ebpf, floor, empty, stop, reader: Some(reader) })
    }

    pub fn programs() -> Result<Programs> {
        programs::of_process(std::process::id())
    }

    /// What `floor` and `empty` did between two readings.
    pub fn added(&self, before: &Programs, after: &Programs) -> (Figures, Figures) {
        let of = |wanted| programs::added(before, after, |id| id == wanted);
        (of(self.floor), of(self.empty))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A reader that ended early has been measured already.
            let _ = reader.join();
        }
    }
}
