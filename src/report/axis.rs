//! An axis of a plot: a range of values, its place on the canvas, and round-numbered ticks.

/// One axis: its range of values, where that lies on the canvas, and its round-numbered ticks.
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pixels: (i32, i32),
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    pub(super) fn new(values: impl Iterator<Item = f64>, pixels: (i32, i32), most: usize) -> Self {
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
    pub(super) fn at(&self, value: f64) -> f64 {
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
pub(super) fn grouped(number: String) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::new([0.5, 10.0].into_iter(), (0, 100), 11);
        let labels: Vec<&str> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
        assert_eq!(grouped("-1234567.25".to_owned()), "-1,234,567.25");
        assert_eq!(grouped("-1234".to_owned()), "-1234");
    }
}
