//! The canvas of a plot: larger than the picture, and averaged down to it, so that edges are smooth.
//! What is drawn is decided elsewhere.

use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, FontStyle, FontTransform, IntoFont, RGBColor, TextStyle, register_font};

use super::png::text_of;

/// Size of the picture in pixels.
pub(super) const SIZE: (i32, i32) = (1200, 800);
/// Everything is drawn this many times larger, then averaged down by [`shrink`] to smooth edges.
pub(super) const SCALE: i32 = 2;
pub(super) const CANVAS: (i32, i32) = (SIZE.0 * SCALE, SIZE.1 * SCALE);
/// A font name of our own, so that fonts of the host program are not replaced.
const FONT: &str = "report-plot";

pub(super) const INK: RGBColor = RGBColor(33, 37, 41);
pub(super) const MUTED: RGBColor = RGBColor(84, 91, 98);
pub(super) const GRID: RGBColor = RGBColor(229, 232, 236);
pub(super) const FRAME: RGBColor = RGBColor(164, 171, 178);
pub(super) const SPARSE: RGBColor = RGBColor(52, 122, 196);
pub(super) const DENSE: RGBColor = RGBColor(10, 44, 102);
pub(super) const FIT: RGBColor = RGBColor(226, 74, 26);

/// Averages each two by two pixels of the canvas into one pixel of the picture.
pub(super) fn shrink(canvas: &[u8]) -> Vec<u8> {
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

/// Draws on the enlarged canvas; every measure is in its pixels.
pub(super) struct Pen<'a>(BitMapBackend<'a>);

impl<'a> Pen<'a> {
    pub(super) fn new(pixels: &'a mut [u8]) -> Result<Self, String> {
        static READY: OnceLock<bool> = OnceLock::new();
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        if !READY.get_or_init(|| register_font(FONT, FontStyle::Normal, font).is_ok()) {
            return Err("the built-in font cannot be read".to_owned());
        }
        let size = (CANVAS.0 as u32, CANVAS.1 as u32);
        Ok(Self(BitMapBackend::with_buffer(pixels, size)))
    }

    pub(super) fn width(&self, text: &str, size: f64) -> Result<i32, String> {
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
    pub(super) fn fitted(&self, text: &str, size: f64, room: i32) -> Result<f64, String> {
        let width = f64::from(self.width(text, size)?.max(1));
        Ok(size * (f64::from(room) * 0.98 / width).min(1.0))
    }

    /// Text from `at` to the right, standing on that height.
    pub(super) fn text(&mut self, s: &str, size: f64, c: RGBColor, at: (i32, i32)) -> Result<(), String> {
        let style = TextStyle::from((FONT, size).into_font()).color(&c);
        for (word, shift, _) in self.words(s, size)? {
            let at = (at.0 + shift, at.1 - (size / 2.0) as i32);
            self.0.draw_text(word, &style, at).map_err(text_of)?;
        }
        Ok(())
    }

    /// Text from `at` upwards, standing on that column.
    pub(super) fn upright(&mut self, s: &str, size: f64, c: RGBColor, at: (i32, i32)) -> Result<(), String> {
        let font = (FONT, size).into_font().transform(FontTransform::Rotate270);
        let style = TextStyle::from(font).color(&c);
        for (word, shift, _) in self.words(s, size)? {
            let at = (at.0 - (size / 2.0) as i32, at.1 - shift);
            self.0.draw_text(word, &style, at).map_err(text_of)?;
        }
        Ok(())
    }

    pub(super) fn bar(&mut self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<(), String> {
        let style = color.filled();
        self.0.draw_rect(from, to, &style, true).map_err(text_of)
    }

    pub(super) fn dot(&mut self, at: (i32, i32), radius: u32) -> Result<(), String> {
        let style = SPARSE.filled();
        let drawn = self.0.draw_circle(at, radius, &style, true);
        drawn.map_err(text_of)
    }

    pub(super) fn stroke(&mut self, from: (f64, f64), to: (f64, f64), width: f64) -> Result<(), String> {
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
