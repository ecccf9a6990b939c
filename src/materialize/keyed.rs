//! Rows by key as bytes, in Arrow's row format: it keeps all bits, and the bytes of keys sort as the keys do.
//! Only the cache holds these bytes, since they may differ between versions of the library.

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Schema, SchemaRef},
    row::{RowConverter, Rows, SortField},
};

use crate::error::Result;

/// Converts rows to key bytes and value bytes, and back.
pub(crate) struct RowCodec {
    keys: Vec<usize>,
    values: Vec<usize>,
    key_schema: SchemaRef,
    value_schema: SchemaRef,
    key_rows: RowConverter,
    value_rows: RowConverter,
}

impl RowCodec {
    pub(crate) fn new(keys: &[String], schema: SchemaRef) -> Result<Self> {
        let keys: Vec<usize> = keys.iter().map(|key| Ok(schema.index_of(key)?)).collect::<Result<_>>()?;
        let values: Vec<usize> = (0..schema.fields().len()).filter(|i| !keys.contains(i)).collect();
        let (key_schema, value_schema) = (SchemaRef::new(schema.project(&keys)?), SchemaRef::new(schema.project(&values)?));
        let converter =
            |schema: &Schema| RowConverter::new(schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect());
        Ok(Self {
            key_rows: converter(&key_schema)?,
            value_rows: converter(&value_schema)?,
            keys,
            values,
            key_schema,
            value_schema,
        })
    }

    /// The key's columns.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        &self.key_schema
    }

    /// The other columns.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        &self.value_schema
    }

    /// Key and value bytes of every row.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<(Rows, Rows)> {
        let columns = |positions: &[usize]| -> Vec<ArrayRef> { positions.iter().map(|&i| batch.column(i).clone()).collect() };
        Ok((self.key_rows.convert_columns(&columns(&self.keys))?, self.value_rows.convert_columns(&columns(&self.values))?))
    }

    /// The bytes of one key, given as one-row columns of the key's types.
    pub(crate) fn key(&self, columns: &[ArrayRef]) -> Result<Vec<u8>> {
        Ok(self.key_rows.convert_columns(columns)?.row(0).as_ref().to_vec())
    }

    /// The values of one row. Arrow's parser trusts its input, so the bytes must be those that `encode` made.
    pub(crate) fn decode(&self, row: &[u8]) -> Result<RecordBatch> {
        let columns = self.value_rows.convert_rows([self.value_rows.parser().parse(row)])?;
        Ok(RecordBatch::try_new(self.value_schema.clone(), columns)?)
    }
}
