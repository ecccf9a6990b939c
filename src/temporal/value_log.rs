//! Where the values of each cell lie in the logs of the gatherings that hold every value.
//! It holds places, no values.

use super::{
    slices::{Cells, Gathered},
    window::Plan,
};

/// Where the values of each cell of a task lie in its log.
pub(super) struct ByCell {
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

    pub(super) fn of(&self, cell: u32) -> &[u32] {
        &self.order[self.starts[cell as usize] as usize..self.starts[cell as usize + 1] as usize]
    }
}

/// For each gathering that holds all values, where those of each cell lie; made once, shared by all answering tasks.
pub(super) struct Logs(pub(super) Vec<Vec<ByCell>>);

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
