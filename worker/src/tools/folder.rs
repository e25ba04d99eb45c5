//! The folder of a session: the only place where its tools read and write. Made at first use, for the worker's user
//! alone.
//!
//! Invariant: no path leads out of it, not by `..`, not absolute, not by a symbolic link, not if it is exchanged
//! meanwhile (the system resolves each beneath the opened folder); only plain files and folders are opened.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use skein_engine::ids::{DocumentId, random_id};

/// Where a session's folder stands for the commands that are run in it, where they can be shown another path.
pub const SHOWN: &str = "/session";

/// Whom the folders of a worker belong to that runs as root: commands in them run as this user, not as root.
#[cfg(target_os = "linux")]
pub const NOBODY: u32 = 65_534;

/// The folders of all sessions.
#[derive(Clone, Debug, Default)]
pub struct Folders(PathBuf);

/// One session's folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folders {
    /// Under this folder; made when the first session needs one.
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// Removes those of sessions that were purged. Whatever else stands there stays.
    pub fn sweep(&self, is_purged: impl Fn(DocumentId) -> bool) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let sessions = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for session in sessions.filter(|session| is_purged(*session)) {
            let folder = self.of(session).0;
            // Links in it are removed, not followed.
            match std::fs::remove_dir_all(&folder) {
                Ok(()) => tracing::info!(%session, "the folder of a purged session is removed"),
                Err(error) => tracing::warn!(folder = %folder.display(), %error, "a folder can't be removed"),
            }
        }
    }

    /// A session's.
    pub fn of(&self, session: DocumentId) -> Folder {
        Folder(self.0.join(session.to_string()))
    }
}

impl Folder {
    /// Its path on this machine.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it; makes it first if need be.
    pub fn open(&self) -> Result<Dir, String> {
        let failed = |error: std::io::Error| {
            tracing::warn!(folder = %self.0.display(), %error, "a session's folder can't be used");
            format!("The session's folder can't be used: {error}.")
        };
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.0).map_err(failed)?;
        let dir = Dir::open_ambient_dir(&self.0, ambient_authority()).map_err(failed)?;
        hand_over(&dir).map_err(failed)?;
        Ok(dir)
    }

    /// A path as a model writes it, relative to the folder; `.` is the folder itself. A command may have shown it as an
    /// absolute one.
    pub fn relative<'a>(&self, path: &'a str) -> Result<&'a str, String> {
        let own = self.0.to_str().filter(|own| !own.is_empty());
        let beneath = |root: &str| path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let path = beneath(SHOWN).or_else(|| own.and_then(beneath)).map_or(path, |rest| rest.trim_start_matches('/'));
        match path {
            "" => Ok("."),
            path if path.contains('\0') => Err("A path has no zero byte.".to_owned()),
            path => Ok(path),
        }
    }

    /// Opens a plain file for reading, and tells its size.
    pub fn read(&self, path: &str) -> Result<(File, u64), String> {
        let (dir, path) = (self.open()?, self.relative(path)?);
        open_plain(&dir, Path::new(path)).map_err(|error| explained(path, &error))
    }

    /// Writes a file as a whole: whoever reads it sees all of it, or what was there before. Folders on the way are made;
    /// of a file that is replaced its permissions stay.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), String> {
        let (dir, path) = (self.open()?, self.relative(path)?);
        replace(&dir, Path::new(path), content).map_err(|error| explained(path, &error))
    }
}

/// Opens what must be a plain file: a device or a pipe might wait for ever, or do something.
pub fn open_plain(dir: &Dir, path: &Path) -> std::io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use cap_std::fs::OpenOptionsExt;
        // A pipe without a writer must not block before it is known to be one.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = dir.open_with(path, &options)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
    }
    Ok((file, metadata.len()))
}

fn replace(dir: &Dir, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let before = match dir.metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
        }
        Ok(metadata) => Some(metadata.permissions()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let dir = match folder {
        Some(folder) => {
            make_folders(dir, folder)?;
            &dir.open_dir(folder)?
        }
        None => dir,
    };
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let beside = format!(".{}.part", random_id());
    let written = (|| {
        let mut file = dir.open_with(&beside, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(content)?;
        hand_over(&file)?;
        if let Some(permissions) = before {
            file.set_permissions(permissions)?;
        }
        dir.rename(&beside, dir, name)
    })();
    if written.is_err() {
        let _ = dir.remove_file(&beside);
    }
    written
}

/// Makes the folders on the way that aren't there.
fn make_folders(dir: &Dir, path: &Path) -> std::io::Result<()> {
    if dir.metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    dir.create_dir_all(path)?;
    for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        hand_over(&dir.open_dir(folder)?)?;
    }
    Ok(())
}

/// Gives what root has made to the user that commands run as.
#[cfg(target_os = "linux")]
fn hand_over(made: &impl std::os::fd::AsFd) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Uid, chownat};
    if rustix::process::geteuid().is_root() {
        // A folder is opened only as a place, which `fchown` doesn't take.
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        chownat(made, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// There are no commands.
#[cfg(not(target_os = "linux"))]
fn hand_over<T>(_made: &T) -> std::io::Result<()> {
    Ok(())
}

/// Why a path can't be used, in words for the model.
pub fn explained(path: &str, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("There is no \"{path}\" in the session's folder."),
        ErrorKind::IsADirectory => format!("\"{path}\" is a folder."),
        ErrorKind::NotADirectory => format!("\"{path}\" is no folder, or leads through a file."),
        // The library's own word for a path that leads out.
        ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            format!("\"{path}\" leads out of the session's folder, which is all that can be reached.")
        }
        _ => format!("\"{path}\" can't be used: {error}."),
    }
}

/// Reads at most so much, and whether that was all.
pub fn read_bounded(file: File, most: u64) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    let whole = bytes.len() as u64 <= most;
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok((bytes, whole))
}

/// Whether bytes are no text: a zero byte near the beginning, as `grep` and `git` judge.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(8 << 10).any(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("secret"), "outside").unwrap();
        let folder = Folders::new(root.path().join("work")).of(DocumentId::from_bytes([7; 16]));
        (root, folder)
    }

    #[test]
    fn files_are_written_whole_and_read_back() {
        let (_root, folder) = folder();
        folder.write("a/b/c.txt", b"one").unwrap();
        folder.write("/session/a/b/c.txt", b"two").unwrap();
        let absolute = folder.path().join("a/b/c.txt");
        let (file, size) = folder.read(absolute.to_str().unwrap()).unwrap();
        assert_eq!((size, read_bounded(file, 2).unwrap()), (3, (b"tw".to_vec(), false)));
        assert!(folder.write("a", b"x").unwrap_err().contains("is a folder"));
        assert!(folder.write("a/b/c.txt/d", b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_the_users_alone_and_permissions_of_a_file_stay() {
        use std::os::unix::fs::PermissionsExt;
        let (_root, folder) = folder();
        folder.write("run.sh", b"#!/bin/sh").unwrap();
        let file = folder.path().join("run.sh");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
        folder.write("run.sh", b"#!/bin/sh\ntrue").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.path()), mode(&file)), (0o700, 0o750));
        assert_eq!(mode(folder.path().parent().unwrap()), 0o700);
    }

    #[cfg(unix)]
    #[test]
    fn no_path_leads_out() {
        use std::os::unix::fs::symlink;
        let (root, folder) = folder();
        folder.write("in.txt", b"inside").unwrap();
        symlink(root.path(), folder.path().join("out")).unwrap();
        symlink("../../secret", folder.path().join("up")).unwrap();
        symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
        symlink("in.txt", folder.path().join("alias")).unwrap();
        let absolute = root.path().join("secret");
        for path in [
            "../secret",
            "../../secret",
            "out/secret",
            "up",
            "passwd",
            "/etc/passwd",
            "a/../../../secret",
            "/session/../secret",
        ]
        .into_iter()
        .chain(absolute.to_str())
        {
            let read = folder.read(path).map(|_| ()).unwrap_err();
            assert!(read.contains("leads out") || read.contains("There is no"), "{path}: {read}");
        }
        for path in ["../new", "out/new", "/tmp/skein-new", "out/deep/new"] {
            assert!(folder.write(path, b"x").unwrap_err().contains("leads out"), "{path}");
        }
        // A link that is written to is replaced, and what it named stays.
        let _ = folder.write("up", b"mine");
        assert_eq!(std::fs::read_to_string(root.path().join("secret")).unwrap(), "outside");
        assert!(!root.path().join("new").exists() && !root.path().join("deep").exists());
        assert!(folder.read("alias").is_ok(), "a link that stays inside is followed");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_and_devices_are_refused_at_once() {
        let (_root, folder) = folder();
        folder.open().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        assert!(folder.read("pipe").unwrap_err().contains("no plain file"));
        assert!(folder.write("pipe", b"x").unwrap_err().contains("no plain file"));
        assert!(folder.read(".").unwrap_err().contains("is a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_exchanged_for_a_link_meanwhile_leads_nowhere() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (root, folder) = folder();
        folder.write("d/secret", b"inside").unwrap();
        let (real, aside) = (folder.path().join("d"), folder.path().join("aside"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&real, &aside).unwrap();
                    // A write may have made a folder in its place.
                    while std::os::unix::fs::symlink(root.path(), &real).is_err() {
                        let _ = std::fs::remove_dir_all(&real);
                    }
                    std::fs::remove_file(&real).unwrap();
                    while std::fs::rename(&aside, &real).is_err() {
                        let _ = std::fs::remove_dir_all(&real);
                    }
                }
            });
            for _ in 0..2_000 {
                if let Ok((file, _)) = folder.read("d/secret") {
                    assert_eq!(read_bounded(file, 100).unwrap().0, b"inside");
                }
                let _ = folder.write("d/secret", b"inside");
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_to_string(root.path().join("secret")).unwrap(), "outside");
    }
}
