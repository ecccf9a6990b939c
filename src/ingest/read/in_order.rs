//! Runs work on items in several threads and returns the results in the order of the items.
//! The total weight of items and results in flight is bounded.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError, mpsc},
};

use crate::{error::Result, ingest::queue::reader_panicked};

/// The largest weight in flight.
const WEIGHT: usize = 32 << 20;

/// Calls `work` on each item from `next`, which also returns the item's weight, and `take` on each result. Ends after the last item,
/// or when `take` returns false.
pub(crate) fn in_order<I: Send, O: Send>(
    tasks: usize,
    mut next: impl FnMut() -> Result<Option<(I, usize)>>,
    work: impl Fn(I) -> Result<O> + Sync,
    mut take: impl FnMut(O) -> Result<bool>,
) -> Result<()> {
    if tasks <= 1 {
        while let Some((item, _)) = next()? {
            if !take(work(item)?)? {
                break;
            }
        }
        return Ok(());
    }
    let (jobs, queue) = mpsc::channel::<(I, mpsc::SyncSender<Result<O>>)>();
    let queue = Mutex::new(queue);
    let worker = || {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((item, done)) = job else { break };
            // Nobody waits for the result if the reading has ended.
            let _ = done.send(work(item));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..tasks).map(|_| scope.spawn(worker)).collect();
        let mut in_flight: VecDeque<(mpsc::Receiver<Result<O>>, usize)> = VecDeque::new();
        let mut weight = 0;
        let mut take_first = |in_flight: &mut VecDeque<(mpsc::Receiver<Result<O>>, usize)>, weight: &mut usize| {
            let Some((result, of_item)) = in_flight.pop_front() else { return Ok(false) };
            *weight -= of_item;
            take(result.recv().map_err(|_| reader_panicked())??)
        };
        let mut read = || {
            while let Some((item, of_item)) = next()? {
                while !in_flight.is_empty() && (in_flight.len() > tasks || weight + of_item > WEIGHT) {
                    if !take_first(&mut in_flight, &mut weight)? {
                        return Ok(());
                    }
                }
                let (done, result) = mpsc::sync_channel(1);
                jobs.send((item, done)).map_err(|_| reader_panicked())?;
                in_flight.push_back((result, of_item));
                weight += of_item;
            }
            while take_first(&mut in_flight, &mut weight)? {}
            Ok(())
        };
        let done = read();
        // The workers end when the channel is closed.
        drop(jobs);
        workers.into_iter().for_each(|worker| drop(worker.join()));
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(tasks: usize, work: impl Fn(u64) -> Result<u64> + Sync, at_most: usize) -> Result<Vec<u64>> {
        let (mut count, mut taken) = (0, Vec::new());
        let next = || {
            count += 1;
            Ok((count <= 1_000).then_some((count, WEIGHT / 3)))
        };
        in_order(tasks, next, work, |number| {
            taken.push(number);
            Ok(taken.len() < at_most)
        })?;
        Ok(taken)
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for tasks in [1, 2, 5] {
            let uneven = |number: u64| Ok((0..number % 7 * 1_000).fold(number, |sum, i| sum ^ i ^ i));
            assert_eq!(numbers(tasks, uneven, usize::MAX).unwrap(), (1..=1_000).collect::<Vec<_>>());
            assert_eq!(numbers(tasks, Ok, 3).unwrap(), [1, 2, 3]);
        }
    }

    #[test]
    fn an_error_or_a_panic_of_one_ends_all() {
        for tasks in [2, 3] {
            let fails = |number| if number == 50 { Err(reader_panicked()) } else { Ok(number) };
            assert!(numbers(tasks, fails, usize::MAX).is_err());
            let panics = |number| if number == 50 { std::panic::resume_unwind(Box::new(())) } else { Ok(number) };
            assert!(numbers(tasks, panics, usize::MAX).unwrap_err().to_string().contains("panicked"));
        }
    }
}
