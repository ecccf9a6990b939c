//! How deeply SQL may nest. The parser, the planner and the optimizer walk the syntax tree recursively, and a stack that overflows ends
//! the process.

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};

/// How many operators, joins or set operations may be chained without a parenthesis or comma. Each is a level of the syntax
/// tree, which planning walks recursively.
const LONGEST_CHAIN: usize = 128;
/// How deeply parentheses may be nested.
pub(crate) const DEEPEST_NESTING: usize = 50;

pub(crate) const TOO_NESTED: &str =
    "is nested too deeply: too many parentheses, subqueries or CASE expressions lie inside each other; move inner ones into WITH";

/// Bounds the depth of the syntax tree of a statement, or of an expression, without building it. What is wrong with it is told as the
/// rest of a sentence that begins with the text.
pub(crate) fn too_deep(sql: &str) -> Option<String> {
    /// One pair of parentheses, or one CASE.
    #[derive(Default)]
    struct Level {
        operators: usize,
        parts: usize,
    }
    // The parser refuses what the tokenizer cannot read.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return None };
    let mut levels = vec![Level::default()];
    for token in tokens {
        let is_inside = levels.len() > 1;
        let level = levels.last_mut()?;
        match &token {
            Token::Whitespace(_) | Token::Period | Token::EOF => {}
            Token::Comma | Token::SemiColon => level.operators = 0,
            Token::LParen | Token::LBracket | Token::LBrace => {
                level.operators += 1;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                levels.pop();
                if levels.is_empty() {
                    return None;
                }
            }
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => levels.push(Level::default()),
                Keyword::END if is_inside => {
                    levels.pop();
                }
                Keyword::SELECT | Keyword::WHERE | Keyword::HAVING | Keyword::GROUP | Keyword::ORDER => level.operators = 0,
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS | Keyword::JOIN => level.parts += 1,
                Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::COLLATE
                | Keyword::AT => level.operators += 1,
                _ => {}
            },
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            _ => level.operators += 1,
        }
        let level = levels.last()?;
        if level.operators > LONGEST_CHAIN || level.parts > LONGEST_CHAIN {
            return Some(format!(
                "is nested too deeply: it chains more than {LONGEST_CHAIN} operators, joins or set operations; write `x IN (...)` for a \
                     chain of OR, use a table instead of many UNIONs, and split a long sum with parentheses"
            ));
        }
        if levels.len() > DEEPEST_NESTING {
            return Some(TOO_NESTED.to_owned());
        }
    }
    None
}
