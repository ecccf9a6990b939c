//! A scatter plot: points, a fitted line and its formula, as a PNG file.
//! Every finite point is drawn. The caller provides the line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, FontStyle, FontTransform, IntoFont, RGBColor, TextStyle, register_font};

/// Size of the picture in pixels.
const SIZE: (i32, i32) = (1200, 800);
/// Everything is drawn this many times larger, then averaged down by [`shrink`] to smooth edges.
const SCALE: i32 = 2;
const CANVAS: (i32, i32) = (SIZE.0 * SCALE, SIZE.1 * SCALE);
/// A font name of our own, so that fonts of the host program are not replaced.
const FONT: &str = "report-plot";
/// Values beyond this magnitude count as not finite, because the width of their range would overflow.
const LARGEST: f64 = 1e300;

const INK: RGBColor = RGBColor(33, 37, 41);
const MUTED: RGBColor = RGBColor(84, 91, 98);
const GRID: RGBColor = RGBColor(229, 232, 236);
const FRAME: RGBColor = RGBColor(164, 171, 178);
const SPARSE: RGBColor = RGBColor(52, 122, 196);
const DENSE: RGBColor = RGBColor(10, 44, 102);
const FIT: RGBColor = RGBColor(226, 74, 26);

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

/// Why a picture was not written; [`fmt::Display`] names the file.
#[derive(Debug)]
pub struct PlotError {
    path: PathBuf,
    reason: String,
}

impl PlotError {
    fn new(path: &Path, reason: impl fmt::Display) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self { path, reason }
    }
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plot {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for PlotError {}

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

/// One axis: its range of values, where that lies on the canvas, and its round-numbered ticks.
struct Axis {
    low: f64,
    high: f64,
    pixels: (i32, i32),
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, pixels: (i32, i32), most: usize) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let largest = low.abs().max(high.abs());
        let (low, high) = if low > high {
            (0.0, 1.0)
        } else if high - low <= largest * 1e-12 || high - low < 1e-290 {
            // All values alike: a range around them, wide enough to be told from them.
            let half = 0.5_f64.max(largest * 1e-3);
            (low - half, high + half)
        } else {
            let margin = (high - low) * 0.03;
            (low - margin, high + margin)
        };
        // The smallest of 1, 2 and 5 times a power of ten that gives at most `most` ticks.
        let rough = (high - low) / most as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        let (first, last) = ((low / step).ceil(), (high / step).floor());
        let ticks = (0..=(last - first).max(0.0) as usize)
            .map(|i| (first + i as f64) * step)
            .map(|value| (value, tick_label(value, step, low.abs().max(high.abs()))))
            .collect();
        Self { low, high, pixels, ticks }
    }

    /// Where a value lies on the canvas.
    fn at(&self, value: f64) -> f64 {
        let (from, to) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        from + (to - from) * ((value - self.low) / (self.high - self.low))
    }
}

/// A tick's number with as many digits as the step between ticks needs.
fn tick_label(value: f64, step: f64, largest: f64) -> String {
    let exponent = (step.log10() + 1e-9).floor();
    if value == 0.0 {
        "0".to_owned()
    } else if largest >= 1e10 || exponent < -5.0 {
        let digits = (value.abs().log10() + 1e-9).floor() - exponent;
        format!("{value:.*e}", digits.max(0.0) as usize)
    } else {
        grouped(format!("{value:.*}", (-exponent).max(0.0) as usize))
    }
}

/// Puts a comma between each three digits of the whole part, from five digits on.
fn grouped(number: String) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let digits = whole - usize::from(number.starts_with('-'));
    let mut out = String::new();
    for (at, c) in number.char_indices() {
        let behind = whole.saturating_sub(at);
        if digits > 4 && behind > 0 && behind < digits && behind % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
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

/// Averages each two by two pixels of the canvas into one pixel of the picture.
fn shrink(canvas: &[u8]) -> Vec<u8> {
    let row = CANVAS.0 as usize * 3;
    let mean = |a: u8, b: u8, c: u8, d: u8| ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) / 4) as u8;
    let mut picture = Vec::with_capacity(canvas.len() / 4);
    for rows in canvas.chunks_exact(row * 2) {
        let (upper, lower) = rows.split_at(row);
        for pair in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            if let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = pair {
                let pixel = [mean(*a, *d, *g, *j), mean(*b, *e, *h, *k), mean(*c, *f, *i, *l)];
                picture.extend_from_slice(&pixel);
            }
        }
    }
    picture
}

/// Encodes the picture into a file and has the system store it.
/// Writes pixels (red, green, blue; row by row) as a PNG of this size, replacing `path` in one step.
pub(super) fn blit(path: &Path, size: (u32, u32), picture: &[u8]) -> Result<(), PlotError> {
    let fail = |reason: String| PlotError::new(path, reason);
    let name = path.file_name().ok_or_else(|| fail("the path names no file".to_owned()))?;
    let parent = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        let dir = parent.display();
        return Err(fail(format!("directory {dir} does not exist")));
    }
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp.png", crate::storage::chance()));
    let temporary = parent.join(temporary);
    let saved = save(&temporary, size, picture);
    saved.and_then(|()| std::fs::rename(&temporary, path).map_err(|e| e.to_string())).map_err(|reason| {
        // The write has failed already; a leftover that cannot be removed adds nothing.
        let _ = std::fs::remove_file(&temporary);
        fail(reason)
    })
}

fn save(path: &Path, size: (u32, u32), picture: &[u8]) -> Result<(), String> {
    let mut backend = BitMapBackend::new(path, size);
    backend.blit_bitmap((0, 0), size, picture).map_err(text_of)?;
    backend.present().map_err(text_of)?;
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(text_of)
}

fn text_of(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Draws on the enlarged canvas; every measure is in its pixels.
struct Pen<'a>(BitMapBackend<'a>);

impl<'a> Pen<'a> {
    fn new(pixels: &'a mut [u8]) -> Result<Self, String> {
        static READY: OnceLock<bool> = OnceLock::new();
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        if !READY.get_or_init(|| register_font(FONT, FontStyle::Normal, font).is_ok()) {
            return Err("the built-in font cannot be read".to_owned());
        }
        let size = (CANVAS.0 as u32, CANVAS.1 as u32);
        Ok(Self(BitMapBackend::with_buffer(pixels, size)))
    }

    fn width(&self, text: &str, size: f64) -> Result<i32, String> {
        Ok(self.words(text, size)?.last().map_or(0, |word| word.2))
    }

    /// The words of a text, each with where it starts and ends along the line.
    ///
    /// The library drops the space on the left of each letter, which narrows the gaps between
    /// words; so words are drawn one by one with a gap of our own.
    fn words<'t>(&self, text: &'t str, size: f64) -> Result<Vec<(&'t str, i32, i32)>, String> {
        let style = TextStyle::from((FONT, size).into_font());
        let mut start = 0;
        let mut words = Vec::new();
        for word in text.split(' ') {
            let (width, _) = self.0.estimate_text_size(word, &style).map_err(text_of)?;
            words.push((word, start, start + width as i32));
            start += width as i32 + (size * 0.27).round() as i32;
        }
        Ok(words)
    }

    /// The font size, at most `size`, at which a text is no longer than `room`.
    fn fitted(&self, text: &str, size: f64, room: i32) -> Result<f64, String> {
        let width = f64::from(self.width(text, size)?.max(1));
        Ok(size * (f64::from(room) * 0.98 / width).min(1.0))
    }

    /// Text from `at` to the right, standing on that height.
    fn text(&mut self, s: &str, size: f64, c: RGBColor, at: (i32, i32)) -> Result<(), String> {
        let style = TextStyle::from((FONT, size).into_font()).color(&c);
        for (word, shift, _) in self.words(s, size)? {
            let at = (at.0 + shift, at.1 - (size / 2.0) as i32);
            self.0.draw_text(word, &style, at).map_err(text_of)?;
        }
        Ok(())
    }

    /// Text from `at` upwards, standing on that column.
    fn upright(&mut self, s: &str, size: f64, c: RGBColor, at: (i32, i32)) -> Result<(), String> {
        let font = (FONT, size).into_font().transform(FontTransform::Rotate270);
        let style = TextStyle::from(font).color(&c);
        for (word, shift, _) in self.words(s, size)? {
            let at = (at.0 - (size / 2.0) as i32, at.1 - shift);
            self.0.draw_text(word, &style, at).map_err(text_of)?;
        }
        Ok(())
    }

    fn bar(&mut self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<(), String> {
        let style = color.filled();
        self.0.draw_rect(from, to, &style, true).map_err(text_of)
    }

    fn dot(&mut self, at: (i32, i32), radius: u32) -> Result<(), String> {
        let style = SPARSE.filled();
        let drawn = self.0.draw_circle(at, radius, &style, true);
        drawn.map_err(text_of)
    }

    fn stroke(&mut self, from: (f64, f64), to: (f64, f64), width: f64) -> Result<(), String> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let half = width / 2.0 / dx.hypot(dy).max(1.0);
        let corner = |p: (f64, f64), side: f64| {
            let (x, y) = (p.0 - dy * half * side, p.1 + dx * half * side);
            (x.round() as i32, y.round() as i32)
        };
        let corners = [corner(from, 1.0), corner(to, 1.0), corner(to, -1.0), corner(from, -1.0)];
        self.0.fill_polygon(corners, &FIT.filled()).map_err(text_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn ticks_are_round_and_formulas_have_three_decimals() {
        let axis = Axis::new([0.5, 10.0].into_iter(), (0, 100), 11);
        let labels: Vec<&str> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
        assert_eq!(grouped("-1234567.25".to_owned()), "-1,234,567.25");
        assert_eq!(grouped("-1234".to_owned()), "-1234");
        let formula = |slope, intercept| Line { slope, intercept }.formula();
        assert_eq!(formula(2.9984, 4.0), "y = 4.000 + 2.998 x");
        assert_eq!(formula(-2e-5, -0.5), "y = -0.500 - 2.000e-5 x");
    }
}
