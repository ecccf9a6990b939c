//! Parses the text of a statement.
//! Names, types and properties are not checked against the catalog here.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{
    statement::{CreateTable, Detail, Statement},
    tokens::{Fault, Parsed, StatementTokens},
};
use crate::{
    error::{Error, Result},
    name::DEFAULT_DATABASE,
    storage::redacted,
};

/// Reads one statement.
///
/// # Errors
/// [`Error::Statement`] with what was expected and where, [`Error::InvalidName`] for a name that cannot be a table's.
pub(super) fn parse(sql: &str) -> Result<Statement> {
    let refused = |reason: String| Error::Statement { statement: beginning_of(sql), reason: redacted(&reason) };
    let mut tokens = StatementTokens::of(sql).map_err(|reason| refused(format!("cannot be read: {reason}")))?;
    let statement = tokens.statement().map_err(|fault| match fault {
        Fault::Syntax(reason) => refused(reason),
        Fault::Own(error) => error,
    })?;
    while tokens.eat(&Token::SemiColon) {}
    match tokens.parser.peek_token().token {
        Token::EOF => Ok(statement),
        _ => Err(refused(tokens.expected("its end"))),
    }
}

/// The first words of a statement, for messages; locations without credentials.
pub(super) fn beginning_of(sql: &str) -> String {
    let mut words = redacted(sql).split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(60) {
        words.truncate(end);
        words.push_str(" ...");
    }
    words
}

impl StatementTokens<'_> {
    fn statement(&mut self) -> Parsed<Statement> {
        if self.word("CREATE") {
            if self.word("DATABASE") || self.word("SCHEMA") {
                return self.create_database();
            }
            if self.word("EXTERNAL") {
                self.expect_word("TABLE")?;
                return self.create_table();
            }
            if self.is_next("TABLE") {
                return Err(Fault::Syntax(
                    "makes a table that is not EXTERNAL; write CREATE EXTERNAL TABLE for files that are there, and load others with \
                     `store.ingest`"
                        .into(),
                ));
            }
            return self.fail("DATABASE or EXTERNAL TABLE");
        }
        if self.word("DROP") {
            if self.word("DATABASE") || self.word("SCHEMA") {
                let strictness = self.if_exists()?;
                let name = self.database()?;
                if self.word("CASCADE") {
                    return Err(Fault::Syntax(
                        "drops tables too, which cannot be one commit; drop them first, one by one".into(),
                    ));
                }
                self.word("RESTRICT");
                return Ok(Statement::DropDatabase { name, strictness });
            }
            if self.word("TABLE") {
                let strictness = self.if_exists()?;
                let table = self.table()?;
                if self.word("PURGE") {
                    return Err(Fault::Syntax("would delete files, which this library never does; leave out PURGE".into()));
                }
                return Ok(Statement::DropTable { table, strictness });
            }
            return self.fail("DATABASE or TABLE");
        }
        if self.word("MSCK") {
            self.expect_word("REPAIR")?;
            self.expect_word("TABLE")?;
            let table = self.table()?;
            if self.word("SYNC") {
                self.expect_word("PARTITIONS")?;
            } else if self.is_next("ADD") || self.is_next("DROP") {
                return Err(Fault::Syntax(
                    "repairs only in part; write MSCK REPAIR TABLE alone, which adds and removes partitions".into(),
                ));
            }
            return Ok(Statement::Repair { table });
        }
        if self.word("ALTER") {
            self.expect_word("TABLE")?;
            return self.alter_table();
        }
        if self.word("SHOW") {
            return self.show();
        }
        if self.word("DESCRIBE") || self.word("DESC") {
            self.word("TABLE");
            let detail = if self.word("EXTENDED") || self.word("FORMATTED") { Detail::Extended } else { Detail::Columns };
            return Ok(Statement::Describe { table: self.table()?, detail });
        }
        if ["SELECT", "WITH", "EXPLAIN", "VALUES"].iter().any(|word| self.is_next(word)) {
            return Err(Fault::Syntax("is a query; run it with `store.sql(sql, as_of)`".into()));
        }
        if ["INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "LOAD"].iter().any(|word| self.is_next(word)) {
            return Err(Fault::Syntax("changes rows, and facts never change; load new ones with `store.ingest`".into()));
        }
        self.fail("CREATE, DROP, MSCK REPAIR TABLE, ALTER TABLE, SHOW or DESCRIBE")
    }

    fn create_database(&mut self) -> Parsed<Statement> {
        let strictness = self.if_not_exists()?;
        let name = self.database()?;
        let comment = if self.word("COMMENT") { Some(self.text()?) } else { None };
        if self.is_next("LOCATION") {
            return Err(Fault::Syntax("gives a database a LOCATION; only tables have one".into()));
        }
        Ok(Statement::CreateDatabase { name, strictness, comment })
    }

    fn create_table(&mut self) -> Parsed<Statement> {
        let strictness = self.if_not_exists()?;
        let table = self.table()?;
        let columns = if self.parser.peek_token().token == Token::LParen { self.column_defs()? } else { Vec::new() };
        let mut partition_columns = None;
        let (mut comment, mut location, mut properties, mut is_parquet) = (None, None, None, false);
        loop {
            if partition_columns.is_none() && self.word("PARTITIONED") {
                self.expect_word("BY")?;
                partition_columns = Some(self.column_defs()?);
            } else if comment.is_none() && self.word("COMMENT") {
                comment = Some(self.text()?);
            } else if location.is_none() && self.word("LOCATION") {
                location = Some(self.text()?);
            } else if properties.is_none() && self.word("TBLPROPERTIES") {
                properties = Some(self.properties()?);
            } else if self.word("ROW") {
                self.expect_word("FORMAT")?;
                self.expect_word("SERDE")?;
                is_parquet = self.parquet_class()?;
                if self.word("WITH") {
                    self.expect_word("SERDEPROPERTIES")?;
                    self.properties()?;
                }
            } else if self.word("STORED") {
                self.expect_word("AS")?;
                if self.word("INPUTFORMAT") {
                    is_parquet = self.parquet_class()?;
                    self.expect_word("OUTPUTFORMAT")?;
                    self.text()?;
                } else if self.word("PARQUET") {
                    is_parquet = true;
                } else {
                    return self.fail("PARQUET, the one format of fact tables,");
                }
            } else if ["CLUSTERED", "SKEWED", "SORTED"].iter().any(|word| self.is_next(word)) {
                return Err(Fault::Syntax(self.expected("no bucketing, which facts do not have, but the next clause")));
            } else if self.is_next("AS") || self.is_next("LIKE") {
                return Err(Fault::Syntax(self.expected("the next clause: a table is made of files that are there, and this")));
            } else {
                break;
            }
        }
        if !is_parquet {
            return self.fail("STORED AS PARQUET");
        }
        let Some(location) = location else { return self.fail("LOCATION, the folder of the files,") };
        Ok(Statement::CreateTable(Box::new(CreateTable {
            table,
            strictness,
            columns,
            partition_columns: partition_columns.unwrap_or_default(),
            comment,
            location,
            properties: properties.unwrap_or_default(),
        })))
    }

    /// A Java class, by which Athena's own DDL names formats.
    fn parquet_class(&mut self) -> Parsed<bool> {
        let class = self.text()?;
        match class.to_lowercase().contains("parquet") {
            true => Ok(true),
            false => Err(Fault::Syntax(format!("names the format `{class}`; fact tables are STORED AS PARQUET"))),
        }
    }

    fn alter_table(&mut self) -> Parsed<Statement> {
        let table = self.table()?;
        if self.word("ADD") {
            let strictness = self.if_not_exists()?;
            let mut partitions = Vec::new();
            while self.word("PARTITION") {
                let spec = self.spec()?;
                let location = if self.word("LOCATION") { Some(self.text()?) } else { None };
                partitions.push((spec, location));
                self.eat(&Token::Comma);
            }
            return match partitions.is_empty() {
                true => self.fail("PARTITION"),
                false => Ok(Statement::AddPartitions { table, strictness, partitions }),
            };
        }
        if self.word("DROP") {
            let strictness = self.if_exists()?;
            let mut specs = Vec::new();
            while self.word("PARTITION") {
                specs.push(self.spec()?);
                self.eat(&Token::Comma);
            }
            if self.word("PURGE") {
                return Err(Fault::Syntax("would delete files, which this library never does; leave out PURGE".into()));
            }
            return match specs.is_empty() {
                true => self.fail("PARTITION"),
                false => Ok(Statement::DropPartitions { table, strictness, specs }),
            };
        }
        self.fail("ADD PARTITION or DROP PARTITION")
    }

    fn show(&mut self) -> Parsed<Statement> {
        if self.word("DATABASES") || self.word("SCHEMAS") {
            return Ok(Statement::ShowDatabases { like: self.like()? });
        }
        if self.word("TABLES") {
            let database = if self.word("IN") || self.word("FROM") { self.database()? } else { DEFAULT_DATABASE.into() };
            return Ok(Statement::ShowTables { database, like: self.like()? });
        }
        if self.word("PARTITIONS") {
            let table = self.table()?;
            let spec = if self.word("PARTITION") { self.spec()? } else { Vec::new() };
            return Ok(Statement::ShowPartitions { table, spec });
        }
        if self.word("CREATE") {
            self.expect_word("TABLE")?;
            return Ok(Statement::ShowCreate { table: self.table()? });
        }
        self.fail("DATABASES, TABLES, PARTITIONS or CREATE TABLE")
    }

    fn like(&mut self) -> Parsed<Option<String>> {
        let is_text = matches!(self.parser.peek_token().token, Token::SingleQuotedString(_));
        if self.word("LIKE") || is_text { self.text().map(Some) } else { Ok(None) }
    }
}
