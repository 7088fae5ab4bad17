//! Keys and values of one sequence in one model.

use half::{f16, slice::HalfFloatSliceExt};

use crate::vocab::TokenId;

/// Invariant: every layer holds at least `tokens.len()` positions; what lies beyond is left over
/// from a rollback and is overwritten.
///
/// Keys and values are 16-bit floats, position after position, in one run for each layer.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    tokens: Vec<TokenId>,
    layers: Vec<Layer>,
    /// Of a key or value of one position, over all heads.
    width: usize,
    /// Room is never made for more positions than these.
    capacity: usize,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    keys: Vec<u16>,
    values: Vec<u16>,
}

impl KvCache {
    /// An empty cache of `layers` keys and values of `width` numbers for each of at most
    /// `capacity` positions. Room is made as it is needed.
    pub(super) fn new(layers: usize, width: usize, capacity: usize) -> Self {
        Self { tokens: Vec::new(), layers: vec![Layer::default(); layers], width, capacity }
    }

    /// The number of layers and the width it was made for.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.layers.len(), self.width)
    }

    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Records tokens whose keys and values the model has written.
    pub fn append(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Rolls back to the longest prefix shared with `target` and returns what is left to
    /// forward: at least its last token, since the caller wants the logits after it.
    ///
    /// # Panics
    /// If `target` is empty: there would be nothing to get logits from.
    pub fn sync<'t>(&mut self, target: &'t [TokenId]) -> &'t [TokenId] {
        assert!(!target.is_empty(), "a target has at least one token");
        let shared = self.tokens.iter().zip(target).take_while(|(a, b)| a == b).count();
        let keep = shared.min(target.len() - 1);
        self.tokens.truncate(keep);
        &target[keep..]
    }

    /// A copy of the first `tokens` tokens' keys and values, to go on from with another text.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn beginning(&self, tokens: usize) -> Self {
        let end = tokens * self.width;
        let copy = |layer: &Layer| Layer {
            keys: layer.keys[..end].to_vec(),
            values: layer.values[..end].to_vec(),
        };
        Self {
            tokens: self.tokens[..tokens].to_vec(),
            layers: self.layers.iter().map(copy).collect(),
            width: self.width,
            capacity: self.capacity,
        }
    }

    /// Sets what one layer holds at `position` and forgets all that came after it.
    ///
    /// # Panics
    /// If a position before this one was never written.
    pub(super) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let (width, capacity) = (self.width, self.capacity);
        let Layer { keys, values } = &mut self.layers[layer];
        for (store, new) in [(keys, key), (values, value)] {
            assert!(store.len() >= position * width, "positions are written in order");
            store.truncate(position * width);
            if store.capacity() < store.len() + width {
                let positions = (2 * position).clamp(64, capacity.max(position + 1));
                store.reserve_exact(positions * width - store.len());
            }
            store.resize(store.len() + width, 0);
            let at = position * width;
            half::slice::HalfBitsSliceExt::reinterpret_cast_mut::<f16>(&mut store[at..])
                .convert_from_f32_slice(new);
        }
    }

    /// One layer's keys and values of the first `positions`.
    pub(super) fn read(&self, layer: usize, positions: usize) -> (&[u16], &[u16]) {
        let end = positions * self.width;
        let Layer { keys, values } = &self.layers[layer];
        (&keys[..end], &values[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().map(|&id| TokenId(id)).collect()
    }

    #[test]
    fn sync_keeps_the_common_prefix_and_leaves_at_least_one_token() {
        let mut cache = KvCache::default();
        cache.append(&ids(&[1, 2, 3]));
        assert_eq!(cache.sync(&ids(&[1, 2, 9, 4])), &ids(&[9, 4])[..]);
        assert_eq!(cache.tokens(), &ids(&[1, 2])[..]);
        assert_eq!(cache.sync(&ids(&[1, 2])), &ids(&[2])[..]);
        assert_eq!(cache.sync(&ids(&[7])), &ids(&[7])[..]);
        assert!(cache.tokens().is_empty());
    }

    #[test]
    fn what_is_written_is_read_back_after_growth_and_rollback() {
        let mut cache = KvCache::new(2, 3, 200);
        let write = |cache: &mut KvCache, position: usize, salt: f32| {
            let key = [position as f32, 0.5, salt];
            for layer in 0..2 {
                cache.write(layer, position, &key, &key.map(|k| k + layer as f32));
            }
        };
        (0..200).for_each(|position| write(&mut cache, position, 1.0));
        (70..130).for_each(|position| write(&mut cache, position, 2.0));
        let wide = |half: u16| f16::from_bits(half).to_f32();
        let (keys, values) = cache.read(1, 130);
        assert_eq!(keys.len(), 130 * 3);
        for position in 0..130 {
            let salt = if position < 70 { 1.0 } else { 2.0 };
            let at = 3 * position;
            assert_eq!([keys[at], keys[at + 2]].map(wide), [position as f32, salt]);
            assert_eq!([values[at], values[at + 2]].map(wide), [position as f32 + 1.0, salt + 1.0]);
        }
        assert!(cache.layers.iter().all(|layer| layer.keys.capacity() <= 200 * 3));
    }
}
