//! Which instructions this machine has, and functions that are compiled once for each set of them.
//!
//! A leaf: knows no numbers but how to sum lanes. Its one unsafe line, in [`versions`], calls a
//! safe function that was compiled for instructions which the machine was asked for.

/// A set of instructions there are kernels for. Values other than the portable one come from
/// [`Isa::all`] only, which asks the machine, so that using them is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "aarch64")]
    Neon,
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
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Self(Set::NeonDotprod));
            }
            all.push(Self(Set::Neon));
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
            #[cfg(target_arch = "aarch64")]
            Set::NeonDotprod => "NEON with dot products",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "NEON",
            Set::Portable => "no vector instructions",
        }
    }

    /// What every machine has.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self(Set::Portable)
    }

    pub(crate) fn set(self) -> Set {
        self.0
    }
}

/// Compiles a function once for each instruction set. The compiler may use wider registers, but
/// never another order or a fused rounding, so the results are the same.
macro_rules! versions {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[inline]
        #[allow(unsafe_code, reason = "a version is called where its instructions are")]
        pub(crate) fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) {
                body($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            fn avx2($($arg: $type),*) {
                body($($arg),*);
            }
            match isa.set() {
                // SAFETY: an `Isa` of this set exists where the instructions do.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Set::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Set::Avx2 => unsafe { avx2($($arg),*) },
                // NEON needs no version of its own: every machine that has it always does.
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use versions;

/// In a fixed order: halves onto each other.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}
