//! Keys are overwritten on the heap before it is freed. The allocator that looks needs a process of
//! its own.

#![expect(unsafe_code, reason = "an allocator is unsafe")]

use aes_gcm::{Aes256Gcm, KeyInit};
use model_experiments::values::ApiKeyCipher;
use secrecy::{ExposeSecret, SecretString};
use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// The base64 of [`KEY`].
const MASTER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The base64 of a byte more.
const LONGER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYA";

/// A master key. The round keys of AES begin with it.
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// What no freed memory may contain: half of the master key, the key's base64, and an API key.
const SECRETS: [&[u8]; 3] = [b"0123456789abcdef", b"MDEyMzQ1Njc4OWFi", b"sk-partner-of-16"];

/// Blocks that were freed with a secret in them.
static LEAKS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which looks into what is freed.
struct Looking;

#[global_allocator]
static ALLOCATOR: Looking = Looking;

// SAFETY: the system's allocator does the work. Its memory is zeroed, so that all of it can be
// read. `realloc` is the default, which frees the old block by `dealloc`.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is still allocated.
        let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
        if bytes.windows(16).any(|bytes| SECRETS.contains(&bytes)) {
            LEAKS.fetch_add(1, Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How many blocks `work` frees with a secret in them.
fn leaks(work: impl FnOnce()) -> usize {
    let before = LEAKS.load(Relaxed);
    work();
    LEAKS.load(Relaxed) - before
}

fn master() -> SecretString {
    MASTER.into()
}

/// One test, because all threads free into the same count.
#[test]
fn keys_are_overwritten_before_their_memory_is_freed() {
    assert_eq!(leaks(|| drop(MASTER.to_owned())), 1);
    let round_keys = || ManuallyDrop::new(Aes256Gcm::new(KEY.into()));
    assert_eq!(leaks(|| drop(Box::new(round_keys()))), 1, "round keys don't begin with the key");

    let cipher = || ApiKeyCipher::new(&master()).unwrap();
    assert_eq!(leaks(|| drop(Box::new(cipher()))), 0, "a cipher");
    assert_eq!(leaks(|| drop(Box::new(cipher().clone()))), 0, "a clone");
    let rotated = || {
        let rotated = (0..9).try_fold(cipher(), |cipher, _| cipher.with_previous(&master()));
        drop(rotated.unwrap());
    };
    assert_eq!(leaks(rotated), 0, "previous keys");
    let moved = || {
        let mut ciphers = Vec::new();
        ciphers.resize_with(9, cipher);
    };
    assert_eq!(leaks(moved), 0, "moved ciphers");
    let refused = || {
        let _ = ApiKeyCipher::new(&LONGER.into()).unwrap_err();
        let _ = cipher().with_previous(&"not base64".into()).unwrap_err();
    };
    assert_eq!(leaks(refused), 0, "a refused key");
    let used = || {
        let cipher = cipher();
        let encrypted = cipher.encrypt(&"sk-partner-of-16".into()).unwrap();
        let decrypted = cipher.decrypt(&encrypted).unwrap();
        assert!(decrypted.expose_secret().starts_with("sk-"));
    };
    assert_eq!(leaks(used), 0, "an API key");
}
