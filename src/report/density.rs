//! A density picture of points: the number of points in each cell of a grid, as shades on white.
//! Nothing is smoothed or sampled. Points outside the window are counted and not drawn.

use std::path::Path;

use super::png::{PlotError, blit};

/// Colours from the sparsest cell to the densest; cells without points are white.
const SHADES: [(f64, [f64; 3]); 4] =
    [(0.0, [222.0, 233.0, 246.0]), (0.4, [92.0, 148.0, 205.0]), (0.75, [18.0, 62.0, 134.0]), (1.0, [4.0, 12.0, 40.0])];

/// A grid that counts points; the first row of the picture holds the largest y.
///
/// Grids of the same window and size can be added, so shards of a table can be counted separately.
///
/// ```no_run
/// use asof::report::Density;
///
/// let mut grid = Density::new((-74.03, -73.92), (40.70, 40.78), (1000, 1000));
/// grid.add(-73.9857, 40.7484);
/// grid.write_png("density.png".as_ref())?;
/// # Ok::<(), asof::report::PlotError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    x: (f64, f64),
    y: (f64, f64),
    size: (u32, u32),
    counts: Vec<u64>,
    outside: u64,
}

impl Density {
    /// An empty grid over `[x.0, x.1)` and `[y.0, y.1)`. `size` is the number of cells, and pixels, across and down, at least one.
    pub fn new(x: (f64, f64), y: (f64, f64), size: (u32, u32)) -> Self {
        let size = (size.0.max(1), size.1.max(1));
        Self { x, y, size, counts: vec![0; size.0 as usize * size.1 as usize], outside: 0 }
    }

    /// Counts a point; one outside the window, or not a number, counts as outside.
    pub fn add(&mut self, x: f64, y: f64) {
        let cell = |value: f64, (low, high): (f64, f64), cells: u32| {
            let place = (value - low) / (high - low);
            (0.0..1.0).contains(&place).then(|| ((place * f64::from(cells)) as u32).min(cells - 1))
        };
        match (cell(x, self.x, self.size.0), cell(y, self.y, self.size.1)) {
            (Some(column), Some(row)) => {
                let row = self.size.1 - 1 - row;
                self.counts[row as usize * self.size.0 as usize + column as usize] += 1;
            }
            _ => self.outside += 1,
        }
    }

    /// Adds the counts of another grid; `None` when its window or size differs.
    pub fn merged(mut self, other: &Self) -> Option<Self> {
        if (self.x, self.y, self.size) != (other.x, other.y, other.size) {
            return None;
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.outside += other.outside;
        Some(self)
    }

    /// Points in the window.
    pub fn inside(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Points outside the window.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// Writes a PNG with a pixel for each cell, shaded by the logarithm of its count, replacing `path` in one step.
    ///
    /// # Errors
    /// When the parent directory is missing or the file cannot be written; the previous file is then untouched.
    pub fn write_png(&self, path: &Path) -> Result<(), PlotError> {
        let darkest = (self.darkest() as f64).ln_1p();
        let pixels: Vec<u8> = self.counts.iter().flat_map(|&count| shade(count, darkest)).collect();
        blit(path, self.size, &pixels)
    }

    /// The count that is drawn darkest: the 99.9th percentile of the cells with points, so that one extreme cell does not make all
    /// others pale.
    fn darkest(&self) -> u64 {
        let mut counts: Vec<u64> = self.counts.iter().copied().filter(|&count| count > 0).collect();
        counts.sort_unstable();
        counts.get((counts.len() * 999 / 1000).min(counts.len().saturating_sub(1))).copied().unwrap_or(1).max(2)
    }
}

fn shade(count: u64, darkest: f64) -> [u8; 3] {
    if count == 0 {
        return [255; 3];
    }
    let lightest = 1_f64.ln_1p();
    let place = (((count as f64).ln_1p() - lightest) / (darkest - lightest)).clamp(0.0, 1.0);
    let above = SHADES.iter().position(|(at, _)| *at >= place).unwrap_or(SHADES.len() - 1).max(1);
    let ((low, from), (high, to)) = (SHADES[above - 1], SHADES[above]);
    let part = (place - low) / (high - low);
    std::array::from_fn(|i| (from[i] + (to[i] - from[i]) * part).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fall_into_their_cells_and_the_north_is_up() {
        let mut grid = Density::new((0.0, 2.0), (0.0, 2.0), (2, 2));
        for (x, y) in [(0.0, 1.9), (0.5, 1.0), (1.99, 0.0), (2.0, 1.0), (-0.1, 1.0), (f64::NAN, 1.0)] {
            grid.add(x, y);
        }
        assert_eq!((grid.counts.as_slice(), grid.outside()), (&[2, 0, 0, 1][..], 3));
        let both = grid.clone().merged(&grid).unwrap();
        assert_eq!((both.inside(), both.outside()), (6, 6));
        assert!(grid.merged(&Density::new((0.0, 1.0), (0.0, 2.0), (2, 2))).is_none());
    }

    #[test]
    fn shades_are_white_without_points_and_darken_with_the_logarithm() {
        let darkest = 1_000_f64.ln_1p();
        assert_eq!(shade(0, darkest), [255; 3]);
        let brightness = |count| shade(count, darkest).iter().map(|&c| u32::from(c)).sum::<u32>();
        let all: Vec<u32> = [0, 1, 3, 10, 30, 100, 300, 1_000].map(brightness).into();
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
        assert_eq!(brightness(1_000), brightness(1_000_000));
    }
}
