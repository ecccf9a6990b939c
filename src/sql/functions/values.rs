//! Functions of lists and maps, and `if`.

use std::{cmp::Ordering, hash::Hash, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array, make_comparator},
    compute::{SortOptions, kernels::zip::zip, prep_null_mask_filter, take},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, exec_err, plan_err},
    logical_expr::{
        Case, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        simplify::{ExprSimplifyResult, SimplifyContext},
        type_coercion::binary::type_union_resolution,
    },
    scalar::ScalarValue,
};

use super::scalar::scalar;

pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![
        scalar(&["cardinality"], collection, |_| DataType::Int64, cardinality),
        scalar(&["element_at"], element, element_type, element_at),
        ScalarUDF::from(If { signature: Signature::user_defined(Volatility::Immutable) }),
    ]
}

/// A list of any kind as a plain list; a map as it is.
fn plain(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(DataType::List(field.clone()))
        }
        DataType::Map(..) => Some(data_type.clone()),
        _ => None,
    }
}

fn collection(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [only] if plain(only).is_some() => Ok(plain(only).into_iter().collect()),
        _ => plan_err!("needs a list or a map"),
    }
}

/// The types of a map's keys and values.
fn entry_types(entries: &Field) -> Option<(&DataType, &DataType)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((fields[0].data_type(), fields[1].data_type())),
        _ => None,
    }
}

fn element(types: &[DataType]) -> Result<Vec<DataType>> {
    if let [from, key] = types {
        match plain(from) {
            Some(list @ DataType::List(_)) if key.is_integer() || key.is_null() => return Ok(vec![list, DataType::Int64]),
            Some(DataType::Map(entries, sorted)) => {
                if let Some((key, _)) = entry_types(&entries) {
                    let key = key.clone();
                    return Ok(vec![DataType::Map(entries, sorted), key]);
                }
            }
            _ => {}
        }
    }
    plan_err!("needs a list and a whole number, or a map and a key")
}

fn element_type(types: &[DataType]) -> DataType {
    match types.first() {
        Some(DataType::List(field)) => field.data_type().clone(),
        Some(DataType::Map(entries, _)) => entry_types(entries).map_or(DataType::Null, |(_, value)| value.clone()),
        _ => DataType::Null,
    }
}

fn cardinality(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let column = &columns[0];
    let lengths: Vec<usize> = match column.as_map_opt() {
        Some(maps) => maps.offsets().lengths().collect(),
        None => column.as_list::<i32>().offsets().lengths().collect(),
    };
    let count = |(row, length): (usize, usize)| column.is_valid(row).then(|| i64::try_from(length).unwrap_or(i64::MAX));
    Ok(Arc::new(lengths.into_iter().enumerate().map(count).collect::<Int64Array>()))
}

fn element_at(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (from, key) = (&columns[0], &columns[1]);
    let mut places: Vec<Option<u64>> = Vec::with_capacity(from.len());
    if let Some(maps) = from.as_map_opt() {
        let compare = make_comparator(maps.keys(), key, SortOptions::default())?;
        for row in 0..from.len() {
            let mut entries = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
            let found =
                (from.is_valid(row) && key.is_valid(row)).then(|| entries.find(|&at| compare(at, row) == Ordering::Equal));
            places.push(found.flatten().map(|at| at as u64));
        }
        return Ok(take(maps.values(), &UInt64Array::from(places), None)?);
    }
    let (lists, indexes) = (from.as_list::<i32>(), key.as_primitive::<Int64Type>());
    for row in 0..from.len() {
        if from.is_null(row) || indexes.is_null(row) {
            places.push(None);
            continue;
        }
        let (start, length) = (i64::from(lists.value_offsets()[row]), i64::from(lists.value_length(row)));
        let place = match indexes.value(row) {
            0 => return exec_err!("elements of a list are counted from number 1, and 0 was given"),
            index if index > 0 && index <= length => Some(start + index - 1),
            index if index < 0 && -length <= index => Some(start + length + index),
            _ => None,
        };
        places.push(place.and_then(|place| u64::try_from(place).ok()));
    }
    Ok(take(lists.values(), &UInt64Array::from(places), None)?)
}

/// `if(condition, then [, else])`: rewritten to `CASE`, so that only the branch that is needed is computed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct If {
    signature: Signature,
}

impl ScalarUDFImpl for If {
    fn name(&self) -> &str {
        "if"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let ([condition, values @ ..], 2..=3) = (types, types.len()) else {
            return plan_err!("if: needs a condition, a value, and perhaps another value");
        };
        if !matches!(condition, DataType::Boolean | DataType::Null) {
            return plan_err!("if: the condition is {condition}, and must be a boolean");
        }
        let Some(common) = type_union_resolution(values) else {
            return plan_err!("if: the values have no common type: {values:?}");
        };
        Ok(std::iter::once(DataType::Boolean).chain(values.iter().map(|_| common.clone())).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.get(1).cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [_, values @ ..] = args.arg_fields else { return plan_err!("if: needs a condition and a value") };
        let data_type = values.first().map_or(DataType::Null, |field| field.data_type().clone());
        let nullable = values.len() < 2 || values.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let mut rest = args.into_iter();
        let (Some(condition), Some(then)) = (rest.next(), rest.next()) else {
            return plan_err!("if: needs two or three arguments");
        };
        let case = Case::new(None, vec![(Box::new(condition), Box::new(then))], rest.next().map(Box::new));
        Ok(ExprSimplifyResult::Simplified(Expr::Case(case)))
    }

    fn short_circuits(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let [condition, then, rest @ ..] = columns.as_slice() else { return exec_err!("if: needs two or three arguments") };
        let nothing = arrow::array::new_null_array(then.data_type(), then.len());
        let condition = condition.as_boolean();
        let holds: BooleanArray = if condition.null_count() > 0 { prep_null_mask_filter(condition) } else { condition.clone() };
        let chosen = zip(&holds, then, rest.first().unwrap_or(&nothing))?;
        Ok(match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&chosen, 0)?),
            false => ColumnarValue::Array(chosen),
        })
    }
}
