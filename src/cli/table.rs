//! A short table for people: columns as wide as their widest cell, two blanks between them.

use std::io::{self, Write};

use crate::cli::retry::for_terminal;

/// Rows of cells, all of the same number.
///
/// Cells hold what a server says, so control characters in them are made visible.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Blanks before each row.
    indent: usize,
}

impl Table {
    /// One whose first row names the columns.
    pub(crate) fn headed(names: &[&str]) -> Table {
        let mut table = Table::default();
        table.row(names);
        table
    }

    /// One without names, indented by two blanks.
    pub(crate) fn indented() -> Table {
        Table { rows: Vec::new(), indent: 2 }
    }

    /// Adds a row.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        self.rows.push(cells.iter().map(|cell| for_terminal(cell.as_ref())).collect());
    }

    /// Prints all rows. No line ends with blanks.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &Table) -> String {
        let mut out = Vec::new();
        table.print(&mut out).expect("memory takes it");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_line_ends_with_blanks() {
        let mut table = Table::headed(&["id", "name", "why"]);
        table.row(&["1", "größer", ""]);
        table.row(&["1000", "x", "because"]);
        assert_eq!(printed(&table), "id    name    why\n1     größer\n1000  x       because\n");
        let mut table = Table::indented();
        table.row(&["a\u{1b}[2J", "b"]);
        assert_eq!(printed(&table), "  a\\u{1b}[2J  b\n");
        assert_eq!(printed(&Table::indented()), "");
    }
}
