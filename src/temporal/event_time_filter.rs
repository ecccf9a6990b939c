//! A filter on the event times of facts, for the range of time that a spine can see. It is set once the spine has been read.
//! It skips files and row groups. It does not decide what a row sees: a fact that may be visible always passes.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, lit},
    },
};

use super::{
    fact_input::{ALWAYS, PhysicalFactInput},
    spec::OperatorSpec,
    time_decoder::{Direction, TickUnit},
};
use crate::{
    error::Result,
    scan::time_literal,
    time::{AsOf, Cutoff, Horizon, TimeScale},
};

/// The filter of one fact table.
#[derive(Debug)]
pub(super) struct EventTimeFilter {
    filter: Arc<DynamicFilterPhysicalExpr>,
    column: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    scale: TimeScale,
    unit: TickUnit,
    direction: Direction,
    /// How long before an instant an event can lie, in ticks; `None` if there is no limit.
    look_back: Option<i64>,
    delay: i64,
}

impl EventTimeFilter {
    /// The filter of a fact table. A table with an identity has none: a version of a fact may be replaced by one with another
    /// event time, which must be read too. Nor has a timeless table.
    pub(super) fn of<S: OperatorSpec>(input: &PhysicalFactInput<S>) -> Option<Self> {
        let (position, decoder) = input.time_decoders.first()?;
        if !input.identity.is_empty() || decoder.column == ALWAYS {
            return None;
        }
        let field = input.facts_schema.field(*position);
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), *position));
        Some(Self {
            filter: Arc::new(DynamicFilterPhysicalExpr::new(vec![column.clone()], lit(true))),
            column,
            data_type: field.data_type().clone(),
            scale: decoder.scale,
            unit: decoder.unit,
            direction: input.logical.direction,
            look_back: input.logical.spec.look_back_us().and_then(|us| decoder.unit.length(us)),
            delay: decoder.unit.ticks(input.delay_us),
        })
    }

    /// The filter as an expression. Every fact passes until the range is set.
    pub(super) fn expression(&self) -> Arc<dyn PhysicalExpr> {
        self.filter.clone()
    }

    /// Sets the first and the last instant of the spine, in ticks; `None` if the spine has no rows.
    pub(super) fn set_spine_range(&self, range: Option<(i64, i64)>) -> Result<()> {
        let condition = match range {
            None => lit(false),
            Some((first, last)) => {
                let start = self.start(first).map(|start| self.compared(Operator::GtEq, start)).transpose()?;
                let end = self.end(last).map(|end| self.compared(Operator::Lt, end)).transpose()?;
                match (start, end) {
                    (Some(start), Some(end)) => Arc::new(BinaryExpr::new(start, Operator::And, end)),
                    (Some(one), None) | (None, Some(one)) => one,
                    (None, None) => lit(true),
                }
            }
        };
        self.filter.update(condition)?;
        self.filter.mark_complete();
        Ok(())
    }

    /// The smallest stored event time that the first instant may see. It is a microsecond early, since finer times are rounded.
    fn start(&self, first: i64) -> Option<i64> {
        let tick = match self.direction {
            Direction::Backward => first.checked_sub(self.look_back?)?,
            Direction::Forward => first,
        };
        let us = self.micros(tick.checked_sub(self.unit.ticks(1))?);
        self.scale.first_not_before(AsOf::from_micros(us))
    }

    /// The smallest stored event time that the last instant does not see, whatever the cutoff.
    fn end(&self, last: i64) -> Option<i64> {
        match self.direction {
            Direction::Backward => {
                let tick = last.checked_sub(self.delay)?.checked_add(self.unit.ticks(1))?;
                self.scale.first_hidden(Horizon::new(AsOf::from_micros(self.micros(tick)), Cutoff::Inclusive))
            }
            Direction::Forward => None,
        }
    }

    /// The microsecond that a tick lies in.
    fn micros(&self, tick: i64) -> i64 {
        tick.div_euclid(self.unit.ticks(1))
    }

    fn compared(&self, operator: Operator, value: i64) -> Result<Arc<dyn PhysicalExpr>> {
        let value = lit(time_literal(&self.data_type, value)?);
        Ok(Arc::new(BinaryExpr::new(self.column.clone(), operator, value)))
    }
}
