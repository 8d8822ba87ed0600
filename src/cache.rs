//! Vectors of texts on disk, so that a text is encoded once for all runs with the same encoder.
//!
//! The cache is one [redb](https://www.redb.org) file with a table for each encoder. What decides a text's vectors names
//! the table: the encoder's files, its arithmetic, and the versions of the vectors
//! and of this program. Head, calibration and taxonomy do not, so that another threshold or another head finds everything
//! there. A key is 128 bits of the text's SHA-256; a value is the vectors' own bytes, so that a text from the cache gives
//! the same results to the last bit. Texts are not stored, and cannot be read from the file.
//!
//! A cache that fails once a run is under way is left alone from then on: the run computes what it needs, and says so at
//! its end.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition, TableHandle};

use crate::classifier::features::{self, TextFeatures, Widths};
use crate::digest;
use crate::encoder::{EncodeError, TextEncoder};

/// Beginning of the name of every table.
const PREFIX: &str = "medscenario vectors ";
/// Memory for pages of the file.
const MEMORY_BYTES: usize = 32 << 20;
/// Bytes of vectors after which they are forced onto the disk. What is lost where the power fails is computed again.
const DURABLE_BYTES: usize = 64 << 20;
/// Width of the checksum in front of a value.
const CHECKSUM: usize = size_of::<u128>();

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Another process has the file open.
    #[error("The cache `{}` is in use by another run; wait for its end, or name another file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is no cache of this program; name another file, or one that is not there yet", path.display())]
    NotACache {
        /// The file.
        path: PathBuf,
    },
    /// The file is broken.
    #[error("The cache `{}` is damaged; delete it, and the next run starts a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// The file cannot be read or written.
    #[error("Failed to use the cache `{}`; file and directory must be writable, with room on the disk", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl CacheError {
    fn new(path: &Path, error: redb::Error) -> CacheError {
        let path = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => CacheError::InUse { path },
            // The beginning of the file is that of another format.
            redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => CacheError::NotACache { path },
            redb::Error::Io(error) if error.kind() != ErrorKind::UnexpectedEof => {
                CacheError::Access { path, source: error }
            }
            error => CacheError::Damaged { path, source: Box::new(error) },
        }
    }
}

/// A text with the digest that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    /// [`digest::key`] of its bytes.
    pub key: u128,
    /// The text.
    pub text: &'a str,
}

/// How much of a run came from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Texts that were looked up.
    pub n_texts: u64,
    /// Texts that were there.
    pub n_found: u64,
}

/// An open cache for one encoder.
pub struct FeatureCache {
    path: PathBuf,
    database: Database,
    /// Name of the encoder's table.
    table: String,
    /// Values that wait for [`FeatureCache::save`].
    pending: Mutex<Vec<(u128, Vec<u8>)>>,
    /// Bytes saved since they were last forced onto the disk.
    volatile_bytes: AtomicUsize,
    n_texts: AtomicU64,
    n_found: AtomicU64,
    failure: OnceLock<CacheError>,
}

impl FeatureCache {
    /// Opens a cache, or starts one where there is no file. `encoder` is the digest of the encoder's files; `arithmetic`
    /// names number types, instruction set, device, and whatever else changes the last bit.
    ///
    /// # Errors
    /// The file is in use, broken, something else, or cannot be written.
    pub fn open(path: &Path, encoder: &str, arithmetic: &str) -> Result<FeatureCache, CacheError> {
        let decisive =
            [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, &features::VERSION.to_string(), encoder, arithmetic];
        let table = format!("{PREFIX}{}", digest::of_bytes(decisive.join("\n").as_bytes()));
        let open = || Ok(Builder::new().set_cache_size(MEMORY_BYTES).create(path)?);
        let database = guarded(open).map_err(|error| CacheError::new(path, error))?;
        let cache = FeatureCache {
            path: path.to_owned(),
            database,
            table,
            pending: Mutex::default(),
            volatile_bytes: AtomicUsize::new(0),
            n_texts: AtomicU64::new(0),
            n_found: AtomicU64::new(0),
            failure: OnceLock::new(),
        };
        if !cache.is_ours().map_err(|error| CacheError::new(path, error))? {
            return Err(CacheError::NotACache { path: path.to_owned() });
        }
        // Makes the table, and shows before the run that the file can be written.
        cache.write(&[], Durability::Immediate).map_err(|error| CacheError::new(path, error))?;
        Ok(cache)
    }

    /// Writes what waits, one transaction for all.
    pub fn save(&self) {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if pending.is_empty() || self.failure.get().is_some() {
            return;
        }
        let bytes: usize = pending.iter().map(|(_, value)| value.len()).sum();
        let volatile = self.volatile_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let durability = if volatile < DURABLE_BYTES { Durability::None } else { Durability::Immediate };
        match self.write(&pending, durability) {
            Ok(()) if volatile >= DURABLE_BYTES => self.volatile_bytes.store(0, Ordering::Relaxed),
            Ok(()) => {}
            Err(error) => self.fail(error),
        }
    }

    /// Writes what waits, forces everything onto the disk, and says how much of the run came from the cache.
    ///
    /// # Errors
    /// The cache failed, now or earlier in the run. Nothing but vectors for later runs is lost.
    pub fn finish(self) -> Result<Usage, CacheError> {
        self.save();
        if self.failure.get().is_none()
            && let Err(error) = self.write(&[], Durability::Immediate)
        {
            self.fail(error);
        }
        let usage = Usage { n_texts: self.n_texts.into_inner(), n_found: self.n_found.into_inner() };
        // The last failure that there can be is of no consequence.
        let database = self.database;
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
        self.failure.into_inner().map_or(Ok(usage), Err)
    }

    fn definition(&self) -> TableDefinition<'_, u128, &'static [u8]> {
        TableDefinition::new(&self.table)
    }

    fn is_ours(&self) -> Result<bool, redb::Error> {
        guarded(|| {
            let transaction = self.database.begin_read()?;
            let mut tables = transaction.list_tables()?;
            Ok(tables.all(|table| table.name().starts_with(PREFIX)))
        })
    }

    fn write(&self, entries: &[(u128, Vec<u8>)], durability: Durability) -> Result<(), redb::Error> {
        guarded(|| {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            // After a crash the file opens at once instead of after a walk through all of it.
            transaction.set_quick_repair(matches!(durability, Durability::Immediate));
            let mut table = transaction.open_table(self.definition())?;
            for (key, value) in entries {
                table.insert(key, value.as_slice())?;
            }
            drop(table);
            Ok(transaction.commit()?)
        })
    }

    /// Features of those texts that are there.
    fn find(&self, texts: &[Text<'_>], widths: Widths) -> Vec<Option<TextFeatures>> {
        let nothing = || vec![None; texts.len()];
        if self.failure.get().is_some() {
            return nothing();
        }
        let found = self.read(texts, widths).unwrap_or_else(|error| {
            self.fail(error);
            nothing()
        });
        self.n_texts.fetch_add(texts.len() as u64, Ordering::Relaxed);
        self.n_found.fetch_add(found.iter().flatten().count() as u64, Ordering::Relaxed);
        found
    }

    fn read(&self, texts: &[Text<'_>], widths: Widths) -> Result<Vec<Option<TextFeatures>>, redb::Error> {
        guarded(|| {
            let table = self.database.begin_read()?.open_table(self.definition())?;
            texts
                .iter()
                .map(|&Text { key, text }| Ok(table.get(key)?.and_then(|value| decode(value.value(), text, widths))))
                .collect()
        })
    }

    fn remember(&self, texts: &[Text<'_>], features: &[TextFeatures]) {
        if self.failure.get().is_some() {
            return;
        }
        let mut values: Vec<(u128, Vec<u8>)> =
            texts.iter().zip(features).map(|(text, features)| (text.key, encode(features))).collect();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).append(&mut values);
    }

    fn fail(&self, error: redb::Error) {
        // The first failure tells the cause.
        let _ = self.failure.set(CacheError::new(&self.path, error));
    }
}

/// Runs what touches the file. redb trusts the inner pages of its trees and panics where one is damaged; here that is an
/// error like any other, because a cache can always be done without.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("a page cannot be made sense of".to_owned())))
}

/// Features of texts, in their order: from the cache where it has them, computed and kept for it where it does not.
///
/// # Errors
/// The encoder's backend fails. A cache that fails is an empty one.
pub fn features(
    cache: Option<&FeatureCache>,
    encoder: &TextEncoder,
    texts: &[Text<'_>],
) -> Result<Vec<TextFeatures>, EncodeError> {
    let compute = |texts: &[Text<'_>]| {
        let texts: Vec<&str> = texts.iter().map(|text| text.text).collect();
        features::of_texts(encoder, &texts)
    };
    let Some(cache) = cache else { return compute(texts) };
    let mut found = cache.find(texts, Widths::of(encoder.encoder.as_ref()));
    let missing: Vec<Text<'_>> =
        texts.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(text, _)| *text).collect();
    if !missing.is_empty() {
        let computed = compute(&missing)?;
        cache.remember(&missing, &computed);
        found.iter_mut().filter(|found| found.is_none()).zip(computed).for_each(|(found, new)| *found = Some(new));
    }
    Ok(found.into_iter().flatten().collect())
}

/// Checksum, document vector, clause vectors; little-endian.
fn encode(features: &TextFeatures) -> Vec<u8> {
    let numbers = features.document.iter().chain(&features.vectors);
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    [digest::key(&bytes).to_le_bytes().as_slice(), &bytes].concat()
}

/// `None` where the value is damaged or does not fit the text.
fn decode(value: &[u8], text: &str, widths: Widths) -> Option<TextFeatures> {
    let (checksum, bytes) = value.split_at_checked(CHECKSUM)?;
    if digest::key(bytes).to_le_bytes() != checksum {
        return None;
    }
    let (numbers, _) = bytes.as_chunks();
    let numbers: Vec<f32> = numbers.iter().map(|&number| f32::from_le_bytes(number)).collect();
    TextFeatures::from_vectors(text, widths, &numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Three clauses.
    const TEXT: &str = "导诊，预问诊。 Writes records.";
    const WIDTHS: Widths = Widths { clause: 3, document: 2 };
    const STORED: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

    fn features(bits: &[u32]) -> TextFeatures {
        let numbers: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        TextFeatures::from_vectors(TEXT, WIDTHS, &numbers).expect("three clauses of three")
    }

    /// Bits, because not-a-number equals nothing.
    fn bits(features: &TextFeatures) -> Vec<u32> {
        features.document.iter().chain(&features.vectors).map(|number| number.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn vectors_come_back_to_the_last_bit(stored in proptest::collection::vec(any::<u32>(), 11)) {
            let stored = features(&stored);
            let found = decode(&encode(&stored), TEXT, WIDTHS).expect("what was stored");
            prop_assert_eq!(bits(&found), bits(&stored));
            prop_assert_eq!((found.clauses, found.words), (stored.clauses, stored.words));
        }

        #[test]
        fn no_changed_byte_passes(at in 0usize..60, change in 1u8..) {
            let mut value = encode(&features(&STORED));
            value[at] ^= change;
            prop_assert_eq!(decode(&value, TEXT, WIDTHS), None);
        }
    }

    #[test]
    fn values_of_another_text_or_width_are_left_alone() {
        let value = encode(&features(&STORED));
        assert_eq!(value.len(), 60);
        assert!(decode(&value, TEXT, WIDTHS).is_some());
        assert_eq!(decode(&value, "导诊", WIDTHS), None);
        assert_eq!(decode(&value, TEXT, Widths { clause: 4, document: 2 }), None);
        assert_eq!(decode(&value, TEXT, Widths { clause: 2, document: 100 }), None);
        assert_eq!(decode(&value[..10], TEXT, WIDTHS), None);
    }

    fn texts() -> Vec<String> {
        (0..5).map(|index| format!("{TEXT} {index}")).collect()
    }

    fn keyed(texts: &[String]) -> Vec<Text<'_>> {
        texts.iter().map(|text| Text { key: digest::key(text.as_bytes()), text }).collect()
    }

    #[test]
    fn saved_values_are_found_by_the_same_encoder_and_precision_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c.redb");
        let (owned, stored) = (texts(), features(&STORED));
        let texts = keyed(&owned);
        let cache = FeatureCache::open(&path, "encoder", "f32").expect("opened");
        cache.remember(&texts[..3], &vec![stored.clone(); 3]);
        assert_eq!(cache.find(&texts, WIDTHS), vec![None; 5], "nothing is there before it is saved");
        cache.save();
        let found = |cache: &FeatureCache| cache.find(&texts, WIDTHS).iter().map(Option::is_some).collect::<Vec<_>>();
        // The texts have a clause more than the vectors stored for them; of another text they are no use.
        assert_eq!(found(&cache), [false; 5]);
        let own = |text: &Text<'_>| TextFeatures::from_vectors(text.text, WIDTHS, &[0.5; 14]).expect("four clauses");
        cache.remember(&texts[1..3], &[own(&texts[1]), own(&texts[2])]);
        assert_eq!(cache.finish().expect("well"), Usage { n_texts: 10, n_found: 0 });
        for (encoder, precision, expected) in [
            ("encoder", "f32", [false, true, true, false, false]),
            ("encoder", "i8", [false; 5]),
            ("another", "f32", [false; 5]),
        ] {
            let cache = FeatureCache::open(&path, encoder, precision).expect("opened");
            assert_eq!(found(&cache), expected, "{encoder} {precision}");
            let n_found = expected.iter().filter(|found| **found).count() as u64;
            assert_eq!(cache.finish().expect("well"), Usage { n_texts: 5, n_found });
        }
    }
}
