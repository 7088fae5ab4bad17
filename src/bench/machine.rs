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
    fn the_processor_is_read_where_the_system_names_it() {
        let info =
            "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some(R) CPU @ 2 GHz\nflags\t: a\n";
        assert_eq!(processor(info).as_deref(), Some("Some(R) CPU @ 2 GHz"));
        assert_eq!(processor("processor : 0\nBogoMIPS : 50.00\n"), None);
        assert_eq!(processor("model name :\n"), None);
    }
}
