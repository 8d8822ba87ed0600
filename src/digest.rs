//! SHA-256 digests as lower-case hexadecimal, the form in which every output and manifest carries them.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of some bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn of_file(path: &Path) -> std::io::Result<String> {
    of_reader(std::fs::File::open(path)?)
}

/// SHA-256 of everything a reader yields.
///
/// # Errors
/// The reader fails.
pub fn of_reader(mut reader: impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The first twelve digits of a digest, enough to tell versions apart by eye.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The first 16 bytes of the SHA-256 of some bytes: a key for sets of seen values.
pub fn key(bytes: &[u8]) -> u128 {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digest_of_the_empty_input_is_the_known_constant() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(super::of_bytes(b""), known);
        assert_eq!(super::of_reader(&b""[..]).expect("reads"), known);
    }
}
