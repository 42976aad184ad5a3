//! What is encrypted: nothing opens that the key did not seal, however it is cut into pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_crypto::age::{Identity, Recipient, file};
use skep_crypto::chunked::{Opener, Sealer};
use skep_crypto::signing::SigningKey;
use skep_crypto::{Key, fernet};

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let key = Key::from_bytes([7; 32]);
    match how % 5 {
        // Anything is no ciphertext.
        0 => {
            let (mut opener, mut out) = (Opener::new(key, b"fuzz"), Vec::new());
            let pushed = bytes
                .chunks(usize::from(*how) + 1)
                .try_for_each(|it| opener.push(it, &mut out));
            assert!(pushed.and_then(|()| opener.finish(&mut out)).is_err());
        }
        // What is sealed opens, and not when a bit of it is another.
        1 => {
            let mut sealed = Vec::new();
            let mut sealer = Sealer::new(&key, b"fuzz", &mut sealed).unwrap();
            sealer.push(bytes, &mut sealed).unwrap();
            sealer.finish(&mut sealed).unwrap();
            let open = |sealed: &[u8]| {
                let (mut opener, mut out) =
                    (Opener::new(Key::from_bytes([7; 32]), b"fuzz"), Vec::new());
                opener.push(sealed, &mut out)?;
                opener.finish(&mut out).map(|()| out)
            };
            assert_eq!(open(&sealed).unwrap(), bytes);
            let at = usize::from(*how) % sealed.len();
            sealed[at] ^= 1;
            assert!(open(&sealed).is_err());
        }
        2 => {
            let identity =
                "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSUM4A4H";
            if let Ok(identity) = Identity::parse(identity) {
                assert!(identity.open(bytes).is_err());
                assert!(file::open(&[identity], bytes).is_err());
            }
        }
        3 => {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(recipient) = text.parse::<Recipient>() {
                assert_eq!(recipient.to_string(), text.trim());
            }
            let _ = Identity::parse_all(&text);
            let _ = SigningKey::parse(&text);
        }
        _ => {
            assert!(fernet::open(&key, &String::from_utf8_lossy(bytes)).is_err());
        }
    }
});
