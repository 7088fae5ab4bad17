//! Arithmetic on distributions.

/// Logits to probabilities at temperature 1, in place. The sum is kept in 64 bits, in index
/// order. `None` if no logit is finite or one is not a number.
pub(super) fn softmax(logits: &mut [f32]) -> Option<()> {
    let mut max = f32::NEG_INFINITY;
    for &logit in logits.iter() {
        if logit.is_nan() {
            return None;
        }
        max = max.max(logit);
    }
    if !max.is_finite() {
        return None;
    }
    let mut sum = 0.0_f64;
    for logit in logits.iter_mut() {
        *logit = (*logit - max).exp();
        sum += f64::from(*logit);
    }
    let scale = 1.0 / sum;
    for logit in logits.iter_mut() {
        *logit = (f64::from(*logit) * scale) as f32;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_sums_to_one_and_masked_logits_get_nothing() {
        let mut logits: Vec<f32> = (0..150_000).map(|i| (i % 977) as f32 * 0.02 - 9.0).collect();
        logits[5] = f32::NEG_INFINITY;
        softmax(&mut logits).unwrap();
        let sum: f64 = logits.iter().map(|&p| f64::from(p)).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(logits[5], 0.0);
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        assert!(softmax(&mut [0.0, f32::NAN]).is_none());
        assert!(softmax(&mut [0.0, f32::INFINITY]).is_none());
        assert!(softmax(&mut [f32::NEG_INFINITY; 3]).is_none());
        assert!(softmax(&mut []).is_none());
    }
}
