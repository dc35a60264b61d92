//! Text files in UTF-8.

use std::path::Path;

use super::file;
use crate::{Error, Result};

/// The text of a file.
///
/// Errors: the first byte that is not UTF-8, by its line and offset; what the system refuses.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(file::read(path)?).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let bytes = e.as_bytes();
        let line = 1 + bytes[..offset].iter().filter(|&&b| b == b'\n').count();
        Error::format(path, offset as u64, format!("line {line}: byte 0x{:02x} is not UTF-8", bytes[offset]))
    })
}

/// The lines of a text file, without their ends (`\n` or `\r\n`).
///
/// Errors: those of [`read_text`].
pub fn read_lines(path: impl AsRef<Path>) -> Result<Vec<String>> {
    Ok(read_text(path)?.lines().map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::{file_of, gzip};
    use super::*;

    #[test]
    fn plain_and_gzip() {
        let text = "EN el principio crió Dios\r\n\nlos cielos “y” la tierra";
        for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
            let (_dir, path) = file_of("text", &bytes);
            assert_eq!(read_text(&path).unwrap(), text);
            let lines = read_lines(&path).unwrap();
            assert_eq!(lines, ["EN el principio crió Dios", "", "los cielos “y” la tierra"]);
        }
        let (_dir, path) = file_of("empty", b"");
        assert_eq!(read_text(&path).unwrap(), "");
        assert!(read_lines(&path).unwrap().is_empty());
    }

    #[test]
    fn names_the_first_byte_that_is_not_utf8() {
        for (bytes, at, part) in [
            (&b"caf\xe9"[..], 3, "line 1: byte 0xe9"),
            (b"a\nb\n\xff\xfe", 4, "line 3: byte 0xff"),
            // A character cut off by the end of the file is wrong from its first byte.
            ("a\n€".as_bytes().split_last().unwrap().1, 2, "line 2: byte 0xe2"),
        ] {
            let (_dir, path) = file_of("text", bytes);
            let Err(Error::Format { offset, message, .. }) = read_text(&path) else { panic!("accepted {bytes:?}") };
            assert_eq!(offset, at);
            assert!(message.starts_with(part), "{message}");
        }
    }
}
