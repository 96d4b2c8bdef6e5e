//! Rows under headers, and facts beside labels: borderless, one space between columns.
//!
//! Made here rather than bought: a table must fit a given width by shortening the columns that may be shortened,
//! the matrix must break between columns, and whether there is colour is said by the caller alone.

use super::{
    look::{Look, Tone},
    words::printable,
};
use unicode_width::UnicodeWidthStr;

/// One column.
#[derive(Clone, Debug)]
pub struct Column {
    header: String,
    /// The width below which it is not shortened; none if it is never shortened.
    width_min: Option<usize>,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// Rows under headers.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// Facts beside labels.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    facts: Vec<(&'static str, Cell)>,
}

impl Column {
    /// A column that is always shown in full.
    #[must_use]
    pub fn new(header: &str) -> Column {
        Column { header: printable(header).into_owned(), width_min: None }
    }

    /// A column that is shortened, but not below `width_min`, where the line is too long otherwise.
    #[must_use]
    pub fn flexible(header: &str, width_min: usize) -> Column {
        Column { width_min: Some(width_min.max(header.width())), ..Column::new(header) }
    }
}

impl Cell {
    /// A cell that says nothing about good or bad.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Cell {
        Cell::toned(text, Tone::Plain)
    }

    /// A cell with a tone.
    #[must_use]
    pub fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
        Cell { text: printable(text.as_ref()).into_owned(), tone }
    }

    /// Columns on the screen.
    #[must_use]
    pub fn width(&self) -> usize {
        self.text.width()
    }
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Table {
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has one cell for each column");
        self.rows.push(cells);
    }

    /// The table as lines.
    #[must_use]
    pub fn render(&self, look: &Look) -> String {
        let widths = self.widths(look);
        let mut text = String::new();
        if look.headers {
            let headers: Vec<Cell> = self.columns.iter().map(|column| Cell::new(&column.header)).collect();
            line(&headers, &widths, look, &mut text);
        }
        for row in &self.rows {
            line(row, &widths, look, &mut text);
        }
        text
    }

    /// The width of each column: what it needs, less where the line would not fit.
    fn widths(&self, look: &Look) -> Vec<usize> {
        let needed = |(index, column): (usize, &Column)| {
            let header = if look.headers { column.header.width() } else { 0 };
            self.rows.iter().map(|row| row[index].width()).fold(header, usize::max)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(needed).collect();
        let Some(limit) = look.width else { return widths };
        let mut surplus =
            (widths.iter().sum::<usize>() + widths.len().saturating_sub(1)).saturating_sub(limit);
        while surplus > 0 {
            let can_give =
                |index: &usize| self.columns[*index].width_min.is_some_and(|least| widths[*index] > least);
            let Some(widest) = (0..widths.len()).filter(can_give).max_by_key(|index| widths[*index]) else {
                break;
            };
            widths[widest] -= 1;
            surplus -= 1;
        }
        widths
    }
}

/// One line, without spaces at its end.
fn line(cells: &[Cell], widths: &[usize], look: &Look, text: &mut String) {
    let mut gap = 0;
    for (cell, &width) in cells.iter().zip(widths) {
        let shown = shorten(&cell.text, width);
        let shown_width = shown.width();
        if shown_width > 0 {
            text.extend(std::iter::repeat_n(' ', gap));
            gap = 0;
            text.push_str(&look.paint(cell.tone, &shown));
        }
        gap += width.saturating_sub(shown_width) + 1;
    }
    text.push('\n');
}

/// The text, cut to a width with `…` at its end where it is longer.
#[must_use]
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if shown.width() + 1 > width {
            shown.pop();
            break;
        }
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

impl Facts {
    /// No facts.
    #[must_use]
    pub fn new() -> Facts {
        Facts::default()
    }

    /// Adds a fact.
    pub fn fact(&mut self, label: &'static str, value: impl AsRef<str>) {
        self.facts.push((label, Cell::new(value)));
    }

    /// Adds a fact with a tone.
    pub fn toned(&mut self, label: &'static str, value: impl AsRef<str>, tone: Tone) {
        self.facts.push((label, Cell::toned(value, tone)));
    }

    /// Adds a fact if there is one.
    pub fn maybe(&mut self, label: &'static str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.fact(label, value);
        }
    }

    /// One line for each; values are never shortened.
    #[must_use]
    pub fn render(&self, look: &Look) -> String {
        let label_width = self.facts.iter().map(|(label, _)| label.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (label, value) in &self.facts {
            line(&[Cell::new(label), value.clone()], &[label_width + 1, value.width()], look, &mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(width: Option<usize>) -> Look {
        Look { width, color: false, headers: true, wide: false }
    }

    #[test]
    fn only_flexible_columns_are_shortened_and_the_widest_first() {
        let mut table =
            Table::new(vec![Column::flexible("NAME", 6), Column::new("SIZE"), Column::flexible("WHY", 4)]);
        table.row(vec![Cell::new("a-rather-long-name"), Cell::new("64 MiB"), Cell::new("because of this")]);
        assert_eq!(table.render(&look(Some(24))), "NAME     SIZE   WHY\na-rathe… 64 MiB because…\n");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        let mut table = Table::new(vec![Column::new("NAME"), Column::new("X")]);
        table.row(vec![Cell::new("機械"), Cell::new("1")]);
        table.row(vec![Cell::new("abcd"), Cell::new("2")]);
        assert_eq!(table.render(&look(None)), "NAME X\n機械 1\nabcd 2\n");
    }

    #[test]
    fn rows_without_headers_are_as_narrow_as_their_cells() {
        let mut table = Table::new(vec![Column::new("ARTIFACTS"), Column::new("X")]);
        table.row(vec![Cell::new("1"), Cell::new("2")]);
        assert_eq!(table.render(&Look { headers: false, ..look(None) }), "1 2\n");
    }

    proptest! {
        #[test]
        fn shortened_text_fits_and_keeps_its_beginning(text in "\\PC{0,40}", width in 0usize..30) {
            let shown = shorten(&text, width);
            prop_assert!(shown.width() <= width.max(text.width().min(width)), "{shown:?} is wider than {width}");
            prop_assert!(text.starts_with(shown.trim_end_matches('…')) || shown == text);
        }

        #[test]
        fn flexible_tables_fit_the_width(names in prop::collection::vec("[a-z]{0,60}", 1..5), width in 40usize..120) {
            let mut table = Table::new(vec![Column::flexible("NAME", 8), Column::new("SIZE")]);
            for name in &names {
                table.row(vec![Cell::new(name), Cell::new("64 MiB")]);
            }
            for line in table.render(&look(Some(width))).lines() {
                prop_assert!(line.width() <= width, "{line:?} is wider than {width}");
            }
        }
    }
}
