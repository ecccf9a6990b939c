//! Rows by key as bytes, in Arrow's row format: the same bits out as in.
//! It belongs to the cache: the bytes may differ between versions of the library and are never truth.

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Schema, SchemaRef},
    row::{RowConverter, SortField},
};

use crate::error::Result;

/// Turns rows into bytes under the bytes of their key, and back.
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

    /// Key and value bytes of every row.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let columns = |positions: &[usize]| -> Vec<ArrayRef> { positions.iter().map(|&i| batch.column(i).clone()).collect() };
        let keys = self.key_rows.convert_columns(&columns(&self.keys))?;
        let values = self.value_rows.convert_columns(&columns(&self.values))?;
        let sealed = |row: &[u8]| [&checksum(row)[..], row].concat();
        Ok(keys.iter().zip(values.iter()).map(|(key, value)| (key.as_ref().to_vec(), sealed(value.as_ref()))).collect())
    }

    /// The bytes of one key, given as one-row columns of the key's types.
    pub(crate) fn key(&self, columns: &[ArrayRef]) -> Result<Vec<u8>> {
        Ok(self.key_rows.convert_columns(columns)?.row(0).as_ref().to_vec())
    }

    /// One row of features, or `None` when the bytes are not what was encoded.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Option<RecordBatch>> {
        let Some((sum, row)) = bytes.split_at_checked(CHECKSUM_BYTES) else { return Ok(None) };
        // Arrow's parser trusts its bytes: damaged ones must not reach it.
        if checksum(row) != sum {
            return Ok(None);
        }
        let columns = self.value_rows.convert_rows([self.value_rows.parser().parse(row)])?;
        Ok(Some(RecordBatch::try_new(self.value_schema.clone(), columns)?))
    }
}

const CHECKSUM_BYTES: usize = 8;

fn checksum(row: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new().update(row).finalize_xof().fill(&mut sum);
    sum
}
