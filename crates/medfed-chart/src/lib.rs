//! Charts: numbers in, SVG and a table out.
