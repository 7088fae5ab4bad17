//! The standard normal distribution.

use std::f64::consts::SQRT_2;

/// The probability of a value up to `z`.
pub(super) fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The value that `p` of the distribution is below; infinite at 0 and 1.
pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    // The smaller tail keeps its digits, so the value is looked for on that side.
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    // Below -40 there is no probability left in an f64; halving ends when no number is between.
    let (mut low, mut high) = (-40.0, 0.0);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return middle;
        }
        if cdf(middle) < p { low = middle } else { high = middle }
    }
}
