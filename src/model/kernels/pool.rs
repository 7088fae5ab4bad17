//! The threads that all members share: they spin for a moment after a job, then sleep.
//!
//! Knows no tensors; splits numbered tasks, nothing else.

use std::{
    any::Any,
    cell::UnsafeCell,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// A cheap handle; the threads end with the last one. The caller of a job works on it too, so a
/// pool of one thread spawns none.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

struct Shared {
    /// Held while a job runs. Whoever finds it taken works alone.
    turn: Mutex<()>,
    /// The number of the job, twice, plus `OPEN`, plus the workers inside times `INSIDE`.
    gate: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
}

/// Borrows the caller's closure for as long as the gate is open or a worker is inside.
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    progress: *const Progress,
}

struct Progress {
    tasks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const INSIDE: usize = 1;
const OPEN: usize = 1 << 8;
const NUMBER: usize = 1 << 9;
/// Room for the count of workers below `OPEN`.
const MOST_THREADS: usize = 128;
/// About 20 microseconds: longer than the single-threaded stretches within a forward pass.
const SPINS: usize = 4000;

// SAFETY: `job` is written only by the holder of `turn` while the gate is closed and nobody is
// inside, and read only by workers that are inside.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointers in `job` are used only while what they point to is borrowed by
// `Pool::run`, and both targets are `Sync`.
unsafe impl Send for Shared {}

impl Pool {
    /// At most 128 threads are used.
    ///
    /// # Panics
    /// If the system can start no more threads.
    pub fn new(threads: NonZeroUsize) -> Self {
        let extra = threads.get().min(MOST_THREADS) - 1;
        let shared = Arc::new(Shared {
            turn: Mutex::new(()),
            gate: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            asleep: (0..extra).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
        });
        let workers: Vec<JoinHandle<()>> = (0..extra)
            .map(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("tutti-pool-{}", index + 1))
                    .spawn(move || shared.work(index))
                    .expect("the system starts a thread")
            })
            .collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Self { owner: Arc::new(Owner { shared, workers, handles }) }
    }

    /// As many threads as this process may use at once.
    pub fn with_all_cores() -> Self {
        Self::new(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    pub fn threads(&self) -> usize {
        self.owner.workers.len() + 1
    }

    /// Calls `body` once for each of `0..tasks`, in no order, and returns when all are done. A
    /// pool that is busy (another thread's job, or called from within a job) leaves all of it to
    /// the caller. A panic of a task stops the job and goes on in the caller.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 {
            // No job, so that what the one task runs may be one.
            (0..tasks).for_each(body);
            return;
        }
        let turn = match self.owner.shared.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(std::sync::TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        if self.owner.workers.is_empty() || turn.is_none() {
            (0..tasks).for_each(body);
            return;
        }
        let progress = Progress { tasks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.owner.open(body, &progress);
        progress.work(body);
        self.owner.close();
        drop(turn);
        let panic = progress.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Calls `body` with each item and its index, in no order.
    pub fn for_each<T: Send>(&self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        struct Base<T>(*mut T);
        // SAFETY: every task takes another item, and items may be sent to other threads.
        unsafe impl<T: Send> Sync for Base<T> {}
        let base = Base(items.as_mut_ptr());
        let base = &base;
        self.run(items.len(), &|index| {
            // SAFETY: `index` is below the length, no two tasks have the same one, and `items`
            // stays borrowed until `run` returns.
            body(index, unsafe { &mut *base.0.add(index) });
        });
    }
}

impl Owner {
    fn open(&self, body: &(dyn Fn(usize) + Sync), progress: &Progress) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed; `close` waits until no worker holds the job.
        let body = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(body)
        };
        // SAFETY: the caller holds `turn` and the gate is closed with nobody inside.
        unsafe { *shared.job.get() = Some(Job { body, progress }) };
        let number = shared.gate.load(Ordering::Relaxed) & !(NUMBER - 1);
        shared.gate.store(number.wrapping_add(NUMBER) | OPEN, Ordering::SeqCst);
        for (asleep, handle) in shared.asleep.iter().zip(&self.handles) {
            if asleep.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
    }

    fn close(&self) {
        let gate = &self.shared.gate;
        gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while gate.load(Ordering::Acquire) & (OPEN - 1) != 0 {
            pause(&mut spins);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for handle in &self.handles {
            handle.unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to pass on.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self, index: usize) {
        let mut seen = 0;
        let mut spins = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.enter(&mut seen) {
                // SAFETY: this worker is inside, so the job is set and does not change.
                let job = unsafe { (*self.job.get()).expect("an open gate has a job") };
                // SAFETY: `Pool::run` keeps both alive until no worker is inside.
                unsafe { (*job.progress).work(&*job.body) };
                self.gate.fetch_sub(INSIDE, Ordering::Release);
                spins = 0;
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.sleep(index, seen);
                spins = 0;
            }
        }
    }

    /// Goes inside if there is an open job this worker has not seen yet.
    fn enter(&self, seen: &mut usize) -> bool {
        let gate = self.gate.load(Ordering::Acquire);
        let number = gate / NUMBER;
        if gate & OPEN == 0 || number == *seen {
            return false;
        }
        let entered = self
            .gate
            .compare_exchange(gate, gate + INSIDE, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if entered {
            *seen = number;
        }
        entered
    }

    fn sleep(&self, index: usize, seen: usize) {
        self.asleep[index].store(true, Ordering::SeqCst);
        let gate = self.gate.load(Ordering::SeqCst);
        let idle = gate & OPEN == 0 || gate / NUMBER == seen;
        if idle && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep[index].store(false, Ordering::SeqCst);
    }
}

impl Progress {
    fn work(&self, body: &(dyn Fn(usize) + Sync)) {
        let tasks = || {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= self.tasks {
                    return;
                }
                body(task);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(tasks)) {
            self.next.store(self.tasks, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }
}

/// Spins at first, then lets others run: the thread waited for may not be on a core.
fn pause(spins: &mut usize) {
    if *spins < SPINS {
        *spins += 1;
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = pool(threads);
            for tasks in [0, 1, 2, 3, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_with_sleeps_between_them_are_all_done() {
        let pool = pool(3);
        for job in 0..3000_usize {
            let mut items = [0; 7];
            pool.for_each(&mut items, |index, item| *item = index + job);
            assert_eq!(items, std::array::from_fn(|index| index + job));
            if job % 500 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_task_alone_leaves_the_threads_to_what_it_runs() {
        let pool = pool(2);
        let here = thread::current().id();
        let helped = AtomicBool::new(false);
        pool.run(1, &|_| {
            // Ends when the other thread has taken part, or for good if it never will.
            pool.run(2, &|_| {
                if thread::current().id() != here {
                    helped.store(true, Ordering::Relaxed);
                }
                for _ in 0..2000 {
                    if helped.load(Ordering::Relaxed) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
        });
        assert!(helped.into_inner());
    }

    #[test]
    fn a_panic_of_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let pool = pool(2);
        for bad in [0, 17, 63] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, &|task| assert!(task != bad, "task {bad}"));
            }));
            let message = caught.unwrap_err();
            assert_eq!(message.downcast_ref::<String>().unwrap(), &format!("task {bad}"));
        }
        let mut items = [0; 100];
        pool.for_each(&mut items, |index, item| *item = index);
        assert_eq!(items, std::array::from_fn(|index| index));
    }

    #[test]
    fn jobs_within_jobs_and_from_several_threads_do_not_wait_for_each_other() {
        let pool = pool(2);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| {
                            pool.run(4, &|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 50 * 16);
    }
}
