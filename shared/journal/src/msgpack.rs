//! The few pieces of MessagePack that join encoded turns into a frame, each in its shortest form, as serde writes them.

/// An integer. Times before 1970 take the long form.
pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => unsigned(out, value),
        Err(_) => tagged(out, 0xd3, &value.to_be_bytes()),
    }
}

pub(crate) fn unsigned(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => tagged(out, 0xcc, &[value as u8]),
        0x100..=0xffff => tagged(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, &(value as u32).to_be_bytes()),
        0x1_0000_0000..=u64::MAX => tagged(out, 0xcf, &value.to_be_bytes()),
    }
}

/// Bytes, fewer than 256 of them.
pub(crate) fn short_binary<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    const { assert!(N < 256) };
    tagged(out, 0xc4, &[N as u8]);
    out.extend_from_slice(bytes);
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let length = text.len() as u32;
    match length {
        0..=31 => out.push(0xa0 | length as u8),
        32..=0xff => tagged(out, 0xd9, &[length as u8]),
        0x100..=0xffff => tagged(out, 0xda, &(length as u16).to_be_bytes()),
        0x1_0000..=u32::MAX => tagged(out, 0xdb, &length.to_be_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
}

/// What stands before the elements of an array.
pub(crate) fn array_head(out: &mut Vec<u8>, length: u32) {
    match length {
        0..=15 => out.push(0x90 | length as u8),
        16..=0xffff => tagged(out, 0xdc, &(length as u16).to_be_bytes()),
        0x1_0000..=u32::MAX => tagged(out, 0xdd, &length.to_be_bytes()),
    }
}

/// What stands before the content of an enum's variant that has one: a map with the variant's name as its only key.
pub(crate) fn variant_head(out: &mut Vec<u8>, name: &str) {
    out.push(0x81);
    string(out, name);
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}
