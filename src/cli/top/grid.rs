//! A table that fits the width of a screen: rows that can be sorted and
//! filtered, columns of which the less important ones give way.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

/// A column of a [`Grid`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) side: Side,
    /// Columns of it at least, so that tables do not dance with their numbers.
    pub(super) width_min: usize,
    /// 0 stays; of the others the highest go first where there is no room.
    pub(super) rank: u8,
}

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Text on the left.
pub(super) const fn left(title: &'static str, width_min: usize, rank: u8) -> Column {
    Column {
        title,
        side: Side::Left,
        width_min,
        rank,
    }
}

/// A number.
pub(super) const fn right(title: &'static str, width_min: usize, rank: u8) -> Column {
    Column {
        title,
        side: Side::Right,
        width_min,
        rank,
    }
}

/// What is shown of a thing in one column, and how it is sorted by that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Numbers sort by value; texts have none.
    pub(super) value: Option<f64>,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            value: None,
        }
    }

    pub(super) fn number(text: impl Into<String>, value: f64) -> Self {
        Self {
            text: text.into(),
            value: Some(value),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self.value, other.value) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// How a row is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Of no account at present.
    Dim,
    /// An operator should look at it.
    Alarm,
}

/// A thing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Tells it from the other rows, in later tables, too.
    pub(super) id: String,
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
}

/// Things of one kind.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) columns: &'static [Column],
    /// A column that says the same of all rows.
    pub(super) hidden: Option<usize>,
    pub(super) rows: Vec<Row>,
}

impl Grid {
    /// Keeps the rows that have every word of `filter` somewhere.
    pub(super) fn retain(&mut self, filter: &str) {
        let words: Vec<_> = filter.split_whitespace().map(str::to_lowercase).collect();
        self.rows.retain(|row| {
            let texts: Vec<_> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
            let text = texts.join(" ").to_lowercase();
            words.iter().all(|word| text.contains(word))
        });
    }

    /// Sorts by a column; equal rows stay in their order.
    pub(super) fn sort(&mut self, column: usize, descending: bool) {
        self.rows.sort_by(|a, b| {
            let order = match (a.cells.get(column), b.cells.get(column)) {
                (Some(a), Some(b)) => a.order(b),
                _ => Ordering::Equal,
            };
            if descending { order.reverse() } else { order }
        });
    }

    /// The columns that fit into `width`, and how wide they are.
    pub(super) fn layout(&self, width: usize) -> Layout {
        let mut fields: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != self.hidden)
            .map(|(index, column)| Field {
                index,
                side: column.side,
                width: self.width_of(index, column),
                title: column.title,
                rank: column.rank,
            })
            .collect();
        while total(&fields) > width {
            // Of equals the last one goes first.
            let Some(place) = (0..fields.len())
                .max_by_key(|&place| fields.get(place).map_or(0, |field| field.rank))
                .filter(|&place| fields.get(place).is_some_and(|field| field.rank > 0))
            else {
                break;
            };
            fields.remove(place);
        }
        Layout { fields, width }
    }

    fn width_of(&self, index: usize, column: &Column) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(index));
        cells
            .map(|cell| cell.text.chars().count())
            .chain([column.title.chars().count(), column.width_min])
            .max()
            .unwrap_or(0)
    }
}

/// A column as it is shown.
#[derive(Clone, Debug)]
struct Field {
    index: usize,
    side: Side,
    width: usize,
    title: &'static str,
    rank: u8,
}

fn total(fields: &[Field]) -> usize {
    // One space between two columns. The last column may be cut, but not
    // beyond use.
    let all: usize = fields.iter().map(|field| field.width + 1).sum();
    let cut = match fields.last() {
        Some(last) if last.side == Side::Left => last.width.saturating_sub(LAST_WIDTH_MIN),
        _ => 0,
    };
    all.saturating_sub(1 + cut)
}

/// A last column of text is cut down to this before another one gives way.
const LAST_WIDTH_MIN: usize = 16;

/// Which columns are shown, and how wide.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    fields: Vec<Field>,
    width: usize,
}

impl Layout {
    /// The titles, each with the index of its column, as wide as the columns.
    pub(super) fn titles(&self) -> Vec<(usize, String)> {
        self.fields
            .iter()
            .map(|field| (field.index, pad(field.title, field)))
            .collect()
    }

    /// A row in one line.
    pub(super) fn line(&self, row: &Row) -> String {
        let cells: Vec<_> = self
            .fields
            .iter()
            .map(|field| {
                let text = row.cells.get(field.index).map_or("", |cell| &cell.text);
                pad(text, field)
            })
            .collect();
        cut(cells.join(" ").trim_end(), self.width)
    }
}

fn pad(text: &str, field: &Field) -> String {
    let width = field.width;
    match field.side {
        Side::Left => format!("{text:<width$}"),
        Side::Right => format!("{text:>width$}"),
    }
}

/// `text`, or as much of it as fits.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        left("Name", 6, 0),
        right("Rate", 5, 0),
        right("Total", 5, 1),
        left("Meaning", 4, 2),
    ];

    fn grid() -> Grid {
        let row = |name: &str, rate: f64, meaning: &str| Row {
            id: name.to_owned(),
            cells: vec![
                Cell::text(name),
                Cell::number(format!("{rate}"), rate),
                Cell::number("7", 7.0),
                Cell::text(meaning),
            ],
            tone: Tone::Plain,
        };
        Grid {
            columns: COLUMNS,
            hidden: None,
            rows: vec![
                row("b", 9.0, "short"),
                row("a", 100.0, "a meaning that is rather long"),
                row("c", 20.0, "short"),
            ],
        }
    }

    fn names(grid: &Grid) -> Vec<&str> {
        grid.rows.iter().map(|row| row.id.as_str()).collect()
    }

    #[test]
    fn numbers_sort_by_value_and_texts_by_letters() {
        let mut grid = grid();
        grid.sort(1, true);
        assert_eq!(names(&grid), ["a", "c", "b"]);
        grid.sort(0, false);
        assert_eq!(names(&grid), ["a", "b", "c"]);
    }

    #[test]
    fn a_filter_wants_all_of_its_words_in_any_case() {
        let mut grid = grid();
        grid.retain("LONG a");
        assert_eq!(names(&grid), ["a"]);
        grid.retain("short");
        assert_eq!(names(&grid), [""; 0]);
    }

    #[test]
    fn the_last_column_is_cut_first_and_then_columns_give_way_by_rank() {
        let grid = grid();
        let lines = |width| {
            let layout = grid.layout(width);
            grid.rows
                .iter()
                .map(|row| layout.line(row))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lines(60)[1],
            "a        100     7 a meaning that is rather long"
        );
        assert_eq!(lines(40)[1], "a        100     7 a meaning that is ra…");
        assert_eq!(lines(30)[1], "a        100     7");
        assert_eq!(lines(15)[1], "a        100");
        assert_eq!(lines(10)[1], "a        …");
    }
}
