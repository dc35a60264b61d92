//! Tables in text files: CSV (RFC 4180) and TSV.
//!
//! In CSV a field may be quoted, and then hold commas, line ends and doubled quotes. In TSV a quote is a character
//! like any other: a field holds whatever lies between two tabs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord};

use super::text::read_text;
use crate::{Error, Result};

/// How fields are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Commas, with quotes.
    Csv,
    /// Tabs, without.
    Tsv,
}

/// A column, by its place or by its name in the first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Counted from 0.
    Index(usize),
    /// As the header spells it.
    Header(String),
}

/// A table in memory; every row has the same number of fields.
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
    header: Option<StringRecord>,
    rows: Vec<StringRecord>,
}

/// Reads a table; with `header` the first line names the columns. Lines that are empty are skipped.
///
/// Errors: a row with more or fewer fields than the first, by its line; no line where a header should be; bytes that
/// are not UTF-8.
pub fn read_table(path: impl AsRef<Path>, dialect: Dialect, header: bool) -> Result<Table> {
    let path = path.as_ref();
    let text = read_text(path)?;
    read(path, &text, dialect, header, None)
}

/// Reads a table whose rows have `columns` fields, such as pairs of sentences or labelled text; at least one row.
///
/// ```
/// use rushlight::data::csv::{Dialect, read_columns};
///
/// let path = std::env::temp_dir().join("rushlight-read-columns.tsv");
/// std::fs::write(&path, "good night\tbuenas noches\nthank you\n")?;
/// let error = read_columns(&path, Dialect::of(&path), false, 2).unwrap_err().to_string();
/// assert!(error.ends_with("line 2: 1 field, where 2 are expected, with a tab between (at byte 25)"), "{error}");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Errors: those of [`read_table`]; a row with another number of fields, by its line; no rows.
pub fn read_columns(path: impl AsRef<Path>, dialect: Dialect, header: bool, columns: usize) -> Result<Table> {
    let path = path.as_ref();
    let text = read_text(path)?;
    let table = read(path, &text, dialect, header, Some(columns))?;
    if table.is_empty() {
        return Err(Error::format(
            path,
            text.len() as u64,
            format!("empty, where rows of {columns} fields are expected"),
        ));
    }
    Ok(table)
}

fn read(path: &Path, text: &str, dialect: Dialect, header: bool, columns: Option<usize>) -> Result<Table> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(columns.is_some());
    if dialect == Dialect::Tsv {
        builder.delimiter(b'\t').quoting(false);
    }
    let mut reader = builder.from_reader(text.as_bytes());
    let mut rows = vec![];
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(|e| refusal(path, text, e))? {
        let start = row.position().map(|p| start_of_row(text, p));
        if let Some(n) = columns.filter(|&n| n != row.len()) {
            let (line, byte) = start.map_or((0, 0), |p| (p.line(), p.byte()));
            let (s, between) = (if row.len() == 1 { "" } else { "s" }, dialect.separator());
            let message =
                format!("line {line}: {} field{s}, where {n} are expected, with a {between} between", row.len());
            return Err(Error::format(path, byte, message));
        }
        row.set_position(start);
        rows.push(row.clone());
    }
    let header = match header {
        true if rows.is_empty() => return Err(Error::format(path, 0, "empty, where a header line was expected")),
        true => Some(rows.remove(0)),
        false => None,
    };
    Ok(Table { path: path.to_path_buf(), header, rows })
}

impl Dialect {
    /// By the file's name: `.csv`, also before `.gz`, is CSV, and all else TSV.
    pub fn of(path: impl AsRef<Path>) -> Dialect {
        let name = path.as_ref().to_string_lossy().to_lowercase();
        if name.strip_suffix(".gz").unwrap_or(&name).ends_with(".csv") { Dialect::Csv } else { Dialect::Tsv }
    }

    fn separator(self) -> &'static str {
        match self {
            Dialect::Csv => "comma",
            Dialect::Tsv => "tab",
        }
    }
}

impl Table {
    /// The number of rows, the header not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The names of the columns, if the file was read with a header.
    pub fn header(&self) -> Option<Vec<&str>> {
        self.header.as_ref().map(|h| h.iter().collect())
    }

    /// One column as text.
    ///
    /// Errors: no such column.
    pub fn column(&self, column: impl Into<Column>) -> Result<Vec<&str>> {
        let index = self.index(&column.into())?;
        Ok(self.rows.iter().map(|row| &row[index]).collect())
    }

    /// One column as numbers, or whatever else can be parsed.
    ///
    /// Errors: no such column; the first field that does not parse, by its line.
    pub fn parse<T>(&self, column: impl Into<Column>) -> Result<Vec<T>>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let column = column.into();
        let index = self.index(&column)?;
        let parse = |row: &StringRecord| {
            row[index].trim().parse().map_err(|e| {
                let (line, byte) = row.position().map_or((0, 0), |p| (p.line(), p.byte()));
                Error::format(&self.path, byte, format!("line {line}, {column}: {:?}: {e}", &row[index]))
            })
        };
        self.rows.iter().map(parse).collect()
    }

    fn index(&self, column: &Column) -> Result<usize> {
        let refuse = |message: String| Err(Error::format(&self.path, 0, message));
        match (column, &self.header) {
            (Column::Header(_), None) => refuse(format!("{column} asked for by name of a table read without a header")),
            (Column::Header(name), Some(header)) => {
                let mut places = header.iter().enumerate().filter(|(_, h)| h == name).map(|(i, _)| i);
                match (places.next(), places.next()) {
                    (Some(i), None) => Ok(i),
                    (None, _) => refuse(format!("no {column}; the header has {:?}", self.header().unwrap_or_default())),
                    (Some(i), Some(j)) => refuse(format!("{column} is the name of columns {i} and {j}")),
                }
            }
            (Column::Index(i), _) => match self.header.as_ref().or(self.rows.first()) {
                Some(row) if *i >= row.len() => refuse(format!("{column} of rows of {}, counted from 0", row.len())),
                _ => Ok(*i),
            },
        }
    }
}

impl From<usize> for Column {
    fn from(index: usize) -> Column {
        Column::Index(index)
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Column {
        Column::Header(name.to_string())
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Column::Index(i) => write!(f, "column {i}"),
            Column::Header(name) => write!(f, "column {name:?}"),
        }
    }
}

/// Where a row starts: the parser's own position may still lie before the line end of the row above.
fn start_of_row(text: &str, position: &Position) -> Position {
    let mut start = position.clone();
    let rest = &text.as_bytes()[position.byte() as usize..];
    for &b in rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')) {
        let (byte, line) = (start.byte() + 1, start.line() + (b == b'\n') as u64);
        start.set_byte(byte).set_line(line);
    }
    start
}

fn refusal(path: &Path, text: &str, error: csv::Error) -> Error {
    match error.kind() {
        ErrorKind::UnequalLengths { pos: Some(p), expected_len, len } => {
            let start = start_of_row(text, p);
            let message = format!("line {}: {len} fields, where the first line has {expected_len}", start.line());
            Error::format(path, start.byte(), message)
        }
        _ => Error::format(path, 0, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::{file_of, gzip};
    use super::*;

    fn table(bytes: &[u8], dialect: Dialect, header: bool) -> Result<Table> {
        let (_dir, path) = file_of("table", bytes);
        read_table(path, dialect, header)
    }

    /// Offset and message of a format error.
    fn complaint<T: fmt::Debug>(result: Result<T>) -> (u64, String) {
        match result.unwrap_err() {
            Error::Format { offset, message, .. } => (offset, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn columns_by_index_and_by_name() {
        let bytes = "\u{feff}label,text\n1,\"so, \"\"fine\"\"\nand so on\"\n\n0,café\n".as_bytes();
        for bytes in [bytes.to_vec(), gzip(bytes)] {
            let t = table(&bytes, Dialect::Csv, true).unwrap();
            assert_eq!((t.len(), t.is_empty()), (2, false));
            assert_eq!(t.header().unwrap(), ["label", "text"]);
            assert_eq!(t.parse::<u8>("label").unwrap(), [1, 0]);
            assert_eq!(t.column(1).unwrap(), ["so, \"fine\"\nand so on", "café"]);
            assert_eq!(t.column("text").unwrap(), t.column(1).unwrap());
        }
        let t = table(b"1,2\r\n3, 4.5", Dialect::Csv, false).unwrap();
        assert_eq!(t.parse::<f32>(1).unwrap(), [2.0, 4.5]);
        assert!(t.header().is_none());
    }

    #[test]
    fn a_quote_in_tsv_is_a_character() {
        let t = table(b"0\t\"and so\n1\t5\" wide, \"ok\"\n", Dialect::Tsv, false).unwrap();
        assert_eq!(t.column(1).unwrap(), ["\"and so", "5\" wide, \"ok\""]);
    }

    #[test]
    fn empty_tables() {
        let t = table(b"", Dialect::Csv, false).unwrap();
        assert!(t.is_empty() && t.column(3).unwrap().is_empty());
        assert!(complaint(table(b"\n\n", Dialect::Csv, true)).1.contains("header"));
        let t = table(b"a,b", Dialect::Csv, true).unwrap();
        assert!(t.column("b").unwrap().is_empty());
        assert!(t.column(2).is_err());
    }

    #[test]
    fn errors_give_line_and_offset() {
        for end in ["\n", "\r\n"] {
            let lines = |rows: &[&str]| rows.join(end).into_bytes();
            let at = |line: u64| (line - 1) * (3 + end.len() as u64);
            let (offset, message) = complaint(table(&lines(&["1,2", "3,4", "5,6,7", "8,9"]), Dialect::Csv, false));
            assert_eq!(offset, at(3));
            assert!(message.starts_with("line 3: 3 fields, where the first line has 2"), "{message}");

            let t = table(&lines(&["a,b", "3,4", "5,6", "x,9"]), Dialect::Csv, true).unwrap();
            let (offset, message) = complaint(t.parse::<i64>("a"));
            assert_eq!(offset, at(4));
            assert!(message.starts_with("line 4, column \"a\": \"x\": invalid digit"), "{message}");
        }
        assert_eq!(complaint(table(b"a\tb\n1\t\xff", Dialect::Tsv, true)).0, 6);
    }

    #[test]
    fn pairs_are_held_to_two_fields() {
        let pairs = |bytes: &[u8], dialect| {
            let (_dir, path) = file_of("pairs", bytes);
            read_columns(path, dialect, false, 2)
        };
        let t = pairs("a b\tc\n\nd\té\r\n".as_bytes(), Dialect::Tsv).unwrap();
        assert_eq!((t.column(0).unwrap(), t.column(1).unwrap()), (vec!["a b", "d"], vec!["c", "é"]));
        // The first line is wrong too, though the others would be by its measure.
        for (bytes, offset, start) in [
            (&b"no tab\na\tb\n"[..], 0, "line 1: 1 field, where 2 are expected, with a tab"),
            (b"a\tb\n\nno tab", 5, "line 3: 1 field, where 2"),
            (b"a\tb\r\na\tb\tc\r\n", 5, "line 2: 3 fields, where 2"),
            (b"", 0, "empty"),
            (b"\n\n", 2, "empty"),
            (b"a\tb\nc\t\xff", 6, "line 2: byte 0xff is not UTF-8"),
        ] {
            let (at, message) = complaint(pairs(bytes, Dialect::Tsv));
            assert_eq!(at, offset, "{message}");
            assert!(message.starts_with(start), "{message}");
        }
        assert!(complaint(pairs(b"1,a\n0\tb\n", Dialect::Csv)).1.ends_with("with a comma between"));
        assert!(complaint(pairs(b"\n", Dialect::Csv)).1.starts_with("empty"));
        let names = ["a.csv", "A.CSV.gz", "a.tsv", "a.csv.tsv", "a"].map(Dialect::of);
        assert_eq!(names.map(|d| d == Dialect::Csv), [true, true, false, false, false]);
    }

    #[test]
    fn no_such_column() {
        let t = table(b"a,b,b\n1,2,3\n", Dialect::Csv, true).unwrap();
        assert_eq!(complaint(t.column("c")).1, "no column \"c\"; the header has [\"a\", \"b\", \"b\"]");
        assert!(complaint(t.column("b")).1.contains("columns 1 and 2"));
        assert!(complaint(t.column(3)).1.contains("column 3 of rows of 3"));
        let t = table(b"1,2\n", Dialect::Csv, false).unwrap();
        assert!(complaint(t.column("a")).1.contains("without a header"));
    }
}
