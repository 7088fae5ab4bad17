//! Keys and values of one sequence in one model.

use half::{f16, slice::HalfFloatSliceExt};

use super::kernels::BLOCK;
use crate::vocab::TokenId;

/// Invariant: every layer holds at least `tokens.len()` positions; what lies beyond is left over
/// from a rollback and is overwritten.
///
/// Keys and values are 16-bit floats, in one run for each layer: values position after position,
/// keys in blocks of positions, in each of which the same number of all of them stands together.
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

    /// What its keys and values take, in bytes.
    pub fn bytes(&self) -> usize {
        let numbers = |layer: &Layer| layer.keys.len() + layer.values.len();
        self.layers.iter().map(numbers).sum::<usize>() * size_of::<u16>()
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
        let copy = |layer: usize| {
            let (keys, values) = self.read(layer, tokens);
            Layer { keys: keys.to_vec(), values: values.to_vec() }
        };
        Self {
            tokens: self.tokens[..tokens].to_vec(),
            layers: (0..self.layers.len()).map(copy).collect(),
            width: self.width,
            capacity: self.capacity,
        }
    }

    /// Sets what one layer holds at `position` and forgets all that came after it.
    ///
    /// # Panics
    /// If a position before this one was never written.
    pub(super) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let width = self.width;
        let Layer { keys, values } = &mut self.layers[layer];
        assert!(values.len() >= position * width, "positions are written in order");
        let capacity = (2 * position).max(64).min(self.capacity.max(position + 1));
        resize(values, (position + 1) * width, capacity * width);
        narrow(value, values[position * width..].iter_mut());
        let block = position / BLOCK * BLOCK;
        resize(keys, (block + BLOCK) * width, capacity.next_multiple_of(BLOCK) * width);
        narrow(key, keys[block * width..].iter_mut().skip(position - block).step_by(BLOCK));
    }

    /// One layer's keys and values of the first `positions`; keys to the end of their block.
    pub(super) fn read(&self, layer: usize, positions: usize) -> (&[u16], &[u16]) {
        let Layer { keys, values } = &self.layers[layer];
        (&keys[..positions.next_multiple_of(BLOCK) * self.width], &values[..positions * self.width])
    }
}

/// `capacity` is what to make room for where there is not enough.
fn resize(store: &mut Vec<u16>, len: usize, capacity: usize) {
    if store.capacity() < len {
        store.reserve_exact(capacity - store.len());
    }
    store.resize(len, 0);
}

fn narrow<'a>(numbers: &[f32], mut places: impl Iterator<Item = &'a mut u16>) {
    for numbers in numbers.chunks(64) {
        let mut halves = [f16::ZERO; 64];
        halves[..numbers.len()].convert_from_f32_slice(numbers);
        for (half, place) in halves[..numbers.len()].iter().zip(&mut places) {
            *place = half.to_bits();
        }
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
        assert_eq!((keys.len(), values.len()), (144 * 3, 130 * 3));
        for position in 0..130 {
            let salt = if position < 70 { 1.0 } else { 2.0 };
            let at = 3 * position;
            let key = |d| wide(keys[(position / 16 * 3 + d) * 16 + position % 16]);
            assert_eq!([key(0), key(2)], [position as f32, salt]);
            assert_eq!([values[at], values[at + 2]].map(wide), [position as f32 + 1.0, salt + 1.0]);
        }
        assert_eq!(cache.bytes(), 2 * 2 * 3 * (144 + 130), "two layers of halves");
        assert!(cache.layers.iter().all(|layer| layer.keys.capacity() <= 208 * 3));
        assert!(cache.layers.iter().all(|layer| layer.values.capacity() <= 200 * 3));
    }
}
