//! The members of a zip archive, as NumPy and PyTorch use it: whole files by name, stored or deflated.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::storage::Bytes;
use crate::{Error, Result};

/// Deflate packs at most 1,032 times; what holds more than 64 MiB should be no more than 100 times its size.
const FREE: u64 = 64 << 20;
const RATIO: u64 = 100;

/// A file in an archive.
pub(super) struct Member {
    pub name: String,
    /// Its bytes, as they are or deflated, and where those begin.
    pub packed: Bytes,
    pub offset: u64,
    pub deflated: bool,
    /// Bytes when unpacked, and their CRC-32.
    pub size: u64,
    pub sum: u32,
}

/// All files of an archive in their order.
///
/// Errors: what is no zip archive; names that come twice or are not UTF-8; members that overlap or lie outside, are
/// encrypted or packed by another method; more unpacked bytes than an honest archive of this size holds.
pub(super) fn members(path: &Path, file: &Bytes) -> Result<Vec<Member>> {
    let size = file.len() as u64;
    let broken = |e: ZipError| Error::format(path, size, format!("not a whole zip archive: {e}"));
    let mut archive = ZipArchive::new(Cursor::new(&file[..])).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err(Error::format(path, archive.central_directory_start(), "two members have one name"));
    }
    if archive.has_overlapping_files().map_err(broken)? {
        return Err(Error::format(path, archive.central_directory_start(), "members overlap"));
    }
    let mut found = vec![];
    let mut total = 0u64;
    for i in 0..archive.len() {
        let member = archive.by_index_raw(i).map_err(broken)?;
        if member.is_dir() {
            continue;
        }
        let offset = member.data_start().unwrap_or(size);
        let name = std::str::from_utf8(member.name_raw());
        let name = name.map_err(|_| Error::format(path, offset, "a member's name is not UTF-8"))?.to_string();
        let refuse = |message: String| Error::format(path, offset, format!("member {name:?} {message}"));
        if member.encrypted() {
            return Err(refuse("is encrypted".to_string()));
        }
        let deflated = match member.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => return Err(refuse(format!("is packed by {other}; stored and deflated ones are read"))),
        };
        let (packed, unpacked) = (member.compressed_size(), member.size());
        if !deflated && packed != unpacked {
            return Err(refuse(format!("is stored in {packed} bytes, but claims {unpacked}")));
        }
        total = total.saturating_add(unpacked);
        if deflated && unpacked / 1100 > packed || total > FREE + RATIO.saturating_mul(size) {
            return Err(refuse(format!("claims {unpacked} bytes of {packed} packed ones: this looks like a zip bomb")));
        }
        let end = offset.checked_add(packed).and_then(|end| usize::try_from(end).ok());
        let bytes = end.and_then(|end| file.part(offset as usize..end));
        let bytes = bytes.ok_or_else(|| refuse(format!("of {packed} bytes ends outside of the file of {size}")))?;
        let sum = member.crc32();
        drop(member);
        found.push(Member { name, packed: bytes, offset, deflated, size: unpacked, sum });
    }
    Ok(found)
}

/// Members by name.
pub(super) fn by_name(members: &[Member]) -> HashMap<&str, &Member> {
    members.iter().map(|m| (m.name.as_str(), m)).collect()
}
