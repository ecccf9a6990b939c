//! Rows of text in columns that line up, for everything that is printed as a table.

/// One line per row. Cells are separated by two blanks, a column is as wide as its widest cell in characters, and no line ends with
/// a blank. The cells of the first `left` columns begin at the left, those of the others end at the right.
pub(crate) fn lines(rows: &[Vec<String>], left: usize) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column < left {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A text on one line: runs of blanks and line breaks become one blank.
pub(crate) fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_with_a_blank() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["é", "1", "long text"]), row(["abc", "22", ""]), vec!["x".to_owned()]];
        assert_eq!(lines(&rows, 1), ["é     1  long text", "abc  22", "x"]);
        assert_eq!(lines(&rows[..2], 3), ["é    1   long text", "abc  22"]);
        assert!(lines(&[], 1).is_empty());
        assert_eq!(on_one_line(" a\n\t b  "), "a b");
    }
}
