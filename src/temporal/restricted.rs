//! The rows of a query over one table, as a query over some files of the table.
//! What is done with the rows is not known here.

use std::sync::Arc;

use datafusion::{
    catalog::TableProvider,
    common::tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    dataframe::DataFrame,
    datasource::{physical_plan::FileScanConfig, provider_as_source, source::DataSourceExec},
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, ExecutionPlanProperties},
};

use super::planner::with_operators;
use crate::{
    error::{Error, Result},
    scan::AsOfTable,
};

/// The same query over another table with the same columns.
///
/// # Errors
/// [`Error::Internal`] if the query does not read exactly one table.
pub(super) fn over(rows: &DataFrame, table: AsOfTable) -> Result<DataFrame> {
    let (state, plan) = rows.clone().into_parts();
    let source = provider_as_source(Arc::new(table) as Arc<dyn TableProvider>);
    let mut replaced = 0;
    let plan = plan.transform_up(|node| {
        Ok(match node {
            LogicalPlan::TableScan(mut scan) => {
                scan.source = source.clone();
                replaced += 1;
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            other => Transformed::no(other),
        })
    })?;
    if replaced != 1 {
        let reason = format!("its query reads {replaced} tables, and one was expected");
        return Err(Error::Internal { subject: "the set of entities".into(), reason });
    }
    Ok(DataFrame::new(state, plan.data))
}

/// As [`over`], planned so that each task keeps to the files that the table gives it.
///
/// # Errors
/// As [`over`].
pub(super) fn apart_over(rows: &DataFrame, table: AsOfTable) -> Result<DataFrame> {
    let (state, plan) = over(rows, table)?.into_parts();
    Ok(DataFrame::new(with_operators(state, None), plan))
}

/// Does each partition of the plan read one of these pieces of the table's files, in their order, and nothing else?
pub(super) fn reads_apart(plan: &Arc<dyn ExecutionPlan>, table: &AsOfTable, pieces: &[(usize, u64, u64)]) -> bool {
    if plan.output_partitioning().partition_count() != pieces.len() {
        return false;
    }
    let (mut scans, mut are_apart) = (0, false);
    let visited = plan.apply(|node| {
        let source = node.downcast_ref::<DataSourceExec>();
        if let Some(scan) = source.and_then(|source| source.data_source().downcast_ref::<FileScanConfig>()) {
            scans += 1;
            are_apart = scan.file_groups.len() == pieces.len()
                && scan.file_groups.iter().zip(pieces).all(|(group, (file, start, end))| match group.files() {
                    [read] => {
                        let is_range = |range: &datafusion::datasource::listing::FileRange| {
                            (u64::try_from(range.start), u64::try_from(range.end)) == (Ok(*start), Ok(*end))
                        };
                        table.object(*file) == Some(&read.object_meta.location) && read.range.as_ref().is_some_and(is_range)
                    }
                    _ => false,
                });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && scans == 1 && are_apart
}
