//! The encoder against transformers, sentence-transformers and candle's own BERT, and its errors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use insta::assert_snapshot;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use medscenario::encoder::bert::{Bert, Weights};
use medscenario::encoder::cpu::CpuBert;
use medscenario::encoder::weights::{Bytes, Tensors};
use medscenario::encoder::{Backend, Checkpoint, Encoder, Pooling, TextEncoder};

#[path = "fixtures/tiny.rs"]
mod tiny;

use tiny::{REFERENCE, Tiny};

const MODELS: [&str; 2] = ["bert", "roberta"];
const POOLINGS: [(&str, &str, bool); 4] = [
    ("mean", "mean", false),
    ("mean_normalized", "mean", true),
    ("cls", "cls", false),
    ("cls_normalized", "cls", true),
];

const CPU: Backend = Backend::Cpu { quantized: false };
const CANDLE: Backend = Backend::Candle { device: Device::Cpu, dtype: DType::F32 };

/// Largest difference to the reference, whose values are rounded to six places.
const TOLERANCE: f32 = 1e-5;

fn write(tiny: &Tiny) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, content) in tiny.files() {
        write_file(directory.path(), &name, &content);
    }
    directory
}

fn write_file(directory: &Path, name: &str, content: &[u8]) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory can be made");
    std::fs::write(path, content).expect("a file can be written");
}

fn load(tiny: &Tiny, truncate: bool) -> TextEncoder {
    load_on(&CPU, tiny, truncate)
}

fn load_on(backend: &Backend, tiny: &Tiny, truncate: bool) -> TextEncoder {
    let directory = write(tiny);
    let checkpoint = Checkpoint::open(directory.path()).expect("the configuration is valid");
    checkpoint.load(backend, truncate).expect("the checkpoint is valid")
}

/// Texts of the reference: key and what is expected.
fn texts(model: &str) -> Vec<(&'static str, &'static Value)> {
    let texts = REFERENCE[model]["texts"].as_object().expect("the reference has texts");
    texts.iter().map(|(key, expected)| (key.as_str(), expected)).collect()
}

fn text(expected: &'static Value) -> &'static str {
    expected["text"].as_str().expect("a reference has its text")
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).expect("a vector is a list of numbers")
}

fn scaled(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt() as f32;
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "{what}: value {at} is {found}, expected {expected}");
    }
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn hidden_states_of_texts_are_those_of_transformers() {
    for model in MODELS {
        let encoder = load(&Tiny::new(model, "mean"), false);
        let expected = texts(model);
        let contents: Vec<&str> = expected.iter().map(|(_, text_of)| text(text_of)).collect();
        let states = encoder.states(&contents, &[encoder.encoder.layers()], |place, states| {
            (place, states.offsets.to_vec(), states.states.to_vec())
        });
        let states = states.expect("the texts can be encoded").into_iter().enumerate();
        for ((key, expected), (at, (place, offsets, states))) in expected.into_iter().zip(states) {
            let what = format!("{model}, {key}");
            assert_eq!((place, json!(offsets)), (at, expected["offsets"].clone()), "{what}");
            let text = text(expected);
            assert!(offsets.iter().all(|&(start, end)| text.get(start..end).is_some()), "{what}");
            assert_close(&states, &floats(&expected["states"]), TOLERANCE, &what);
        }
    }
}

#[test]
fn text_vectors_are_those_of_sentence_transformers() {
    for model in MODELS {
        for (name, pooling, normalized) in POOLINGS {
            let tiny = Tiny::new(model, name);
            let (joined, truncated) = (load(&tiny, false), load(&tiny, true));
            assert_eq!((joined.pooling == Pooling::Cls, joined.normalize), (pooling == "cls", normalized));
            for (key, expected) in texts(model) {
                let embed = |encoder: &TextEncoder| encoder.embed(&[text(expected)]).expect("the text can be encoded");
                let mut whole = floats(&expected[pooling]);
                if normalized {
                    whole = scaled(whole);
                }
                let first = match REFERENCE[model]["truncated"][name].get(key) {
                    Some(first) => floats(first),
                    None => whole.clone(),
                };
                assert_close(&embed(&joined)[0], &whole, TOLERANCE, &format!("{model}, {name}, {key}"));
                assert_close(&embed(&truncated)[0], &first, TOLERANCE, &format!("{model}, {name}, {key}, truncated"));
            }
        }
    }
}

#[test]
fn long_texts_have_the_windows_of_the_reference() {
    for model in MODELS {
        let encoder = load(&Tiny::new(model, "mean"), false);
        assert_eq!(encoder.tokenizer.window(), 24, "{model}");
        let mut most = 0;
        for (key, expected) in texts(model) {
            let windows = encoder.tokenizer.tokenize(text(expected)).windows;
            let spans: Vec<[usize; 2]> = windows.iter().map(|window| [window.start, window.end]).collect();
            assert_eq!(json!(spans), expected["windows"], "{model}, {key}");
            let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).expect("ids are whole numbers");
            for window in &windows {
                assert_eq!(window.ids, [&[0], &ids[window.start..window.end], &[2]].concat(), "{model}, {key}");
            }
            most = most.max(windows.len());
        }
        assert!(most >= 4, "the reference has a text of several windows");
    }
}

fn states(encoder: &dyn Encoder, batch: &[&[u32]], layers: &[usize]) -> Vec<Vec<f32>> {
    let mut found = Vec::new();
    let read = &mut |place, states: &[f32]| {
        assert_eq!(place, found.len(), "sequences come in order");
        found.push(states.to_vec());
    };
    encoder.encode(batch, layers, read).expect("the batch can be encoded");
    found
}

#[test]
fn a_mixed_batch_gives_each_sequence_the_states_that_it_has_alone() {
    for (model, backend) in MODELS.into_iter().flat_map(|model| [(model, CPU), (model, CANDLE)]) {
        let encoder = load_on(&backend, &Tiny::new(model, "mean"), false);
        // Texts of one window alone, because their states in the reference come from one sequence.
        let expected: Vec<&Value> = texts(model)
            .into_iter()
            .map(|(_, expected)| expected)
            .filter(|text| text["windows"][1].is_null())
            .collect();
        let ids: Vec<Vec<u32>> =
            expected.iter().map(|expected| encoder.tokenizer.tokenize(text(expected)).windows.remove(0).ids).collect();
        let batch: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        assert!(batch.iter().any(|ids| ids.len() != batch[0].len()), "lengths differ");
        let last = [encoder.encoder.layers()];
        let mixed = states(encoder.encoder.as_ref(), &batch, &last);
        for ((ids, expected), mixed) in batch.iter().zip(expected).zip(mixed) {
            let alone = states(encoder.encoder.as_ref(), &[*ids], &last).remove(0);
            assert_close(&mixed, &alone, TOLERANCE, model);
            if encoder.encoder.mixes_lengths() {
                assert_eq!(bits(std::slice::from_ref(&mixed)), bits(&[alone]), "{model}");
            }
            assert_close(&mixed[16..mixed.len() - 16], &floats(&expected["states"]), TOLERANCE, model);
        }
    }
}

#[test]
fn a_training_pass_computes_what_inference_computes() {
    let directory = write(&Tiny::new("bert", "mean"));
    let checkpoint = Checkpoint::open(directory.path()).expect("the configuration is valid");
    let tensors = checkpoint.tensors().expect("the weights can be read");
    let mut weights = Weights::new(tensors, &Device::Cpu, DType::F32).trainable();
    let bert = Bert::load(&checkpoint.config, 0, &mut weights).expect("the weights are complete");
    let batch: [&[u32]; 2] = [&[0, 5, 6, 7, 8, 2], &[0, 13, 14, 2]];
    let states = |training| {
        let states = bert.forward(&batch, &[0, bert.layers()], training);
        let states = states.and_then(|states| states.flatten_all()?.to_vec1::<f32>());
        states.expect("the batch can be encoded")
    };
    assert_close(&states(true), &states(false), TOLERANCE, "training");
    let names: Vec<String> = weights.variables().into_keys().collect();
    let expected: Vec<String> = Tiny::new("bert", "mean").tensors.into_keys().collect();
    assert_eq!(names, expected, "every tensor is trained");
}

#[test]
fn names_of_older_checkpoints_give_the_same_vectors() {
    let texts = ["智能导诊，面向门诊的病历生成。", "Triage notes"];
    let embed = |tiny: &Tiny| bits(&load(tiny, false).embed(&texts).expect("the texts can be encoded"));
    let plain = embed(&Tiny::new("bert", "mean"));
    let renamed = |rename: &dyn Fn(&str) -> String| {
        let mut tiny = Tiny::new("bert", "mean");
        tiny.tensors = tiny.tensors.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        tiny
    };
    let legacy =
        |name: &str| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    assert_eq!(embed(&renamed(&|name| format!("bert.{name}"))), plain);
    assert_eq!(embed(&renamed(&legacy)), plain);
    let mut both = renamed(&|name| format!("bert.{}", legacy(name)));
    // Heads of the pretraining tasks lie beside the encoder.
    both.tensors.insert("cls.predictions.transform.LayerNorm.gamma".to_owned(), (vec![16], vec![1.0; 16]));
    assert_eq!(embed(&both), plain);
}

#[test]
fn half_precision_weights_are_used_as_the_numbers_that_they_are() {
    let mut rounded = Tiny::new("bert", "mean");
    for (_, values) in rounded.tensors.values_mut() {
        values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
    }
    let directory = write(&rounded);
    let stored: HashMap<String, Tensor> = rounded
        .tensors
        .iter()
        .map(|(name, (shape, values))| {
            let tensor = Tensor::from_slice(values, shape.as_slice(), &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::F16));
            (name.clone(), tensor.expect("the shape fits the values"))
        })
        .collect();
    candle_core::safetensors::save(&stored, directory.path().join("model.safetensors"))
        .expect("weights can be written");
    let half = Checkpoint::open(directory.path()).expect("the configuration is valid").load(&CPU, false);
    let texts = ["智能导诊", "Triage notes"];
    let half = half.expect("half precision is read").embed(&texts).expect("the texts can be encoded");
    let full = load(&rounded, false).embed(&texts).expect("the texts can be encoded");
    assert_eq!(bits(&half), bits(&full));
}

#[test]
fn truncation_and_padding_stored_with_the_tokenizer_are_ignored() {
    let mut tiny = Tiny::new("bert", "mean");
    let expected: Vec<&str> = texts("bert").into_iter().map(|(_, expected)| text(expected)).collect();
    let plain = load(&tiny, false).embed(&expected).expect("the texts can be encoded");
    let tokenizer = tiny.json.get_mut("tokenizer.json").expect("there is a tokenizer");
    tokenizer["truncation"] = json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    tokenizer["padding"] = json!({
        "strategy": { "Fixed": 16 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "[PAD]"
    });
    let stored = load(&tiny, false).embed(&expected).expect("the texts can be encoded");
    assert_eq!(bits(&stored), bits(&plain));
}

#[test]
fn the_window_is_the_smaller_of_the_asked_and_the_possible() {
    for (model, asked, window) in [("bert", 12, 12), ("bert", 512, 24), ("roberta", 12, 12), ("roberta", 26, 24)] {
        let mut tiny = Tiny::new(model, "mean");
        let config = json!({ "max_seq_length": asked, "do_lower_case": false });
        tiny.json.insert("sentence_bert_config.json".to_owned(), config);
        let encoder = load(&tiny, false);
        assert_eq!(encoder.tokenizer.window(), window, "{model}, {asked}");
        encoder.embed(&["病历质控".repeat(20).as_str()]).expect("a full window can be encoded");
    }
}

#[test]
fn pooling_is_read_in_the_older_notation_and_is_the_mean_without_a_file() {
    let older = |cls: bool, mean: bool| {
        json!({
            "word_embedding_dimension": 16, "pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": mean,
            "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false
        })
    };
    for (config, expected) in [(older(true, false), Pooling::Cls), (older(false, true), Pooling::Mean)] {
        let mut tiny = Tiny::new("bert", "mean");
        tiny.json.insert("1_Pooling/config.json".to_owned(), config);
        assert_eq!(load(&tiny, false).pooling, expected);
    }
    let mut bare = Tiny::new("bert", "cls_normalized");
    bare.json.retain(|name, _| name == "config.json" || name == "tokenizer.json");
    let bare = load(&bare, false);
    assert_eq!((bare.pooling, bare.normalize), (Pooling::Mean, false));
}

#[test]
fn text_vectors_have_the_same_bits_in_every_batch() {
    let encoder = |batch_tokens| {
        let mut encoder = load(&Tiny::new("bert", "mean_normalized"), false);
        encoder.batch_tokens = batch_tokens;
        encoder
    };
    let texts: Vec<&str> = texts("bert").into_iter().map(|(_, expected)| text(expected)).collect();
    let repeated: Vec<&str> = texts.iter().cycle().take(texts.len() * 7).copied().collect();
    let alone: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| bits(&encoder(4096).embed(&[text]).expect("the text can be encoded")).remove(0))
        .collect();
    for batch_tokens in [1, 50, 4096] {
        let together = bits(&encoder(batch_tokens).embed(&repeated).expect("the texts can be encoded"));
        for (at, vector) in together.iter().enumerate() {
            assert_eq!(vector, &alone[at % texts.len()], "text {at} in batches of {batch_tokens}");
        }
        let reversed: Vec<&str> = repeated.iter().rev().copied().collect();
        let mut reversed = bits(&encoder(batch_tokens).embed(&reversed).expect("the texts can be encoded"));
        reversed.reverse();
        assert_eq!(reversed, together, "batches of {batch_tokens}");
        let encoder = encoder(batch_tokens);
        let states = |texts: &[&str]| {
            let layers = [0, encoder.encoder.layers()];
            bits(&encoder.states(texts, &layers, |_, states| states.states.to_vec()).expect("the texts can be encoded"))
        };
        let together = states(&repeated);
        for (at, found) in together.into_iter().enumerate() {
            assert_eq!(found, states(&[repeated[at]])[0], "states of text {at} in batches of {batch_tokens}");
        }
    }
}

#[test]
fn a_tokenizer_without_special_tokens_gives_the_same_bits_in_every_batch_and_a_vector_of_zeros_without_tokens() {
    for pooling in ["mean", "cls"] {
        let mut tiny = Tiny::new("bert", pooling);
        tiny.json.get_mut("tokenizer.json").expect("there is a tokenizer")["post_processor"] = Value::Null;
        let encoder = load(&tiny, false);
        let texts = ["药", "", "病历", "智", "病历质控"];
        let tokens = encoder.states(&texts, &[0], |_, states| (states.offsets.len(), states.states.len()));
        let tokens = tokens.expect("the texts can be encoded");
        assert!(tokens.iter().all(|&(tokens, values)| values == tokens * encoder.encoder.hidden_size()), "{tokens:?}");
        assert_eq!(tokens[1], (0, 0));
        let together = encoder.embed(&texts).expect("the texts can be encoded");
        for (text, vector) in texts.iter().zip(&together) {
            let alone = encoder.embed(&[text]).expect("the text can be encoded");
            assert_eq!(bits(&alone), bits(std::slice::from_ref(vector)), "{pooling}, {text}");
        }
        assert_eq!(together[1], [0.0; 16], "{pooling}");
    }
}

/// Vectors by id as the program prints them, one JSON text each.
fn printed(directory: &Path, texts: &[(usize, &str)], threads: &str, flags: &[&str]) -> BTreeMap<String, String> {
    let input = directory.join("texts.jsonl");
    let lines: Vec<String> =
        texts.iter().map(|(id, text)| json!({ "id": id.to_string(), "text": text }).to_string()).collect();
    std::fs::write(&input, lines.join("\n") + "\n").expect("a file can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_medscenario"))
        .args(["--quiet", "model", "embed", "--device", "cpu"])
        .arg(&input)
        .args(flags)
        .env("RAYON_NUM_THREADS", threads)
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let rows = stdout.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a row is JSON");
        (row["id"].as_str().expect("the id is text").to_owned(), row["embedding"].to_string())
    });
    rows.collect()
}

fn assert_printed_vectors_do_not_depend_on_company(directory: &Path, flags: &[&str]) {
    let sentences = [
        "智能导诊，面向门诊的病历生成。",
        "病历质控",
        "质控病历",
        "Triage notes for the ward doctor.",
        "药品不良反应随访用于医院，药品不良反应随访用于医院，药品不良反应随访用于医院。",
        "药",
        "AI 导诊 and records 12",
    ];
    let texts: Vec<(usize, &str)> = sentences.iter().cycle().take(45).copied().enumerate().collect();
    let reversed: Vec<(usize, &str)> = texts.iter().rev().copied().collect();
    let all = printed(directory, &texts, "1", flags);
    assert_eq!(all.len(), texts.len());
    for (id, text) in &texts {
        let same = texts.iter().position(|(_, other)| other == text).expect("the text is there");
        assert_eq!(all[&id.to_string()], all[&same.to_string()], "{text}");
    }
    assert_eq!(printed(directory, &texts, "2", flags), all, "two threads");
    assert_eq!(printed(directory, &reversed, "2", flags), all, "another order");
    assert_eq!(printed(directory, &texts, "2", &[flags, &["--alone"]].concat()), all, "one by one");
    for one in &texts[..sentences.len()] {
        let alone = printed(directory, &[*one], "1", flags);
        assert_eq!(alone[&one.0.to_string()], all[&one.0.to_string()], "alone in the table");
    }
}

#[test]
fn printed_vectors_do_not_depend_on_other_records_their_order_or_the_threads() {
    let directory = write(&Tiny::new("bert", "mean_normalized"));
    let encoder = directory.path().to_string_lossy().into_owned();
    assert_printed_vectors_do_not_depend_on_company(directory.path(), &["--encoder", &encoder]);
}

#[test]
fn printed_vectors_of_the_built_in_encoder_do_not_depend_on_other_records_their_order_or_the_threads() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    assert_printed_vectors_do_not_depend_on_company(directory.path(), &[]);
}

#[test]
fn printed_vectors_are_those_of_the_reference() {
    let directory = write(&Tiny::new("roberta", "cls"));
    let encoder = directory.path().to_string_lossy().into_owned();
    let expected: Vec<&Value> = texts("roberta")
        .into_iter()
        .filter(|(_, expected)| !text(expected).trim().is_empty())
        .map(|(_, expected)| expected)
        .collect();
    let records: Vec<(usize, &str)> = expected.iter().map(|expected| text(expected)).enumerate().collect();
    let printed = printed(directory.path(), &records, "2", &["--encoder", &encoder]);
    for (id, expected) in expected.into_iter().enumerate() {
        let vector: Vec<f32> = serde_json::from_str(&printed[&id.to_string()]).expect("a vector is a list of numbers");
        assert_close(&vector, &floats(&expected["cls"]), TOLERANCE, text(expected));
    }
}

/// Random weights with the names and shapes that `config` asks for.
fn random_weights(config: &Config, random: &mut ChaCha8Rng) -> HashMap<String, Tensor> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![config.type_vocab_size, hidden]),
    ];
    let mut pair = |name: String, weight: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![weight[0]]));
        shapes.push((format!("{name}.weight"), weight));
    };
    pair("embeddings.LayerNorm".to_owned(), vec![hidden]);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            pair(name(part), vec![hidden, hidden]);
        }
        pair(name("attention.output.LayerNorm"), vec![hidden]);
        pair(name("intermediate.dense"), vec![inner, hidden]);
        pair(name("output.dense"), vec![hidden, inner]);
        pair(name("output.LayerNorm"), vec![hidden]);
    }
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| centre + random.random_range(-0.2..0.2)).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("the shape fits the values"))
    };
    shapes.into_iter().map(tensor).collect()
}

/// Sequences of random ids.
fn random_sequences(lengths: &[usize], vocabulary: u32, random: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let sequence = |&length: &usize| (0..length).map(|_| random.random_range(1..vocabulary)).collect();
    lengths.iter().map(sequence).collect()
}

#[test]
fn states_are_those_of_candles_bert() {
    // Widths that fill vectors and panels, and widths that do not; sequences longer than a block of rows.
    let shapes = [
        (1, HiddenAct::Gelu, 64, 8, 160, 3),
        (2, HiddenAct::GeluApproximate, 64, 8, 160, 3),
        (3, HiddenAct::Relu, 64, 8, 160, 3),
        (4, HiddenAct::Gelu, 36, 3, 50, 2),
        (5, HiddenAct::Gelu, 7, 1, 13, 1),
        (6, HiddenAct::Gelu, 130, 2, 33, 2),
    ];
    for (seed, hidden_act, hidden_size, num_attention_heads, intermediate_size, num_hidden_layers) in shapes {
        let config = Config {
            vocab_size: 100,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            max_position_embeddings: 210,
            ..Config::default()
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tensors = random_weights(&config, &mut random);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = directory.path().join("model.safetensors");
        candle_core::safetensors::save(&tensors, &path).expect("weights can be written");
        let open = || {
            Tensors::of_checkpoint(Bytes::map(&path).expect("weights can be mapped")).expect("the weights are valid")
        };
        let mut weights = Weights::new(open(), &Device::Cpu, DType::F32);
        let ours: [Box<dyn Encoder>; 2] = [
            Box::new(CpuBert::load(&config, 0, &open(), false).expect("the weights are complete")),
            Box::new(Bert::load(&config, 0, &mut weights).expect("the weights are complete")),
        ];
        let theirs = BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config);
        let theirs = theirs.expect("the weights are complete");

        let longest = 205;
        let sequences = random_sequences(&[longest, 1, 17, longest, 8, 96], 100, &mut random);
        let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let padded: Vec<u32> =
            batch.iter().flat_map(|ids| (0..longest).map(|at| ids.get(at).copied().unwrap_or(0))).collect();
        let mask: Vec<u32> = batch.iter().flat_map(|ids| (0..longest).map(|at| u32::from(at < ids.len()))).collect();
        let tensor = |values: Vec<u32>| Tensor::from_vec(values, (batch.len(), longest), &Device::Cpu);
        let expected = tensor(padded).and_then(|ids| theirs.forward(&ids, &ids.zeros_like()?, Some(&tensor(mask)?)));
        let expected = expected.and_then(|states| states.to_vec3::<f32>()).expect("candle's own model can encode it");
        // All layers side by side: the last against candle's own model, the others against each other.
        let layers: Vec<usize> = (0..=ours[0].layers()).collect();
        let width = layers.len() * hidden_size;
        let found = ours.map(|ours| states(ours.as_ref(), &batch, &layers));
        let what = format!("{hidden_act:?}, {hidden_size} wide");
        for found in &found {
            for ((found, expected), ids) in found.iter().zip(&expected).zip(&batch) {
                let last: Vec<f32> =
                    found.chunks_exact(width).flat_map(|row| row[width - hidden_size..].to_vec()).collect();
                assert_close(&last, &expected[..ids.len()].concat(), TOLERANCE, &what);
            }
        }
        let [engine, candle] = &found;
        engine.iter().zip(candle).for_each(|(engine, candle)| assert_close(engine, candle, TOLERANCE, &what));
    }
}

#[test]
fn quantised_weights_give_nearly_the_same_vectors_and_the_same_bits_in_every_batch() {
    let checkpoint = Checkpoint::open(Path::new("models/default")).expect("the default encoder is there");
    let exact = checkpoint.load(&CPU, false).expect("it loads");
    let quantized = checkpoint.load(&Backend::Cpu { quantized: true }, false).expect("it loads quantised");
    let texts = [
        "面向门诊的智能导诊,根据症状推荐科室。",
        "Drafts discharge summaries from the doctor's dictation and checks them for missing items.",
        "病历",
    ];
    let vectors = quantized.embed(&texts).expect("the texts can be encoded");
    for ((text, found), expected) in
        texts.iter().zip(&vectors).zip(exact.embed(&texts).expect("the texts can be encoded"))
    {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(found, &expected) / (dot(found, found) * dot(&expected, &expected)).sqrt();
        assert!(cosine > 0.999 && *found != expected, "{text}: {cosine}");
        let alone = quantized.embed(&[text]).expect("a text can be encoded");
        assert_eq!(bits(&alone), bits(std::slice::from_ref(found)), "{text}");
    }
}

/// The message for a changed checkpoint; `change` also gets the directory that was written.
fn failure(change: impl FnOnce(&mut Tiny), damage: impl FnOnce(&Path)) -> String {
    let mut tiny = Tiny::new("bert", "mean_normalized");
    change(&mut tiny);
    let directory = write(&tiny);
    damage(directory.path());
    let loaded = Checkpoint::open(directory.path()).and_then(|checkpoint| checkpoint.load(&CPU, false));
    let Err(error) = loaded else { panic!("the checkpoint loads") };
    error.to_string().replace(&directory.path().display().to_string(), "DIR")
}

fn config_failure(key: &str, value: Value) -> String {
    failure(|tiny| tiny.json.get_mut("config.json").expect("there is a configuration")[key] = value, |_| {})
}

fn json_failure(file: &str, content: Value) -> String {
    failure(|tiny| drop(tiny.json.insert(file.to_owned(), content)), |_| {})
}

fn remove(file: &str) -> impl FnOnce(&Path) {
    move |directory| std::fs::remove_file(directory.join(file)).expect("the file is there")
}

#[test]
fn a_missing_file_is_named() {
    assert_snapshot!(
        failure(|_| {}, remove("config.json")),
        @"Checkpoint `DIR` has no `config.json`; expected config.json, tokenizer.json and model.safetensors"
    );
    assert_snapshot!(
        failure(|_| {}, remove("tokenizer.json")),
        @"Checkpoint `DIR` has no `tokenizer.json`; expected config.json, tokenizer.json and model.safetensors"
    );
    assert_snapshot!(
        failure(|_| {}, remove("model.safetensors")),
        @"Checkpoint `DIR` has no `model.safetensors`; expected config.json, tokenizer.json and model.safetensors"
    );
    assert_snapshot!(
        failure(|_| {}, remove("1_Pooling/config.json")),
        @"`modules.json` of checkpoint `DIR` cannot be used: it names `1_Pooling/config.json`, which is not there"
    );
}

#[test]
fn another_architecture_is_named_whatever_its_configuration_holds() {
    assert_snapshot!(
        config_failure("model_type", json!("electra")),
        @"`config.json` of checkpoint `DIR` cannot be used: `model_type` is `electra`; expected `bert`, `roberta` or `xlm-roberta`"
    );
    let distilbert =
        json!({ "model_type": "distilbert", "dim": 768, "n_heads": 12, "n_layers": 6, "vocab_size": 30522 });
    assert_snapshot!(
        json_failure("config.json", distilbert),
        @"`config.json` of checkpoint `DIR` cannot be used: `model_type` is `distilbert`; expected `bert`, `roberta` or `xlm-roberta`"
    );
}

#[test]
fn a_broken_configuration_is_an_error() {
    assert_snapshot!(
        failure(|_| {}, |directory| write_file(directory, "config.json", b"{\"model_type\": ")),
        @"`config.json` of checkpoint `DIR` cannot be used: EOF while parsing a value at line 1 column 15"
    );
    assert_snapshot!(
        json_failure("config.json", json!({ "model_type": "bert", "vocab_size": 64 })),
        @"`config.json` of checkpoint `DIR` cannot be used: missing field `hidden_size`"
    );
    assert_snapshot!(
        config_failure("hidden_act", json!("silu")),
        @"`config.json` of checkpoint `DIR` cannot be used: unknown variant `silu`, expected one of `gelu`, `geluapproximate`, `relu`"
    );
    assert_snapshot!(
        config_failure("position_embedding_type", json!("relative_key")),
        @"`config.json` of checkpoint `DIR` cannot be used: unknown variant `relative_key`, expected `absolute`"
    );
    assert_snapshot!(
        config_failure("num_attention_heads", json!(3)),
        @"`config.json` of checkpoint `DIR` cannot be used: `hidden_size` 16 is not a multiple of `num_attention_heads` 3"
    );
    assert_snapshot!(
        config_failure("num_attention_heads", json!(0)),
        @"`config.json` of checkpoint `DIR` cannot be used: `hidden_size` 16 is not a multiple of `num_attention_heads` 0"
    );
    assert_snapshot!(
        config_failure("max_position_embeddings", json!(3)),
        @"`tokenizer.json` of checkpoint `DIR` cannot be used: a window of 3 tokens has no room beside 2 special tokens"
    );
}

#[test]
fn a_configuration_that_contradicts_the_weights_is_an_error() {
    assert_snapshot!(
        config_failure("num_hidden_layers", json!(3)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.2.attention.self.query.weight` is missing; expected shape [16, 16]"
    );
    assert_snapshot!(
        config_failure("hidden_size", json!(32)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `embeddings.word_embeddings.weight` has shape [64, 16]; config.json asks for [64, 32]"
    );
    assert_snapshot!(
        config_failure("intermediate_size", json!(16)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.0.intermediate.dense.weight` has shape [24, 16]; config.json asks for [16, 16]"
    );
    assert_snapshot!(
        config_failure("max_position_embeddings", json!(512)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `embeddings.position_embeddings.weight` has shape [24, 16]; config.json asks for [512, 16]"
    );
    assert_snapshot!(
        config_failure("vocab_size", json!(100)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `embeddings.word_embeddings.weight` has shape [64, 16]; config.json asks for [100, 16]"
    );
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let tensor = |name: &'static str, change: fn(&mut Tiny, &str)| failure(move |tiny| change(tiny, name), |_| {});
    let remove: fn(&mut Tiny, &str) = |tiny, name| drop(tiny.tensors.remove(name));
    assert_snapshot!(
        tensor("encoder.layer.1.attention.self.key.bias", remove),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.1.attention.self.key.bias` is missing; expected shape [16]"
    );
    assert_snapshot!(
        tensor("embeddings.LayerNorm.weight", remove),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `embeddings.LayerNorm.weight` is missing; expected shape [16]"
    );
    assert_snapshot!(
        tensor("embeddings.word_embeddings.weight", remove),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `embeddings.word_embeddings.weight` is missing; expected the weights of a BERT-type model"
    );
    let transpose: fn(&mut Tiny, &str) = |tiny, name| {
        tiny.tensors.get_mut(name).expect("the tensor is there").0.reverse();
    };
    assert_snapshot!(
        tensor("encoder.layer.0.output.dense.weight", transpose),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.0.output.dense.weight` has shape [24, 16]; config.json asks for [16, 24]"
    );
    let prefixed = |tiny: &mut Tiny| {
        let tensors = std::mem::take(&mut tiny.tensors);
        tiny.tensors = tensors.into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
        tiny.tensors.remove("bert.encoder.layer.0.intermediate.dense.weight");
    };
    assert_snapshot!(
        failure(prefixed, |_| {}),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `bert.encoder.layer.0.intermediate.dense.weight` is missing; expected shape [24, 16]"
    );
}

#[test]
fn weights_that_are_not_finite_are_an_error() {
    let holding = |value: f32| {
        let change = move |tiny: &mut Tiny| {
            let tensor = tiny.tensors.get_mut("encoder.layer.1.output.dense.bias");
            tensor.expect("the tensor is there").1[3] = value;
        };
        failure(change, |_| {})
    };
    assert_snapshot!(
        holding(f32::NAN),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.1.output.dense.bias` holds values that are not finite"
    );
    assert_snapshot!(
        holding(f32::NEG_INFINITY),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: tensor `encoder.layer.1.output.dense.bias` holds values that are not finite"
    );
}

#[test]
fn truncated_and_foreign_weight_files_are_an_error() {
    let cut = |length: usize| {
        move |directory: &Path| {
            let path = directory.join("model.safetensors");
            let bytes = std::fs::read(&path).expect("the weights are there");
            std::fs::write(&path, &bytes[..bytes.len().min(length)]).expect("the weights can be written");
        }
    };
    assert_snapshot!(
        failure(|_| {}, cut(20_000)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: not a complete safetensors file: incomplete metadata, file not fully covered"
    );
    assert_snapshot!(
        failure(|_| {}, cut(100)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: not a complete safetensors file: invalid header length"
    );
    assert_snapshot!(
        failure(|_| {}, cut(0)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: not a complete safetensors file: header too small"
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assert_snapshot!(
        failure(|_| {}, |directory| write_file(directory, "model.safetensors", pointer)),
        @"`model.safetensors` of checkpoint `DIR` cannot be used: not a complete safetensors file: header too large"
    );
}

#[test]
fn pooling_and_modules_that_are_not_supported_are_an_error() {
    assert_snapshot!(
        json_failure("1_Pooling/config.json", json!({ "pooling_mode": "lasttoken" })),
        @"`1_Pooling/config.json` of checkpoint `DIR` cannot be used: pooling mode `lasttoken` is not supported; expected mean or cls"
    );
    let older =
        |mode: &str| json_failure("1_Pooling/config.json", json!({ "pooling_mode_mean_tokens": true, mode: true }));
    assert_snapshot!(
        older("pooling_mode_max_tokens"),
        @"`1_Pooling/config.json` of checkpoint `DIR` cannot be used: expected one pooling mode, mean or cls"
    );
    assert_snapshot!(
        older("pooling_mode_cls_token"),
        @"`1_Pooling/config.json` of checkpoint `DIR` cannot be used: expected one pooling mode, mean or cls"
    );
    let module =
        |kind: &str| json_failure("modules.json", json!([{ "idx": 0, "name": "0", "path": "", "type": kind }]));
    assert_snapshot!(
        module("sentence_transformers.models.Dense"),
        @"`modules.json` of checkpoint `DIR` cannot be used: module `Dense` is not supported; expected Transformer, Pooling and Normalize"
    );
    assert_snapshot!(
        module("sentence_transformers.models.WordEmbeddings"),
        @"`modules.json` of checkpoint `DIR` cannot be used: module `WordEmbeddings` is not supported; expected Transformer, Pooling and Normalize"
    );
    assert_snapshot!(
        json_failure("modules.json", json!({ "modules": [] })),
        @"`modules.json` of checkpoint `DIR` cannot be used: invalid type: map, expected a sequence at line 1 column 0"
    );
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_an_error() {
    let vocabulary = |change: fn(&mut serde_json::Map<String, Value>)| {
        let change = move |tiny: &mut Tiny| {
            let tokenizer = tiny.json.get_mut("tokenizer.json").expect("there is a tokenizer");
            change(tokenizer["model"]["vocab"].as_object_mut().expect("the vocabulary is an object"));
        };
        failure(change, |_| {})
    };
    let larger = vocabulary(|vocabulary| {
        for extra in 0..3 {
            vocabulary.insert(format!("extra{extra}"), json!(64 + extra));
        }
    });
    assert_snapshot!(
        larger,
        @"`tokenizer.json` of checkpoint `DIR` cannot be used: token ids up to 66, but `vocab_size` in config.json is 64"
    );
    // As many tokens as rows, but the ids leave a gap.
    let beyond = vocabulary(|vocabulary| drop(vocabulary.insert("药".to_owned(), json!(64))));
    assert_snapshot!(
        beyond,
        @"`tokenizer.json` of checkpoint `DIR` cannot be used: token ids up to 64, but `vocab_size` in config.json is 64"
    );
    assert_snapshot!(
        json_failure("tokenizer.json", json!({ "version": "1.0" })),
        @"`tokenizer.json` of checkpoint `DIR` cannot be used: Model missing. at line 1 column 17"
    );
    assert_snapshot!(
        json_failure("sentence_bert_config.json", json!({ "max_seq_length": 3 })),
        @"`tokenizer.json` of checkpoint `DIR` cannot be used: a window of 3 tokens has no room beside 2 special tokens"
    );
}

#[test]
fn the_program_prints_the_error_of_a_checkpoint_and_fails() {
    let directory = write(&Tiny::new("bert", "mean"));
    std::fs::remove_file(directory.path().join("tokenizer.json")).expect("the file is there");
    write_file(directory.path(), "texts.txt", "病历质控\n".as_bytes());
    let output = Command::new(env!("CARGO_BIN_EXE_medscenario"))
        .args(["model", "embed", "--encoder"])
        .arg(directory.path())
        .arg(directory.path().join("texts.txt"))
        .output()
        .expect("the program can be started");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let message = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_snapshot!(
        message.replace(&directory.path().display().to_string(), "DIR"),
        @"error: Checkpoint `DIR` has no `tokenizer.json`; expected config.json, tokenizer.json and model.safetensors"
    );
}

/// Runs the program; returns exit status, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_medscenario"))
        .args(arguments)
        .env_remove("MEDSCENARIO_CACHE")
        .output()
        .expect("the program can be started");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_faster_mode_is_asked_for_reported_and_changes_few_decisions() {
    let dev = "eval/gold/dev-en.jsonl";
    let (status, report, _) = run(&["model", "precision", dev, "--precision", "int8", "--device", "cpu", "--json"]);
    assert_eq!(status, Some(0));
    let report: Value = serde_json::from_str(&report).expect("the report is JSON");
    let number = |key: &str| report[key].as_u64().expect("a count");
    assert_eq!((&report["precision"], number("n_texts")), (&json!("int8"), 110));
    assert_eq!(number("n_decisions"), 110 * 85);
    assert!(number("n_mentions") > 100 && number("decisions_changed") <= 5, "{report}");
    assert!(report["largest_probability_difference"].as_f64().expect("a number") > 0.0, "another arithmetic ran");
    assert!(number("mentions_added") + number("mentions_lost") <= number("decisions_changed"));

    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let manifest = |flags: &[&str]| {
        let output = directory.path().join("coded.jsonl");
        let path = output.display().to_string();
        let (status, _, message) = run(&[&["classify", dev, "-q", "--device", "cpu", "-o", &path], flags].concat());
        assert_eq!(status, Some(0), "{message}");
        let manifest = std::fs::read(directory.path().join("coded.jsonl.manifest.json")).expect("there is a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("the manifest is JSON");
        (manifest["flags"]["precision"].clone(), manifest["arithmetic"].as_str().expect("text").contains("int8"))
    };
    assert_eq!(manifest(&[]), (json!("f32"), false), "never the default");
    assert_eq!(manifest(&["--precision", "int8"]), (json!("int8"), true));
}

#[test]
fn precisions_that_a_device_does_not_have_are_refused() {
    let dev = "eval/gold/dev-en.jsonl";
    let error = |arguments: &[&str]| {
        let (status, output, message) = run(arguments);
        assert_eq!((status, output.as_str()), (Some(1), ""));
        message
    };
    assert_snapshot!(
        error(&["model", "precision", dev, "--device", "cpu"]),
        @"error: name the faster mode to compare with 32-bit floats: --precision int8, or bf16 on a GPU"
    );
    assert_snapshot!(
        error(&["classify", dev, "--precision", "bf16", "--device", "cpu"]),
        @"error: `--precision bf16` needs a GPU; use `--precision int8` on the CPU"
    );
    assert_snapshot!(
        error(&["classify", dev, "--precision", "int8", "--device", "cuda"]),
        @"error: `--precision int8` computes on the CPU; use `--device cpu`, or `--precision bf16` on a GPU"
    );
}
