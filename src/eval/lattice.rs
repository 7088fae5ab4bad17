//! The probability of a text, from the probabilities of pieces that spell it.
//!
//! Pure: offsets and numbers.
//!
//! An ensemble of the mode `union` writes by steps: after the bytes `t` it draws a piece `u` from
//! the mixture `m(u | t)` and goes on after `t u`. What comes after `t` depends on the bytes of
//! `t` alone, for every member's context is the canonical tokenization of `t`, the gate looks at
//! the primary's distribution after `t`, and weights that follow the text are functions of it.
//! So it is a Markov chain on byte strings, and the probability that a text is written is a sum
//! over all ways to cut it into pieces (Cao and Rimell, "You should evaluate your language model
//! on marginal likelihood over tokenisations", EMNLP 2021):
//!
//! ```text
//! alpha(0) = 1,   alpha(j) = sum over i < j of alpha(i) m(text[i..j] | text[..i]),   P = alpha(n)
//! ```
//!
//! This holds for every rule, weighting and gate alike; they only differ in `m`. Each `m` sums to
//! 1, so the texts with their ends, and likewise the prefixes of a length with what jumps over
//! it, have probabilities that sum to 1.
//!
//! What is computed takes not all pieces but those that the members' own canonical tokenizations
//! of the text consist of, at the places where these stand: one reading of the text for each
//! tokenization gives all their `m`, and a path may change from one to the other wherever they
//! meet. It is a lower bound on `P`, that is an upper bound on bits. Of a single member there is
//! one path, its canonical tokens: the usual figure, which is itself such a bound, though a close
//! one.

/// A piece of a text, by its first byte and the one after its last, and the natural logarithm of
/// its probability after what stands before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub start: usize,
    pub end: usize,
    pub logprob: f64,
}

/// The natural logarithm of `alpha(length)` over these edges; of several between the same places,
/// which are the same piece, one counts. Minus infinity where no path leads there.
///
/// # Panics
/// If an edge has no bytes, or ends beyond `length`.
pub fn log_mass(length: usize, mut edges: Vec<Edge>) -> f64 {
    edges.sort_by_key(|edge| (edge.start, edge.end));
    edges.dedup_by_key(|edge| (edge.start, edge.end));
    both_ways(length, &edges).0[length]
}

/// For each place, the natural logarithms of the probability to come to it, and to go from it to
/// `length`. The edges are sorted by their starts, and no two have the same ends.
pub(super) fn both_ways(length: usize, edges: &[Edge]) -> (Vec<f64>, Vec<f64>) {
    let (mut to, mut from) =
        (vec![f64::NEG_INFINITY; length + 1], vec![f64::NEG_INFINITY; length + 1]);
    (to[0], from[length]) = (0.0, 0.0);
    // By their starts: all that lead to a place come before those that leave it.
    for edge in edges {
        assert!(edge.start < edge.end, "an edge goes forward");
        to[edge.end] = log_add(to[edge.end], to[edge.start] + edge.logprob);
    }
    for edge in edges.iter().rev() {
        from[edge.start] = log_add(from[edge.start], from[edge.end] + edge.logprob);
    }
    (to, from)
}

/// The logarithm of the sum of what two logarithms stand for.
fn log_add(a: f64, b: f64) -> f64 {
    let (most, least) = if a > b { (a, b) } else { (b, a) };
    if least == f64::NEG_INFINITY { most } else { most + (least - most).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(start: usize, end: usize, probability: f64) -> Edge {
        Edge { start, end, logprob: probability.ln() }
    }

    #[test]
    fn all_paths_count_and_the_same_piece_once() {
        let edges = vec![edge(0, 2, 0.25), edge(0, 1, 0.5), edge(1, 2, 0.5), edge(0, 2, 0.25)];
        assert!((log_mass(2, edges).exp() - 0.5).abs() < 1e-12);
        // Two readings that meet in the middle have four paths.
        let edges = vec![
            edge(0, 2, 0.1),
            edge(0, 1, 0.2),
            edge(1, 2, 0.5),
            edge(2, 4, 0.3),
            edge(2, 3, 0.4),
            edge(3, 4, 0.5),
        ];
        assert!((log_mass(4, edges).exp() - 0.2 * 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_no_path_reaches_has_no_mass() {
        assert_eq!(log_mass(2, vec![edge(1, 2, 0.5)]), f64::NEG_INFINITY);
        assert_eq!(log_mass(1, vec![edge(0, 1, 0.0)]), f64::NEG_INFINITY);
        assert_eq!(log_mass(0, Vec::new()), 0.0);
    }
}
