//! What a number of samples can show, before they are run.

use super::{LEVEL, normal};

/// The chance to see a difference that is there.
const POWER: f64 = 0.8;

/// The smallest difference of two shares of right answers that `samples` show four times of five,
/// if the two systems disagree on the share `discordance` of the samples. The assumption matters
/// more than the formula, so a table of this has to name it. `None` if no difference that this
/// discordance allows would be shown.
///
/// Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample
/// design", Biometrics 43.
pub fn detectable_share(samples: usize, discordance: f64) -> Option<f64> {
    let (quiet, loud) = (normal::quantile(1.0 - LEVEL / 2.0), normal::quantile(POWER));
    let needed = |difference: f64| {
        let spread = loud * (discordance - difference * difference).max(0.0).sqrt();
        ((quiet * discordance.sqrt() + spread) / difference).powi(2)
    };
    if needed(discordance) > samples as f64 {
        return None;
    }
    let (mut few, mut enough) = (0.0, discordance);
    // What is needed falls with the difference.
    while enough - few > 1e-9 {
        let middle = f64::midpoint(few, enough);
        if needed(middle) > samples as f64 { few = middle } else { enough = middle }
    }
    Some(enough)
}

/// The smallest mean difference that `samples` show four times of five, if the differences of
/// single samples spread by `deviation` (of a run before, or of a dev split).
pub fn detectable_difference(samples: usize, deviation: f64) -> f64 {
    let both = normal::quantile(1.0 - LEVEL / 2.0) + normal::quantile(POWER);
    both * deviation / (samples as f64).sqrt()
}
