//! Draws from a slice of probabilities.
//!
//! Pure: no tensors, no clocks, no global generator.

/// How the next piece is drawn from the fused distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the most probable piece; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Keep the `k` most probable pieces; `None` keeps all.
    pub top_k: Option<usize>,
    /// Keep the smallest set of most probable pieces whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep pieces of at least this share of the most probable one's mass; 0 keeps all.
    pub min_p: f32,
    pub seed: u64,
}

impl Default for SamplingParams {
    /// The plain fused distribution with seed 0.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}
