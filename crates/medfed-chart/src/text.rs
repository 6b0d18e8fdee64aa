//! How wide text is, before anyone draws it.
//!
//! A chart does not know the font of its reader. Widths are those of Noto Sans Bold, which is wider than
//! the usual fonts of systems and browsers, so that what fits by this measure fits on the screen.

use std::borrow::Cow;

/// Advance widths of U+0020 to U+007E, in thousandths of the font size.
const ADVANCES: [u16; 95] = [
    260, 286, 472, 646, 572, 901, 750, 266, 339, 339, 545, 572, 285, 322, 285, 413, 572, 572, 572, 572, 572,
    572, 572, 572, 572, 572, 285, 285, 572, 572, 572, 477, 897, 690, 672, 637, 740, 560, 549, 724, 765, 389,
    331, 664, 565, 943, 813, 796, 628, 796, 660, 551, 579, 756, 650, 967, 667, 624, 579, 331, 413, 331, 572,
    411, 607, 604, 633, 514, 633, 591, 387, 633, 657, 305, 305, 620, 305, 982, 657, 619, 633, 633, 454, 497,
    434, 657, 569, 856, 578, 569, 488, 394, 551, 394, 572,
];

/// Width of `text` in pixels at a font size in pixels, on the wide side.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size / 1000.0
}

fn advance(letter: char) -> f64 {
    let ascii = (letter as usize).checked_sub(0x20).and_then(|index| ADVANCES.get(index));
    match (ascii, letter as u32) {
        (Some(width), _) => f64::from(*width),
        // From the scripts of East Asia on, letters are as wide as high.
        (None, 0x1100..) if !('\u{2000}'..='\u{2bff}').contains(&letter) => 1050.0,
        (None, _) => 750.0,
    }
}

/// `text` cut with an ellipsis to at most `room` pixels.
pub(crate) fn shortened(text: &str, size: f64, room: f64) -> Cow<'_, str> {
    if width(text, size) <= room {
        return Cow::Borrowed(text);
    }
    let mut left = room - width("…", size);
    let fits = |letter: &char| {
        left -= advance(*letter) * size / 1000.0;
        left >= 0.0
    };
    let kept: String = text.chars().take_while(fits).collect();
    Cow::Owned(format!("{}…", kept.trim_end()))
}

/// `text` in lines of at most `room` pixels, broken between words, the last of `most` lines cut.
pub(crate) fn wrapped(text: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == most;
        match lines.last_mut() {
            Some(line) if lines_fit(line, word, size, room) => {
                line.push(' ');
                line.push_str(word);
            }
            // What is beyond the last line makes it too long, so that it ends with an ellipsis.
            Some(line) if full => {
                line.push(' ');
                line.push_str(word);
                break;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| shortened(line, size, room).into_owned()).collect()
}

fn lines_fit(line: &str, word: &str, size: f64, room: f64) -> bool {
    width(line, size) + width(" ", size) + width(word, size) <= room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_the_room_it_has() {
        assert_eq!(shortened("Hospital A", 12.0, 100.0), "Hospital A");
        for room in [0.0, 5.0, 20.0, 60.0] {
            let cut = shortened("Universitätsklinikum 東京", 12.0, room);
            assert!(cut.ends_with('…'), "{cut}");
            assert!(width(&cut, 12.0) <= room.max(width("…", 12.0)), "{cut}");
        }
    }

    #[test]
    fn lines_break_between_words_and_the_last_is_cut() {
        let lines = wrapped("equalised odds difference between the groups of age", 12.0, 120.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && lines.iter().all(|line| width(line, 12.0) <= 120.0), "{lines:?}");
        assert_eq!(wrapped("one two", 12.0, 500.0, 2), ["one two"]);
        assert!(wrapped("  ", 12.0, 500.0, 2).is_empty());
    }
}
