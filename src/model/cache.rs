//! Keys and values of one sequence in one model.

use std::{collections::TryReserveError, fmt};

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    Lease, ModelError,
    candle::DeviceLayer,
    kernels::{self, BLOCK, Numbers},
};
use crate::vocab::TokenId;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvFormat {
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit integers with a 16-bit scale for each 32 of them: 53 % of the memory. On a page of
    /// prose and code, some 700 tokens, the log-probability of a token changed by 0.07 nats in the
    /// mean with SmolLM2-135M (Q4_1) and by 0.10 with Qwen2.5-Coder-0.5B (Q4_K_M), the perplexity
    /// by -0.6 % and +1.0 %. A change in the eleventh bit, with a scale for every number, already
    /// moves SmolLM2's by 0.06: activations are rounded to 8 bits, which spreads any change.
    Q8,
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Q8 => "q8",
        })
    }
}

impl KvFormat {
    /// What a key or a value of so many numbers takes.
    pub(super) fn bytes(self, width: usize, head_dim: usize) -> usize {
        match self {
            Self::F16 => 2 * width,
            Self::Q8 => width + 2 * width / kernels::group(head_dim),
        }
    }
}

/// Invariant: every layer holds at least `tokens.len()` positions; what lies beyond is left over
/// from a rollback and is overwritten.
///
/// Keys and values are in one run for each layer: values position after position, keys in blocks
/// of positions, in each of which the same number of all of them stands together. What is kept of
/// a position depends on nothing else, so that it does not matter how a text was cut, shared or
/// rolled back.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    tokens: Vec<TokenId>,
    layers: Vec<Layer>,
    /// In place of `layers` where a model computes on a device.
    device_layers: Vec<DeviceLayer>,
    /// Of a key or value of one position, over all heads.
    width: usize,
    /// Room is never made for more positions than these.
    capacity: usize,
    /// What its layers take.
    lease: Lease,
}

#[derive(Clone, Debug)]
struct Layer {
    keys: Store,
    values: Store,
}

#[derive(Clone, Debug)]
enum Store {
    F16(Vec<u16>),
    /// As [`Numbers::Q8`].
    Q8 {
        integers: Vec<i8>,
        scales: Vec<u16>,
        group: usize,
    },
}

/// What a cache is made for.
pub(super) struct Layout {
    pub(super) layers: usize,
    /// Of a key or value, over all heads.
    pub(super) width: usize,
    pub(super) head_dim: usize,
    /// The most positions.
    pub(super) capacity: usize,
}

impl KvCache {
    /// An empty cache. Room is made as it is needed.
    pub(super) fn new(layout: &Layout, format: KvFormat) -> Self {
        let &Layout { layers, width, head_dim, capacity } = layout;
        let store = match format {
            KvFormat::F16 => Store::F16(Vec::new()),
            KvFormat::Q8 => {
                let group = kernels::group(head_dim);
                Store::Q8 { integers: Vec::new(), scales: Vec::new(), group }
            }
        };
        let layer = Layer { keys: store.clone(), values: store };
        Self { layers: vec![layer; layers], width, capacity, ..Self::default() }
    }

    /// One for a model on a device.
    pub(super) fn on_device(layers: usize, width: usize) -> Self {
        Self { device_layers: vec![DeviceLayer::default(); layers], width, ..Self::default() }
    }

    pub(super) fn device_layer(&mut self, layer: usize) -> &mut DeviceLayer {
        &mut self.device_layers[layer]
    }

    /// Whether it is one of a model on a device with so many layers of this width.
    pub(super) fn check_device_layers(
        &self,
        layers: usize,
        width: usize,
    ) -> Result<(), ModelError> {
        let (expected, found) = ((layers, width), (self.device_layers.len(), self.width));
        if expected == found { Ok(()) } else { Err(ModelError::ForeignCache { expected, found }) }
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
        self.layers.iter().map(|layer| layer.keys.bytes() + layer.values.bytes()).sum()
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
    /// # Errors
    /// If there is not so much memory.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn beginning(&self, tokens: usize) -> Result<Self, ModelError> {
        let (keys, values) = (tokens.next_multiple_of(BLOCK) * self.width, tokens * self.width);
        let bytes = |layer: &Layer| layer.keys.bytes_of(keys) + layer.values.bytes_of(values);
        let mut lease = self.lease.another();
        lease.grow(self.layers.iter().map(bytes).sum::<usize>() as u64)?;
        let copy = |layer: usize| {
            let (keys, values) = self.read(layer, tokens);
            Ok(Layer { keys: Store::copy(keys)?, values: Store::copy(values)? })
        };
        Ok(Self {
            tokens: self.tokens[..tokens].to_vec(),
            layers: (0..self.layers.len()).map(copy).collect::<Result<_, ModelError>>()?,
            device_layers: self.device_layers.clone(),
            width: self.width,
            capacity: self.capacity,
            lease,
        })
    }

    /// The cache, whose memory is of the room that `lease` is of.
    #[must_use]
    pub(super) fn within(self, lease: &Lease) -> Self {
        Self { lease: lease.another(), ..self }
    }

    /// Makes room for so many positions in all layers, so that writing them cannot fail.
    ///
    /// # Errors
    /// If there is not so much memory.
    pub(super) fn make_room(&mut self, positions: usize) -> Result<(), ModelError> {
        let Self { width, layers, .. } = self;
        let fits = |layer: &Layer| {
            layer.values.capacity() >= positions * *width
                && layer.keys.capacity() >= positions.next_multiple_of(BLOCK) * *width
        };
        if layers.iter().all(fits) {
            return Ok(());
        }
        let capacity = (2 * positions).max(64).min(self.capacity.max(positions));
        let (keys, values) = (capacity.next_multiple_of(BLOCK) * *width, capacity * *width);
        let bytes = |layer: &Layer| layer.keys.bytes_of(keys) + layer.values.bytes_of(values);
        let bytes = layers.iter().map(bytes).sum::<usize>() as u64;
        self.lease.grow(bytes)?;
        for layer in layers {
            let made = layer.keys.reserve(keys).and_then(|()| layer.values.reserve(values));
            made.map_err(|_| ModelError::OutOfMemory { wanted: bytes, left: 0 })?;
        }
        Ok(())
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
        values.resize((position + 1) * width, capacity * width);
        values.write(value, Place { from: position * width, index: 0, together: 1 });
        let block = position / BLOCK * BLOCK;
        keys.resize((block + BLOCK) * width, capacity.next_multiple_of(BLOCK) * width);
        let index = position - block;
        keys.write(key, Place { from: block * width, index, together: BLOCK });
    }

    /// One layer's keys and values of the first `positions`; keys to the end of their block.
    pub(super) fn read(&self, layer: usize, positions: usize) -> (Numbers<'_>, Numbers<'_>) {
        let Layer { keys, values } = &self.layers[layer];
        let whole = positions.next_multiple_of(BLOCK);
        (keys.first(whole * self.width), values.first(positions * self.width))
    }
}

/// Where a position's numbers are written.
#[derive(Clone, Copy)]
struct Place {
    /// Where the numbers of those begin that stand together.
    from: usize,
    /// Which of them it is.
    index: usize,
    /// How many they are.
    together: usize,
}

impl Store {
    fn copy(numbers: Numbers<'_>) -> Result<Self, ModelError> {
        Ok(match numbers {
            Numbers::F16(halves) => Store::F16(copy(halves)?),
            Numbers::Q8 { integers, scales, group } => {
                Store::Q8 { integers: copy(integers)?, scales: copy(scales)?, group }
            }
        })
    }

    fn len(&self) -> usize {
        match self {
            Store::F16(halves) => halves.len(),
            Store::Q8 { integers, .. } => integers.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Store::F16(halves) => halves.capacity(),
            Store::Q8 { integers, scales, group } => {
                integers.capacity().min(scales.capacity() * group)
            }
        }
    }

    /// What so many numbers take.
    fn bytes_of(&self, numbers: usize) -> usize {
        match self {
            Store::F16(_) => 2 * numbers,
            Store::Q8 { group, .. } => numbers + 2 * (numbers / group),
        }
    }

    /// Room for so many numbers in all.
    fn reserve(&mut self, numbers: usize) -> Result<(), TryReserveError> {
        match self {
            Store::F16(halves) => reserve(halves, numbers),
            Store::Q8 { integers, scales, group } => {
                reserve(integers, numbers)?;
                reserve(scales, numbers / *group)
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Store::F16(halves) => size_of_val(&halves[..]),
            Store::Q8 { integers, scales, .. } => {
                size_of_val(&integers[..]) + size_of_val(&scales[..])
            }
        }
    }

    /// `capacity` is what to make room for where there is not enough.
    fn resize(&mut self, len: usize, capacity: usize) {
        match self {
            Store::F16(halves) => resize(halves, len, capacity),
            Store::Q8 { integers, scales, group } => {
                resize(integers, len, capacity);
                resize(scales, len / *group, capacity / *group);
            }
        }
    }

    fn write(&mut self, numbers: &[f32], place: Place) {
        let Place { from, index, together } = place;
        match self {
            Store::F16(halves) => {
                narrow(numbers, halves[from + index..].iter_mut().step_by(together));
            }
            Store::Q8 { integers, scales, group } => {
                let mut integers = integers[from + index..].iter_mut().step_by(together);
                let scales = scales[from / *group + index..].iter_mut().step_by(together);
                for (numbers, place) in numbers.chunks_exact(*group).zip(scales) {
                    let (scale, of_group) = kernels::quantize_group(numbers);
                    *place = scale;
                    for (integer, place) in of_group.zip(&mut integers) {
                        *place = integer;
                    }
                }
            }
        }
    }

    fn first(&self, count: usize) -> Numbers<'_> {
        match self {
            Store::F16(halves) => Numbers::F16(&halves[..count]),
            Store::Q8 { integers, scales, group } => Numbers::Q8 {
                integers: &integers[..count],
                scales: &scales[..count / group],
                group: *group,
            },
        }
    }
}

fn copy<T: Copy + Default>(numbers: &[T]) -> Result<Vec<T>, ModelError> {
    let mut copy = kernels::zeros(numbers.len())?;
    copy.copy_from_slice(numbers);
    Ok(copy)
}

fn reserve<T>(store: &mut Vec<T>, numbers: usize) -> Result<(), TryReserveError> {
    store.try_reserve_exact(numbers.saturating_sub(store.len()))
}

fn resize<T: Copy + Default>(store: &mut Vec<T>, len: usize, capacity: usize) {
    if store.capacity() < len {
        store.reserve_exact(capacity - store.len());
    }
    store.resize(len, T::default());
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
    use crate::model::Room;

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

    const LAYOUT: Layout = Layout { layers: 2, width: 6, head_dim: 3, capacity: 200 };

    fn number(position: usize, d: usize, salt: f32) -> f32 {
        salt * ((position * 6 + d) as f32 * 0.7).sin()
    }

    #[test]
    fn what_is_written_is_read_back_after_growth_and_rollback() {
        for (format, tolerance) in [(KvFormat::F16, 0.5 / 1024.0), (KvFormat::Q8, 0.57 / 127.0)] {
            let mut cache = KvCache::new(&LAYOUT, format);
            let write = |cache: &mut KvCache, position: usize, salt: f32| {
                let key: Vec<f32> = (0..6).map(|d| number(position, d, salt)).collect();
                let value: Vec<f32> = (0..6).map(|d| number(position, d, 9.0 * salt)).collect();
                (0..2).for_each(|layer| cache.write(layer, position, &key, &value));
            };
            (0..200).for_each(|position| write(&mut cache, position, 1.0));
            (70..130).for_each(|position| write(&mut cache, position, 100.0));
            let copy = cache.beginning(0).unwrap();
            assert_eq!(copy.bytes(), 0);
            let (kept_keys, kept_values) = cache.read(1, 130);
            let [mut keys, mut values] = [144 * 6, 130 * 6].map(|length| vec![0.0; length]);
            kept_keys.widen::<BLOCK>(0, &mut keys);
            kept_values.widen::<1>(0, &mut values);
            for (position, d) in (0..130).flat_map(|at| (0..6).map(move |d| (at, d))) {
                let salt = if position < 70 { 1.0 } else { 100.0 };
                let key = keys[(position / 16 * 6 + d) * 16 + position % 16];
                let value = values[6 * position + d];
                assert!((key - number(position, d, salt)).abs() <= salt * tolerance);
                let expected = number(position, d, 9.0 * salt);
                assert!((value - expected).abs() <= 9.0 * salt * tolerance);
            }
            let of_a_number = |store: &Store| match store {
                Store::F16(halves) => (halves.capacity() / 6, 2.0),
                // A scale for each of the two heads of three.
                Store::Q8 { integers, .. } => (integers.capacity() / 6, (6.0 + 2.0 * 2.0) / 6.0),
            };
            for Layer { keys, values } in &cache.layers {
                assert!(of_a_number(keys).0 <= 208 && of_a_number(values).0 <= 200);
            }
            let (_, bytes) = of_a_number(&cache.layers[0].keys);
            assert_eq!(cache.bytes(), (2.0 * 6.0 * bytes * f64::from(144 + 130)) as usize);
        }
    }

    #[test]
    fn a_copy_takes_memory_and_is_refused_where_there_is_none() {
        let room = |bytes| Lease::new(&Room::new(Some(bytes)));
        let whole = 2 * (48 + 40) * 6 * 2;
        for (limit, fits) in [(2 * whole, true), (2 * whole - 1, false)] {
            let mut cache = KvCache::new(&LAYOUT, KvFormat::F16).within(&room(limit));
            cache.capacity = 40;
            cache.make_room(40).unwrap();
            for (position, layer) in (0..40).flat_map(|at| (0..2).map(move |layer| (at, layer))) {
                cache.write(layer, position, &[0.5; 6], &[0.5; 6]);
            }
            cache.append(&[TokenId(1); 40]);
            assert_eq!(cache.beginning(40).is_ok(), fits);
            cache.beginning(20).unwrap();
        }
    }

    #[test]
    fn eight_bits_take_little_more_than_half_of_sixteen() {
        let layout = Layout { layers: 3, width: 128, head_dim: 64, capacity: 64 };
        let bytes = |format| {
            let mut cache = KvCache::new(&layout, format);
            for (position, layer) in (0..32).flat_map(|at| (0..3).map(move |layer| (at, layer))) {
                cache.write(layer, position, &[0.5; 128], &[0.5; 128]);
            }
            cache.append(&[TokenId(1); 32]);
            assert_eq!(cache.beginning(32).unwrap().bytes(), cache.bytes());
            cache.bytes()
        };
        assert_eq!(bytes(KvFormat::F16), 3 * 32 * 2 * 128 * 2);
        assert_eq!(bytes(KvFormat::Q8), 3 * 32 * 2 * (128 + 128 / 32 * 2));
    }
}
