//! Bech32 (BIP 173) of 32 bytes, without its bound on the length: how age writes keys.

use zeroize::Zeroizing;

use crate::CryptoError;

const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Letters of 32 bytes.
const DATA: usize = 52;
const CHECKSUM: usize = 6;

/// One step of the checksum.
fn step(sum: u32, value: u8) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    let top = sum >> 25;
    let next = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
    let terms = GENERATOR.iter().enumerate();
    terms
        .filter(|(bit, _)| top >> bit & 1 == 1)
        .fold(next, |sum, (_, term)| sum ^ term)
}

/// The checksum's state after the part before the `1` and these values.
fn sum(prefix: &str, values: &[u8]) -> u32 {
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(values.iter().copied());
    all.fold(1, step)
}

/// The text of 32 bytes, with a prefix in lower case.
pub(super) fn encode(prefix: &str, bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut values = Zeroizing::new(Vec::with_capacity(DATA + CHECKSUM));
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push((held >> bits & 31) as u8);
        }
    }
    values.push((held << (5 - bits) & 31) as u8);
    let check = [0; CHECKSUM]
        .iter()
        .fold(sum(prefix, &values), |sum, it| step(sum, *it))
        ^ 1;
    let check = (0..CHECKSUM).map(|place| (check >> (5 * (CHECKSUM - 1 - place)) & 31) as u8);
    values.extend(check);
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 1 + values.len()));
    text.push_str(prefix);
    text.push('1');
    text.extend(
        values
            .iter()
            .map(|value| char::from(LETTERS[usize::from(*value)])),
    );
    text
}

/// The 32 bytes of a text in lower case with this prefix.
pub(super) fn decode(prefix: &str, text: &str) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let data = text
        .strip_prefix(prefix)
        .and_then(|it| it.strip_prefix('1'));
    let data = data.filter(|it| it.len() == DATA + CHECKSUM);
    let data = data.ok_or(CryptoError::Damaged)?;
    let mut values = Zeroizing::new([0_u8; DATA + CHECKSUM]);
    for (value, letter) in values.iter_mut().zip(data.bytes()) {
        let place = LETTERS.iter().position(|it| *it == letter);
        *value = place.ok_or(CryptoError::Damaged)? as u8;
    }
    let mut out = Zeroizing::new([0; 32]);
    let (mut held, mut bits, mut place) = (0_u32, 0, 0);
    for value in &values[..DATA] {
        held = (held << 5 | u32::from(*value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out[place] = (held >> bits & 0xff) as u8;
            place += 1;
        }
    }
    // The last letter holds four bits too many, which are none.
    match sum(prefix, &values[..]) == 1 && held & ((1 << bits) - 1) == 0 {
        true => Ok(out),
        false => Err(CryptoError::Damaged),
    }
}
