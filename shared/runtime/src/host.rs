//! The name of this host.

/// The name of this host, which the default instance name begins with; of a container, its own.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
