//! Random bytes of the operating system.

use std::io;

/// `N` random bytes, fit for keys.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut out = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut out[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(out)
}

/// `bytes` random bytes in hexadecimal digits, for names that must not meet another's.
pub fn name<const BYTES: usize>() -> io::Result<String> {
    use std::fmt::Write;
    Ok(bytes::<BYTES>()?.iter().fold(String::with_capacity(2 * BYTES), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn two_draws_differ() {
        assert_ne!(super::bytes::<32>().unwrap(), super::bytes::<32>().unwrap());
        assert_eq!(super::name::<4>().unwrap().len(), 8);
    }
}
