//! The tokens of a statement, taken one after the other: words, names and texts.
//! Which of them may follow each other is not known here.

use datafusion::sql::sqlparser::{dialect::Dialect, parser::Parser, tokenizer::Token};

use super::statement::Strictness;
use crate::{
    error::{Error, parser_text},
    name::TableName,
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

/// Why a statement cannot be parsed.
pub(super) enum Fault {
    Syntax(String),
    Own(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Own(error)
    }
}

pub(super) type Parsed<T> = std::result::Result<T, Fault>;

/// The tokens of a statement from the next one on.
pub(super) struct StatementTokens<'a> {
    pub(super) parser: Parser<'a>,
}

impl StatementTokens<'_> {
    /// The tokens of a text, or why it has none.
    pub(super) fn of(sql: &str) -> Result<StatementTokens<'_>, String> {
        let parser = Parser::new(&HiveDdl).try_with_sql(sql);
        parser.map(|parser| StatementTokens { parser }).map_err(|error| parser_text(&error))
    }

    pub(super) fn expected(&self, what: &str) -> String {
        let found = self.parser.peek_token();
        match found.token {
            Token::EOF => format!("ends where {what} is expected"),
            token => format!(
                "has `{token}` at line {}, column {}, where {what} is expected",
                found.span.start.line, found.span.start.column
            ),
        }
    }

    pub(super) fn fail<T>(&self, what: &str) -> Parsed<T> {
        Err(Fault::Syntax(self.expected(what)))
    }

    pub(super) fn eat(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect(&mut self, token: &Token) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { self.fail(&format!("`{token}`")) }
    }

    pub(super) fn is_next(&self, word: &str) -> bool {
        matches!(self.parser.peek_token().token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    /// Consumes this keyword if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let is_next = self.is_next(word);
        if is_next {
            self.parser.next_token();
        }
        is_next
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { self.fail(word) }
    }

    pub(super) fn if_not_exists(&mut self) -> Parsed<Strictness> {
        if !self.word("IF") {
            return Ok(Strictness::Strict);
        }
        self.expect_word("NOT")?;
        self.expect_word("EXISTS")?;
        Ok(Strictness::Lenient)
    }

    pub(super) fn if_exists(&mut self) -> Parsed<Strictness> {
        if !self.word("IF") {
            return Ok(Strictness::Strict);
        }
        self.expect_word("EXISTS")?;
        Ok(Strictness::Lenient)
    }

    /// A name, without its quotes.
    pub(super) fn name(&mut self, what: &str) -> Parsed<String> {
        match self.parser.peek_token().token {
            Token::Word(word) if word.quote_style.is_none_or(|quote| matches!(quote, '`' | '"')) => {
                self.parser.next_token();
                Ok(word.value)
            }
            _ => self.fail(what),
        }
    }

    pub(super) fn database(&mut self) -> Parsed<String> {
        Ok(self.name("the name of a database")?.to_lowercase())
    }

    pub(super) fn table(&mut self) -> Parsed<TableName> {
        let first = self.name("the name of a table")?.to_lowercase();
        let name = match self.eat(&Token::Period) {
            true => format!("{first}.{}", self.name("the name of a table")?.to_lowercase()),
            false => first,
        };
        Ok(name.parse()?)
    }

    pub(super) fn text(&mut self) -> Parsed<String> {
        match self.parser.peek_token().token {
            Token::SingleQuotedString(text) => {
                self.parser.next_token();
                Ok(text)
            }
            _ => self.fail("a text in single quotes"),
        }
    }
}
