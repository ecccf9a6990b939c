//! What an encoder sees while it learns: its declared columns of the rows, cut at the as-of.
//! It gives no access to a session, clock, file or table.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Float64Type, Schema, SchemaRef},
};

use crate::{
    error::{Error, Result},
    time::AsOf,
};

/// Rows that can be read again and again; the same rows in the same order each time.
pub(crate) trait Replay {
    /// These columns of all rows.
    fn replay(&self, columns: &Schema) -> Result<Batches<'_>>;
}

pub(crate) type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>;

/// The facts that an encoder may learn from: its declared columns of the rows visible at the as-of.
///
/// Only this library can make one, and it gives access to these rows alone. There is no way to reach later facts:
///
/// ```
/// fn fit(view: &asof::AsOfView<'_>) -> asof::AsOf {
///     view.as_of()
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn fit(view: &asof::AsOfView<'_>) -> asof::AsOf {
///     view.session() // no such method, and the program above compiles
/// }
/// ```
///
/// ```compile_fail,E0451
/// let view = asof::AsOfView { as_of: "2014-11-01".parse().unwrap() }; // cannot be made
/// ```
pub struct AsOfView<'a> {
    as_of: AsOf,
    columns: SchemaRef,
    rows: &'a dyn Replay,
}

/// What a view is made of.
pub(crate) struct ViewParts<'a> {
    pub(crate) as_of: AsOf,
    pub(crate) columns: SchemaRef,
    pub(crate) rows: &'a dyn Replay,
}

impl<'a> From<ViewParts<'a>> for AsOfView<'a> {
    fn from(parts: ViewParts<'a>) -> Self {
        Self { as_of: parts.as_of, columns: parts.columns, rows: parts.rows }
    }
}

impl AsOfView<'_> {
    /// The instant at which the rows are cut.
    pub fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// The declared columns.
    pub fn schema(&self) -> &Schema {
        &self.columns
    }

    /// The rows, batch by batch, with the declared columns; the same rows in the same order at each call.
    ///
    /// The division into batches has no meaning and may differ between calls.
    ///
    /// # Errors
    /// The iterator returns an error when the rows cannot be read.
    pub fn batches(&self) -> Result<impl Iterator<Item = Result<RecordBatch>> + '_> {
        self.rows.replay(&self.columns)
    }

    /// Calls `each` with every value of a declared `Float64` column that is neither NULL nor NaN, in the order of the rows.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when the column is not declared, [`Error::ColumnType`] when it is not `Float64`.
    pub fn for_each_number(&self, column: &str, mut each: impl FnMut(f64)) -> Result<()> {
        let needed = "it must be declared as a number, which is read as Float64";
        self.for_each_array(column, DataType::Float64, needed, |array| {
            let numbers = array.as_primitive::<Float64Type>();
            if numbers.null_count() == 0 {
                numbers.values().iter().copied().filter(|x| !x.is_nan()).for_each(&mut each);
            } else {
                numbers.iter().flatten().filter(|x| !x.is_nan()).for_each(&mut each);
            }
            Ok(())
        })
    }

    /// Calls `each` with every text of a declared `Utf8` column that is not NULL, in the order of the rows. The first error ends it.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when the column is not declared, [`Error::ColumnType`] when it is not `Utf8`, and those of `each`.
    pub fn for_each_text(&self, column: &str, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let needed = "it must be declared as a category, which is read as Utf8";
        self.for_each_array(column, DataType::Utf8, needed, |array| {
            array.as_string::<i32>().iter().flatten().try_for_each(&mut each)
        })
    }

    fn for_each_array(
        &self,
        column: &str,
        data_type: DataType,
        needed: &str,
        mut each: impl FnMut(&ArrayRef) -> Result<()>,
    ) -> Result<()> {
        let field = self.columns.field_with_name(column);
        let field = field.map_err(|_| Error::unknown_column("the view", column, &self.columns))?;
        if *field.data_type() != data_type {
            let found = field.data_type().to_string();
            return Err(Error::ColumnType { subject: "the view".into(), column: column.into(), found, needed: needed.into() });
        }
        let only = Schema::new(vec![Arc::new(field.clone())]);
        self.rows.replay(&only)?.try_for_each(|batch| each(batch?.column(0)))
    }
}

impl fmt::Debug for AsOfView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AsOfView(as_of={}, columns={:?})",
            self.as_of,
            self.columns.fields().iter().map(|c| c.name()).collect::<Vec<_>>()
        )
    }
}
