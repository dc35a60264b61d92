//! JSON that others may have written: an error names the field it is about.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Why JSON is refused: the path of a field, what is wrong with it, and the place in the text.
#[derive(Debug)]
pub struct JsonError {
    message: String,
    offset: u64,
}

impl JsonError {
    /// The byte of the text where it was refused.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for JsonError {}

/// A value out of JSON.
///
/// Errors: no JSON; a value that is missing, of another type or out of range, after the path of its field.
///
/// ```
/// let error = rushlight::io::from_json::<Vec<usize>>(r#"[1, "two"]"#).unwrap_err();
/// assert_eq!(error.to_string(), "[1]: invalid type: string \"two\", expected usize at line 1 column 9");
/// ```
pub fn from_json<T: DeserializeOwned>(text: impl AsRef<[u8]>) -> Result<T, JsonError> {
    let text = text.as_ref();
    serde_json::from_slice(text).map_err(|error| {
        // What is refused is read once more, for the place: to follow it costs something at each value.
        let again = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(text));
        let message = again.err().map_or_else(|| error.to_string(), |e| e.to_string());
        JsonError { message, offset: offset(text, error.line(), error.column()) }
    })
}

/// [`from_json`] for what stands in a file, which errors name.
pub fn from_json_in<T: DeserializeOwned>(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> Result<T> {
    from_json(text).map_err(|e| Error::format(path, e.offset, e.message))
}

/// Where in a text the parser's line and column are, both counted from 1.
fn offset(text: &[u8], line: usize, column: usize) -> u64 {
    let lines = text.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)).min(text.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Net {
        #[allow(dead_code)]
        layers: Vec<BTreeMap<String, u8>>,
    }

    #[test]
    fn errors_name_the_field() {
        for (text, says) in [
            (r#"{"layers": [{}, {"width": "9"}]}"#, "layers[1].width: invalid type: string \"9\", expected u8 at"),
            (r#"{"layers": [{"width": 256}]}"#, "layers[0].width: invalid value: integer `256`, expected u8 at"),
            (r#"{"layers": 3}"#, "layers: invalid type: integer `3`, expected a sequence at"),
            (r#"{"layers": [{"width": }]}"#, "layers[0].width: expected value at"),
            ("{}", "missing field `layers` at line 1 column 2"),
            ("[]", "invalid length 0, expected struct Net with 1 element at"),
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"{"layers": []} x"#, "trailing characters at line 1 column 16"),
        ] {
            let error = from_json::<Net>(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
        assert_eq!(from_json::<Net>(r#"{"layers": [{"width": 9}]}"#).unwrap().layers[0]["width"], 9);
    }

    #[test]
    fn the_file_and_the_place_are_told() {
        let error = from_json_in::<Net>("net.json", "{\n\"layers\":\ntrue}").unwrap_err().to_string();
        let says =
            "net.json: layers: invalid type: boolean `true`, expected a sequence at line 3 column 4 (at byte 15)";
        assert_eq!(error, says);
    }
}
