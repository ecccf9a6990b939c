//! The lists in parentheses of a statement: properties, columns with their types, values of a partition.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{
    statement::{ColumnDef, PartitionSpec},
    tokens::{Fault, Parsed, StatementTokens},
};
use crate::{catalog::HiveType, error::Error};

impl StatementTokens<'_> {
    pub(super) fn properties(&mut self) -> Parsed<Vec<(String, String)>> {
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

    pub(super) fn column_defs(&mut self) -> Parsed<Vec<ColumnDef>> {
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
    pub(super) fn spec(&mut self) -> Parsed<PartitionSpec> {
        self.expect(&Token::LParen)?;
        let mut spec: PartitionSpec = Vec::new();
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
