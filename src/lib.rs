//! Assigns descriptions of medical AI products to the scenarios of a taxonomy, and counts mention frequencies.

pub mod digest;
pub mod encoder;
pub mod labels;
pub mod record;
pub mod segment;
pub mod taxonomy;
