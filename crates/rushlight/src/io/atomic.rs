//! Files that are replaced whole or not at all.
//!
//! The new content goes to a temporary file in the same folder, is brought to the disk, and takes the name in one
//! `rename`. A crash, a full disk or a killed run leaves the old file as it was.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes the file at `path` through `write`, so that no reader ever sees a part of it.
///
/// An old file keeps its permissions. A symbolic link is replaced by the file, not followed.
///
/// Errors: those of `write`; `path` is a folder or a device; what the system refuses. After each of them the old file
/// is untouched and the temporary one removed, but for a failure to sync the folder, by when the new file is in place.
pub fn write_atomic<F>(path: impl AsRef<Path>, write: F) -> Result<()>
where
    F: FnOnce(&mut BufWriter<&File>) -> Result<()>,
{
    let path = path.as_ref();
    let refused = |e: io::Error| Error::io(path, e);
    let folder = match path.parent() {
        Some(p) if p.as_os_str().is_empty() => Path::new("."),
        Some(p) => p,
        None => return Err(refused(io::ErrorKind::IsADirectory.into())),
    };
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        // A rename would remove /dev/null itself.
        return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }

    let mut builder = tempfile::Builder::new();
    builder.prefix(".rushlight-").suffix(".tmp");
    // What a plain `File::create` asks for; the system takes its umask off.
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(refused)?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer)?;
    writer.flush().map_err(refused)?;
    drop(writer);
    if let Some(old) = old {
        temporary.as_file().set_permissions(old.permissions()).map_err(refused)?;
    }
    temporary.as_file().sync_all().map_err(refused)?;
    temporary.persist(path).map_err(|e| refused(e.error))?;
    sync_folder(folder).map_err(refused)
}

/// The name is safe once the folder that holds it is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems have no sync of folders.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, bytes: &[u8]) -> Result<()> {
        write_atomic(path, |file| file.write_all(bytes).map_err(|e| Error::io(path, e)))
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn writes_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        put(&path, b"first, and longer").unwrap();
        put(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let large = vec![7; 1 << 20];
        put(&path, &large).unwrap();
        assert_eq!(fs::read(&path).unwrap(), large);
        assert_eq!(names(dir.path()), ["weights"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let fail = || {
            write_atomic(&path, |file| {
                file.write_all(&[1; 100_000]).unwrap();
                Err(Error::invalid("save", "changed my mind"))
            })
        };
        assert_eq!(fail().unwrap_err().to_string(), "save: changed my mind");
        assert!(names(dir.path()).is_empty());
        put(&path, b"old").unwrap();
        fail().unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["weights"]);
    }

    #[test]
    fn errors_name_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for path in [folder.clone(), dir.path().join("absent/file"), "/".into(), "".into()] {
            let error = put(&path, b"x").unwrap_err();
            assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
        }
        assert_eq!(names(dir.path()), ["folder"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_not_replaced() {
        let error = put(Path::new("/dev/null"), b"x").unwrap_err().to_string();
        assert!(error.contains("/dev/null: not a regular file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_plain_file_or_of_the_old_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let (plain, path) = (dir.path().join("plain"), dir.path().join("weights"));
        File::create(&plain).unwrap();
        put(&path, b"x").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        put(&path, b"y").unwrap();
        assert_eq!(mode(&path) & 0o777, 0o640);
    }

    /// A file system of 64 KiB, gone when dropped. Mounting one takes root: `None` elsewhere.
    #[cfg(target_os = "linux")]
    struct Small(tempfile::TempDir);

    #[cfg(target_os = "linux")]
    impl Small {
        fn mount() -> Option<Small> {
            let dir = tempfile::tempdir().unwrap();
            let mut mount = std::process::Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path());
            mount.output().is_ok_and(|o| o.status.success()).then_some(Small(dir))
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for Small {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).status();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let Some(small) = Small::mount() else { return };
        let path = small.0.path().join("weights");
        put(&path, b"old").unwrap();
        // One write is refused at once, the other only when the buffer is flushed.
        fs::write(small.0.path().join("filler"), vec![1; 56 << 10]).unwrap();
        for size in [1 << 20, 7000] {
            let error = put(&path, &vec![2; size]).unwrap_err();
            let Error::Io { path: named, source } = &error else { panic!("{error}") };
            assert_eq!((named, source.kind()), (&path, io::ErrorKind::StorageFull));
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(small.0.path()).len(), 2);
        }
    }
}
