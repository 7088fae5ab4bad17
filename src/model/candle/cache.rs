//! Keys and values of one sequence on a device.

use std::sync::Arc;

use candle_core::{Result, Tensor};

/// Of one layer. Copies share what there is until one of them is written to.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct DeviceLayer(Option<Arc<Pair>>);

/// `[kv_heads, room, head_dim]` each.
#[derive(Debug)]
struct Pair {
    keys: Tensor,
    values: Tensor,
}

impl DeviceLayer {
    /// Sets keys and values from `position` on and returns those of all positions up to the last
    /// one set. Room is made for more, but not for more than `capacity`.
    pub(super) fn write(
        &mut self,
        position: usize,
        (keys, values): (&Tensor, &Tensor),
        capacity: usize,
    ) -> Result<(Tensor, Tensor)> {
        let end = position + keys.dim(1)?;
        let mine = self.0.as_mut().and_then(Arc::get_mut);
        let fits = match mine {
            Some(pair) => pair.keys.dim(1)? >= end,
            None => false,
        };
        if !fits {
            let room = (2 * position).max(64).min(capacity).max(end);
            let old = self.0.as_deref();
            let keys = moved(old.map(|pair| &pair.keys), position, (keys, room))?;
            let values = moved(old.map(|pair| &pair.values), position, (values, room))?;
            self.0 = Some(Arc::new(Pair { keys, values }));
        }
        let pair = self.0.as_deref().expect("there is room, or it was made");
        pair.keys.slice_set(keys, 1, position)?;
        pair.values.slice_set(values, 1, position)?;
        Ok((pair.keys.narrow(1, 0, end)?, pair.values.narrow(1, 0, end)?))
    }
}

/// The first positions of an old tensor in a new one of more room, whose other sizes are those of
/// what will be added.
fn moved(old: Option<&Tensor>, positions: usize, (like, room): (&Tensor, usize)) -> Result<Tensor> {
    let (heads, _, head_dim) = like.dims3()?;
    let new = Tensor::zeros((heads, room, head_dim), like.dtype(), like.device())?;
    if let Some(old) = old
        && positions > 0
    {
        new.slice_set(&old.narrow(1, 0, positions)?.contiguous()?, 1, 0)?;
    }
    Ok(new)
}
