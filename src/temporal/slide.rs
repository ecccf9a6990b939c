//! Windows slide over the cells of one entity: cells enter, cells leave, and at each slot the aggregates are read.
//! Nothing is approximated: what entered is taken out again exactly, or looked at anew.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::DataType,
};

use super::{
    ExactSum,
    aggregate::{Fraction, Kind},
    cells::{Cells, Dated, Gathered, compare_dated, distinct},
    lanes::{Lane, Texts, pattern, values},
    window::{Plan, is_list, item_of},
};
use crate::error::Result;

/// One output of a question.
pub(super) struct Output {
    pub(super) kind: Kind,
    pub(super) span: usize,
    pub(super) gather: usize,
    pub(super) input: Option<usize>,
    pub(super) data_type: DataType,
}

/// Results by slot, while they are made.
pub(super) enum Column {
    Counts(Vec<i64>),
    Numbers(Vec<Option<f64>>),
    Values(Vec<Option<u64>>),
    Lists { ends: Vec<i32>, valid: Vec<bool>, items: Vec<u64> },
}

impl Column {
    pub(super) fn new(output: &Output, slots: usize) -> Self {
        match output.kind {
            Kind::Count | Kind::CountDistinct => Column::Counts(Vec::with_capacity(slots)),
            Kind::Sum | Kind::Mean | Kind::Variance | Kind::Stddev | Kind::Quantile(_) => {
                Column::Numbers(Vec::with_capacity(slots))
            }
            kind if is_list(kind) => Column::Lists { ends: Vec::new(), valid: Vec::new(), items: Vec::new() },
            _ => Column::Values(Vec::with_capacity(slots)),
        }
    }

    pub(super) fn append(&mut self, part: Column) {
        match (self, part) {
            (Column::Counts(all), Column::Counts(part)) => all.extend(part),
            (Column::Numbers(all), Column::Numbers(part)) => all.extend(part),
            (Column::Values(all), Column::Values(part)) => all.extend(part),
            (Column::Lists { ends, valid, items }, Column::Lists { ends: e, valid: v, items: i }) => {
                let first = items.len() as i32;
                ends.extend(e.into_iter().map(|end| end + first));
                valid.extend(v);
                items.extend(i);
            }
            _ => {}
        }
    }

    /// What a slot gets that sees no fact.
    pub(super) fn push_nothing(&mut self) {
        match self {
            Column::Counts(counts) => counts.push(0),
            Column::Numbers(numbers) => numbers.push(None),
            Column::Values(values) => values.push(None),
            Column::Lists { ends, valid, items } => {
                ends.push(items.len() as i32);
                valid.push(false);
            }
        }
    }

    pub(super) fn into_array(self, lane: Lane, data_type: &DataType, texts: &Texts) -> Result<ArrayRef> {
        Ok(match self {
            Column::Counts(counts) => Arc::new(Int64Array::from(counts)),
            Column::Numbers(numbers) => Arc::new(Float64Array::from(numbers)),
            Column::Values(found) => {
                let nulls = NullBuffer::from_iter(found.iter().map(Option::is_some));
                let patterns: Vec<u64> = found.into_iter().map(Option::unwrap_or_default).collect();
                values(lane, data_type, &patterns, Some(nulls), texts)?
            }
            Column::Lists { ends, valid, items } => {
                let item = item_of(data_type);
                let items = values(lane, item.data_type(), &items, None, texts)?;
                let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
                Arc::new(ListArray::try_new(item, offsets, items, Some(NullBuffer::from(valid)))?)
            }
        })
    }
}

/// Where a cell lies: which task's, and which of them.
type Place = (u32, u32);

/// A cell in the order in which cells enter: its first slot, and the first that sees it no longer.
#[derive(Clone, Copy)]
struct Stay {
    enter: u32,
    leave: u32,
    place: Place,
}

/// Answers one entity after the other; keeps its buffers.
pub(super) struct Entity<'a> {
    plan: &'a Plan,
    cells: &'a [Cells],
    texts: &'a [Texts],
    tie_texts: &'a [Texts],
    logs: &'a Logs,
    stays: Vec<Stay>,
    leaving: Vec<u32>,
}

/// Where the values of each cell of a task lie in its log.
struct ByCell {
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl ByCell {
    fn new(cells: usize, log: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0u32; cells + 1];
        log.clone().for_each(|cell| starts[cell as usize + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; starts.last().copied().unwrap_or(0) as usize];
        for (i, cell) in log.enumerate() {
            order[next[cell as usize] as usize] = i as u32;
            next[cell as usize] += 1;
        }
        Self { starts, order }
    }

    fn of(&self, cell: u32) -> &[u32] {
        &self.order[self.starts[cell as usize] as usize..self.starts[cell as usize + 1] as usize]
    }
}

/// For each gathering that holds all values, where those of each cell lie; made once, shared by all answering tasks.
pub(super) struct Logs(Vec<Vec<ByCell>>);

impl Logs {
    pub(super) fn new(plan: &Plan, cells: &[Cells]) -> Self {
        let logs = (0..plan.gathers.len()).map(|g| {
            let by_task = cells.iter().map(|cells| match &cells.gathered[g] {
                Gathered::Values(log) => ByCell::new(cells.entity.len(), log.iter().map(|(cell, _)| *cell)),
                Gathered::Ordered(log) => ByCell::new(cells.entity.len(), log.iter().map(|(cell, _)| *cell)),
                _ => ByCell::new(0, std::iter::empty()),
            });
            by_task.collect()
        });
        Self(logs.collect())
    }
}

impl<'a> Entity<'a> {
    pub(super) fn new(plan: &'a Plan, cells: &'a [Cells], logs: &'a Logs, texts: &'a [Texts], tie_texts: &'a [Texts]) -> Self {
        Self { plan, cells, logs, texts, tie_texts, stays: Vec::new(), leaving: Vec::new() }
    }

    /// Appends the results of an entity's slots to the columns.
    pub(super) fn answer(&mut self, slots: Range<u32>, places: &[Place], columns: &mut [Column]) {
        for span in 0..self.plan.spans.len() {
            self.lay_out(span, places);
            for (output, column) in self.plan.outputs.iter().zip(columns.iter_mut()).filter(|(o, _)| o.span == span) {
                self.slide(output, slots.clone(), column);
            }
        }
    }

    /// The cells that lie in a window of this length, in the order in which they enter; and in which they leave.
    fn lay_out(&mut self, span: usize, places: &[Place]) {
        let Self { cells, stays, leaving, .. } = self;
        stays.clear();
        stays.extend(places.iter().filter_map(|&place| {
            let of = &cells[place.0 as usize];
            let (enter, leave) = (of.enter(place.1), of.leaves(place.1)[span]);
            (enter < leave).then_some(Stay { enter, leave, place })
        }));
        if !stays.is_sorted_by_key(|stay| stay.enter) {
            stays.sort_unstable_by_key(|stay| (stay.enter, stay.place));
        }
        leaving.clear();
        leaving.extend(0..stays.len() as u32);
        if !stays.is_sorted_by_key(|stay| stay.leave) {
            leaving.sort_unstable_by_key(|&i| (stays[i as usize].leave, i));
        }
    }

    fn slide(&self, output: &Output, slots: Range<u32>, column: &mut Column) {
        match (output.kind, column) {
            (Kind::Count, Column::Counts(results)) => {
                let mut count = 0i64;
                self.each(slots, |step| match step {
                    Step::Enter(i) => count += i64::from(self.counts(output, i)),
                    Step::Leave(i) => count -= i64::from(self.counts(output, i)),
                    Step::Slot(_) => results.push(count),
                });
            }
            (Kind::Sum | Kind::Mean, Column::Numbers(results)) => self.slide_sum(output, slots, results),
            (Kind::Variance | Kind::Stddev, Column::Numbers(results)) => self.slide_squares(output, slots, results),
            (Kind::Min | Kind::Max | Kind::First | Kind::Last, Column::Values(results)) => {
                self.slide_extreme(output, slots, results);
            }
            (Kind::CountDistinct, Column::Counts(results)) => {
                let (ranks, found) = self.ranked_values(output, distinct);
                let mut counts = vec![0u32; found.len()];
                let mut different = 0i64;
                self.each(slots, |step| match step {
                    Step::Enter(i) => {
                        for &rank in ranks.of(i) {
                            different += i64::from(counts[rank as usize] == 0);
                            counts[rank as usize] += 1;
                        }
                    }
                    Step::Leave(i) => {
                        for &rank in ranks.of(i) {
                            counts[rank as usize] -= 1;
                            different -= i64::from(counts[rank as usize] == 0);
                        }
                    }
                    Step::Slot(_) => results.push(different),
                });
            }
            (Kind::Quantile(Fraction(q)), Column::Numbers(results)) => {
                let (ranks, found) = self.ranked_values(output, |_, value| value);
                let lane = output.input.map_or(Lane::Float, |i| self.plan.inputs[i].lane);
                let mut counts = Fenwick::new(found.len());
                self.each(slots, |step| match step {
                    Step::Enter(i) => ranks.of(i).iter().for_each(|&rank| counts.add(rank as usize, 1)),
                    Step::Leave(i) => ranks.of(i).iter().for_each(|&rank| counts.add(rank as usize, -1)),
                    Step::Slot(_) => results.push(quantile(&counts, q, |rank| {
                        let (high, low) = lane.number(found[rank]);
                        high + low
                    })),
                });
            }
            (Kind::LastK(k), Column::Lists { ends, valid, items }) => {
                let (ranks, found) = self.ranked_dated(output);
                let mut seen: BTreeSet<u32> = BTreeSet::new();
                self.each(slots, |step| match step {
                    Step::Enter(i) => seen.extend(ranks.of(i)),
                    Step::Leave(i) => ranks.of(i).iter().for_each(|rank| {
                        seen.remove(rank);
                    }),
                    Step::Slot(_) => {
                        let first = items.len();
                        items.extend(seen.iter().rev().take(k).map(|&rank| found[rank as usize]));
                        items[first..].reverse();
                        ends.push(items.len() as i32);
                        valid.push(items.len() > first);
                    }
                });
            }
            _ => {}
        }
    }

    /// Cells enter, cells leave, slots are read, in the order of time.
    #[inline]
    fn each(&self, slots: Range<u32>, mut to: impl FnMut(Step)) {
        let (mut entered, mut left) = (0, 0);
        for slot in slots {
            while let Some(stay) = self.stays.get(entered).filter(|stay| stay.enter <= slot) {
                let _ = stay;
                to(Step::Enter(entered));
                entered += 1;
            }
            while let Some(&i) = self.leaving.get(left).filter(|&&i| self.stays[i as usize].leave <= slot) {
                to(Step::Leave(i as usize));
                left += 1;
            }
            to(Step::Slot(slot));
        }
    }

    fn gathered(&self, output: &Output, i: usize) -> (&Gathered, usize) {
        let (task, cell) = self.stays[i].place;
        (&self.cells[task as usize].gathered[output.gather], cell as usize)
    }

    fn counts(&self, output: &Output, i: usize) -> u32 {
        match self.gathered(output, i) {
            (Gathered::Count(counts), cell) => counts[cell],
            (Gathered::Sum(cells), cell) => cells[cell].1,
            (Gathered::Squares(cells), cell) => cells[cell].2,
            _ => 0,
        }
    }

    fn slide_sum(&self, output: &Output, slots: Range<u32>, results: &mut Vec<Option<f64>>) {
        let (mut count, mut total) = (0u64, ExactSum::default());
        self.each(slots, |step| match step {
            Step::Enter(i) => {
                if let (Gathered::Sum(cells), cell) = self.gathered(output, i) {
                    count += u64::from(cells[cell].1);
                    total.merge(&cells[cell].0);
                }
            }
            Step::Leave(i) => {
                if let (Gathered::Sum(cells), cell) = self.gathered(output, i) {
                    count -= u64::from(cells[cell].1);
                    if count == 0 {
                        total = ExactSum::default();
                    } else {
                        total.unmerge(&cells[cell].0);
                    }
                }
            }
            Step::Slot(_) => results.push((count > 0).then(|| match output.kind {
                Kind::Mean => total.mean(count),
                _ => total.value(),
            })),
        });
    }

    fn slide_squares(&self, output: &Output, slots: Range<u32>, results: &mut Vec<Option<f64>>) {
        let (mut count, mut sum, mut squares) = (0u64, ExactSum::default(), ExactSum::default());
        self.each(slots, |step| match step {
            Step::Enter(i) => {
                if let (Gathered::Squares(cells), cell) = self.gathered(output, i) {
                    count += u64::from(cells[cell].2);
                    sum.merge(&cells[cell].0);
                    squares.merge(&cells[cell].1);
                }
            }
            Step::Leave(i) => {
                if let (Gathered::Squares(cells), cell) = self.gathered(output, i) {
                    count -= u64::from(cells[cell].2);
                    sum.unmerge(&cells[cell].0);
                    squares.unmerge(&cells[cell].1);
                    if count == 0 {
                        (sum, squares) = (ExactSum::default(), ExactSum::default());
                    }
                }
            }
            Step::Slot(_) => results.push((count > 1).then(|| {
                let variance = variance(count, &sum, &squares);
                if output.kind == Kind::Stddev { variance.sqrt() } else { variance }
            })),
        });
    }

    /// Minimum, maximum, first and last: the best of the cells in the window.
    fn slide_extreme(&self, output: &Output, slots: Range<u32>, results: &mut Vec<Option<u64>>) {
        let is_least = matches!(output.kind, Kind::Min | Kind::First);
        let compare = |a: usize, b: usize| {
            let order = self.compare_best(output, a, b);
            if is_least { order.reverse() } else { order }
        };
        let value = |i: usize| self.best(output, i);
        if self.stays.is_sorted_by_key(|stay| stay.leave) {
            // What enters later leaves later: whoever is beaten by a later one will never be the best again.
            let mut line: VecDeque<usize> = VecDeque::new();
            self.each(slots, |step| match step {
                Step::Enter(i) => {
                    if value(i).is_some() {
                        while line.back().is_some_and(|&back| compare(back, i).is_le()) {
                            line.pop_back();
                        }
                        line.push_back(i);
                    }
                }
                Step::Leave(i) => {
                    if line.front() == Some(&i) {
                        line.pop_front();
                    }
                }
                Step::Slot(_) => results.push(line.front().and_then(|&i| value(i))),
            });
            return;
        }
        let mut order: Vec<usize> = (0..self.stays.len()).filter(|&i| value(i).is_some()).collect();
        order.sort_by(|&a, &b| compare(a, b));
        let mut rank = vec![0usize; self.stays.len()];
        order.iter().enumerate().for_each(|(r, &i)| rank[i] = r);
        let mut heap: BinaryHeap<(usize, usize)> = BinaryHeap::new();
        self.each(slots, |step| match step {
            Step::Enter(i) => {
                if value(i).is_some() {
                    heap.push((rank[i], i));
                }
            }
            Step::Leave(_) => {}
            Step::Slot(slot) => {
                while heap.peek().is_some_and(|&(_, i)| self.stays[i].leave <= slot) {
                    heap.pop();
                }
                results.push(heap.peek().and_then(|&(_, i)| value(i)));
            }
        });
    }

    fn best(&self, output: &Output, i: usize) -> Option<u64> {
        match self.gathered(output, i) {
            (Gathered::Extreme(values), cell) => values[cell],
            (Gathered::Dated(values), cell) => values[cell].map(|dated| dated.value),
            _ => None,
        }
    }

    fn compare_best(&self, output: &Output, a: usize, b: usize) -> Ordering {
        let input = output.input.unwrap_or_default();
        match (self.gathered(output, a), self.gathered(output, b)) {
            ((Gathered::Extreme(x), i), (Gathered::Extreme(y), j)) => match (x[i], y[j]) {
                (Some(x), Some(y)) => self.texts[input].compare(self.plan.inputs[input].lane, x, y),
                (x, y) => x.is_some().cmp(&y.is_some()),
            },
            ((Gathered::Dated(x), i), (Gathered::Dated(y), j)) => match (&x[i], &y[j]) {
                (Some(x), Some(y)) => self.compare_dated(input, (self.stays[a].place.0, x), (self.stays[b].place.0, y)),
                (x, y) => x.is_some().cmp(&y.is_some()),
            },
            _ => Ordering::Equal,
        }
    }

    fn compare_dated(&self, input: usize, (task_a, a): (u32, &Dated), (task_b, b): (u32, &Dated)) -> Ordering {
        let ties = (self.cells[task_a as usize].ties_of(a), self.cells[task_b as usize].ties_of(b));
        compare_dated(self.plan, input, &self.texts[input], &|i| &self.tie_texts[i], (a, ties.0), (b, ties.1))
    }

    /// The values of each cell, as ranks among the different values of the entity.
    fn ranked_values(&self, output: &Output, same: impl Fn(Lane, u64) -> u64) -> (Ranks, Vec<u64>) {
        let input = output.input.unwrap_or_default();
        let (lane, texts) = (self.plan.inputs[input].lane, &self.texts[input]);
        let (mut starts, mut all) = (vec![0], Vec::new());
        for stay in &self.stays {
            let (task, cell) = stay.place;
            if let Gathered::Values(log) = &self.cells[task as usize].gathered[output.gather] {
                let by_cell = &self.logs.0[output.gather][task as usize];
                all.extend(by_cell.of(cell).iter().map(|&i| same(lane, log[i as usize].1)));
            }
            starts.push(all.len());
        }
        let mut found = all.clone();
        found.sort_unstable_by(|&a, &b| texts.compare(lane, a, b));
        found.dedup();
        let rank = |value: &u64| found.binary_search_by(|known| texts.compare(lane, *known, *value)).unwrap_or(0) as u32;
        let ranks = all.iter().map(rank).collect();
        (Ranks { starts, ranks }, found)
    }

    /// The values of each cell, as ranks from the oldest to the newest fact of the entity.
    fn ranked_dated(&self, output: &Output) -> (Ranks, Vec<u64>) {
        let input = output.input.unwrap_or_default();
        let (mut starts, mut all) = (vec![0], Vec::new());
        for stay in &self.stays {
            let (task, cell) = stay.place;
            if let Gathered::Ordered(log) = &self.cells[task as usize].gathered[output.gather] {
                let by_cell = &self.logs.0[output.gather][task as usize];
                all.extend(by_cell.of(cell).iter().map(|&i| (task, log[i as usize].1)));
            }
            starts.push(all.len());
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| self.compare_dated(input, (all[a].0, &all[a].1), (all[b].0, &all[b].1)));
        let mut ranks = vec![0; all.len()];
        order.iter().enumerate().for_each(|(rank, &i)| ranks[i] = rank as u32);
        (Ranks { starts, ranks }, order.iter().map(|&i| all[i].1.value).collect())
    }
}

enum Step {
    Enter(usize),
    Leave(usize),
    Slot(u32),
}

/// Ranks of the values of each cell of an entity.
struct Ranks {
    starts: Vec<usize>,
    ranks: Vec<u32>,
}

impl Ranks {
    fn of(&self, i: usize) -> &[u32] {
        &self.ranks[self.starts[i]..self.starts[i + 1]]
    }
}

/// The variance of a sample from exact sums: (n Σx² - (Σx)²) / (n (n - 1)), in doubled precision until the division.
fn variance(count: u64, sum: &ExactSum, squares: &ExactSum) -> f64 {
    let ((s, s_low), (q, q_low)) = (sum.parts(), squares.parts());
    if !s.is_finite() || !q.is_finite() {
        return f64::NAN;
    }
    let n = count as f64;
    // n q - s², each product with what rounding takes from it.
    let (product, square) = (n * q, s * s);
    let low = n.mul_add(q, -product) + n * q_low - s.mul_add(s, -square) - 2.0 * s * s_low;
    ((product - square + low) / (n * (n - 1.0))).max(0.0)
}

/// Linear between the neighbours of position q (n - 1).
fn quantile(counts: &Fenwick, q: f64, value: impl Fn(usize) -> f64) -> Option<f64> {
    let last = counts.total.checked_sub(1)?;
    let position = q * last as f64;
    let below = (position.floor() as u64).min(last);
    let low = value(counts.rank_at(below));
    let part = position - below as f64;
    if part == 0.0 {
        return Some(low);
    }
    let high = value(counts.rank_at(below + 1));
    // Equal neighbours, infinities too, need no way between them.
    Some(if pattern(low) == pattern(high) { low } else { low * (1.0 - part) + high * part })
}

/// How many values of each rank there are, with prefix sums in logarithmic time: P. M. Fenwick, *A New Data Structure for
/// Cumulative Frequency Tables*, 1994.
struct Fenwick {
    sums: Vec<i64>,
    total: u64,
}

impl Fenwick {
    fn new(ranks: usize) -> Self {
        Self { sums: vec![0; ranks + 1], total: 0 }
    }

    fn add(&mut self, rank: usize, times: i64) {
        self.total = self.total.wrapping_add_signed(times);
        let mut i = rank + 1;
        while i < self.sums.len() {
            self.sums[i] += times;
            i += i & i.wrapping_neg();
        }
    }

    /// The rank of the value at this place in the order of values.
    fn rank_at(&self, place: u64) -> usize {
        let (mut at, mut left) = (0, place as i64);
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if at + step < self.sums.len() && self.sums[at + step] <= left {
                at += step;
                left -= self.sums[at];
            }
            step /= 2;
        }
        at.min(self.sums.len().saturating_sub(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_found_by_place_after_any_changes() {
        let mut counts = Fenwick::new(5);
        for rank in [3, 0, 3, 4] {
            counts.add(rank, 1);
        }
        assert_eq!((0..4).map(|place| counts.rank_at(place)).collect::<Vec<_>>(), [0, 3, 3, 4]);
        counts.add(3, -1);
        assert_eq!((0..3).map(|place| counts.rank_at(place)).collect::<Vec<_>>(), [0, 3, 4]);
    }

    #[test]
    fn a_variance_survives_a_mean_far_from_zero() {
        let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
        for x in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 4.0] {
            let square: f64 = x * x;
            sum.add(x);
            squares.add(square);
            squares.add(f64::mul_add(x, x, -square));
        }
        assert_eq!(variance(4, &sum, &squares), 5.0 / 3.0);
    }
}
