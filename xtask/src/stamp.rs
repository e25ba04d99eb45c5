//! What has not changed is not done again: a stamp is a digest of the contents of a step's inputs, kept in
//! `target/xtask/` after the step has succeeded. Contents, not times: a fresh clone and a switched branch count right.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::step::{Failure, Outcome, step};
use crate::tool::{root, target};

/// Folders that hold no inputs, wherever they lie.
const PASSED_OVER: [&str; 6] = ["target", "node_modules", "dist", "test-results", "playwright-report", ".svelte-kit"];

/// Does `work` under `title` unless all of `inputs` are as they were when it last succeeded, and `output` exists.
/// Paths are relative to the repository; an input that doesn't exist counts as empty.
pub fn unless_fresh(title: &str, inputs: &[&str], output: &Path, work: impl FnOnce() -> Outcome) -> Outcome<bool> {
    let inputs: Vec<PathBuf> = inputs.iter().map(|input| root().join(input)).collect();
    unless_stamped(&target().join("xtask").join(title.replace(' ', "-")), title, &inputs, output, work)
}

fn unless_stamped(
    file: &Path,
    title: &str,
    inputs: &[PathBuf],
    output: &Path,
    work: impl FnOnce() -> Outcome,
) -> Outcome<bool> {
    let digest = digest(inputs)?;
    if output.exists() && fs::read_to_string(file).is_ok_and(|kept| kept == digest) {
        return Ok(false);
    }
    // A step that fails half-way must not leave an older stamp that calls its output fresh.
    let _ = fs::remove_file(file);
    step(title, work)?;
    let keep = || {
        fs::create_dir_all(file.parent().expect("the stamp lies in a folder"))?;
        fs::write(file, &digest)
    };
    keep().map_err(|error| Failure(format!("{} could not be written: {error}", file.display())))?;
    Ok(true)
}

fn digest(inputs: &[PathBuf]) -> Outcome<String> {
    let mut files = Vec::new();
    for input in inputs {
        // What is named is an input, even under a name that is passed over deeper down.
        collect(input, &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)
            .map_err(|error| Failure(format!("{} can't be read: {error}", file.display())))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    if path.is_file() {
        files.push(path.to_owned());
    } else if path.is_dir() {
        let unreadable = |error| Failure(format!("{} can't be read: {error}", path.display()));
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?.path();
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if !PASSED_OVER.contains(&name) {
                collect(&entry, files)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_again_only_when_an_input_has_changed_its_output_is_gone_or_it_failed() {
        let folder = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let (input, output) = (folder.join("in"), folder.join("out"));
        fs::create_dir_all(input.join("node_modules")).unwrap();
        fs::write(input.join("a"), "one").unwrap();
        let inputs = [input.clone()];
        let does = |work: fn(&Path) -> Outcome| {
            unless_stamped(&folder.join("stamp"), "a step", &inputs, &output, || work(&output))
        };
        let make: fn(&Path) -> Outcome = |output| {
            fs::write(output, "made").unwrap();
            Ok(())
        };
        assert!(does(make).unwrap());
        assert!(!does(make).unwrap());
        fs::write(input.join("node_modules/b"), "passed over").unwrap();
        assert!(!does(make).unwrap());
        fs::write(input.join("a"), "two").unwrap();
        assert!(does(|_| Err(Failure("no".to_owned()))).is_err());
        assert!(does(make).unwrap());
        fs::remove_file(&output).unwrap();
        assert!(does(make).unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }
}
