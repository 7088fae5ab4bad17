//! Memory that is limited, shared by the weights and the caches of all models.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::ModelError;

/// How many bytes there are, and how many are taken.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    taken: AtomicU64,
}

/// Bytes taken of a room, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Lease {
    room: Option<Arc<Room>>,
    bytes: u64,
}

impl Room {
    /// Without a limit it only counts.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit: limit.unwrap_or(u64::MAX), taken: AtomicU64::new(0) })
    }
}

impl Lease {
    /// Of nothing yet.
    pub fn new(room: &Arc<Room>) -> Self {
        Self { room: Some(room.clone()), bytes: 0 }
    }

    /// Of nothing yet, of the same room.
    pub(super) fn another(&self) -> Self {
        Self { room: self.room.clone(), bytes: 0 }
    }

    /// Takes what is missing to so many bytes.
    ///
    /// # Errors
    /// If there is not so much.
    pub fn grow(&mut self, bytes: u64) -> Result<(), ModelError> {
        let more = bytes.saturating_sub(self.bytes);
        if let Some(Room { limit, taken }) = self.room.as_deref() {
            let take = |taken: u64| taken.checked_add(more).filter(|taken| taken <= limit);
            let (done, seen) = (Ordering::AcqRel, Ordering::Acquire);
            taken.fetch_update(done, seen, take).map_err(|taken| ModelError::OutOfMemory {
                wanted: more,
                left: limit.saturating_sub(taken),
            })?;
        }
        self.bytes += more;
        Ok(())
    }
}

impl Clone for Lease {
    /// A copy of what is there is not refused, but what comes after it may be.
    fn clone(&self) -> Self {
        if let Some(room) = &self.room {
            room.taken.fetch_add(self.bytes, Ordering::AcqRel);
        }
        Self { room: self.room.clone(), bytes: self.bytes }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again_and_no_more_than_there_is() {
        let room = Room::new(Some(100));
        let mut one = Lease::new(&room);
        one.grow(60).unwrap();
        one.grow(60).unwrap();
        let mut other = Lease::new(&room);
        let error = other.grow(50).unwrap_err();
        assert!(matches!(error, ModelError::OutOfMemory { wanted: 50, left: 40 }), "{error}");
        drop(one);
        other.grow(50).unwrap();
        let copy = other.clone();
        assert!(Lease::new(&room).grow(1).is_err());
        drop((copy, other));
        Lease::new(&room).grow(100).unwrap();
    }
}
