//! The files of the bundle that is compiled into the program.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../models/default/", $name)).as_slice())),*]
    };
}

/// File names within the bundle, with their bytes.
pub(super) static FILES: [(&str, &[u8]); 7] = files![
    "manifest.json",
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "modules.json",
    "1_Pooling/config.json",
    "head.safetensors",
];
