//! Files of agents, ours and the older program's: what is read is spelled in one way, and what opens is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_lock::{Lock, Older};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(lock) = Lock::parse(bytes) {
        assert_eq!(lock.render().as_bytes(), bytes);
        assert_eq!(Lock::parse(bytes).unwrap(), lock);
    }
    let _ = Older::parse(bytes);
});
