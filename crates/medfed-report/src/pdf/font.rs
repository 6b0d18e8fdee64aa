//! The two fonts of a PDF: how wide text is, and where lines break.

use krilla::text::Font;
use std::sync::LazyLock;
use ttf_parser::Face;

/// Noto Sans, regular and bold.
pub(super) struct Fonts {
    faces: [Face<'static>; 2],
}

static FONTS: LazyLock<Fonts> = LazyLock::new(|| {
    let face = |bytes| Face::parse(bytes, 0).expect("the font is part of the program");
    Fonts { faces: [face(notosans::REGULAR_TTF), face(notosans::BOLD_TTF)] }
});

impl Fonts {
    pub(super) fn get() -> &'static Self {
        &FONTS
    }

    /// The fonts to embed, regular and bold.
    pub(super) fn embedded() -> [Font; 2] {
        [notosans::REGULAR_TTF, notosans::BOLD_TTF]
            .map(|bytes| Font::new(bytes.to_vec().into(), 0).expect("the font is part of the program"))
    }

    /// Width of a text at a size in points.
    pub(super) fn width(&self, text: &str, bold: bool, size: f32) -> f32 {
        text.chars().map(|letter| self.advance(letter, bold)).sum::<f32>() * size
    }

    /// Width of a letter at size 1.
    fn advance(&self, letter: char, bold: bool) -> f32 {
        let face = &self.faces[usize::from(bold)];
        let glyph = face.glyph_index(letter).unwrap_or_default();
        f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) / f32::from(face.units_per_em())
    }

    /// The text with letters that the fonts have: they know Latin, Greek and Cyrillic.
    pub(super) fn known(&self, text: &str) -> String {
        let face = &self.faces[0];
        text.chars()
            .filter(|letter| !letter.is_control() || letter.is_whitespace())
            .map(|letter| match letter {
                letter if letter.is_whitespace() => ' ',
                letter if face.glyph_index(letter).is_some_and(|glyph| glyph.0 != 0) => letter,
                _ => '?',
            })
            .collect()
    }

    /// The text in lines of at most `room` points, broken between words, and inside a word that is longer
    /// than a line.
    pub(super) fn wrapped(&self, text: &str, bold: bool, size: f32, room: f32) -> Vec<String> {
        let text = self.known(text);
        let space = self.width(" ", bold, size);
        let mut lines: Vec<String> = Vec::new();
        let (mut line, mut used) = (String::new(), 0.0);
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let width = self.width(word, bold, size);
            if !line.is_empty() && used + space + width <= room {
                line.push(' ');
                line.push_str(word);
                used += space + width;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            used = 0.0;
            if width <= room {
                line.push_str(word);
                used = width;
                continue;
            }
            for letter in word.chars() {
                let width = self.advance(letter, bold) * size;
                if used + width > room && !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                    used = 0.0;
                }
                line.push(letter);
                used += width;
            }
        }
        lines.push(line);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_their_room_and_lose_nothing() {
        let fonts = Fonts::get();
        let text = "The coordinator saw 082704d6c70ed8e825a237ba45cbf64b95d5c19644964360eb18ee605de00bb8 and no more";
        for room in [4.0, 40.0, 120.0, 500.0] {
            let lines = fonts.wrapped(text, false, 9.0, room);
            assert!(lines.iter().all(|line| fonts.width(line, false, 9.0) <= room.max(9.0)), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
        assert_eq!(fonts.wrapped("", false, 9.0, 100.0), [""]);
    }

    #[test]
    fn letters_that_the_font_lacks_are_replaced() {
        assert_eq!(Fonts::get().known("ε ≤ 3\u{202f}000\t東 Süd\u{1}"), "ε ≤ 3 000 ? Süd");
    }
}
