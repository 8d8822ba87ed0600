//! SVG charts as PNG, with the fonts of the computer.

use std::sync::{Arc, Mutex};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, FontResolver, Options, Tree, fontdb};

use super::ChartError;

/// Pixels of the picture per pixel of the chart, so that print stays sharp.
const SCALE: f32 = 2.0;

/// Draws charts with the fonts that are installed.
pub struct Rasterizer {
    fonts: Arc<fontdb::Database>,
    missing: Arc<Mutex<String>>,
}

impl Rasterizer {
    /// Looks for fonts where the system keeps them.
    ///
    /// # Errors
    /// No font is installed.
    pub fn new() -> Result<Rasterizer, ChartError> {
        let mut fonts = fontdb::Database::new();
        fonts.load_system_fonts();
        Rasterizer::with_fonts(fonts)
    }

    fn with_fonts(mut fonts: fontdb::Database) -> Result<Rasterizer, ChartError> {
        let sans = fontdb::Query { families: &[fontdb::Family::SansSerif], ..fontdb::Query::default() };
        if fonts.query(&sans).is_none() {
            // Where no font goes by the usual name of a sans serif, any upright one is better than none.
            let upright = fonts.faces().find(|face| face.style == fontdb::Style::Normal);
            let family = upright.and_then(|face| face.families.first()).map(|(name, _)| name.clone());
            fonts.set_sans_serif_family(family.ok_or(ChartError::NoFonts)?);
        }
        Ok(Rasterizer { fonts: Arc::new(fonts), missing: Arc::default() })
    }

    /// The chart as PNG.
    ///
    /// # Errors
    /// The renderer refuses it.
    pub fn png(&self, svg: &str) -> Result<Vec<u8>, ChartError> {
        let fallback = FontResolver::default_fallback_selector();
        let missing = Arc::clone(&self.missing);
        let options = Options {
            fontdb: Arc::clone(&self.fonts),
            font_resolver: FontResolver {
                select_font: FontResolver::default_font_selector(),
                select_fallback: Box::new(move |character, tried, fonts| {
                    let found = fallback(character, tried, fonts);
                    if let (None, Ok(mut missing)) = (found, missing.lock())
                        && !missing.contains(character)
                    {
                        missing.push(character);
                    }
                    found
                }),
            },
            ..Options::default()
        };
        let refused = |problem: String| ChartError::Png { problem };
        let tree = Tree::from_str(svg, &options).map_err(|error: usvg::Error| refused(error.to_string()))?;
        let size = tree.size().to_int_size().scale_by(SCALE);
        let size = size.ok_or_else(|| refused("the picture has no size".to_owned()))?;
        let mut pixmap =
            Pixmap::new(size.width(), size.height()).ok_or_else(|| refused("it is too large".to_owned()))?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
        pixmap.encode_png().map_err(|error| refused(error.to_string()))
    }

    /// Characters that no installed font has, in the order in which they were missed.
    pub fn missing(&self) -> String {
        self.missing.lock().map(|missing| missing.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_charts_are_equal_pictures() {
        let svg = r#"<svg width="20" height="10" xmlns="http://www.w3.org/2000/svg"><text y="9">a</text></svg>"#;
        // Without fonts there is nothing to draw with, which the other test is about.
        let Ok(rasterizer) = Rasterizer::new() else { return };
        let png = rasterizer.png(svg).expect("drawn");
        assert_eq!((&png[1..4], &png[16..24]), (&b"PNG"[..], &[0, 0, 0, 40, 0, 0, 0, 20][..]));
        assert_eq!(png, rasterizer.png(svg).expect("drawn"));
        assert_eq!(rasterizer.missing(), "");
        assert!(rasterizer.png("<svg>").is_err());
    }

    #[test]
    fn a_computer_without_fonts_is_told_so() {
        assert!(matches!(Rasterizer::with_fonts(fontdb::Database::new()), Err(ChartError::NoFonts)));
    }
}
