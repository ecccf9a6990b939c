//! Parses the text of a statement.
//! Names, types and properties are not checked against the catalog here.

use datafusion::sql::sqlparser::{
    dialect::Dialect,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use crate::{
    catalog::{HiveType, NewPartition},
    error::{Error, Result},
    name::{DEFAULT_DATABASE, TableName},
    storage::redacted,
};

/// Hive's dialect: names in backquotes, and backslashes in texts.
#[derive(Debug)]
struct HiveDdl;

impl Dialect for HiveDdl {
    fn is_identifier_start(&self, c: char) -> bool {
        c.is_alphabetic() || c == '_'
    }

    fn is_identifier_part(&self, c: char) -> bool {
        c.is_alphanumeric() || c == '_'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
}

/// A parsed statement.
#[derive(Debug, PartialEq)]
pub(super) enum Statement {
    CreateDatabase { name: String, strictness: Strictness, comment: Option<String> },
    DropDatabase { name: String, strictness: Strictness },
    ShowDatabases { like: Option<String> },
    CreateTable(Box<CreateTable>),
    DropTable { table: TableName, strictness: Strictness },
    Repair { table: TableName },
    AddPartitions { table: TableName, strictness: Strictness, partitions: Vec<NewPartition> },
    DropPartitions { table: TableName, strictness: Strictness, specs: Vec<Spec> },
    ShowPartitions { table: TableName, spec: Spec },
    ShowTables { database: String, like: Option<String> },
    Describe { table: TableName, detail: Detail },
    ShowCreate { table: TableName },
}

/// `PARTITION (column = value, ...)`
pub(super) type Spec = Vec<(String, Option<String>)>;

/// What happens when the thing to be made exists already, or the thing to be removed does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// It is an error.
    Strict,
    /// `IF NOT EXISTS` or `IF EXISTS`.
    Lenient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Columns,
    Extended,
}

#[derive(Debug, PartialEq)]
pub(super) struct CreateTable {
    pub(super) table: TableName,
    pub(super) strictness: Strictness,
    pub(super) columns: Vec<ColumnDef>,
    pub(super) partition_columns: Vec<ColumnDef>,
    pub(super) comment: Option<String>,
    pub(super) location: String,
    pub(super) properties: Vec<(String, String)>,
}

#[derive(Debug, PartialEq)]
pub(super) struct ColumnDef {
    pub(super) name: String,
    pub(super) hive_type: HiveType,
    pub(super) comment: Option<String>,
}

/// Reads one statement.
///
/// # Errors
/// [`Error::Statement`] with what was expected and where, [`Error::InvalidName`] for a name that cannot be a table's.
pub(super) fn parse(sql: &str) -> Result<Statement> {
    let refused = |reason: String| Error::Statement { statement: beginning_of(sql), reason: redacted(&reason) };
    let parser =
        Parser::new(&HiveDdl).try_with_sql(sql).map_err(|e| refused(format!("cannot be read: {}", parser_message(e))))?;
    let mut cursor = Cursor { parser };
    let statement = cursor.statement().map_err(|fault| match fault {
        Fault::Syntax(reason) => refused(reason),
        Fault::Own(error) => error,
    })?;
    while cursor.eat(&Token::SemiColon) {}
    match cursor.parser.peek_token().token {
        Token::EOF => Ok(statement),
        _ => Err(refused(cursor.expected("its end"))),
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

fn parser_message(error: ParserError) -> String {
    match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => "it is nested too deeply".into(),
    }
}

/// Why a statement cannot be parsed.
enum Fault {
    Syntax(String),
    Own(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

type Parsed<T> = std::result::Result<T, Fault>;

struct Cursor<'a> {
    parser: Parser<'a>,
}

impl Cursor<'_> {
    fn expected(&self, what: &str) -> String {
        let found = self.parser.peek_token();
        match found.token {
            Token::EOF => format!("ends where {what} is expected"),
            token => format!(
                "has `{token}` at line {}, column {}, where {what} is expected",
                found.span.start.line, found.span.start.column
            ),
        }
    }

    fn fail<T>(&self, what: &str) -> Parsed<T> {
        Err(Fault::Syntax(self.expected(what)))
    }

    fn eat(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    fn expect(&mut self, token: &Token) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { self.fail(&format!("`{token}`")) }
    }

    fn is_next(&self, word: &str) -> bool {
        matches!(self.parser.peek_token().token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    /// Consumes this keyword if it is next.
    fn word(&mut self, word: &str) -> bool {
        let is_next = self.is_next(word);
        if is_next {
            self.parser.next_token();
        }
        is_next
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { self.fail(word) }
    }

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

    fn if_not_exists(&mut self) -> Parsed<Strictness> {
        if !self.word("IF") {
            return Ok(Strictness::Strict);
        }
        self.expect_word("NOT")?;
        self.expect_word("EXISTS")?;
        Ok(Strictness::Lenient)
    }

    fn if_exists(&mut self) -> Parsed<Strictness> {
        if !self.word("IF") {
            return Ok(Strictness::Strict);
        }
        self.expect_word("EXISTS")?;
        Ok(Strictness::Lenient)
    }

    /// A name, without its quotes.
    fn name(&mut self, what: &str) -> Parsed<String> {
        match self.parser.peek_token().token {
            Token::Word(word) if word.quote_style.is_none_or(|quote| matches!(quote, '`' | '"')) => {
                self.parser.next_token();
                Ok(word.value)
            }
            _ => self.fail(what),
        }
    }

    fn database(&mut self) -> Parsed<String> {
        Ok(self.name("the name of a database")?.to_lowercase())
    }

    fn table(&mut self) -> Parsed<TableName> {
        let first = self.name("the name of a table")?.to_lowercase();
        let name = match self.eat(&Token::Period) {
            true => format!("{first}.{}", self.name("the name of a table")?.to_lowercase()),
            false => first,
        };
        Ok(name.parse()?)
    }

    fn text(&mut self) -> Parsed<String> {
        match self.parser.peek_token().token {
            Token::SingleQuotedString(text) => {
                self.parser.next_token();
                Ok(text)
            }
            _ => self.fail("a text in single quotes"),
        }
    }

    fn properties(&mut self) -> Parsed<Vec<(String, String)>> {
        self.expect(&Token::LParen)?;
        let mut properties: Vec<(String, String)> = Vec::new();
        loop {
            let key = self.text()?;
            self.expect(&Token::Eq)?;
            let value = self.text()?;
            if properties.iter().any(|(known, _)| *known == key) {
                return Err(Fault::Syntax(format!("gives the property `{key}` twice")));
            }
            properties.push((key, value));
            if !self.eat(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        Ok(properties)
    }

    fn column_defs(&mut self) -> Parsed<Vec<ColumnDef>> {
        self.expect(&Token::LParen)?;
        let mut columns: Vec<ColumnDef> = Vec::new();
        loop {
            let name = self.name("the name of a column")?;
            if columns.iter().any(|known| known.name.to_lowercase() == name.to_lowercase()) {
                return Err(Fault::Syntax(format!("declares the column `{name}` twice")));
            }
            let hive_type = self.hive_type(&name)?;
            let comment = if self.word("COMMENT") { Some(self.text()?) } else { None };
            columns.push(ColumnDef { name, hive_type, comment });
            if !self.eat(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        Ok(columns)
    }

    /// The text of a type, up to the comma, parenthesis or word after it that belongs to the list of columns.
    fn hive_type(&mut self, column: &str) -> Parsed<HiveType> {
        let (mut text, mut depth, mut after_word) = (String::new(), 0i32, false);
        loop {
            let token = self.parser.peek_token().token;
            match &token {
                Token::EOF | Token::SemiColon => break,
                Token::Comma | Token::RParen if depth == 0 => break,
                Token::Lt | Token::LParen => depth += 1,
                Token::Gt | Token::RParen => depth -= 1,
                Token::ShiftRight => depth -= 2,
                Token::Word(_) if depth == 0 && self.is_next("COMMENT") => break,
                _ => {}
            }
            let is_word = matches!(token, Token::Word(_));
            text += if is_word && after_word { " " } else { "" };
            text += &token.to_string();
            after_word = is_word;
            self.parser.next_token();
        }
        if text.trim().is_empty() {
            return self.fail(&format!("the type of the column `{column}`"));
        }
        text.trim().parse().map_err(|e| match e {
            Error::InvalidName { value, reason, .. } => {
                Fault::Syntax(format!("declares the column `{column}` as `{value}`, which is not a type: {reason}"))
            }
            other => Fault::Own(other),
        })
    }

    /// `(column = value, ...)`
    fn spec(&mut self) -> Parsed<Spec> {
        self.expect(&Token::LParen)?;
        let mut spec: Spec = Vec::new();
        loop {
            let column = self.name("the name of a partition column")?;
            if spec.iter().any(|(known, _)| known.to_lowercase() == column.to_lowercase()) {
                return Err(Fault::Syntax(format!("gives the partition column `{column}` twice")));
            }
            self.expect(&Token::Eq)?;
            let is_negative = self.eat(&Token::Minus);
            self.word("DATE");
            let value = match self.parser.peek_token().token {
                Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) if !is_negative => Some(text),
                Token::Number(digits, _) => Some(if is_negative { format!("-{digits}") } else { digits }),
                Token::Word(word) if !is_negative && word.quote_style == Some('"') => Some(word.value),
                Token::Word(word) if !is_negative && word.value.eq_ignore_ascii_case("NULL") => None,
                Token::Word(word) if !is_negative && ["true", "false"].contains(&word.value.to_lowercase().as_str()) => {
                    Some(word.value.to_lowercase())
                }
                _ => return self.fail("a number, a text in quotes or NULL"),
            };
            self.parser.next_token();
            spec.push((column, value.filter(|value| value != "__HIVE_DEFAULT_PARTITION__")));
            if !self.eat(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        Ok(spec)
    }
}
