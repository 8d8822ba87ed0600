//! A drawing area in pixels, over plotters' SVG backend, with the few shapes that the charts consist of.
//!
//! Text is never measured with a font: widths are estimated, so that equal data gives equal bytes on every computer.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::taxonomy::Lang;

/// Colours. Marks are one hue (the blue of Okabe and Ito 2008), so that no meaning rests on telling hues apart.
pub(super) const INK: RGBColor = RGBColor(0x1c, 0x24, 0x2c);
pub(super) const FAINT: RGBColor = RGBColor(0x5b, 0x66, 0x70);
pub(super) const RULE: RGBColor = RGBColor(0xb4, 0xbd, 0xc5);
pub(super) const GRID: RGBColor = RGBColor(0xe6, 0xea, 0xee);
pub(super) const MARK: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const UNKNOWN: RGBColor = RGBColor(0xa9, 0xb3, 0xbc);

/// plotters divides a font's size by this before it writes it.
const FONT_SCALE: f64 = 1.24;

/// Where a text stands relative to its point; it is always centred on the point's height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    family: &'static str,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(svg: &'a mut String, width: i32, height: i32, lang: Lang) -> Canvas<'a> {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(svg, size).into_drawing_area();
        let canvas = Canvas { area, family: family(lang) };
        canvas.rectangle((0, 0), (width, height), WHITE);
        canvas
    }

    /// A filled rectangle from its upper left to its lower right corner.
    pub(super) fn rectangle(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) {
        self.area.draw(&Rectangle::new([from, to], colour.filled())).expect("drawing to memory does not fail");
    }

    pub(super) fn outline(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) {
        self.area.draw(&Rectangle::new([from, to], colour.stroke_width(1))).expect("drawing to memory does not fail");
    }

    pub(super) fn line(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) {
        let line = PathElement::new([from, to], colour.stroke_width(1));
        self.area.draw(&line).expect("drawing to memory does not fail");
    }

    pub(super) fn text(&self, text: &str, at: (i32, i32), size: i32, colour: RGBColor, anchor: Anchor) {
        self.write(text, at, size, colour, anchor, FontStyle::Normal);
    }

    pub(super) fn heading(&self, text: &str, at: (i32, i32), size: i32) {
        self.write(text, at, size, INK, Anchor::Start, FontStyle::Bold);
    }

    fn write(&self, text: &str, at: (i32, i32), size: i32, colour: RGBColor, anchor: Anchor, style: FontStyle) {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = (self.family, f64::from(size) * FONT_SCALE, style).into_font();
        let style = font.color(&colour).pos(Pos::new(horizontal, VPos::Center));
        let text = Text::new(printable(text), at, style);
        self.area.draw(&text).expect("drawing to memory does not fail");
    }

    pub(super) fn finish(self) {
        self.area.present().expect("drawing to memory does not fail");
    }
}

/// Fonts by name, those that have the language's characters first.
fn family(lang: Lang) -> &'static str {
    match lang {
        Lang::Zh => {
            "PingFang SC, Microsoft YaHei, Noto Sans CJK SC, Source Han Sans SC, WenQuanYi Micro Hei, sans-serif"
        }
        Lang::En => "Helvetica Neue, Arial, Liberation Sans, Noto Sans, Noto Sans CJK SC, sans-serif",
    }
}

/// The text without characters that XML does not allow.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c }).collect()
}

/// Estimated width in pixels.
pub(super) fn width(text: &str, size: i32) -> i32 {
    let em: f64 = text.chars().map(character_width).sum();
    (em * f64::from(size)).ceil() as i32
}

fn character_width(character: char) -> f64 {
    match character {
        '\u{1100}'.. => 1.0,
        'i' | 'j' | 'l' | 't' | 'f' | 'I' | ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | '(' | ')' | '-' => 0.3,
        'm' | 'w' | 'M' | 'W' => 0.85,
        'A'..='Z' => 0.68,
        _ => 0.55,
    }
}

/// The text, or as much of its beginning as fits, with an ellipsis.
pub(super) fn fitted(text: &str, size: i32, room: i32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut fitted = String::new();
    for character in text.chars() {
        fitted.push(character);
        if width(&fitted, size) + size > room {
            fitted.pop();
            break;
        }
    }
    fitted.trim_end().to_owned() + "…"
}

/// One step of a single-hue scale; `share` in [0, 1] of the largest value. Light to dark, so that it survives grey.
pub(super) fn shade(share: f64) -> RGBColor {
    // Ends of ColorBrewer's "Blues", over their middle.
    let stops = [(0xe3, 0xee, 0xf8), (0x6b, 0xae, 0xd6), (0x08, 0x45, 0x94)];
    let at = share.clamp(0.0, 1.0) * 2.0;
    let (low, high) = if at < 1.0 { (stops[0], stops[1]) } else { (stops[1], stops[2]) };
    let rest = at - at.floor().min(1.0);
    let mix = |a: i32, b: i32| (f64::from(a) + f64::from(b - a) * rest).round() as u8;
    RGBColor(mix(low.0, high.0), mix(low.1, high.1), mix(low.2, high.2))
}

/// The ink that reads best on a background, by its relative luminance.
pub(super) fn ink_on(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let luminance = 0.2126 * f64::from(red) + 0.7152 * f64::from(green) + 0.0722 * f64::from(blue);
    if luminance < 128.0 { WHITE } else { INK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_are_cut_where_they_no_longer_fit() {
        assert_eq!(fitted("医学影像", 12, 48), "医学影像");
        assert_eq!(fitted("医学影像智能辅助诊断", 12, 60), "医学影像…");
        assert!(width(&fitted("Disease-specific clinical decision support", 12, 100), 12) <= 112);
    }

    #[test]
    fn shades_grow_darker_and_ink_stays_readable() {
        let light = |RGBColor(r, g, b): RGBColor| u32::from(r) + u32::from(g) + u32::from(b);
        let shades: Vec<u32> = (0..=10).map(|step| light(shade(f64::from(step) / 10.0))).collect();
        assert!(shades.windows(2).all(|pair| pair[0] > pair[1]), "{shades:?}");
        assert_eq!((ink_on(shade(0.0)), ink_on(shade(1.0))), (INK, WHITE));
    }

    #[test]
    fn text_is_escaped_and_has_only_characters_that_xml_allows() {
        let mut svg = String::new();
        let canvas = Canvas::new(&mut svg, 10, 10, Lang::En);
        canvas.text("</svg><script>\u{1}&", (0, 0), 12, INK, Anchor::Start);
        canvas.finish();
        assert!(svg.contains("&lt;/svg&gt;&lt;script&gt; &amp;"), "{svg}");
    }
}
