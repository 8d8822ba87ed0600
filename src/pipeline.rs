//! Rows in, results out, in order. One thread reads, the pool works on several pieces at a time, and the caller writes.
//!
//! Equal texts are analysed once: a row whose text is in flight or remembered shares its result. Which texts are analysed
//! is decided while reading, in the rows' order, so that nothing depends on the number of threads.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, OnceLock};

use lru::LruCache;
use rayon::Scope;

use crate::cache::{self, FeatureCache, Text};
use crate::classifier::{Analysis, Classifier};
use crate::digest;
use crate::encoder::EncodeError;
use crate::labels::LabelledText;
use crate::prediction::Prediction;
use crate::record::{Record, Records, Rejection};
use crate::taxonomy::Taxonomy;

/// What bounds the memory of a run.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Most rows in a piece.
    piece_rows: usize,
    /// Most bytes of text in a piece, known or not; a longer text is a piece of its own.
    piece_bytes: usize,
    /// Most bytes of text to analyse in a piece.
    fresh_bytes: usize,
    /// Pieces that wait between reader and analysis.
    read_ahead: usize,
    /// Most pieces that are analysed or wait for their turn to be written.
    in_flight: usize,
    /// Bytes of text to analyse above which no further piece is begun, which bounds the hidden states in memory.
    in_flight_bytes: usize,
    /// Distinct texts whose result is remembered.
    remembered: NonZeroUsize,
}

/// The same for any number of threads, so that the states of a journal are, too.
const LIMITS: Limits = Limits {
    piece_rows: 2048,
    piece_bytes: 256 << 10,
    fresh_bytes: 32 << 10,
    read_ahead: 2,
    in_flight: 16,
    in_flight_bytes: 256 << 10,
    remembered: NonZeroUsize::new(16_384).expect("not zero"),
};

/// What a pipeline reads.
pub trait Row: Send + 'static {
    /// The text to analyse; `None` for a row that is only passed through.
    fn text(&self) -> Option<&str>;
}

impl Row for Result<Record, Rejection> {
    fn text(&self) -> Option<&str> {
        self.as_ref().ok().map(|record| record.text.as_str())
    }
}

impl Row for LabelledText {
    fn text(&self) -> Option<&str> {
        Some(&self.text)
    }
}

/// Analyses texts with one model.
pub struct Analyst<'a> {
    /// The model.
    pub classifier: &'a Classifier,
    /// Vectors that earlier runs have computed.
    pub cache: Option<&'a FeatureCache>,
}

impl Analyst<'_> {
    /// Analyses rows and hands them over piece by piece, as [`run`] does.
    ///
    /// # Errors
    /// The encoder's backend fails, or `each` does.
    pub fn analyze<R: Row, E: From<EncodeError>>(
        &self,
        rows: impl Iterator<Item = R> + Send + 'static,
        mut each: impl FnMut(Vec<(R, Option<&Analysis>)>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let analyze = |texts: &[Text<'_>]| {
            let features = cache::features(self.cache, &self.classifier.encoder, texts)?;
            let texts: Vec<&str> = texts.iter().map(|text| text.text).collect();
            Ok::<_, EncodeError>(self.classifier.analyze_features(&texts, &features))
        };
        run(rows, analyze, |rows| {
            if let Some(cache) = self.cache {
                cache.save();
            }
            each(rows)
        })
    }

    /// Predictions and rejections of records, in their order, piece by piece.
    ///
    /// # Errors
    /// As [`Analyst::analyze`].
    pub fn predict<E: From<EncodeError>>(
        &self,
        records: Records,
        taxonomy: &Taxonomy,
        mut each: impl FnMut(Vec<Result<Prediction, Rejection>>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.analyze(records, |rows| {
            let predict = |(row, analysis): (Result<Record, Rejection>, Option<&Analysis>)| {
                row.map(|record| {
                    Prediction::new(record, analysis.expect("every record has a text and is analysed"), taxonomy)
                })
            };
            each(rows.into_iter().map(predict).collect())
        })
    }
}

/// Where the result of a text will be.
type Slot<A> = Arc<OnceLock<A>>;

/// Reads rows, analyses their distinct texts and hands over pieces of rows with their results, in order.
///
/// `analyze` is called on the current rayon pool, for several pieces at a time, with distinct texts; it returns one result
/// for each. `each` is called on this thread. [`ControlFlow::Break`] from it ends the run. The
/// reader is not waited for where the run ends early: it may stand at a pipe through which nothing more comes.
///
/// # Errors
/// The first failure of `analyze` or `each`, in the rows' order.
pub fn run<R: Row, A: Send + Sync + 'static, F: Send, E: From<F>>(
    rows: impl Iterator<Item = R> + Send + 'static,
    analyze: impl Fn(&[Text<'_>]) -> Result<Vec<A>, F> + Sync,
    each: impl FnMut(Vec<(R, Option<&A>)>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let ended = AtomicBool::new(false);
    rayon::in_place_scope(|scope| drive(scope, LIMITS, &ended, rows, &analyze, each))
}

fn drive<'scope, R: Row, A: Send + Sync + 'static, F: Send + 'scope, E: From<F>>(
    scope: &Scope<'scope>,
    limits: Limits,
    ended: &'scope AtomicBool,
    rows: impl Iterator<Item = R> + Send + 'static,
    analyze: &'scope (impl Fn(&[Text<'_>]) -> Result<Vec<A>, F> + Sync),
    mut each: impl FnMut(Vec<(R, Option<&A>)>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let (sender, pieces) = mpsc::sync_channel(limits.read_ahead);
    let mut reader = Some(std::thread::spawn(move || read(rows, limits, &sender)));
    let mut in_flight: VecDeque<InFlight<R, A, F>> = VecDeque::new();
    let mut bytes = 0;
    let _end = SetOnDrop(ended);
    loop {
        while reader.is_some()
            && (in_flight.is_empty() || in_flight.len() < limits.in_flight && bytes < limits.in_flight_bytes)
        {
            // With nothing to write there is nothing to do but wait for the reader.
            let next = match in_flight.is_empty() {
                true => pieces.recv().map_err(|_| TryRecvError::Disconnected),
                false => pieces.try_recv(),
            };
            match next {
                Ok(piece) => {
                    bytes += piece.fresh_bytes;
                    in_flight.push_back(start(scope, piece, ended, analyze));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    if let Some(Err(panic)) = reader.take().map(std::thread::JoinHandle::join) {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        let Some(InFlight { fresh_bytes, result }) = in_flight.pop_front() else {
            return Ok(());
        };
        // Nothing comes from an analysis that panicked; the scope panics in turn when this function has returned.
        let Ok(result) = result.recv() else { return Ok(()) };
        bytes -= fresh_bytes;
        let (rows, slots): (Vec<R>, Vec<Option<Slot<A>>>) = result?.into_iter().unzip();
        let results = slots.iter().map(|slot| {
            Some(slot.as_ref()?.get().expect("its text is of this piece or an earlier one, and those are done"))
        });
        if each(rows.into_iter().zip(results).collect())?.is_break() {
            return Ok(());
        }
    }
}

/// Tells analyses that have not begun that nobody waits for them, however the run ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A piece on its way.
struct InFlight<R, A, F> {
    fresh_bytes: usize,
    result: Receiver<Result<SlottedRows<R, A>, F>>,
}

type SlottedRows<R, A> = Vec<(R, Option<Slot<A>>)>;

fn start<'scope, R: Row, A: Send + Sync + 'static, F: Send + 'scope>(
    scope: &Scope<'scope>,
    piece: Piece<R, A>,
    ended: &'scope AtomicBool,
    analyze: &'scope (impl Fn(&[Text<'_>]) -> Result<Vec<A>, F> + Sync),
) -> InFlight<R, A, F> {
    let (done, result) = mpsc::channel();
    let fresh_bytes = piece.fresh_bytes;
    let work = move || {
        let outcome = piece.analyze(analyze);
        // Where the run has ended nobody listens.
        let _ = done.send(outcome);
    };
    scope.spawn(move |_| {
        if !ended.load(Ordering::Relaxed) {
            work();
        }
    });
    InFlight { fresh_bytes, result }
}

/// Consecutive rows, with the results they wait for.
struct Piece<R, A> {
    rows: SlottedRows<R, A>,
    /// Rows whose text is to be analysed, with its key.
    fresh: Vec<(usize, u128)>,
    bytes: usize,
    fresh_bytes: usize,
}

impl<R: Row, A> Piece<R, A> {
    fn new() -> Piece<R, A> {
        Piece { rows: Vec::new(), fresh: Vec::new(), bytes: 0, fresh_bytes: 0 }
    }

    /// Adds a row, with the result that its text has or will have.
    fn push(&mut self, row: R, known: &mut LruCache<u128, Slot<A>>) {
        let slot = row.text().map(|text| {
            let key = digest::key(text.as_bytes());
            self.bytes += text.len();
            Arc::clone(known.get_or_insert(key, || {
                self.fresh.push((self.rows.len(), key));
                self.fresh_bytes += text.len();
                Slot::default()
            }))
        });
        self.rows.push((row, slot));
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.rows.len() >= limits.piece_rows
            || self.bytes >= limits.piece_bytes
            || self.fresh_bytes >= limits.fresh_bytes
    }

    /// Fills the slots of the texts that are fresh here.
    fn analyze<F>(self, analyze: &impl Fn(&[Text<'_>]) -> Result<Vec<A>, F>) -> Result<SlottedRows<R, A>, F> {
        let texts: Vec<Text<'_>> =
            self.fresh.iter().filter_map(|&(at, key)| Some(Text { key, text: self.rows[at].0.text()? })).collect();
        if !texts.is_empty() {
            for (&(at, _), result) in self.fresh.iter().zip(analyze(&texts)?) {
                if let Some(slot) = &self.rows[at].1 {
                    slot.get_or_init(|| result);
                }
            }
        }
        Ok(self.rows)
    }
}

/// Gathers rows into pieces until there are no more, or nobody takes them.
fn read<R: Row, A>(rows: impl Iterator<Item = R>, limits: Limits, pieces: &SyncSender<Piece<R, A>>) {
    let mut known = LruCache::new(limits.remembered);
    let mut piece = Piece::new();
    for row in rows {
        piece.push(row, &mut known);
        if piece.is_full(limits) && pieces.send(std::mem::replace(&mut piece, Piece::new())).is_err() {
            return;
        }
    }
    if !piece.rows.is_empty() {
        // A run that has ended needs no more.
        let _ = pieces.send(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    impl Row for Option<String> {
        fn text(&self) -> Option<&str> {
            self.as_deref()
        }
    }

    const SMALL: Limits = Limits {
        piece_rows: 5,
        piece_bytes: 40,
        fresh_bytes: 12,
        read_ahead: 1,
        in_flight: 3,
        in_flight_bytes: 20,
        remembered: NonZeroUsize::new(1000).expect("not zero"),
    };

    type Each<'a> = &'a mut dyn FnMut(Vec<(Option<String>, Option<&usize>)>) -> Result<ControlFlow<()>, String>;

    fn run_with(
        threads: usize,
        limits: Limits,
        rows: impl Iterator<Item = Option<String>> + Send + 'static,
        analyze: &(impl Fn(&[Text<'_>]) -> Result<Vec<usize>, String> + Sync),
        each: Each<'_>,
    ) -> Result<(), String> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        let ended = AtomicBool::new(false);
        pool.in_place_scope(|scope| drive(scope, limits, &ended, rows, analyze, each))
    }

    fn lengths(texts: &[Text<'_>]) -> Result<Vec<usize>, String> {
        Ok(texts.iter().map(|text| text.text.len()).collect())
    }

    fn numbered(count: usize) -> impl Iterator<Item = Option<String>> + Send {
        (0..count).map(|index| Some(format!("text {index}")))
    }

    proptest! {
        #[test]
        fn rows_come_out_in_order_with_their_results_and_each_text_is_analysed_once(
            texts in proptest::collection::vec(proptest::option::weighted(0.9, "[a-c]{0,3}x{0,20}"), 0..120),
            threads in 1usize..5,
            piece_rows in 1usize..8,
            fresh_bytes in 1usize..40,
            in_flight in 1usize..6,
        ) {
            let limits = Limits { piece_rows, fresh_bytes, in_flight, ..SMALL };
            let analysed: Mutex<HashMap<String, usize>> = Mutex::default();
            let analyze = |texts: &[Text<'_>]| {
                for text in texts {
                    *analysed.lock().expect("no panic").entry(text.text.to_owned()).or_default() += 1;
                }
                lengths(texts)
            };
            let mut found = Vec::new();
            let mut pieces = Vec::new();
            let result = run_with(threads, limits, texts.clone().into_iter(), &analyze, &mut |rows| {
                pieces.push(rows.len());
                found.extend(rows.into_iter().map(|(row, result)| (row, result.copied())));
                Ok(ControlFlow::Continue(()))
            });
            prop_assert_eq!(result, Ok(()));
            let expected: Vec<_> = texts.iter().map(|text| (text.clone(), text.as_ref().map(String::len))).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(analysed.lock().expect("no panic").values().all(|&times| times == 1));
            prop_assert!(pieces.iter().all(|&rows| 1 <= rows && rows <= piece_rows));
            // Pieces do not depend on threads.
            let mut alone = Vec::new();
            let result = run_with(1, limits, texts.into_iter(), &lengths, &mut |rows| {
                alone.push(rows.len());
                Ok(ControlFlow::Continue(()))
            });
            prop_assert_eq!((result, alone), (Ok(()), pieces));
        }

        #[test]
        fn a_short_memory_costs_analyses_and_no_results(texts in proptest::collection::vec("[a-e]{1,2}", 0..80), threads in 1usize..4) {
            let limits = Limits { remembered: NonZeroUsize::MIN, ..SMALL };
            let mut found = Vec::new();
            let rows = texts.clone().into_iter().map(Some);
            let result = run_with(threads, limits, rows, &lengths, &mut |rows| {
                found.extend(rows.into_iter().map(|(row, result)| (row, result.copied())));
                Ok(ControlFlow::Continue(()))
            });
            prop_assert_eq!(result, Ok(()));
            let expected: Vec<_> = texts.into_iter().map(|text| (Some(text.clone()), Some(text.len()))).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_read_and_not_yet_written_is_bounded() {
        let (read, mut written, mut most) = (Arc::new(AtomicUsize::new(0)), 0, 0);
        let counter = Arc::clone(&read);
        let rows = numbered(2000).inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let result = run_with(2, SMALL, rows, &lengths, &mut |rows| {
            most = most.max(read.load(Ordering::SeqCst) - written);
            written += rows.len();
            Ok(ControlFlow::Continue(()))
        });
        assert_eq!((result, written), (Ok(()), 2000));
        // Pieces in flight, pieces read ahead, one in the reader's hands and one in ours.
        let bound = (SMALL.in_flight + SMALL.read_ahead + 2) * SMALL.piece_rows;
        assert!(most <= bound, "{most} rows at a time, expected at most {bound}");
    }

    #[test]
    fn a_failed_analysis_ends_the_run_after_the_pieces_before_it() {
        let fail = |texts: &[Text<'_>]| match texts.iter().any(|text| text.text == "text 50") {
            true => Err("broken".to_owned()),
            false => lengths(texts),
        };
        for threads in [1, 3] {
            let mut last = None;
            let result = run_with(threads, SMALL, numbered(200), &fail, &mut |rows| {
                last = rows.last().and_then(|(row, _)| row.clone());
                Ok(ControlFlow::Continue(()))
            });
            assert_eq!(result, Err("broken".to_owned()));
            // Two texts a piece.
            assert_eq!(last.as_deref(), Some("text 49"));
        }
    }

    /// Rows, and then a reader that waits for ever.
    fn endless() -> impl Iterator<Item = Option<String>> + Send {
        let waits = std::iter::from_fn(|| {
            loop {
                std::thread::park();
            }
        });
        numbered(40).chain(waits)
    }

    #[test]
    fn a_run_that_ends_early_does_not_wait_for_the_reader() {
        let result = run_with(2, SMALL, endless(), &lengths, &mut |_| Err("disk full".to_owned()));
        assert_eq!(result, Err("disk full".to_owned()));
        let mut pieces = 0;
        let result = run_with(2, SMALL, endless(), &lengths, &mut |_| {
            pieces += 1;
            Ok(if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert_eq!((result, pieces), (Ok(()), 3));
    }

    #[test]
    fn a_panic_of_reader_or_analysis_is_passed_on() {
        let bad_rows = || numbered(40).inspect(|row| assert!(row.as_deref() != Some("text 30"), "bad row"));
        let bad_analysis = |texts: &[Text<'_>]| {
            assert!(texts[0].text != "text 8", "bad text");
            lengths(texts)
        };
        let mut go_on = |_: Vec<(Option<String>, Option<&usize>)>| Ok(ControlFlow::Continue(()));
        let reader = AssertUnwindSafe(|| run_with(2, SMALL, bad_rows(), &lengths, &mut go_on));
        assert!(catch_unwind(reader).is_err());
        let analysis = AssertUnwindSafe(|| run_with(2, SMALL, numbered(40), &bad_analysis, &mut go_on));
        assert!(catch_unwind(analysis).is_err());
    }
}
