//! Assigns descriptions of medical AI products to the scenarios of a taxonomy, and counts mention frequencies.

pub mod agreement;
pub mod audit;
pub mod bundle;
pub mod cache;
pub mod classifier;
pub mod comparison;
pub mod dataset;
pub mod digest;
pub mod encoder;
pub mod evaluation;
pub mod evidence;
pub mod journal;
pub mod labels;
pub mod microdata;
pub mod output;
pub mod pipeline;
pub mod prediction;
pub mod published;
pub mod record;
pub mod report;
pub mod segment;
pub mod survey;
pub mod taxonomy;
pub mod train;
