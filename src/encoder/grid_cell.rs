//! The cell of a grid over the globe that a point lies in.
//! The grid's lines are equally many degrees apart.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, geo::is_point, unusable};
use crate::error::Result;

/// A metre on the equator, about. The number of every cell of such a grid is exact as a float.
const SMALLEST_DEGREES: f64 = 0.000_01;

/// The number of the cell that a point lies in, in a grid whose lines of latitude and longitude are equally many degrees apart,
/// as `Int64`.
///
/// Rows of cells are counted from latitude -90 northwards and columns from longitude -180 eastwards, both from 0. With `columns`
/// = `ceil(360 / degrees)`, the number of a cell is `row * columns + column`. A cell holds its southern and western edge:
///
/// - `row = floor((latitude + 90) / degrees)`; the pole at latitude 90 belongs to the last row;
/// - `column = floor((longitude + 180) / degrees)`; longitude 180 is the meridian -180 and belongs to column 0.
///
/// Both are computed in floats, so a point on the edge of cells whose size is no binary fraction may be counted to either side,
/// in training and serving alike. When the size does not divide 180 or 360 degrees, the last row or column is narrower.
///
/// NULL stays NULL, and a point beyond the globe is NULL: a latitude beyond ±90, a longitude beyond ±180, NaN. A size that is not
/// between 0.00001 and 180 degrees is refused when a set is built.
///
/// ```
/// use asof::encoder::GridCell;
/// let cell = GridCell::of(["pickup_latitude", "pickup_longitude"], 0.25, "pickup_cell");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct GridCell {
    columns: [String; 2],
    degrees: f64,
    output: String,
}

impl GridCell {
    /// The feature `output`, from the columns `[latitude, longitude]`, in a grid of cells of so many degrees.
    pub fn of(point: [&str; 2], degrees: f64, output: impl Into<String>) -> Self {
        Self { columns: point.map(str::to_owned), degrees, output: output.into() }
    }

    /// The number of the cell; the size is a usable one.
    fn cell(&self, point: [f64; 2]) -> Option<i64> {
        if !is_point(point) {
            return None;
        }
        let rows = (180.0 / self.degrees).ceil();
        let columns = (360.0 / self.degrees).ceil();
        let longitude = if point[1] == 180.0 { -180.0 } else { point[1] };
        let row = ((point[0] + 90.0) / self.degrees).floor().min(rows - 1.0);
        let column = ((longitude + 180.0) / self.degrees).floor().min(columns - 1.0);
        Some((row * columns + column) as i64)
    }
}

impl Encoder for GridCell {
    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("grid_cell", 1), Spec::number);
        spec.parameter("degrees", self.degrees).output(&self.output, DataType::Int64)
    }

    /// It is called on fixed inputs when a set is built, so an unusable size is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if !(SMALLEST_DEGREES..=180.0).contains(&self.degrees) {
            let reason = format!("its cells are {:?} degrees wide; write a number from 0.00001 to 180", self.degrees);
            return Err(unusable(&self.output, reason));
        }
        let [latitudes, longitudes] = [0, 1].map(|i| input.column(i).as_primitive::<Float64Type>().iter());
        let cells: Int64Array = latitudes.zip(longitudes).map(|(lat, lon)| self.cell([lat?, lon?])).collect();
        Ok(vec![Arc::new(cells)])
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;
    use crate::{encoder::input_schema, error::Error};

    fn of(degrees: f64) -> GridCell {
        GridCell::of(["lat", "lon"], degrees, "cell")
    }

    #[test]
    fn cells_hold_their_southern_and_western_edges() {
        for (degrees, point, row, column) in [
            (10.0, [-90.0, -180.0], 0, 0),
            (10.0, [-80.0, -170.0], 1, 1),
            (10.0, [-80.00000001, -170.00000001], 0, 0),
            (10.0, [0.0, 0.0], 9, 18),
            (10.0, [-0.0, -0.0], 9, 18),
            (10.0, [-1e-9, -1e-9], 8, 17),
            (10.0, [90.0, 179.999], 17, 35),
            (10.0, [89.0, 180.0], 17, 0),
            (0.25, [40.6413, -73.7781], 522, 424),
            // The last row reaches from latitude 75, the last column from longitude 150.
            (55.0, [89.0, 179.0], 3, 6),
            (180.0, [90.0, 180.0], 0, 0),
            (180.0, [90.0, 0.0], 0, 1),
        ] {
            let columns = (360.0_f64 / degrees).ceil() as i64;
            assert_eq!(of(degrees).cell(point), Some(row * columns + column), "{degrees} {point:?}");
        }
        // Every number of the finest grid is exact as a float.
        let last = of(SMALLEST_DEGREES).cell([90.0, 179.999_999_999]).unwrap();
        assert_eq!(last, 18_000_000 * 36_000_000 - 1);
        assert!(last < 1 << 53);
    }

    #[test]
    fn beyond_the_globe_is_null_and_so_is_null() {
        let inf = f64::INFINITY;
        for point in
            [[90.1, 0.0], [-90.1, 0.0], [0.0, 180.1], [0.0, -180.1], [f64::NAN, 0.0], [0.0, f64::NAN], [inf, 0.0], [0.0, -inf]]
        {
            assert_eq!(of(1.0).cell(point), None, "{point:?}");
        }
        let [lat, lon]: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(vec![None, Some(0.0), Some(0.0)])),
            Arc::new(Float64Array::from(vec![Some(0.0), None, Some(0.0)])),
        ];
        let input = RecordBatch::try_from_iter([("lat", lat), ("lon", lon)]).unwrap();
        let cells = of(90.0).encode(&input).unwrap();
        assert_eq!(cells[0].as_ref(), &Int64Array::from(vec![None, None, Some(6)]) as &dyn arrow::array::Array);
    }

    #[test]
    fn an_unusable_size_is_refused() {
        let input = RecordBatch::new_empty(input_schema(&of(1.0).spec()));
        for degrees in [0.0, -1.0, 0.000_009, 180.1, f64::NAN, f64::INFINITY] {
            let refused = of(degrees).encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`cell`"), "{refused}");
            assert!(refused.to_string().contains(&format!("{degrees:?} degrees")), "{refused}");
        }
        for degrees in [SMALLEST_DEGREES, 180.0] {
            assert!(of(degrees).encode(&input).is_ok());
        }
    }
}
