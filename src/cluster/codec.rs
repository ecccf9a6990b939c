//! Operators and functions of this library as bytes, for plans that travel to other processes.

use std::{fmt, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::{Result as DfResult, TableReference, not_impl_err},
    execution::TaskContext,
    logical_expr::{AggregateUDF, Extension, LogicalPlan, ScalarUDF, WindowUDF},
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    logical_plan::LogicalExtensionCodec,
    physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension},
    protobuf::PhysicalPlanNode,
};
use prost::Message;

use crate::{
    error::Error,
    scan::{Carrier, decode_scan, encode_scan},
    sql::{NamedFunctions, OwnFunctions},
    storage::Locations,
    temporal::{decode_operator, encode_operator},
};

/// The first bytes of what this codec writes; the next one says of what kind it is.
const MARK: &[u8] = b"asof";
const SCAN: u8 = 1;
const OPERATOR: u8 = 2;
const FUNCTION: u8 = 3;

/// Encodes and decodes the operators and functions of this library; what it does not know it leaves to another codec.
///
/// Lookups, windows and scans of fact tables travel as what was asked: declarations, horizons, names of columns, entity tags of files. The
/// other side plans them anew, by the code of its version of this library. So both sides must be of one version.
#[derive(Debug)]
pub struct Codec {
    inner: Arc<dyn PhysicalExtensionCodec>,
    locations: Locations,
    functions: Functions,
}

impl Codec {
    /// A codec for a process that opens locations in this way. `inner` encodes all other operators.
    #[must_use]
    pub fn new(inner: Arc<dyn PhysicalExtensionCodec>, locations: Locations) -> Self {
        let functions = Functions { own: Arc::new(OwnFunctions::all()), named: Arc::new(NamedFunctions::all()) };
        Self { inner, locations, functions }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let carried = Carried { codec: self, context: Some(context), converter };
        match own(buf) {
            Some((SCAN, bytes)) => decode_scan(bytes, inputs, &carried),
            Some((OPERATOR, bytes)) => decode_operator(bytes, inputs, context, &carried),
            _ => self.inner.try_decode(buf, inputs, context, converter),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<()> {
        let carried = Carried { codec: self, context: None, converter };
        let (kind, bytes) = if let Some(scan) = encode_scan(node.as_ref(), &carried)? {
            (SCAN, scan)
        } else if let Some(operator) = encode_operator(node.as_ref(), &carried)? {
            (OPERATOR, operator)
        } else {
            return self.inner.try_encode(node, buf, converter);
        };
        write(buf, kind, &bytes);
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> DfResult<Arc<ScalarUDF>> {
        match own(buf) {
            Some(_) => self.functions.scalar(name),
            None => self.inner.try_decode_udf(name, buf),
        }
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> DfResult<()> {
        if self.functions.encoded(node, buf)? {
            return Ok(());
        }
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> DfResult<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> DfResult<()> {
        is_known(self.functions.named.has_aggregate(node), node.name())?;
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> DfResult<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> DfResult<()> {
        is_known(self.functions.named.has_window(node), node.name())?;
        self.inner.try_encode_udwf(node, buf)
    }
}

/// What this codec has written, by its kind.
fn own(buf: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, bytes) = buf.strip_prefix(MARK)?.split_first()?;
    Some((*kind, bytes))
}

fn write(buf: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    buf.extend_from_slice(MARK);
    buf.push(kind);
    buf.extend_from_slice(bytes);
}

/// The codec while a plan is encoded or decoded.
struct Carried<'a> {
    codec: &'a Codec,
    /// Only while a plan is decoded.
    context: Option<&'a TaskContext>,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Carrier for Carried<'_> {
    fn encode_plan(&self, plan: &Arc<dyn ExecutionPlan>) -> DfResult<Vec<u8>> {
        Ok(self.converter.execution_plan_to_proto(plan, self.codec)?.encode_to_vec())
    }

    fn decode_plan(&self, bytes: &[u8]) -> DfResult<Arc<dyn ExecutionPlan>> {
        let flawed = |reason: String| Error::Internal { subject: "a plan from another process".into(), reason };
        let node = PhysicalPlanNode::decode(bytes).map_err(|e| flawed(e.to_string()))?;
        let context = self.context.ok_or_else(|| flawed("it is decoded outside of a task".into()))?;
        self.converter.proto_to_execution_plan(&node, &PhysicalPlanDecodeContext::new(context, self.codec))
    }

    fn functions(&self) -> &dyn LogicalExtensionCodec {
        &self.codec.functions
    }

    fn locations(&self) -> &Locations {
        &self.codec.locations
    }
}

/// Functions in plans and in expressions over facts. Those of DataFusion travel by name. This library replaces some of them by its own, so
/// its own are marked. What other processes do not have is refused before anything is sent.
#[derive(Clone)]
struct Functions {
    own: Arc<OwnFunctions>,
    named: Arc<NamedFunctions>,
}

impl Functions {
    fn scalar(&self, name: &str) -> DfResult<Arc<ScalarUDF>> {
        match self.own.scalar(name) {
            Some(function) => Ok(function),
            None => not_impl_err!("the function {name}, which this version of asof does not have"),
        }
    }

    /// Writes the mark of a function of this library; `false` for those that travel by name.
    fn encoded(&self, function: &ScalarUDF, buf: &mut Vec<u8>) -> DfResult<bool> {
        let is_own = self.own.is_scalar(function);
        if is_own {
            write(buf, FUNCTION, &[]);
        } else {
            is_known(self.named.has_scalar(function), function.name())?;
        }
        Ok(is_own)
    }
}

/// An error for functions that only this process has.
fn is_known(is_known: bool, function: &str) -> DfResult<()> {
    if is_known {
        return Ok(());
    }
    let reason = format!(
        "it calls `{function}`, a function that only this program has. Other processes know the functions of DataFusion and of asof; \
         compute this column from the rows of the answer, or ask a store that does not run elsewhere"
    );
    Err(Error::Definition { subject: "a query that runs on a cluster".into(), reason }.into())
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions")
    }
}

impl LogicalExtensionCodec for Functions {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> DfResult<Extension> {
        not_impl_err!("a logical plan from another process")
    }

    fn try_encode(&self, _: &Extension, _: &mut Vec<u8>) -> DfResult<()> {
        not_impl_err!("a logical plan for another process")
    }

    fn try_decode_table_provider(
        &self,
        _: &[u8],
        table: &TableReference,
        _: arrow::datatypes::SchemaRef,
        _: &TaskContext,
    ) -> DfResult<Arc<dyn TableProvider>> {
        not_impl_err!("the provider {table} from another process")
    }

    fn try_encode_table_provider(&self, table: &TableReference, _: Arc<dyn TableProvider>, _: &mut Vec<u8>) -> DfResult<()> {
        not_impl_err!("the provider {table} for another process")
    }

    fn try_decode_udf(&self, name: &str, _: &[u8]) -> DfResult<Arc<ScalarUDF>> {
        self.scalar(name)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> DfResult<()> {
        self.encoded(node, buf).map(drop)
    }
}
