//! Work on items that is done by several threads, and its results in the order of the items.
//! It holds a bounded weight of items and results; what they are, it does not know.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError, mpsc},
};

use crate::{error::Result, ingest::queue::reader_panicked};

/// The weight of what is under way at once.
const WEIGHT: usize = 32 << 20;

/// Takes the results of `work` on each item that `next` yields with its weight, until there are no more or `take` says no.
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
            // Nobody waits for it when the reading has ended.
            let _ = done.send(work(item));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..tasks).map(|_| scope.spawn(worker)).collect();
        let mut under_way: VecDeque<(mpsc::Receiver<Result<O>>, usize)> = VecDeque::new();
        let mut weight = 0;
        let mut take_first = |under_way: &mut VecDeque<(mpsc::Receiver<Result<O>>, usize)>, weight: &mut usize| {
            let Some((result, of_item)) = under_way.pop_front() else { return Ok(false) };
            *weight -= of_item;
            take(result.recv().map_err(|_| reader_panicked())??)
        };
        let mut read = || {
            while let Some((item, of_item)) = next()? {
                while !under_way.is_empty() && (under_way.len() > tasks || weight + of_item > WEIGHT) {
                    if !take_first(&mut under_way, &mut weight)? {
                        return Ok(());
                    }
                }
                let (done, result) = mpsc::sync_channel(1);
                jobs.send((item, done)).map_err(|_| reader_panicked())?;
                under_way.push_back((result, of_item));
                weight += of_item;
            }
            while take_first(&mut under_way, &mut weight)? {}
            Ok(())
        };
        let done = read();
        // The workers end when no job can come any more.
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
