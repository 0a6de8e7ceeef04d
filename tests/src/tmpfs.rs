//! A small disk of the test's own, which can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk in memory, mounted in a folder until it is dropped. Needs root.
#[derive(Debug)]
pub struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    /// Makes the folder and mounts a disk of so many megabytes there.
    #[must_use]
    pub fn mount(folder: &Path, megabytes: u32) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        mount(&format!("size={megabytes}m"), folder);
        Self { folder: folder.to_owned() }
    }

    /// Gives the disk another size, as somebody does who makes room.
    pub fn resize(&self, megabytes: u32) {
        mount(&format!("remount,size={megabytes}m"), &self.folder);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still writes there is about to end too.
        let ended = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        drop(ended);
    }
}

fn mount(options: &str, folder: &Path) {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
    let mounted = command.output().expect("the program mount, which this test needs");
    assert!(
        mounted.status.success(),
        "this test mounts a small disk and may not: run it as root, in a container with CAP_SYS_ADMIN: {}",
        String::from_utf8_lossy(&mounted.stderr)
    );
}
