//! What the commands print: tables for people, JSON for programs.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, or one line per field.
    Table,
    /// The JSON of the server.
    Json,
}

/// Longest cell of a table.
const CELL_CHARS_MAX: usize = 60;
/// Cells of these columns are never cut: they are there to be copied.
const WHOLE_COLUMNS: [&str; 3] = ["TOKEN", "ID", "SECRET"];

/// A column: its title, and the JSON pointer of its value in a row.
pub type Column = (&'static str, &'static str);

/// Writes to standard output. A reader that went away is no error.
pub fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Prints a value as JSON.
pub fn json(value: &Value) -> io::Result<()> {
    write_out(format!("{value:#}\n").as_bytes())
}

/// Prints one thing: its fields, one a line, or its JSON.
pub fn thing(format: Format, value: &Value) -> io::Result<()> {
    match format {
        Format::Json => json(value),
        Format::Table => {
            let mut fields = Vec::new();
            flatten("", value, &mut fields);
            let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            let lines = fields.iter().map(|(name, text)| format!("{name:width$}  {text}\n"));
            write_out(lines.collect::<String>().as_bytes())
        }
    }
}

/// Prints `rows` as a table, or `whole` as JSON.
pub fn rows(format: Format, whole: &Value, rows: &[Value], columns: &[Column]) -> io::Result<()> {
    match format {
        Format::Json => json(whole),
        Format::Table => write_out(table(rows, columns).as_bytes()),
    }
}

/// Prints a sentence, or a value as JSON.
pub fn done(format: Format, value: &Value, sentence: &str) -> io::Result<()> {
    match format {
        Format::Json => json(value),
        Format::Table => write_out(format!("{sentence}\n").as_bytes()),
    }
}

fn flatten(name: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, fields);
            }
        }
        value => fields.push((name.to_owned(), cell(value))),
    }
}

fn table(rows: &[Value], columns: &[Column]) -> String {
    let cells = |row: &Value| -> Vec<String> {
        let shown = columns.iter().map(|(title, pointer)| {
            let text = cell(row.pointer(pointer).unwrap_or(&Value::Null));
            if WHOLE_COLUMNS.contains(title) { text } else { cut(&text) }
        });
        shown.collect()
    };
    let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows.iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..columns.len()).map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// A value in a cell. What would move a terminal's cursor is escaped: bodies come from strangers.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => plain(text),
        value => plain(&value.to_string()),
    }
}

/// Text without control characters.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_escapes_what_moves_the_cursor() {
        let rows = [
            serde_json::json!({"a": "x\u{1b}[2J", "b": {"c": 1}}),
            serde_json::json!({"a": "long".repeat(40), "b": {"c": null}}),
        ];
        let text = table(&rows, &[("A", "/a"), ("C", "/b/c")]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("x\\u{1b}[2J"), "{text}");
        assert!(lines[1].ends_with("  1") && lines[2].ends_with("…  -"), "{text}");
    }
}
