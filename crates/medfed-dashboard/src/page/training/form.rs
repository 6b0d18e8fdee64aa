//! A form for the whole configuration, made from its schema: there is no second list of parameters.

use maud::{Markup, html};
use serde_json::Value;

/// How a value is entered.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Switch,
    /// One of these, each with its meaning.
    Choice(Vec<(Value, String)>),
    Number {
        whole: bool,
    },
    Text,
    /// Lists, maps and values of more than one kind, as JSON.
    Json,
}

/// Sections that come first and are open: most runs change nothing else.
const FIRST: [&str; 5] = ["federated", "data", "model", "training", "privacy"];

/// The form. Nothing is sent but what was changed; who may not edit sees it as it is.
pub(super) fn form(schema: &Value, config: &Value, may_edit: bool) -> Markup {
    let mut sections: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    // Stable: the others stay in the order of their names.
    sections.sort_by_key(|(name, _)| place(name));
    html! {
        form #parameters data-config="/api/training/config" data-answer="saved" novalidate {
            @for (name, section) in sections {
                details.parameters open[FIRST.contains(&name.as_str())] {
                    summary {
                        h3 { (heading(name)) }
                        @if let Some(help) = section["description"].as_str() { " " span.note { (prose(help)) } }
                    }
                    fieldset aria-label=(heading(name)) disabled[!may_edit] {
                        div.fields { (fields(name, section, &config[name])) }
                    }
                }
            }
            p #saved .notice hidden {}
            @if may_edit {
                div.buttons {
                    button.primary type="submit" data-script hidden { "Save parameters" }
                    button type="reset" data-script hidden { "Undo changes" }
                }
                noscript { p.notice { "Saving needs the page's script. Without it, edit the file." } }
            }
        }
    }
}

/// The fields of a section, those of sections within it included.
fn fields(path: &str, section: &Value, values: &Value) -> Markup {
    html! {
        @for (key, schema) in section["properties"].as_object().into_iter().flatten() {
            @let path = format!("{path}.{key}");
            @if schema["properties"].is_object() {
                (fields(&path, schema, &values[key]))
            } @else {
                (field(&path, schema, &values[key]))
            }
        }
    }
}

fn field(path: &str, schema: &Value, value: &Value) -> Markup {
    let id = format!("field-{}", path.replace('.', "-"));
    let help = format!("{id}-help");
    // The section is the legend; below it the key says enough.
    let label = path.split_once('.').map_or(path, |(_, rest)| rest);
    let kind = kind(schema);
    let optional = schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"));
    html! {
        div.field {
            label for=(id) { (label) }
            @match &kind {
                Kind::Switch => {
                    input #(id) name=(path) type="checkbox" data-kind="switch" checked[value == true] aria-describedby=(help);
                }
                Kind::Choice(choices) => {
                    select #(id) name=(path) data-kind="json" aria-describedby=(help) {
                        @for (choice, meaning) in choices {
                            option value=(choice.to_string()) selected[choice == value] title=(meaning) { (shown(choice)) }
                        }
                    }
                }
                Kind::Number { whole } => {
                    input #(id) name=(path) type="number" data-kind="number" data-optional[optional]
                        step=(if *whole { "1" } else { "any" }) min=[number(schema, "minimum")] max=[number(schema, "maximum")]
                        value=(if value.is_null() { String::new() } else { value.to_string() }) aria-describedby=(help);
                }
                Kind::Text => {
                    input #(id) name=(path) type="text" data-kind="text" data-optional[optional]
                        value=(value.as_str().unwrap_or_default()) aria-describedby=(help);
                }
                Kind::Json => {
                    input #(id) name=(path) type="text" data-kind="json" spellcheck="false"
                        value=(value.to_string()) aria-describedby=(help);
                }
            }
            p.help #(help) { (prose(schema["description"].as_str().unwrap_or_default())) " " (range(schema)) }
        }
    }
}

fn kind(schema: &Value) -> Kind {
    let choices: Vec<(Value, String)> = match (schema["oneOf"].as_array(), schema["enum"].as_array()) {
        (Some(choices), _) => choices
            .iter()
            .filter(|choice| !choice["const"].is_null())
            .map(|choice| {
                (choice["const"].clone(), choice["description"].as_str().unwrap_or_default().to_owned())
            })
            .collect(),
        (None, Some(values)) => values.iter().map(|value| (value.clone(), String::new())).collect(),
        (None, None) => Vec::new(),
    };
    let is_whole_list = schema["oneOf"].as_array().is_none_or(|all| all.len() == choices.len());
    if !choices.is_empty() && is_whole_list {
        return Kind::Choice(choices);
    }
    let name = match &schema["type"] {
        Value::String(name) => Some(name.as_str()),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    };
    match name {
        Some("boolean") => Kind::Switch,
        Some("integer") => Kind::Number { whole: true },
        Some("number") => Kind::Number { whole: false },
        Some("string") => Kind::Text,
        _ => Kind::Json,
    }
}

/// What is accepted and what holds without the key, in words.
fn range(schema: &Value) -> String {
    let bound = |key: &str| schema[key].as_f64();
    let low = bound("minimum").map(|low| format!("from {low}"));
    let low = low.or_else(|| bound("exclusiveMinimum").map(|low| format!("above {low}")));
    let high = bound("maximum").map(|high| format!("to {high}"));
    let high = high.or_else(|| bound("exclusiveMaximum").map(|high| format!("below {high}")));
    let mut parts: Vec<String> = low.into_iter().chain(high).collect();
    if parts.is_empty() {
        parts.extend(match schema["type"].as_str() {
            Some("array" | "object") => Some("As JSON".to_owned()),
            _ => None,
        });
    }
    let range = parts.join(" ");
    let range = match range.chars().next() {
        Some(first) => first.to_uppercase().collect::<String>() + &range[first.len_utf8()..] + ". ",
        None => String::new(),
    };
    match &schema["default"] {
        Value::Null => range,
        Value::String(text) if text.is_empty() => range,
        default => format!("{range}Default {}.", shown(default)),
    }
}

fn number(schema: &Value, key: &str) -> Option<String> {
    schema[key].as_f64().map(|number| number.to_string())
}

/// A value without the quotes that text has in JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "not set".to_owned(),
        other => other.to_string(),
    }
}

/// Text of the schema: what stands between backticks is code.
fn prose(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// `secure_aggregation` as people write it.
fn heading(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_config::Config;

    /// The keys of everything that is not a section.
    fn leaves(path: &str, schema: &Value, out: &mut Vec<String>) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if schema["properties"].is_object() { leaves(&path, schema, out) } else { out.push(path) }
        }
    }

    #[test]
    fn every_parameter_has_a_labelled_field_with_help() {
        let schema = Config::schema();
        let html = form(&schema, &Config::default().to_json(), true).into_string();
        let mut keys = Vec::new();
        leaves("", &schema, &mut keys);
        assert!(keys.len() > 60, "{}", keys.len());
        for key in keys {
            let id = format!("field-{}", key.replace('.', "-"));
            assert_eq!(html.matches(&format!("name=\"{key}\"")).count(), 1, "{key}");
            assert_eq!(html.matches(&format!("<label for=\"{id}\"")).count(), 1, "{key}");
            assert_eq!(html.matches(&format!("id=\"{id}-help\"")).count(), 1, "{key}");
        }
    }

    #[test]
    fn who_may_not_edit_can_save_nothing() {
        let html = form(&Config::schema(), &Config::default().to_json(), false).into_string();
        assert!(!html.contains("submit"));
        assert_eq!(html.matches("<fieldset").count(), html.matches(" disabled>").count());
    }

    #[test]
    fn code_is_told_from_prose() {
        assert_eq!(prose("Read `a<b`.").into_string(), "Read <code>a&lt;b</code>.");
    }

    #[test]
    fn kinds_follow_the_schema() {
        let schema = Config::schema();
        let of = |section: &str, key: &str| kind(&schema["properties"][section]["properties"][key]);
        assert_eq!(of("privacy", "enabled"), Kind::Switch);
        assert_eq!(of("privacy", "delta"), Kind::Number { whole: false });
        assert_eq!(of("federated", "num_rounds"), Kind::Number { whole: true });
        assert_eq!(of("privacy", "noise_multiplier"), Kind::Json);
        assert_eq!(of("data", "data_dir"), Kind::Text);
        assert_eq!(of("data", "nodes"), Kind::Json);
        assert!(matches!(of("model", "name"), Kind::Choice(choices) if choices.len() == 3));
    }

    #[test]
    fn ranges_are_said_in_words() {
        let schema = Config::schema();
        let text = range(&schema["properties"]["privacy"]["properties"]["delta"]);
        assert_eq!(text, "Above 0 below 1. Default 0.00001.");
    }
}
