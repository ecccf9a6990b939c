//! `EXPLAIN` of plans that run in other processes. DataFusion explains a plan as one process would run it.

use std::sync::Arc;

use datafusion::{
    common::{
        Result as DfResult,
        display::{PlanType, StringifiedPlan},
        format::ExplainFormat,
    },
    config::ConfigOptions,
    logical_expr::Explain,
    physical_plan::{ExecutionPlan, displayable, explain::ExplainExec},
};

/// The explanation, which ends with the plan that runs.
pub(crate) fn with_final_plan(
    explained: Arc<dyn ExecutionPlan>,
    plan: &dyn ExecutionPlan,
    asked: &Explain,
    options: &ConfigOptions,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let Some(exec) = explained.downcast_ref::<ExplainExec>() else { return Ok(explained) };
    let options = &options.explain;
    let statistics = asked.show_statistics.unwrap_or(options.show_statistics);
    let texts = exec.stringified_plans().iter().map(|text| {
        let shown = displayable(plan);
        let final_plan = match (&text.plan_type, &asked.explain_format) {
            (PlanType::FinalPhysicalPlan, ExplainFormat::Tree) => {
                shown.set_tree_maximum_render_width(options.tree_maximum_render_width).tree_render().to_string()
            }
            (PlanType::FinalPhysicalPlan, _) => {
                let shown = shown.set_show_statistics(statistics).set_show_schema(options.show_schema);
                shown.indent(asked.verbose).to_string()
            }
            (PlanType::FinalPhysicalPlanWithStats, _) => shown.set_show_statistics(true).indent(asked.verbose).to_string(),
            (PlanType::FinalPhysicalPlanWithSchema, _) => shown.set_show_schema(true).indent(asked.verbose).to_string(),
            _ => return text.clone(),
        };
        StringifiedPlan::new(text.plan_type.clone(), final_plan)
    });
    Ok(Arc::new(ExplainExec::new(exec.schema(), texts.collect(), exec.verbose())))
}
