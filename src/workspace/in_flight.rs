//! Work that several callers want at the same time is done once, and all of them wait for it.
//! What the work is, and whether it was done before, is up to the callers.
//!
//! Whoever waits also drives the work. So it goes on as long as one of the callers is polled, whichever of them began it, and it is
//! dropped with the last of them. No lock is held while it runs.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::{
    error::{Error, Result, panic_text},
    name::ContentId,
};

/// Work that is being done, by the id of its result. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<BTreeMap<ContentId, Weak<dyn Any + Send + Sync>>>>);

/// The work for one id. It lives as long as somebody waits for it.
struct Flight<T>(Shared<BoxFuture<'static, Outcome<T>>>);

type Outcome<T> = Result<T, Failure>;

/// The error of work that failed. One of the callers takes it.
#[derive(Clone)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl InFlight {
    /// The result of the work for this id. Of callers at the same time the first one begins the work.
    ///
    /// If it fails, one of the callers gets the error, and another one begins it again. If a caller is dropped, the others go on with
    /// the same work.
    ///
    /// # Errors
    /// The error of the work, and [`Error::Internal`] when it panics.
    pub(crate) async fn once<T, F>(&self, id: ContentId, work: impl Fn() -> F) -> Result<T>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        loop {
            let flight = self.join(id, &work);
            let outcome = flight.0.clone().await;
            self.land(id, &flight);
            match outcome {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    if let Some(error) = failure.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The work for this id that is being done, or that begins here.
    fn join<T, F>(&self, id: ContentId, work: &impl Fn() -> F) -> Arc<Flight<T>>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running.get(&id).and_then(Weak::upgrade).and_then(|flight| flight.downcast::<Flight<T>>().ok());
        if let Some(flight) = known {
            return flight;
        }
        // Of work whose callers were all dropped.
        running.retain(|_, flight| flight.strong_count() > 0);
        let work = AssertUnwindSafe(work()).catch_unwind().map(move |outcome| {
            let outcome = outcome.unwrap_or_else(|panic| Err(panicked(id, panic.as_ref())));
            outcome.map_err(|error| Failure(Arc::new(Mutex::new(Some(error)))))
        });
        let flight = Arc::new(Flight(work.boxed().shared()));
        let shared: Arc<dyn Any + Send + Sync> = flight.clone();
        running.insert(id, Arc::downgrade(&shared));
        flight
    }

    /// Forgets work that has ended, so that the next caller begins anew.
    fn land<T>(&self, id: ContentId, flight: &Arc<Flight<T>>)
    where
        T: Clone + Send + Sync + 'static,
    {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have begun it again already.
        let is_this = |known: &Weak<dyn Any + Send + Sync>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(flight));
        if running.get(&id).is_some_and(is_this) {
            running.remove(&id);
        }
    }
}

fn panicked(id: ContentId, panic: &(dyn Any + Send)) -> Error {
    let reason = format!("it panicked: {}", panic_text(panic));
    Error::Internal { subject: format!("making {id}"), reason }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
        time::Duration,
    };

    use futures::{future::join_all, poll};
    use tokio::sync::Semaphore;

    use super::*;

    /// Work that counts how often it is begun and dropped, and ends when it is given leave.
    #[derive(Clone)]
    struct Work {
        begun: Arc<AtomicUsize>,
        dropped: Arc<AtomicUsize>,
        leave: Arc<Semaphore>,
        /// The first so many times it fails.
        failures: usize,
    }

    impl Work {
        fn new(failures: usize) -> Self {
            Self { begun: Arc::default(), dropped: Arc::default(), leave: Arc::new(Semaphore::new(0)), failures }
        }

        /// Gives the number of this time, from 1.
        fn run(&self) -> impl Future<Output = Result<usize>> + Send + use<> {
            struct Dropped(Arc<AtomicUsize>);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            let own = self.clone();
            async move {
                let _dropped = Dropped(own.dropped.clone());
                let number = own.begun.fetch_add(1, Ordering::SeqCst) + 1;
                own.leave.acquire().await.unwrap().forget();
                match number <= own.failures {
                    true => Err(Error::Internal { subject: "this work".into(), reason: format!("attempt {number}") }),
                    false => Ok(number),
                }
            }
        }

        fn counts(&self) -> (usize, usize) {
            (self.begun.load(Ordering::SeqCst), self.dropped.load(Ordering::SeqCst))
        }
    }

    fn id(name: &str) -> ContentId {
        ContentId::of(name.as_bytes())
    }

    fn is_empty(flights: &InFlight) -> bool {
        flights.0.lock().unwrap().is_empty()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn callers_at_the_same_time_share_the_work_and_later_ones_begin_anew() {
        let (flights, work) = (InFlight::default(), Work::new(0));
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (flights, work) = (flights.clone(), work.clone());
                tokio::spawn(async move { flights.once(id("a"), || work.run()).await.unwrap() })
            })
            .collect();
        let waiting = || flights.0.lock().unwrap().get(&id("a")).map_or(0, Weak::strong_count);
        while waiting() < calls.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        work.leave.add_permits(1);
        for call in calls {
            assert_eq!(call.await.unwrap(), 1);
        }
        assert!(is_empty(&flights));
        work.leave.add_permits(1);
        assert_eq!(flights.once(id("a"), || work.run()).await.unwrap(), 2);
        assert_eq!(work.counts(), (2, 2));
    }

    #[tokio::test]
    async fn each_failure_is_told_once_and_another_caller_takes_over() {
        let (flights, work) = (InFlight::default(), Work::new(2));
        let mut all = Box::pin(join_all((0..8).map(|_| flights.once(id("a"), || work.run()))));
        for _ in 0..3 {
            assert!(poll!(&mut all).is_pending());
            work.leave.add_permits(1);
        }
        let outcomes = all.await;
        let mut told: Vec<String> = outcomes.iter().filter_map(|o| o.as_ref().err().map(ToString::to_string)).collect();
        told.sort();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("attempt 1") && told[1].contains("attempt 2"), "{told:?}");
        assert!(outcomes.iter().flatten().all(|number| *number == 3));
        assert_eq!(work.counts(), (3, 3));
        assert!(is_empty(&flights));
    }

    #[tokio::test]
    async fn the_work_outlives_whoever_began_it_and_goes_with_the_last_one() {
        let (flights, work) = (InFlight::default(), Work::new(0));
        let (mut first, mut second) =
            (Box::pin(flights.once(id("a"), || work.run())), Box::pin(flights.once(id("a"), || work.run())));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(work.counts(), (1, 0));
        work.leave.add_permits(1);
        assert_eq!(second.await.unwrap(), 1);

        let mut only = Box::pin(flights.once(id("a"), || work.run()));
        assert!(poll!(&mut only).is_pending());
        drop(only);
        assert_eq!(work.counts(), (2, 2));
        work.leave.add_permits(1);
        assert_eq!(flights.once(id("a"), || work.run()).await.unwrap(), 3);
        assert!(is_empty(&flights));
    }

    #[tokio::test]
    async fn a_caller_that_nobody_polls_any_more_holds_up_nobody() {
        let (flights, work) = (InFlight::default(), Work::new(0));
        let mut sleeping = Box::pin(flights.once(id("a"), || work.run()));
        assert!(poll!(&mut sleeping).is_pending());
        work.leave.add_permits(1);
        assert_eq!(flights.once(id("a"), || work.run()).await.unwrap(), 1);
        // It finds the result when it is polled again.
        assert!(matches!(poll!(&mut sleeping), Poll::Ready(Ok(1))));
    }

    #[tokio::test]
    async fn work_for_other_ids_does_not_wait_and_results_of_other_types_are_not_mixed_up() {
        let (flights, work) = (InFlight::default(), Work::new(0));
        let mut waiting = Box::pin(flights.once(id("a"), || work.run()));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(flights.once(id("b"), || async { Ok("b") }).await.unwrap(), "b");
        assert_eq!(flights.once(id("a"), || async { Ok("a") }).await.unwrap(), "a");
        work.leave.add_permits(1);
        assert_eq!(waiting.await.unwrap(), 1);
        assert!(is_empty(&flights));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_caller_begins_anew() {
        let flights = InFlight::default();
        async fn broken() -> Result<i32> {
            panic!("no such zone")
        }
        let broken = flights.once(id("a"), broken).await.unwrap_err();
        assert!(matches!(&broken, Error::Internal { reason, .. } if reason.contains("no such zone")), "{broken}");
        assert_eq!(flights.once(id("a"), || async { Ok(7) }).await.unwrap(), 7);
    }
}
