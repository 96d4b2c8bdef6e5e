//! Rows under headers, and facts beside labels: borderless, one space between columns.
//!
//! Made here rather than bought: a table must fit a given width by shortening the columns that may be shortened and, if
//! that is not enough, by leaving out those that matter least; the matrix must break between columns, and whether there
//! is colour is said by the caller alone. Text that is no table is wrapped.

use super::{
    look::{Look, Tone},
    words::printable,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A value beside its label is wrapped to no less than this: a column of single letters says nothing.
const VALUE_WIDTH_MIN: usize = 20;

/// One column.
#[derive(Clone, Debug)]
pub struct Column {
    header: String,
    /// The width below which it is not shortened; none if it is never shortened.
    width_min: Option<usize>,
    /// How early it is left out where even shortened columns do not fit: the largest number first. None if never.
    expendable: Option<u8>,
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
        Column { header: printable(header).into_owned(), width_min: None, expendable: None }
    }

    /// A column that is shortened, but not below `width_min`, where the line is too long otherwise.
    #[must_use]
    pub fn flexible(header: &str, width_min: usize) -> Column {
        Column { width_min: Some(width_min.max(header.width())), ..Column::new(header) }
    }

    /// The column, left out where the line does not fit: the one with the largest `rank` first. `-o wide` has them all.
    #[must_use]
    pub fn expendable(self, rank: u8) -> Column {
        Column { expendable: Some(rank), ..self }
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
        let needed = self.needed(look);
        let kept = self.kept(&needed, look);
        let widths = self.widths(&kept, &needed, look);
        let mut text = String::new();
        if look.headers {
            let headers: Vec<Cell> =
                kept.iter().map(|index| Cell::new(&self.columns[*index].header)).collect();
            line(&headers, &widths, look, &mut text);
        }
        for row in &self.rows {
            let cells: Vec<Cell> = kept.iter().map(|index| row[*index].clone()).collect();
            line(&cells, &widths, look, &mut text);
        }
        text
    }

    /// The width that each column needs.
    fn needed(&self, look: &Look) -> Vec<usize> {
        let needed = |(index, column): (usize, &Column)| {
            let header = if look.headers { column.header.width() } else { 0 };
            self.rows.iter().map(|row| row[index].width()).fold(header, usize::max)
        };
        self.columns.iter().enumerate().map(needed).collect()
    }

    /// The columns that are shown: all of them, less the most expendable ones where the shortest line would not fit.
    fn kept(&self, needed: &[usize], look: &Look) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let Some(limit) = look.width else { return kept };
        let least = |index: &usize| {
            self.columns[*index].width_min.map_or(needed[*index], |it| it.min(needed[*index]))
        };
        while kept.iter().map(least).sum::<usize>() + gaps(&kept) > limit {
            let rank = |position: &usize| self.columns[kept[*position]].expendable;
            let Some(most) = (0..kept.len()).filter(|it| rank(it).is_some()).max_by_key(rank) else { break };
            kept.remove(most);
        }
        kept
    }

    /// The width of each column that is shown: what it needs, less where the line would not fit.
    fn widths(&self, kept: &[usize], needed: &[usize], look: &Look) -> Vec<usize> {
        let mut widths: Vec<usize> = kept.iter().map(|index| needed[*index]).collect();
        let Some(limit) = look.width else { return widths };
        let mut surplus = (widths.iter().sum::<usize>() + gaps(kept)).saturating_sub(limit);
        while surplus > 0 {
            let can_give = |place: &usize| {
                self.columns[kept[*place]].width_min.is_some_and(|least| widths[*place] > least)
            };
            let Some(widest) = (0..widths.len()).filter(can_give).max_by_key(|place| widths[*place]) else {
                break;
            };
            widths[widest] -= 1;
            surplus -= 1;
        }
        widths
    }
}

/// The spaces between so many columns.
fn gaps(columns: &[usize]) -> usize {
    columns.len().saturating_sub(1)
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

/// The text in lines of a width, broken between words; lines after the first begin with `indent` spaces, the first as the
/// text does. Words that are longer than a line are broken, too.
#[must_use]
pub fn wrap(text: &str, width: Option<usize>, indent: usize) -> Vec<String> {
    let Some(width) = width.filter(|width| text.width() > *width) else { return vec![text.to_owned()] };
    let width = width.max(indent + 2);
    let next_line = || " ".repeat(indent);
    let lead = text.len() - text.trim_start().len();
    let (mut lines, mut line, mut is_empty) = (Vec::new(), text[..lead].to_owned(), true);
    for word in text.split_whitespace() {
        if !is_empty && line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, next_line()));
        } else if !is_empty {
            line.push(' ');
        }
        for c in word.chars() {
            if line.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::replace(&mut line, next_line()));
            }
            line.push(c);
        }
        is_empty = false;
    }
    lines.push(line);
    lines
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

    /// One line for each, or more where a value does not fit; values are never shortened.
    #[must_use]
    pub fn render(&self, look: &Look) -> String {
        let label_width = self.facts.iter().map(|(label, _)| label.width()).max().unwrap_or(0);
        let room = look.width.map(|width| width.saturating_sub(label_width + 2).max(VALUE_WIDTH_MIN));
        let mut text = String::new();
        for (label, value) in &self.facts {
            let mut label = *label;
            for part in wrap(&value.text, room, 0) {
                let value = Cell { text: part, tone: value.tone };
                let widths = [label_width + 1, value.width()];
                line(&[Cell::new(label), value], &widths, look, &mut text);
                label = "";
            }
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

    #[test]
    fn columns_that_matter_least_are_left_out_where_the_rest_does_not_fit() {
        let mut table = Table::new(vec![
            Column::flexible("NAME", 4),
            Column::new("AGE").expendable(1),
            Column::new("FILE").expendable(2),
        ]);
        table.row(vec![Cell::new("sled-a"), Cell::new("2 d ago"), Cell::new("release.zip")]);
        assert_eq!(table.render(&look(Some(26))), "NAME   AGE     FILE\nsled-a 2 d ago release.zip\n");
        assert_eq!(table.render(&look(Some(24))), "NAME AGE     FILE\nsle… 2 d ago release.zip\n");
        assert_eq!(table.render(&look(Some(23))), "NAME   AGE\nsled-a 2 d ago\n");
        assert_eq!(table.render(&look(Some(6))), "NAME\nsled-a\n");
    }

    #[test]
    fn facts_are_wrapped_beside_their_labels() {
        let mut facts = Facts::new();
        facts.fact("why", "because the other M.2 has no verified copy yet");
        let shown = facts.render(&look(Some(30)));
        assert_eq!(shown, "why  because the other M.2 has\n     no verified copy yet\n");
    }

    proptest! {
        #[test]
        fn wrapped_text_fits_and_loses_nothing(text in " {0,2}[a-z][a-z ]{0,80}", width in 10usize..40, indent in 0usize..4) {
            let lines = wrap(&text, Some(width), indent);
            for line in &lines {
                prop_assert!(line.width() <= width, "{line:?} is wider than {width}");
            }
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

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
