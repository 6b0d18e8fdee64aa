//! Is it all right? The sentence at the head of a page, with a mark and a word for those who see no colours.

use maud::{Markup, html};

/// How good the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Caution,
    Bad,
    /// Nothing to judge yet.
    Open,
}

/// The sentence.
pub(crate) fn answer(tone: Tone, text: &str) -> Markup {
    let (class, mark) = match tone {
        Tone::Good => ("good", "✓"),
        Tone::Caution => ("warn", "!"),
        Tone::Bad => ("bad", "✗"),
        Tone::Open => ("soft", "–"),
    };
    html! {
        p #answer-head data-live .verdict.lead.answer { span.mark.(class) aria-hidden="true" { (mark) } (text) }
    }
}
