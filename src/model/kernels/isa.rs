//! Which instructions this machine has, asked once.

use super::{Task, portable};

/// A set of instructions there are kernels for. Values other than the portable one come from
/// [`Isa::all`] only, which asks the machine, so that using them is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// What this machine has, the fastest first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq");
            if avx512 && has!("avx512vl") && has!("avx512vnni") && has!("avx512vbmi") {
                all.push(Self(Set::Avx512));
            }
            if avx2 {
                all.push(Self(Set::Avx2));
            }
        }
        all.push(Self(Set::Portable));
        all
    }

    pub(crate) fn best() -> Self {
        Self::all()[0]
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            Set::Portable => "no vector instructions",
        }
    }

    /// What every machine has.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self(Set::Portable)
    }

    pub(super) fn set(self) -> Set {
        self.0
    }

    pub(super) fn multiply(self, task: &Task<'_>) {
        match self.0 {
            // SAFETY: `all` has asked for these instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { super::avx512::multiply(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { super::avx2::multiply(task) },
            Set::Portable => portable::multiply(task),
        }
    }
}
