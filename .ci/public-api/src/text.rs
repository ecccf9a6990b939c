//! Parts of Rust items as text, in one line each, for the listing of public items.
//! Only what a signature can hold is spaced well.

use quote::ToTokens;
use syn::{Attribute, Fields, FnArg, Pat, Signature};

/// The attributes that callers notice.
pub(crate) fn marks(attrs: &[Attribute]) -> String {
    let names = ["deprecated", "must_use", "non_exhaustive"];
    let kept = names.iter().filter(|name| attrs.iter().any(|attr| attr.path().is_ident(name)));
    kept.map(|name| format!("#[{name}] ")).collect()
}

/// What stands between the parentheses of an attribute.
pub(crate) fn inner(attr: &Attribute) -> String {
    attr.meta.require_list().map(|list| spaced(&list.tokens.to_string())).unwrap_or_default()
}

/// A function with its path, without `mut` before its arguments.
pub(crate) fn signature(sig: &Signature, path: &str) -> String {
    let mut sig = sig.clone();
    for input in &mut sig.inputs {
        match input {
            FnArg::Receiver(receiver) if receiver.reference.is_none() => receiver.mutability = None,
            FnArg::Typed(typed) => {
                if let Pat::Ident(pattern) = &mut *typed.pat {
                    pattern.mutability = None;
                }
            }
            FnArg::Receiver(_) => {}
        }
    }
    text(&sig).replacen(&format!("fn {}", sig.ident), &format!("fn {path}"), 1)
}

pub(crate) fn variant_fields(fields: &Fields) -> String {
    let one = |field: &syn::Field| match &field.ident {
        Some(name) => format!("{name}: {}", text(&field.ty)),
        None => text(&field.ty),
    };
    let all = fields.iter().map(one).collect::<Vec<_>>().join(", ");
    match fields {
        Fields::Named(_) => format!(" {{ {all} }}"),
        Fields::Unnamed(_) => format!("({all})"),
        Fields::Unit => String::new(),
    }
}

pub(crate) fn text(part: &impl ToTokens) -> String {
    spaced(&part.to_token_stream().to_string())
}

/// Rust with spaces where rustfmt has them, in one line.
pub(crate) fn spaced(tokens: &str) -> String {
    let mut out = String::new();
    let mut last = "";
    for token in split(tokens) {
        let is_word = |token: &str| token.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let is_keyword = matches!(last, "as" | "dyn" | "for" | "impl" | "in" | "mut" | "where");
        let is_tight = matches!(token, "," | ";" | ":" | ")" | "]" | ">" | "." | "::" | "!")
            || matches!(last, "" | "(" | "[" | "<" | "&" | "::" | "." | "?" | "#")
            || token == "<" && is_word(last)
            || token == "(" && (is_word(last) && !is_keyword || matches!(last, ">" | "!"));
        if !is_tight {
            out.push(' ');
        }
        out.push_str(token);
        last = token;
    }
    out.replace(",)", ")").replace(",>", ">")
}

/// The tokens of a text that a token stream printed.
fn split(mut rest: &str) -> Vec<&str> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return found };
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            '\'' => rest[1..].find(|c| !is_word(c)).map_or(rest.len(), |end| end + 1),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => ["::", "->", "=>", ".."].iter().find(|long| rest.starts_with(**long)).map_or(first.len_utf8(), |_| 2),
        };
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
}
