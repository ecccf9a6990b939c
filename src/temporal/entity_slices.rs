//! Windows slide over the cells of one entity: cells enter, cells leave, and at each slot the aggregates are read.
//! Nothing is approximated: what entered is taken out again exactly, or looked at anew.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
};

use super::{
    ExactSum,
    aggregate::{AggregateKind, Fraction},
    integer::Integer,
    quantile::{Fenwick, quantile},
    ratio::decimal_mean,
    result_columns::{Column, Nullable, Output},
    slices::{Cells, Dated, Gathered, compare_dated, distinct},
    sort_keys::{Encoding, ValueDictionary},
    value_log::Logs,
    variance::{FloatMoments, IntegerMoments, Moments},
    window::Plan,
};

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
    texts: &'a [ValueDictionary],
    tie_texts: &'a [ValueDictionary],
    logs: &'a Logs,
    stays: Vec<Stay>,
    leaving: Vec<u32>,
}

impl<'a> Entity<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        cells: &'a [Cells],
        logs: &'a Logs,
        texts: &'a [ValueDictionary],
        tie_texts: &'a [ValueDictionary],
    ) -> Self {
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
            (AggregateKind::Count, Column::Counts(results)) => {
                let mut count = 0i64;
                self.each(slots, |step| match step {
                    Step::Enter(i) => count += i64::from(self.counts(output, i)),
                    Step::Leave(i) => count -= i64::from(self.counts(output, i)),
                    Step::Slot(_) => results.push(count),
                });
            }
            (AggregateKind::Sum, Column::Decimals(results)) => self.slide_decimals(output, slots, |total, _| results.push(total)),
            (AggregateKind::Mean, Column::Numbers(results)) if self.lane(output) == Encoding::RawDecimal => {
                self.slide_decimals(output, slots, |total, count| {
                    results.push(total.map(|total| decimal_mean(&total, output.scale, count)));
                });
            }
            (AggregateKind::Sum | AggregateKind::Mean, Column::Numbers(results)) => self.slide_sum(output, slots, results),
            (AggregateKind::Variance | AggregateKind::Stddev, Column::Numbers(results)) => match self.lane(output) {
                Encoding::Float => self.slide_squares(output, slots, results, |gathered, cell| match gathered {
                    Gathered::Squares(cells) => cells.get(cell),
                    _ => None::<&(FloatMoments, u32)>,
                }),
                Encoding::RawDecimal => self.slide_squares(output, slots, results, |gathered, cell| match gathered {
                    Gathered::DecimalSquares(cells) => cells.get(cell),
                    _ => None::<&(IntegerMoments<5, 9>, u32)>,
                }),
                _ => self.slide_squares(output, slots, results, |gathered, cell| match gathered {
                    Gathered::IntegerSquares(cells) => cells.get(cell),
                    _ => None::<&(IntegerMoments<3, 3>, u32)>,
                }),
            },
            (AggregateKind::Min | AggregateKind::Max | AggregateKind::First | AggregateKind::Last, Column::Values(results)) => {
                self.slide_extreme(output, slots, results);
            }
            (AggregateKind::CountDistinct, Column::Counts(results)) => {
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
            (AggregateKind::Quantile(Fraction(q)), Column::Numbers(results)) => {
                let (ranks, found) = self.ranked_values(output, |_, value| value);
                let lane = self.lane(output);
                // Decimals come in units of their last digit, or as floats where they have too many digits.
                let scale = if lane == Encoding::Decimal64 { output.scale } else { 0 };
                let mut counts = Fenwick::new(found.len());
                self.each(slots, |step| match step {
                    Step::Enter(i) => ranks.of(i).iter().for_each(|&rank| counts.add(rank as usize, 1)),
                    Step::Leave(i) => ranks.of(i).iter().for_each(|&rank| counts.add(rank as usize, -1)),
                    Step::Slot(_) => results.push(quantile(&counts, q, scale, |rank| lane.number(found[rank]))),
                });
            }
            (AggregateKind::LastK(k), Column::Lists { ends, valid, items }) => {
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
                        ends.push(items.len());
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
            while self.stays.get(entered).is_some_and(|stay| stay.enter <= slot) {
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
            (Gathered::DecimalSum(cells), cell) => cells[cell].1,
            (Gathered::Squares(cells), cell) => cells[cell].1,
            (Gathered::IntegerSquares(cells), cell) => cells[cell].1,
            (Gathered::DecimalSquares(cells), cell) => cells[cell].1,
            _ => 0,
        }
    }

    fn lane(&self, output: &Output) -> Encoding {
        output.input.map_or(Encoding::Presence, |input| self.plan.lane(input))
    }

    /// The texts of an input's column.
    fn texts(&self, input: usize) -> &ValueDictionary {
        &self.texts[self.plan.inputs[input].column]
    }

    fn slide_sum(&self, output: &Output, slots: Range<u32>, results: &mut Nullable<f64>) {
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
                AggregateKind::Mean => total.mean(count),
                _ => total.value(),
            })),
        });
    }

    /// Calls `to` at each slot with the sum of the decimals in the window, if there are any, and with their count.
    fn slide_decimals(&self, output: &Output, slots: Range<u32>, mut to: impl FnMut(Option<Integer<5>>, u64)) {
        let (mut count, mut total) = (0u64, Integer::<5>::default());
        self.each(slots, |step| match step {
            Step::Enter(i) => {
                if let (Gathered::DecimalSum(cells), cell) = self.gathered(output, i) {
                    count += u64::from(cells[cell].1);
                    total.add(&cells[cell].0);
                }
            }
            Step::Leave(i) => {
                if let (Gathered::DecimalSum(cells), cell) = self.gathered(output, i) {
                    count -= u64::from(cells[cell].1);
                    total.subtract(&cells[cell].0);
                }
            }
            Step::Slot(_) => to((count > 0).then_some(total), count),
        });
    }

    fn slide_squares<M: Moments + 'a>(
        &self,
        output: &Output,
        slots: Range<u32>,
        results: &mut Nullable<f64>,
        of: impl for<'g> Fn(&'g Gathered, usize) -> Option<&'g (M, u32)>,
    ) {
        let (mut count, mut moments) = (0u64, M::default());
        self.each(slots, |step| match step {
            Step::Enter(i) => {
                let (gathered, cell) = self.gathered(output, i);
                if let Some((own, values)) = of(gathered, cell) {
                    count += u64::from(*values);
                    moments.merge(own);
                }
            }
            Step::Leave(i) => {
                let (gathered, cell) = self.gathered(output, i);
                if let Some((own, values)) = of(gathered, cell) {
                    count -= u64::from(*values);
                    match count {
                        0 => moments = M::default(),
                        _ => moments.unmerge(own),
                    }
                }
            }
            Step::Slot(_) => results.push((count > 1).then(|| match (output.kind, moments.variance(count, output.scale)) {
                (_, None) => f64::NAN,
                (AggregateKind::Stddev, Some(variance)) => variance.square_root(),
                (_, Some(variance)) => variance.value(),
            })),
        });
    }

    /// Minimum, maximum, first and last: the best of the cells in the window.
    fn slide_extreme(&self, output: &Output, slots: Range<u32>, results: &mut Nullable<u64>) {
        let is_least = matches!(output.kind, AggregateKind::Min | AggregateKind::First);
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
                (Some(x), Some(y)) => self.texts(input).compare(self.plan.lane(input), x, y),
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
        compare_dated(self.plan, input, self.texts(input), &|i| &self.tie_texts[i], (a, ties.0), (b, ties.1))
    }

    /// The values of each cell, as ranks among the different values of the entity.
    fn ranked_values(&self, output: &Output, same: impl Fn(Encoding, u64) -> u64) -> (Ranks, Vec<u64>) {
        let input = output.input.unwrap_or_default();
        let (lane, texts) = (self.plan.lane(input), self.texts(input));
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
