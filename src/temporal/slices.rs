//! The cells of one task: what is gathered of the facts in each, column by column.
//! It adds facts to cells; which windows a cell lies in is the business of `entity_slices`.

use std::cmp::Ordering;

use arrow::buffer::{NullBuffer, ScalarBuffer};

use super::{
    ExactSum,
    aggregate::AggregateKind,
    fact_input::FactChunk,
    integer::Integer,
    sort_keys::{Encoding, ValueDictionary, Values, pattern},
    variance::{FloatMoments, IntegerMoments},
    window::{Numbered, Plan},
};

/// The cell of a fact that no slot sees.
pub(super) const NO_CELL: u32 = u32::MAX;
/// Parts into which entities are divided when their cells are brought together: each is then small enough for a cache.
const REGIONS: usize = 256;

/// What is gathered of an input in each cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gather {
    /// How many facts there are.
    Facts,
    /// How many values there are.
    Count(usize),
    Sum(usize),
    /// The sum, and that of the squares.
    Squares(usize),
    Min(usize),
    Max(usize),
    First(usize),
    Last(usize),
    /// Every value.
    Values(usize),
    /// Every value, with what orders it.
    Ordered(usize),
}

impl Gather {
    pub(super) fn needed(kind: AggregateKind, input: Option<usize>) -> Self {
        let Some(input) = input else { return Gather::Facts };
        match kind {
            AggregateKind::Count => Gather::Count(input),
            AggregateKind::Sum | AggregateKind::Mean => Gather::Sum(input),
            AggregateKind::Variance | AggregateKind::Stddev => Gather::Squares(input),
            AggregateKind::Min => Gather::Min(input),
            AggregateKind::Max => Gather::Max(input),
            AggregateKind::First => Gather::First(input),
            AggregateKind::Last => Gather::Last(input),
            AggregateKind::CountDistinct | AggregateKind::Quantile(_) => Gather::Values(input),
            AggregateKind::LastK(_) => Gather::Ordered(input),
        }
    }

    /// Does another one count the values that this one counts?
    pub(super) fn is_counted_by(self, other: &Gather) -> bool {
        matches!((self, other), (Gather::Count(own), Gather::Sum(input) | Gather::Squares(input)) if own == *input)
    }
}

/// A value and what orders it among others: the newest fact has the largest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dated {
    pub(super) event: i64,
    pub(super) known: i64,
    /// The row of its tie-breaks, if the table has any.
    tie: u32,
    pub(super) value: u64,
}

/// What was gathered, by cell.
pub(super) enum Gathered {
    Count(Vec<u32>),
    /// The sum of the values, and how many there are.
    Sum(Vec<(ExactSum, u32)>),
    /// The same of decimals, in their units.
    DecimalSum(Vec<(Integer<5>, u32)>),
    /// The sums of the values and of their squares, and how many there are: of floats, integers and decimals.
    Squares(Vec<(FloatMoments, u32)>),
    IntegerSquares(Vec<(IntegerMoments<3, 3>, u32)>),
    DecimalSquares(Vec<(IntegerMoments<5, 9>, u32)>),
    Extreme(Vec<Option<u64>>),
    Dated(Vec<Option<Dated>>),
    /// Cells and values, in the order of arrival.
    Values(Vec<(u32, u64)>),
    Ordered(Vec<(u32, Dated)>),
}

/// The cells of a task, side by side.
pub(super) struct Cells {
    pub(super) entity: Vec<u32>,
    /// Cell by cell: the first slot that sees it, and for each span the first that sees it no longer.
    edges: Vec<u32>,
    spans: usize,
    pub(super) gathered: Vec<Gathered>,
    ties: Vec<Option<u64>>,
    ties_per_row: usize,
}

/// Facts' values to be added.
pub(super) struct Sums<'a> {
    pub(super) plan: &'a Plan,
    /// The values of each column, and for each input which rows have none.
    pub(super) columns: &'a [Values],
    pub(super) nulls: &'a [Option<NullBuffer>],
    pub(super) ties: &'a [(ScalarBuffer<u64>, Option<NullBuffer>)],
    pub(super) texts: &'a [Numbered<'a>],
    pub(super) tie_texts: &'a [Numbered<'a>],
}

impl Cells {
    pub(super) fn new(plan: &Plan) -> Self {
        let gathered = plan.gathers.iter().map(|gather| match gather {
            Gather::Facts | Gather::Count(_) => Gathered::Count(Vec::new()),
            Gather::Sum(input) if plan.lane(*input) == Encoding::RawDecimal => Gathered::DecimalSum(Vec::new()),
            Gather::Sum(_) => Gathered::Sum(Vec::new()),
            Gather::Squares(input) => match plan.lane(*input) {
                Encoding::RawDecimal => Gathered::DecimalSquares(Vec::new()),
                Encoding::Float => Gathered::Squares(Vec::new()),
                _ => Gathered::IntegerSquares(Vec::new()),
            },
            Gather::Min(_) | Gather::Max(_) => Gathered::Extreme(Vec::new()),
            Gather::First(_) | Gather::Last(_) => Gathered::Dated(Vec::new()),
            Gather::Values(_) => Gathered::Values(Vec::new()),
            Gather::Ordered(_) => Gathered::Ordered(Vec::new()),
        });
        Self {
            entity: Vec::new(),
            edges: Vec::new(),
            spans: plan.spans.len(),
            gathered: gathered.collect(),
            ties: Vec::new(),
            ties_per_row: plan.ties.len(),
        }
    }

    /// Opens a cell.
    pub(super) fn open(&mut self, entity: u32, enter: u32, leaves: &[u32]) -> u32 {
        self.entity.push(entity);
        self.edges.push(enter);
        self.edges.extend_from_slice(leaves);
        self.entity.len() as u32 - 1
    }

    /// Does a cell lie between these edges?
    pub(super) fn is(&self, cell: u32, enter: u32, leaves: &[u32]) -> bool {
        self.enter(cell) == enter && self.leaves(cell) == leaves
    }

    /// The first slot that sees the cell.
    pub(super) fn enter(&self, cell: u32) -> u32 {
        self.edges[cell as usize * (self.spans + 1)]
    }

    /// For each span, the first slot that sees the cell no longer.
    pub(super) fn leaves(&self, cell: u32) -> &[u32] {
        &self.edges[cell as usize * (self.spans + 1) + 1..][..self.spans]
    }

    /// Is there a slot whose window of this length holds the cell?
    pub(super) fn sees(&self, cell: u32, span: usize) -> bool {
        cell != NO_CELL && self.enter(cell) < self.leaves(cell)[span]
    }

    /// Brings cells of neighbouring entities together. Cells are opened in the order of the facts, so those of one entity lie
    /// all over the memory; they are answered entity by entity.
    pub(super) fn gather_entities(&mut self, entities: usize) {
        // Regions hold about as many cells each, whatever the entities.
        let mut counts = vec![0u32; entities];
        self.entity.iter().for_each(|&entity| counts[entity as usize] += 1);
        let per_region = self.entity.len().div_ceil(REGIONS).max(1);
        let (mut region_of, mut starts, mut cells) = (vec![0u16; entities], vec![0u32; REGIONS + 1], 0usize);
        for (entity, &count) in counts.iter().enumerate() {
            let region = (cells / per_region).min(REGIONS - 1);
            region_of[entity] = region as u16;
            starts[region + 1] += count;
            cells += count as usize;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut order = vec![0u32; self.entity.len()];
        let mut place = vec![0u32; self.entity.len()];
        for (cell, &entity) in self.entity.iter().enumerate() {
            let next = &mut starts[usize::from(region_of[entity as usize])];
            (order[*next as usize], place[cell]) = (cell as u32, *next);
            *next += 1;
        }
        self.entity = moved(&self.entity, &order);
        let stride = self.spans + 1;
        self.edges = order.iter().flat_map(|&cell| &self.edges[cell as usize * stride..][..stride]).copied().collect();
        for gathered in &mut self.gathered {
            match gathered {
                Gathered::Count(cells) => *cells = moved(cells, &order),
                Gathered::Sum(cells) => *cells = moved(cells, &order),
                Gathered::DecimalSum(cells) => *cells = moved(cells, &order),
                Gathered::Squares(cells) => *cells = moved(cells, &order),
                Gathered::IntegerSquares(cells) => *cells = moved(cells, &order),
                Gathered::DecimalSquares(cells) => *cells = moved(cells, &order),
                Gathered::Extreme(cells) => *cells = moved(cells, &order),
                Gathered::Dated(cells) => *cells = moved(cells, &order),
                Gathered::Values(log) => log.iter_mut().for_each(|(cell, _)| *cell = place[*cell as usize]),
                Gathered::Ordered(log) => log.iter_mut().for_each(|(cell, _)| *cell = place[*cell as usize]),
            }
        }
    }

    /// Gives cells that were opened and got no fact what an empty cell has.
    pub(super) fn fill(&mut self) {
        let cells = self.entity.len();
        for gathered in &mut self.gathered {
            match gathered {
                Gathered::Count(counts) => counts.resize(cells, 0),
                Gathered::Sum(totals) => totals.resize(cells, (ExactSum::default(), 0)),
                Gathered::DecimalSum(totals) => totals.resize(cells, (Integer::default(), 0)),
                Gathered::Squares(totals) => totals.resize(cells, (FloatMoments::default(), 0)),
                Gathered::IntegerSquares(totals) => totals.resize(cells, (IntegerMoments::default(), 0)),
                Gathered::DecimalSquares(totals) => totals.resize(cells, (IntegerMoments::default(), 0)),
                Gathered::Extreme(values) => values.resize(cells, None),
                Gathered::Dated(values) => values.resize(cells, None),
                Gathered::Values(_) | Gathered::Ordered(_) => {}
            }
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let gathered = self.gathered.iter().map(|gathered| match gathered {
            Gathered::Count(counts) => counts.capacity() * 4,
            Gathered::Sum(cells) => cells.capacity() * size_of::<(ExactSum, u32)>(),
            Gathered::DecimalSum(cells) => cells.capacity() * size_of::<(Integer<5>, u32)>(),
            Gathered::Squares(cells) => cells.capacity() * size_of::<(FloatMoments, u32)>(),
            Gathered::IntegerSquares(cells) => cells.capacity() * size_of::<(IntegerMoments<3, 3>, u32)>(),
            Gathered::DecimalSquares(cells) => cells.capacity() * size_of::<(IntegerMoments<5, 9>, u32)>(),
            Gathered::Extreme(values) => values.capacity() * 16,
            Gathered::Dated(values) => values.capacity() * size_of::<Option<Dated>>(),
            Gathered::Values(values) => values.capacity() * 16,
            Gathered::Ordered(values) => values.capacity() * size_of::<(u32, Dated)>(),
        });
        gathered.sum::<usize>() + self.entity.capacity() * 4 + self.edges.capacity() * 4 + self.ties.capacity() * 16
    }

    /// Adds facts to their cells. `cells_of` has the cell of each fact, as far as a gather needs it.
    pub(super) fn add(&mut self, chunk: &FactChunk, cells_of: &CellsOf, sums: &Sums<'_>) {
        let cells = self.entity.len();
        let first_tie = (self.ties.len() / self.ties_per_row.max(1)) as u32;
        let is_dated = |g: &Gather| matches!(g, Gather::First(_) | Gather::Last(_) | Gather::Ordered(_));
        if self.ties_per_row > 0 && sums.plan.gathers.iter().any(is_dated) {
            for &row in &chunk.rows {
                let tie = |(values, nulls): &(ScalarBuffer<u64>, Option<NullBuffer>)| {
                    let is_null = nulls.as_ref().is_some_and(|n| n.is_null(row as usize));
                    (!is_null).then(|| values[row as usize])
                };
                self.ties.extend(sums.ties.iter().map(tie));
            }
        }
        let dated = |i: usize, value: u64| Dated {
            event: chunk.order()[i],
            known: chunk.known.as_ref().map_or(0, |known| known[i]),
            tie: first_tie + i as u32,
            value,
        };
        for (number, (gather, gathered)) in sums.plan.gathers.iter().zip(&mut self.gathered).enumerate() {
            let cell_of = cells_of.of(number);
            match (gather, gathered) {
                (Gather::Facts, Gathered::Count(counts)) => {
                    counts.resize(cells, 0);
                    each_row(chunk, cell_of, &None, counts, |count| *count, |count, _, _| *count += 1);
                }
                (Gather::Count(input), Gathered::Count(counts)) => {
                    counts.resize(cells, 0);
                    each_row(chunk, cell_of, &sums.nulls[*input], counts, |count| *count, |count, _, _| *count += 1);
                }
                (Gather::Sum(input), Gathered::Sum(totals)) => {
                    totals.resize(cells, (ExactSum::default(), 0));
                    let lane = sums.plan.lane(*input);
                    sums.each(
                        chunk,
                        cell_of,
                        *input,
                        totals,
                        |total| total.1,
                        |(sum, count), _, value| {
                            let (high, low) = lane.number(value);
                            *count += 1;
                            sum.add(high);
                            if low != 0.0 {
                                sum.add(low);
                            }
                        },
                    );
                }
                (Gather::Sum(input), Gathered::DecimalSum(totals)) => {
                    totals.resize(cells, (Integer::default(), 0));
                    let add = |(sum, count): &mut (Integer<5>, u32), units: Integer<5>| {
                        *count += 1;
                        sum.add(&units);
                    };
                    let (nulls, touch) = (&sums.nulls[*input], |total: &(Integer<5>, u32)| total.1);
                    match sums.values(*input) {
                        EncodedValues::Decimals(units) => {
                            each_row(chunk, cell_of, nulls, totals, touch, |total, _, row| add(total, units[row].into()));
                        }
                        EncodedValues::WideDecimals(units) => {
                            each_row(chunk, cell_of, nulls, totals, touch, |total, _, row| add(total, units[row].into()));
                        }
                        EncodedValues::Keys(_) => {}
                    }
                }
                (Gather::Squares(input), Gathered::Squares(totals)) => {
                    totals.resize(cells, (FloatMoments::default(), 0));
                    let lane = sums.plan.lane(*input);
                    sums.each(
                        chunk,
                        cell_of,
                        *input,
                        totals,
                        |total| total.1,
                        |(moments, count), _, value| {
                            *count += 1;
                            moments.add(lane.number(value).0);
                        },
                    );
                }
                (Gather::Squares(input), Gathered::IntegerSquares(totals)) => {
                    totals.resize(cells, (IntegerMoments::default(), 0));
                    let lane = sums.plan.lane(*input);
                    sums.each(
                        chunk,
                        cell_of,
                        *input,
                        totals,
                        |total| total.1,
                        |(moments, count), _, value| {
                            *count += 1;
                            moments.add(lane.integer(value));
                        },
                    );
                }
                (Gather::Squares(input), Gathered::DecimalSquares(totals)) => {
                    totals.resize(cells, (IntegerMoments::default(), 0));
                    let (nulls, touch) = (&sums.nulls[*input], |total: &(IntegerMoments<5, 9>, u32)| total.1);
                    match sums.values(*input) {
                        EncodedValues::Decimals(units) => {
                            each_row(chunk, cell_of, nulls, totals, touch, |(moments, count), _, row| {
                                *count += 1;
                                moments.add(units[row]);
                            });
                        }
                        EncodedValues::WideDecimals(units) => {
                            each_row(chunk, cell_of, nulls, totals, touch, |(moments, count), _, row| {
                                *count += 1;
                                moments.add_wide(units[row]);
                            });
                        }
                        EncodedValues::Keys(_) => {}
                    }
                }
                (Gather::Min(input) | Gather::Max(input), Gathered::Extreme(extremes)) => {
                    extremes.resize(cells, None);
                    let (lane, texts) = (sums.plan.lane(*input), &sums.texts[sums.plan.inputs[*input].column]);
                    let wanted = if matches!(gather, Gather::Min(_)) { Ordering::Less } else { Ordering::Greater };
                    let touch = |extreme: &Option<u64>| u32::from(extreme.is_some());
                    sums.each(chunk, cell_of, *input, extremes, touch, |extreme, _, value| {
                        if extreme.is_none_or(|known| texts.compare(lane, value, known) == wanted) {
                            *extreme = Some(value);
                        }
                    });
                }
                (Gather::First(input) | Gather::Last(input), Gathered::Dated(newest)) => {
                    newest.resize(cells, None);
                    let wanted = if matches!(gather, Gather::First(_)) { Ordering::Less } else { Ordering::Greater };
                    let order = TieOrder { plan: sums.plan, ties: &self.ties, texts: &|i| &sums.tie_texts[i] };
                    let texts = &sums.texts[sums.plan.inputs[*input].column];
                    let touch = |newest: &Option<Dated>| u32::from(newest.is_some());
                    sums.each(chunk, cell_of, *input, newest, touch, |newest, i, value| {
                        let dated = dated(i, value);
                        if newest.is_none_or(|known| order.compare(*input, texts, &dated, &known) == wanted) {
                            *newest = Some(dated);
                        }
                    });
                }
                (Gather::Values(input), Gathered::Values(values)) => {
                    sums.each_value(chunk, cell_of, *input, |cell, _, value| values.push((cell, value)));
                }
                (Gather::Ordered(input), Gathered::Ordered(values)) => {
                    sums.each_value(chunk, cell_of, *input, |cell, i, value| values.push((cell, dated(i, value))));
                }
                _ => {}
            }
        }
    }

    /// The tie-breaks of a value of this task.
    pub(super) fn ties_of(&self, dated: &Dated) -> &[Option<u64>] {
        ties_of(&self.ties, self.ties_per_row, dated)
    }
}

/// The tie-breaks of a value, among those of a task.
fn ties_of<'a>(ties: &'a [Option<u64>], per_row: usize, dated: &Dated) -> &'a [Option<u64>] {
    ties.get(dated.tie as usize * per_row..).and_then(|ties| ties.get(..per_row)).unwrap_or(&[])
}

fn moved<T: Clone>(cells: &[T], order: &[u32]) -> Vec<T> {
    order.iter().map(|&cell| cells[cell as usize].clone()).collect()
}

impl Sums<'_> {
    /// The values of an input's column.
    fn values(&self, input: usize) -> &Values {
        &self.columns[self.plan.inputs[input].column]
    }

    /// Calls `to` with what is gathered in the cell, the place and the value of every fact that has both.
    #[inline]
    fn each<C>(
        &self,
        chunk: &FactChunk,
        cell_of: &[u32],
        input: usize,
        cells: &mut [C],
        touch: impl Fn(&C) -> u32,
        mut to: impl FnMut(&mut C, usize, u64),
    ) {
        if let EncodedValues::Keys(values) = self.values(input) {
            each_row(chunk, cell_of, &self.nulls[input], cells, touch, |cell, i, row| to(cell, i, values[row]));
        }
    }

    /// Calls `to` with the cell, the place and the value of every fact that has both.
    fn each_value(&self, chunk: &FactChunk, cell_of: &[u32], input: usize, mut to: impl FnMut(u32, usize, u64)) {
        let (EncodedValues::Keys(values), nulls) = (self.values(input), &self.nulls[input]) else { return };
        for (i, (&cell, &row)) in cell_of.iter().zip(&chunk.rows).enumerate() {
            if cell != NO_CELL && nulls.as_ref().is_none_or(|n| n.is_valid(row as usize)) {
                to(cell, i, values[row as usize]);
            }
        }
    }
}

/// Facts that are added between two looks ahead.
const LOOK_AHEAD: usize = 128;
/// Cells that fit into the nearer caches, about: there a look ahead gains nothing.
const NEAR_CELLS: usize = 1 << 14;

/// Calls `to` with what is gathered in the cell, the place and the row of every fact that has a cell and a value.
///
/// Cells of neighbouring facts lie all over the memory. `touch` reads a word of each before the first of a stretch of facts is
/// added: loads that do not wait for each other, which additions do.
#[inline]
fn each_row<C>(
    chunk: &FactChunk,
    cell_of: &[u32],
    nulls: &Option<NullBuffer>,
    cells: &mut [C],
    touch: impl Fn(&C) -> u32,
    mut to: impl FnMut(&mut C, usize, usize),
) {
    let is_far = cells.len() > NEAR_CELLS;
    for (stretch, first) in cell_of.chunks(LOOK_AHEAD).zip((0..).step_by(LOOK_AHEAD)) {
        if is_far {
            let touched = stretch.iter().filter_map(|&cell| cells.get(cell as usize)).map(&touch);
            std::hint::black_box(touched.fold(0, u32::wrapping_add));
        }
        for (i, &cell) in (first..).zip(stretch) {
            let row = chunk.rows[i] as usize;
            if nulls.as_ref().is_none_or(|n| n.is_valid(row))
                && let Some(cell) = cells.get_mut(cell as usize)
            {
                to(cell, i, row);
            }
        }
    }
}

/// The cell of each fact; [`NO_CELL`] for one that no slot sees.
pub(super) struct CellsOf {
    all: Vec<u32>,
    /// For each gather those that it needs, where it does not need all.
    needed: Vec<Option<Vec<u32>>>,
}

impl CellsOf {
    /// All gathers need all of them.
    pub(super) fn all(cells: Vec<u32>) -> Self {
        Self { all: cells, needed: Vec::new() }
    }

    /// Cells whose number leaves one of these remainders are needed by the gather.
    pub(super) fn some(cells: Vec<u32>, remainders: &[Vec<bool>]) -> Self {
        let of_gather = |is_needed: &Vec<bool>| {
            let count = is_needed.len() as u32;
            let is_any_left_out = is_needed.contains(&false);
            let keep = |&cell: &u32| if cell != NO_CELL && is_needed[(cell % count) as usize] { cell } else { NO_CELL };
            is_any_left_out.then(|| cells.iter().map(keep).collect())
        };
        Self { needed: remainders.iter().map(of_gather).collect(), all: cells }
    }

    fn of(&self, gather: usize) -> &[u32] {
        self.needed.get(gather).and_then(Option::as_deref).unwrap_or(&self.all)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(|&cell| cell == NO_CELL)
    }

    /// The cell of a fact.
    pub(super) fn cell(&self, fact: usize) -> u32 {
        self.all[fact]
    }
}

/// The order of facts within one task.
struct TieOrder<'a> {
    plan: &'a Plan,
    ties: &'a [Option<u64>],
    texts: &'a dyn Fn(usize) -> &'a ValueDictionary,
}

impl TieOrder<'_> {
    fn compare(&self, input: usize, texts: &ValueDictionary, a: &Dated, b: &Dated) -> Ordering {
        let ties = |dated: &Dated| ties_of(self.ties, self.plan.ties.len(), dated);
        compare_dated(self.plan, input, texts, self.texts, (a, ties(a)), (b, ties(b)))
    }
}

/// By event time, known-at, tie-breaks and value; NULL tie-breaks are the smallest.
pub(super) fn compare_dated<'t>(
    plan: &Plan,
    input: usize,
    texts: &ValueDictionary,
    tie_texts: &dyn Fn(usize) -> &'t ValueDictionary,
    (a, a_ties): (&Dated, &[Option<u64>]),
    (b, b_ties): (&Dated, &[Option<u64>]),
) -> Ordering {
    let by_times = (a.event, a.known).cmp(&(b.event, b.known));
    if by_times.is_ne() {
        return by_times;
    }
    for (i, (x, y)) in a_ties.iter().zip(b_ties).enumerate() {
        let order = match (x, y) {
            (Some(x), Some(y)) => tie_texts(i).compare(plan.ties[i].lane, *x, *y),
            _ => x.is_some().cmp(&y.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
    texts.compare(plan.lane(input), a.value, b.value)
}

/// The pattern by which equal values are one: both zeros are.
pub(super) fn distinct(lane: Encoding, value: u64) -> u64 {
    if lane == Encoding::Float && value == pattern(-0.0) { pattern(0.0) } else { value }
}
