//! gzip (RFC 1952) over the deflate of `miniz_oxide`: one member, bounded before anything is expanded.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::stream::InflateState;
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use crate::TemplateError;
use crate::error::malformed;

/// The place in messages.
const PLACE: &str = "the archive";
/// How hard is compressed, of 10.
const LEVEL: u8 = 9;
/// Magic, deflate, no flags, no time, no extra flags, no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Bits of the flags.
const HEAD_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
/// Bytes that are expanded in one go.
const PIECE: usize = 64 << 10;

/// The CRC-32 of RFC 1952, section 8.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = match value & 1 {
                1 => 0xedb8_8320 ^ (value >> 1),
                _ => value >> 1,
            };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| {
        let at = (crc as u8 ^ byte) as usize;
        TABLE[at] ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

/// Compresses. The same bytes give the same bytes.
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut out = HEAD.to_vec();
    out.extend(compress_to_vec(bytes, LEVEL));
    out.extend(crc(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn cut() -> TemplateError {
    malformed(PLACE, "it is cut short")
}

/// What stands behind a text that ends with a byte 0.
fn behind_text(bytes: &[u8]) -> Result<&[u8], TemplateError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or_else(cut)?;
    Ok(&bytes[end + 1..])
}

/// What stands behind the head.
fn body(bytes: &[u8]) -> Result<&[u8], TemplateError> {
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] = bytes else {
        return Err(malformed(PLACE, "it is no gzip"));
    };
    let mut rest = rest;
    if flags & !(1 | HEAD_CRC | EXTRA | NAME | COMMENT) != 0 {
        return Err(malformed(PLACE, "it has flags of gzip that nobody knows"));
    }
    if flags & EXTRA != 0 {
        let [low, high, after @ ..] = rest else {
            return Err(cut());
        };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        rest = after.get(length..).ok_or_else(cut)?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            rest = behind_text(rest)?;
        }
    }
    if flags & HEAD_CRC != 0 {
        rest = rest.get(2..).ok_or_else(cut)?;
    }
    Ok(rest)
}

/// Expands to at most so many bytes, and checks them.
pub(crate) fn unpack(bytes: &[u8], most: usize) -> Result<Vec<u8>, TemplateError> {
    let mut rest = body(bytes)?;
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let (mut out, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let did =
            miniz_oxide::inflate::stream::inflate(&mut state, rest, &mut piece, MZFlush::None);
        out.extend_from_slice(&piece[..did.bytes_written]);
        rest = rest.get(did.bytes_consumed..).ok_or_else(cut)?;
        if out.len() > most {
            return Err(malformed(PLACE, "it expands to more than it may hold"));
        }
        match did.status {
            Ok(MZStatus::StreamEnd) => break,
            Ok(_) if did.bytes_consumed + did.bytes_written > 0 => {}
            Ok(_) => return Err(cut()),
            Err(miniz_oxide::MZError::Buf) => return Err(cut()),
            Err(_) => return Err(malformed(PLACE, "its compressed bytes are damaged")),
        }
    }
    let [a, b, c, d, e, f, g, h] = rest else {
        return Err(malformed(PLACE, "it is cut short, or something follows it"));
    };
    let is_whole = u32::from_le_bytes([*a, *b, *c, *d]) == crc(&out)
        && u32::from_le_bytes([*e, *f, *g, *h]) == out.len() as u32;
    match is_whole {
        true => Ok(out),
        false => Err(malformed(PLACE, "its check fails: it was damaged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_no_more() {
        // The check value of CRC-32.
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        let text = b"hello, hello, hello".repeat(9_000);
        let packed = pack(&text);
        assert_eq!(unpack(&packed, text.len()).unwrap(), text);
        assert_eq!(unpack(&pack(b""), 0).unwrap(), b"");
        let told = |bytes: &[u8]| unpack(bytes, text.len()).unwrap_err().to_string();
        let more = unpack(&packed, text.len() - 1).unwrap_err().to_string();
        assert!(more.contains("expands to more"), "{more}");
        for length in 0..packed.len() {
            told(&packed[..length]);
        }
        let behind = [&packed[..], b"x"].concat();
        assert!(told(&behind).contains("something follows"));
        let twice = [&packed[..], &packed[..]].concat();
        assert!(told(&twice).contains("something follows"));
        for at in 10..packed.len() {
            let mut other = packed.clone();
            other[at] ^= 1;
            told(&other);
        }
    }

    #[test]
    fn heads_of_other_programs_are_read() {
        let packed = pack(b"hello");
        let (head, rest) = packed.split_at(10);
        let mut head = head.to_vec();
        head[3] = HEAD_CRC | EXTRA | NAME | COMMENT;
        let fields = [&[2, 0, 9, 9][..], b"name\0", b"comment\0", &[7, 7]].concat();
        let whole = [&head[..], &fields, rest].concat();
        assert_eq!(unpack(&whole, 5).unwrap(), b"hello");
        head[3] |= 0x20;
        let whole = [&head[..], &fields, rest].concat();
        assert!(unpack(&whole, 5).is_err());
    }
}
