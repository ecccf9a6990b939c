//! Stops DataFusion's physical filter pushdown where two columns share a name: it finds the column of a filter below an
//! operator by name alone, so a filter on one of the two could be applied to the other. Little is lost: the pushdown in the
//! logical plan, which knows columns by table and name, has run before.

use std::sync::Arc;

use datafusion::{
    common::{Result, config::ConfigOptions},
    physical_optimizer::{PhysicalOptimizerRule, optimizer::PhysicalOptimizer},
    physical_plan::{ExecutionPlan, replace_children_if_necessary},
};

/// DataFusion's rules for physical plans, with filter pushdown stopped where two columns share a name.
pub(super) fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    restricted(PhysicalOptimizer::new().rules)
}

/// The rules of a session, with filter pushdown stopped where two columns share a name.
pub(crate) fn restricted(
    rules: impl IntoIterator<Item = Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let restricted = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name().starts_with("FilterPushdown") {
        true => Arc::new(DistinctNames { name: format!("Restricted{}", rule.name()), rule }) as _,
        false => rule,
    };
    rules.into_iter().map(restricted).collect()
}

/// A filter pushdown that is applied only to those parts of a plan in which no operator yields two columns of one name.
#[derive(Debug)]
struct DistinctNames {
    /// Another one than the rule's, by which a session's rules are restricted only once.
    name: String,
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
}

impl PhysicalOptimizerRule for DistinctNames {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let children: Vec<Arc<dyn ExecutionPlan>> = plan.children().into_iter().cloned().collect();
        // No filter comes from above the top operator of a part, so its own column names do not matter.
        if children.iter().all(|child| has_distinct_names(child.as_ref())) {
            return self.rule.optimize(plan, config);
        }
        let children = children.into_iter().map(|child| self.optimize(child, config)).collect::<Result<Vec<_>>>()?;
        replace_children_if_necessary(plan, children)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }
}

/// Are the column names of this operator, and of each operator below it, distinct?
fn has_distinct_names(plan: &dyn ExecutionPlan) -> bool {
    let schema = plan.schema();
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1]) && plan.children().into_iter().all(|child| has_distinct_names(child.as_ref()))
}
