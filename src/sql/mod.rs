//! SQL over the tables of a store: which tables a query names, how it is read, checked and planned.
//!
//! [`FeatureStore::sql`](crate::FeatureStore::sql), extracts and the queries of feature sets all pass through here.
//! [`functions`] lists the functions of Presto that they know; `ASOF JOIN` and `trailing` are in
//! [`temporal::sql`](crate::temporal::sql).

pub mod functions;

mod calls;
mod facts;
mod ignored_clauses;
mod information_schema;
mod parameters;
mod query;
mod show;
mod statement;
mod tables;

pub(crate) use facts::facts;
pub(crate) use information_schema::InformationSchema;
pub(crate) use query::{QueryContext, plan_is_rowwise, query, query_with, table_rows};
pub(crate) use tables::{QueryTables, open_tables, tables_in};
