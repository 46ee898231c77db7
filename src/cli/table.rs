//! Aligned columns of plain text, the same on a terminal and in a pipe.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, presets};

/// Columns of text that answers aim to stay within.
pub(super) const WIDTH: u16 = 100;

/// A column's heading and side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Text.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
    /// Text that is broken into lines so that the table stays within
    /// [`WIDTH`]; the last column only.
    Wrapped(&'static str),
}

impl Column {
    const fn heading(self) -> &'static str {
        match self {
            Self::Left(heading) | Self::Right(heading) | Self::Wrapped(heading) => heading,
        }
    }
}

/// A table of `rows` under the headings of `columns`.
pub(super) fn table<R>(columns: &[Column], rows: R) -> String
where
    R: IntoIterator<Item = Vec<String>>,
{
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.heading()));
    table.add_rows(rows);
    if columns
        .iter()
        .any(|column| matches!(column, Column::Wrapped(_)))
    {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH);
    }
    for (column, spec) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 1));
        match spec {
            Column::Wrapped(_) => {}
            Column::Left(_) => {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            Column::Right(_) => {
                column.set_constraint(ColumnConstraint::ContentWidth);
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_space() {
        let rows = [["lan", "7"], ["wan0", "1234"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&[Column::Left("Port"), Column::Right("Frames")], rows),
            "Port Frames\nlan       7\nwan0   1234"
        );
    }

    #[test]
    fn long_text_is_wrapped_in_its_column() {
        let rows = [vec!["name".to_owned(), "word ".repeat(40)]];
        let text = table(&[Column::Left("Name"), Column::Wrapped("Help")], rows);
        assert!(text.lines().count() > 2, "{text}");
        for line in text.lines() {
            assert!(line.len() <= usize::from(WIDTH), "{line}");
        }
        assert!(
            text.lines()
                .skip(2)
                .all(|line| line.starts_with("     word")),
            "{text}"
        );
    }
}
