//! How much memory Linux could still give to this process: what the machine has left, and what the limits of
//! the control groups that it is in leave, in both versions of control groups.
//!
//! It is an estimate: other processes take memory meanwhile. A limit that cannot be read does not count.

use std::fs;

/// How many bytes there are. None where nothing tells.
pub fn bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    [machine(), VERSION_2.available(&own), VERSION_1.available(&own)].into_iter().flatten().min()
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    };
    Some(field("MemAvailable:")?.saturating_add(field("SwapFree:").unwrap_or(0)))
}

/// Where a version of control groups has its memory limits.
struct Groups {
    /// The controllers of its line in /proc/self/cgroup.
    controllers: fn(&str) -> bool,
    root: &'static str,
    max: &'static str,
    used: &'static str,
    /// What it could reclaim, in memory.stat.
    cached: &'static str,
}

const VERSION_2: Groups = Groups {
    controllers: str::is_empty,
    root: "/sys/fs/cgroup",
    max: "memory.max",
    used: "memory.current",
    cached: "inactive_file ",
};

const VERSION_1: Groups = Groups {
    controllers: |names| names.split(',').any(|name| name == "memory"),
    root: "/sys/fs/cgroup/memory",
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

impl Groups {
    /// What the limits of the groups above this process leave; `own` is its /proc/self/cgroup.
    fn available(&self, own: &str) -> Option<u64> {
        let mut path = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (self.controllers)(controllers).then_some(path)
        })?;
        let mut least = None;
        loop {
            least = [least, self.left(path)].into_iter().flatten().min();
            match path.rfind('/') {
                Some(cut) if path.len() > 1 => path = &path[..cut],
                _ => return least,
            }
        }
    }

    /// What the limit of one group leaves. Memory that only caches files can be had back.
    fn left(&self, path: &str) -> Option<u64> {
        let text = |file: &str| fs::read_to_string(format!("{}{path}/{file}", self.root)).ok();
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        let (max, used) = (number(self.max)?, number(self.used)?);
        let stat = text("memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(self.cached)?.trim().parse().ok());
        Some(max.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
    }
}
