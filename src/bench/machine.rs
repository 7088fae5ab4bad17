//! What a figure was measured on.

use std::{fmt, fs};

use serde::Serialize;

use crate::model;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Where the system tells.
    pub processor: Option<String>,
    /// That this process may use at once.
    pub cores: usize,
    /// That compute.
    pub threads: usize,
    /// That the kernels have chosen.
    pub instructions: String,
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn here(threads: usize) -> Self {
        Self {
            processor: fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| processor(&info)),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads,
            instructions: model::instructions().to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// What this process holds of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Now; what of mapped files has been used counts.
    pub resident: u64,
    /// The most there was so far.
    pub peak: u64,
}

impl Memory {
    /// `None` where the system does not tell.
    pub fn here() -> Option<Self> {
        Self::read(&fs::read_to_string("/proc/self/status").ok()?)
    }

    /// From Linux's `/proc/self/status`, in whose lines kB are 1024 bytes.
    fn read(status: &str) -> Option<Self> {
        let bytes = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(1024 * kilobytes)
        };
        Some(Self { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// The name in Linux's `/proc/cpuinfo`; not every architecture has one there.
fn processor(info: &str) -> Option<String> {
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, threads, instructions, system } = self;
        let processor = processor.as_deref().unwrap_or("a processor without a name");
        write!(f, "{processor}, {threads} of {cores} cores, {instructions}, {system}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_where_the_system_tells_it() {
        let status = "Name:\ttutti\nVmHWM:\t  3000 kB\nVmRSS:\t    2048 kB\nThreads:\t2\n";
        let expected = Memory { resident: 2048 * 1024, peak: 3000 * 1024 };
        assert_eq!(Memory::read(status), Some(expected));
        assert_eq!(Memory::read("VmRSS:\t2048 kB\n"), None);
        assert_eq!(Memory::read("VmRSS:\tmuch\nVmHWM:\tmore\n"), None);
    }

    #[test]
    fn the_processor_is_read_where_the_system_names_it() {
        let info =
            "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some(R) CPU @ 2 GHz\nflags\t: a\n";
        assert_eq!(processor(info).as_deref(), Some("Some(R) CPU @ 2 GHz"));
        assert_eq!(processor("processor : 0\nBogoMIPS : 50.00\n"), None);
        assert_eq!(processor("model name :\n"), None);
    }
}
