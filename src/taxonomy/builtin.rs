//! The files of the taxonomy that is compiled into the program.

/// File names as `taxonomy.toml` gives them, with their text.
pub(super) const FILES: [(&str, &str); 5] = [
    ("taxonomy.toml", include_str!("../../data/taxonomy/nhc-2024/taxonomy.toml")),
    ("section-1.toml", include_str!("../../data/taxonomy/nhc-2024/section-1.toml")),
    ("section-2.toml", include_str!("../../data/taxonomy/nhc-2024/section-2.toml")),
    ("section-3.toml", include_str!("../../data/taxonomy/nhc-2024/section-3.toml")),
    ("section-4.toml", include_str!("../../data/taxonomy/nhc-2024/section-4.toml")),
];
