//! The memory of a running operator, reserved from the session's memory pool.
//! It counts bytes; it does not allocate.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use datafusion::{
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_plan::metrics::Gauge,
};

use crate::error::{Error, Result};

/// The bytes that an operator holds.
pub(crate) struct Budget {
    operator: &'static str,
    reservation: Mutex<MemoryReservation>,
    peak: Gauge,
    held: AtomicUsize,
}

impl Budget {
    pub(super) fn new(operator: &'static str, context: &TaskContext, peak: Gauge) -> Self {
        let reservation = MemoryConsumer::new(operator).register(context.memory_pool());
        Self { operator, reservation: Mutex::new(reservation), peak, held: AtomicUsize::new(0) }
    }

    /// No memory yet, from the same pool as this one.
    pub(super) fn another(&self) -> Self {
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner).new_empty();
        Self { operator: self.operator, reservation: Mutex::new(reservation), peak: self.peak.clone(), held: AtomicUsize::new(0) }
    }

    /// Reserves more.
    ///
    /// # Errors
    /// [`Error::Memory`] if the pool refuses it. `subject` is what the memory is for.
    pub(crate) fn grow(&self, subject: &str, bytes: usize) -> Result<()> {
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        reservation.try_grow(bytes).map_err(|e| Error::Memory {
            operator: self.operator,
            subject: subject.into(),
            needed: bytes,
            held: reservation.size(),
            reason: e.strip_backtrace(),
        })?;
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.set_max(held);
        Ok(())
    }

    /// Releases some.
    pub(crate) fn shrink(&self, bytes: usize) {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner).shrink(bytes);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
