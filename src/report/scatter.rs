//! A scatter plot: points, a fitted line and its formula, as a PNG file.
//! Every finite point is drawn. The caller provides the line.

use std::path::Path;

use plotters::style::Color;

use super::{
    axis::{Axis, grouped},
    canvas::{CANVAS, DENSE, FIT, FRAME, GRID, INK, MUTED, Pen, SCALE, SIZE, SPARSE, shrink},
    png::{PlotError, blit},
};

/// Values beyond this magnitude count as not finite, because the width of their range would overflow.
const LARGEST: f64 = 1e300;

/// The content of a scatter plot with a fitted line.
#[derive(Debug, Clone)]
pub struct Scatter<'a> {
    /// Heading above the chart.
    pub title: &'a str,
    /// Name of the horizontal axis.
    pub x_label: &'a str,
    /// Name of the vertical axis.
    pub y_label: &'a str,
    /// Horizontal positions, one for each point.
    pub x: &'a [f64],
    /// Vertical positions, one for each point.
    pub y: &'a [f64],
    /// The fitted line, if there is one.
    pub line: Option<Line>,
}

/// The straight line `y = intercept + slope x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Change of y for each unit of x.
    pub slope: f64,
    /// Value of y where x is zero.
    pub intercept: f64,
}

impl Scatter<'_> {
    /// Writes the chart as a PNG of 1200 by 800 pixels, replacing `path` in one step.
    ///
    /// Points with a non-finite coordinate are skipped and counted in the legend; without any
    /// finite point the chart is empty, with axes from 0 to 1.
    ///
    /// # Errors
    ///
    /// When `x` and `y` differ in length, the parent directory is missing, or the file cannot be
    /// written. The previous file, if any, is then untouched.
    pub fn write_png(&self, path: &Path) -> Result<(), PlotError> {
        let fail = |reason: String| PlotError::new(path, reason);
        if self.x.len() != self.y.len() {
            let (x, y) = (self.x.len(), self.y.len());
            return Err(fail(format!("{x} x values but {y} y values")));
        }
        let picture = shrink(&self.render().map_err(&fail)?);
        blit(path, (SIZE.0 as u32, SIZE.1 as u32), &picture)
    }

    /// Draws the whole chart on the enlarged canvas.
    fn render(&self) -> Result<Vec<u8>, String> {
        let points: Vec<(f64, f64)> = (self.x.iter().copied().zip(self.y.iter().copied()))
            .filter(|(x, y)| x.abs() <= LARGEST && y.abs() <= LARGEST)
            .collect();
        let mut pixels = vec![255; (CANVAS.0 * CANVAS.1 * 3) as usize];
        let mut pen = Pen::new(&mut pixels)?;

        // Layout: the left margin depends on the widest label of the y axis.
        let (top, bottom) = (222, CANVAS.1 - 160);
        let y_axis = Axis::new(points.iter().map(|p| p.1), (bottom, top), 9);
        let mut widest = 0;
        for (_, label) in &y_axis.ticks {
            widest = widest.max(pen.width(label, 34.0)?);
        }
        let (left, right) = ((widest + 130).min(CANVAS.0 / 2), CANVAS.0 - 60);
        let mut x_axis = Axis::new(points.iter().map(|p| p.0), (left, right), 11);
        for count in (1..11).rev() {
            let mut total = 0;
            for (_, label) in &x_axis.ticks {
                total += pen.width(label, 34.0)? + 60;
            }
            if total <= right - left {
                break;
            }
            x_axis = Axis::new(points.iter().map(|p| p.0), (left, right), count);
        }

        // Grid, ticks and names.
        for (value, label) in &x_axis.ticks {
            let x = x_axis.at(*value).round() as i32;
            pen.bar((x - 1, top), (x + 1, bottom), GRID)?;
            pen.bar((x - 1, bottom), (x + 1, bottom + 12), FRAME)?;
            // A label at the very edge moves inwards rather than be cut off.
            let half = pen.width(label, 34.0)? / 2;
            let x = x.min(CANVAS.0 - half - 10).max(half + 10);
            pen.text(label, 34.0, MUTED, (x - half, bottom + 52))?;
        }
        for (value, label) in &y_axis.ticks {
            let y = y_axis.at(*value).round() as i32;
            pen.bar((left, y - 1), (right, y + 1), GRID)?;
            pen.bar((left - 12, y - 1), (left, y + 1), FRAME)?;
            let x = left - 24 - pen.width(label, 34.0)?;
            pen.text(label, 34.0, MUTED, (x, y + 11))?;
        }
        let size = pen.fitted(self.x_label, 40.0, right - left)?;
        let x = (left + right - pen.width(self.x_label, size)?) / 2;
        pen.text(self.x_label, size, INK, (x, CANVAS.1 - 46))?;
        let size = pen.fitted(self.y_label, 40.0, bottom - top)?;
        let y = (top + bottom + pen.width(self.y_label, size)?) / 2;
        pen.upright(self.y_label, size, INK, (62, y))?;
        let size = pen.fitted(self.title, 56.0, right - left)?;
        pen.text(self.title, size, INK, (left, 92))?;
        drop(pen);

        scatter(&mut pixels, &points, &x_axis, &y_axis);

        let mut pen = Pen::new(&mut pixels)?;
        for (from, to) in [((left - 1, top), (left + 1, bottom + 1)), ((left, bottom - 1), (right, bottom + 1))] {
            pen.bar(from, to, FRAME)?;
        }
        // The legend stands above the chart, where it can hide no point.
        let skipped = self.x.len() - points.len();
        let noun = if points.len() == 1 { "point" } else { "points" };
        let mut count = format!("{} {noun}", grouped(points.len().to_string()));
        if skipped > 0 {
            count += &format!(" ({} not finite, skipped)", grouped(skipped.to_string()));
        }
        let mut x = left;
        if let Some(line) = self.line {
            if let Some([from, to]) = line.visible(&x_axis, &y_axis) {
                pen.stroke(from, to, 7.0)?;
            }
            let formula = line.formula();
            pen.bar((x, 160), (x + 56, 167), FIT)?;
            pen.text(&formula, 38.0, INK, (x + 76, 176))?;
            x += 76 + pen.width(&formula, 38.0)? + 70;
        }
        pen.dot((x + 9, 163), 9)?;
        pen.text(&count, 38.0, INK, (x + 34, 176))?;
        drop(pen);
        Ok(pixels)
    }
}

impl Line {
    /// The formula as the legend gives it: three decimals, or an exponent where those say nothing.
    fn formula(self) -> String {
        let number = |v: f64| {
            if v == 0.0 || (0.0005..1e9).contains(&v) { format!("{v:.3}") } else { format!("{v:.3e}") }
        };
        let minus = if self.intercept < 0.0 { "-" } else { "" };
        let sign = if self.slope < 0.0 { '-' } else { '+' };
        let (intercept, slope) = (number(self.intercept.abs()), number(self.slope.abs()));
        format!("y = {minus}{intercept} {sign} {slope} x")
    }

    /// The part of the line inside the axes, in canvas pixels; none if it is not finite.
    fn visible(self, x_axis: &Axis, y_axis: &Axis) -> Option<[(f64, f64); 2]> {
        let height = |x: f64| y_axis.at(self.intercept + self.slope * x);
        let (start, end) = (height(x_axis.low), height(x_axis.high));
        let (bottom, top) = (y_axis.at(y_axis.low), y_axis.at(y_axis.high));
        // Shares of the way from the left end at which the line is within the frame.
        let (mut from, mut to) = (0.0_f64, 1.0_f64);
        if start != end {
            let (a, b) = ((top - start) / (end - start), (bottom - start) / (end - start));
            (from, to) = (from.max(a.min(b)), to.min(a.max(b)));
        }
        let at = |share: f64| {
            let x = x_axis.at(x_axis.low + (x_axis.high - x_axis.low) * share);
            (x, (start + (end - start) * share).clamp(top, bottom))
        };
        let level = start != end || (top..=bottom).contains(&start);
        (start.is_finite() && end.is_finite() && level && from < to).then(|| [at(from), at(to)])
    }
}

/// Lays all points over the canvas at once, as discs so clear that their density shows.
///
/// What light each pixel lets through is kept as a fraction, since in bytes thousands of faint
/// layers would round to nothing.
fn scatter(pixels: &mut [u8], points: &[(f64, f64)], x_axis: &Axis, y_axis: &Axis) {
    let number = points.len().max(1) as f64;
    let alpha = (18.0 / number.sqrt()).clamp(0.06, 0.6) as f32;
    let radius = (3.5 * (1000.0 / number).powf(0.1)).clamp(1.6, 4.0) * f64::from(SCALE);
    let reach = radius.ceil() as i32;
    let mut clear = vec![1.0_f32; pixels.len() / 3];
    for &(x, y) in points {
        let (x, y) = (x_axis.at(x), y_axis.at(y));
        let row = y.round() as i32;
        for dy in -reach..=reach {
            let height = f64::from(row + dy) - y;
            // Discs stay within the canvas: the axes keep a margin around every point.
            let half = (radius * radius - height * height).max(0.0).sqrt();
            let start = (row + dy) * CANVAS.0 + (x - half).round() as i32;
            let end = (row + dy) * CANVAS.0 + (x + half).round() as i32;
            if let Some(run) = clear.get_mut(start as usize..end as usize) {
                run.iter_mut().for_each(|c| *c *= 1.0 - alpha);
            }
        }
    }
    for (pixel, clear) in pixels.chunks_exact_mut(3).zip(clear) {
        if clear < 1.0 {
            let cover = 1.0 - clear;
            let deep = cover * cover * cover;
            let tones = [SPARSE.rgb(), DENSE.rgb()].map(|(r, g, b)| [r, g, b].map(f32::from));
            for (byte, (sparse, dense)) in pixel.iter_mut().zip(tones[0].iter().zip(&tones[1])) {
                let tone = sparse * (1.0 - deep) + dense * deep;
                *byte = (f32::from(*byte) * clear + tone * cover).round() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::png::text_of;

    fn chart<'a>(x: &'a [f64], y: &'a [f64], line: Option<Line>) -> Scatter<'a> {
        let (title, x_label, y_label) = ("A title", "across", "up");
        Scatter { title, x_label, y_label, x, y, line }
    }

    #[test]
    fn extreme_values_still_make_a_picture() {
        let line = |slope, intercept| Some(Line { slope, intercept });
        let nan = [f64::NAN, f64::INFINITY];
        let cases: [(&[f64], &[f64], Option<Line>); 8] = [
            (&[], &[], None),
            (&nan, &nan, line(f64::NAN, 1.0)),
            (&[5.0], &[5.0], line(0.0, 5.0)),
            (&[1e18, 1e18], &[-1e18, -1e18], line(1e18, 0.0)),
            (&[-1e308, 1e300], &[1e300, -1e300], line(-1.0, 0.0)),
            (&[0.0, 5e-324], &[1e-200, 2e-200], line(1e308, -1e308)),
            (&[1.7e18, 1.7e18 + 4e6], &[0.0, 1e-7], line(1e-3, -1.7e15)),
            (&[-1e300, 1e300], &[-0.1, 0.3], line(f64::INFINITY, 0.0)),
        ];
        for (x, y, line) in cases {
            assert_eq!(chart(x, y, line).render().map(drop), Ok(()), "{x:?}");
        }
    }

    #[test]
    fn a_written_file_is_a_png_of_the_size_and_nothing_is_left_beside_it() -> std::io::Result<()> {
        let dir = std::env::temp_dir().join(format!("report-plot-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let path = dir.join("fares");
        std::fs::write(&path, "an older picture")?;
        let written = chart(&[1.0, 2.0], &[1.0, 3.0], None).write_png(&path);
        let (bytes, files) = (std::fs::read(&path)?, std::fs::read_dir(&dir)?.count());
        std::fs::remove_dir_all(&dir)?;
        assert!(written.is_ok(), "{written:?}");
        assert_eq!(files, 1);
        assert_eq!(bytes.get(..8), Some(&b"\x89PNG\r\n\x1a\n"[..]));
        let size = [0, 0, 4, 176, 0, 0, 3, 32];
        assert_eq!(bytes.get(16..24), Some(&size[..]));
        Ok(())
    }

    #[test]
    fn errors_name_the_file_and_the_missing_directory() {
        let said = |x: &[f64], path: &str| {
            let written = chart(x, &[], None).write_png(Path::new(path));
            written.map_err(text_of)
        };
        let uneven = "plot p.png: 1 x values but 0 y values".to_owned();
        assert_eq!(said(&[1.0], "p.png"), Err(uneven));
        let lost = "plot /no-dir/p.png: directory /no-dir does not exist".to_owned();
        assert_eq!(said(&[], "/no-dir/p.png"), Err(lost));
    }

    #[test]
    fn formulas_have_three_decimals() {
        let formula = |slope, intercept| Line { slope, intercept }.formula();
        assert_eq!(formula(2.9984, 4.0), "y = 4.000 + 2.998 x");
        assert_eq!(formula(-2e-5, -0.5), "y = -0.500 - 2.000e-5 x");
    }
}
