//! A scalar function made of three plain functions: the types of its arguments, the type of its result, and its body.

use std::hash::{Hash, Hasher};

use arrow::{array::ArrayRef, datatypes::DataType};
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};

/// An immutable scalar function.
#[derive(Debug)]
pub(super) struct Scalar {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    arguments: Arguments,
    result: Yield,
    body: Body,
}

/// The types that arguments of these types are cast to, or an error that says what is needed.
pub(super) type Arguments = fn(&[DataType]) -> Result<Vec<DataType>>;
/// The type of the result for these arguments.
pub(super) type Yield = fn(&[DataType]) -> DataType;
/// The results for columns of one length.
pub(super) type Body = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// Makes a function of a name and its aliases.
pub(super) fn scalar(names: &[&'static str], arguments: Arguments, result: Yield, body: Body) -> ScalarUDF {
    let aliases = names.iter().skip(1).map(|name| (*name).to_owned()).collect();
    let name = names.first().copied().unwrap_or_default();
    ScalarUDF::from(Scalar { name, aliases, signature: Signature::user_defined(Volatility::Immutable), arguments, result, body })
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.arguments)(types) {
            Ok(types) => Ok(types),
            Err(error) => plan_err!("{}: {}", self.name, error.strip_backtrace()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok((self.result)(types))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let result = match (self.body)(&columns) {
            Ok(result) => result,
            Err(error) => return exec_err!("{}: {}", self.name, error.strip_backtrace()),
        };
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}
