//! Holds a tree of values against the schema, and reports everything that does not fit.
//!
//! The schema is the one that [`crate::schema`] derives from the sections; this module knows the part
//! of JSON Schema (draft 2020-12) that appears there: `type`, `const`, `enum`, `anyOf`, `oneOf`,
//! `properties`, `required`, `additionalProperties`, `propertyNames`, `items`, bounds of numbers and
//! lengths, and the formats `uint64` and `name`.

use medfed_types::SiteId;
use serde_json::Value as Json;

use crate::error::{Problem, ProblemKind};
use crate::tree::{Entry, Place, Tree, Value};

/// Everything in `tree` that does not fit `schema`.
pub(crate) fn problems(tree: &Tree, schema: &Json) -> Vec<Problem> {
    let mut keys = Vec::new();
    collect_keys(schema, "", &mut keys);
    let mut check = Check { keys, found: Vec::new() };
    check.value(tree, schema, "", &tree.place);
    check.found
}

struct Check {
    /// Paths of all keys of the schema.
    keys: Vec<String>,
    found: Vec<Problem>,
}

impl Check {
    /// `key_place` is shown where the value itself has no extent, as an empty one.
    fn value(&mut self, tree: &Tree, schema: &Json, path: &str, key_place: &Place) {
        if let Some(kind) = mismatch(tree, schema) {
            let place = if matches!(tree.value, Value::Null) { key_place } else { &tree.place };
            self.found.push(Problem { key: path.to_owned(), place: place.clone(), kind });
            return;
        }
        match &tree.value {
            Value::Map(entries) => self.entries(tree, entries, schema, path, key_place),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &schema["items"], &join(path, &index.to_string()), &item.place);
                }
            }
            _ => {}
        }
    }

    fn entries(&mut self, tree: &Tree, entries: &[Entry], schema: &Json, path: &str, key_place: &Place) {
        let known = schema["properties"].as_object();
        for (index, entry) in entries.iter().enumerate() {
            let key = join(path, &entry.key);
            let mut problem =
                |kind| self.found.push(Problem { key: key.clone(), place: entry.place.clone(), kind });
            if let Some(first) = entries[..index].iter().find(|other| other.key == entry.key) {
                let first = match first.place {
                    Place::File { line, .. } => Some(line),
                    _ => None,
                };
                problem(ProblemKind::DuplicateKey { found: entry.key.clone(), first });
                continue;
            }
            let name = Tree { place: entry.place.clone(), value: Value::Text(entry.key.clone()) };
            if let Some(kind) = schema.get("propertyNames").and_then(|names| mismatch(&name, names)) {
                problem(kind);
            } else if let Some(property) = known.and_then(|known| known.get(&entry.key)) {
                self.value(&entry.tree, property, &key, &entry.place);
            } else if schema["additionalProperties"].is_object() {
                self.value(&entry.tree, &schema["additionalProperties"], &key, &entry.place);
            } else {
                let expected: Vec<_> = known.into_iter().flatten().map(|(key, _)| key.clone()).collect();
                let nearest = nearest_key(&self.keys, path, &expected, &entry.key);
                problem(ProblemKind::UnknownKey { found: entry.key.clone(), expected, nearest });
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|entry| entry.key == required) {
                let place = if tree.place == Place::Default { key_place } else { &tree.place };
                let kind = ProblemKind::MissingKey { expected: required.to_owned() };
                self.found.push(Problem { key: path.to_owned(), place: place.clone(), kind });
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Why the value itself does not fit, whatever it contains.
fn mismatch(tree: &Tree, schema: &Json) -> Option<ProblemKind> {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
    let (right_kind, fits) = if let Some(all) = alternatives {
        let right_kind = all.iter().any(|one| is_of_kind(&tree.value, one));
        (right_kind, all.iter().any(|one| mismatch(tree, one).is_none()))
    } else {
        let right_kind = is_of_kind(&tree.value, schema);
        (right_kind, right_kind && is_in_range(&tree.value, schema))
    };
    if fits {
        return None;
    }
    let expected = expected(schema);
    let found = tree.describe();
    let hint = hint(&tree.value, schema);
    Some(if right_kind {
        ProblemKind::Range { expected, found, hint }
    } else {
        ProblemKind::Type { expected, found, hint }
    })
}

fn is_of_kind(value: &Value, schema: &Json) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Text(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    };
    let fits = |accepted: &str| accepted == kind || accepted == "number" && kind == "integer";
    match &schema["type"] {
        Json::String(one) => fits(one),
        Json::Array(all) => all.iter().filter_map(Json::as_str).any(fits),
        _ => true,
    }
}

fn is_in_range(value: &Value, schema: &Json) -> bool {
    let length_fits = |found: usize, least: &str, most: &str| {
        let found = found as u64;
        schema[least].as_u64().is_none_or(|least| found >= least)
            && schema[most].as_u64().is_none_or(|most| found <= most)
    };
    let number_fits = |found: f64| {
        let bound = |key: &str| schema[key].as_f64();
        found.is_finite()
            && bound("minimum").is_none_or(|bound| found >= bound)
            && bound("maximum").is_none_or(|bound| found <= bound)
            && bound("exclusiveMinimum").is_none_or(|bound| found > bound)
            && bound("exclusiveMaximum").is_none_or(|bound| found < bound)
    };
    let in_bounds = match value {
        Value::Integer(value) => {
            number_fits(*value as f64) && (schema["format"] != "uint64" || u64::try_from(*value).is_ok())
        }
        Value::Float(value) => number_fits(*value),
        Value::Text(text) => {
            length_fits(text.chars().count(), "minLength", "maxLength")
                && (schema["format"] != "name" || SiteId::try_from(text.as_str()).is_ok())
        }
        Value::List(items) => length_fits(items.len(), "minItems", "maxItems"),
        Value::Null | Value::Bool(_) | Value::Map(_) => true,
    };
    in_bounds && options(schema).is_none_or(|options| options.iter().any(|option| equals(value, option)))
}

fn equals(value: &Value, option: &Json) -> bool {
    match value {
        Value::Null => option.is_null(),
        Value::Text(text) => option.as_str() == Some(text),
        Value::Integer(value) => option.as_i64().map(i128::from) == Some(*value),
        _ => false,
    }
}

/// The values of a `const` or an `enum`.
fn options(schema: &Json) -> Option<Vec<&Json>> {
    match schema.get("enum").and_then(Json::as_array) {
        Some(all) => Some(all.iter().collect()),
        None => schema.get("const").map(|one| vec![one]),
    }
}

/// The words among which a choice is to be made.
fn words(schema: &Json) -> Vec<&str> {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
    match alternatives {
        Some(all) => all.iter().flat_map(words).collect(),
        None => options(schema).into_iter().flatten().filter_map(Json::as_str).collect(),
    }
}

/// What the schema accepts, in words.
fn expected(schema: &Json) -> String {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
    if let Some(all) = alternatives {
        if all.iter().all(|one| one.get("const").is_some()) {
            let words: Vec<_> = words(schema).into_iter().map(|word| format!("`{word}`")).collect();
            return if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) };
        }
        return all.iter().map(expected).collect::<Vec<_>>().join(" or ");
    }
    if let Some(options) = options(schema) {
        let shown: Vec<_> =
            options.iter().filter(|one| !one.is_null()).map(|one| format!("`{one}`")).collect();
        return shown.join(" or ");
    }
    let kind = match &schema["type"] {
        Json::Array(all) => all.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        one => one.as_str(),
    };
    match kind {
        Some("integer") => format!("a whole number{}", bounds(schema)),
        Some("number") => format!("a number{}", bounds(schema)),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("string") if schema["format"] == "name" => {
            "a name of 1 to 64 letters, digits, ' ', '.', '_', '-'".to_owned()
        }
        Some("string") => match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
            (_, Some(most)) => format!("text of {most} characters at the most"),
            (Some(_), None) => "text that is not empty".to_owned(),
            (None, None) => "text".to_owned(),
        },
        Some("array") => {
            let length = match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
                (Some(least), Some(most)) => format!("{least} to {most} items"),
                (Some(least), None) => format!("{least} or more items"),
                (None, Some(most)) => format!("{most} items at the most"),
                (None, None) => "items".to_owned(),
            };
            format!("a list of {length}, each {}", expected(&schema["items"]))
        }
        Some("object") => match schema["properties"].as_object() {
            Some(keys) => {
                format!("a section with the keys {}", keys.keys().cloned().collect::<Vec<_>>().join(", "))
            }
            None => "a mapping".to_owned(),
        },
        _ => "a value".to_owned(),
    }
}

fn bounds(schema: &Json) -> String {
    let shown = |key: &str| {
        let bound = schema[key].as_f64()?;
        Some(if bound.abs() >= 1e5 { format!("{bound:e}") } else { bound.to_string() })
    };
    let whole = schema["type"] == "integer" || schema["type"][0] == "integer";
    match (shown("minimum"), shown("maximum"), shown("exclusiveMinimum"), shown("exclusiveMaximum")) {
        (Some(least), Some(most), ..) => format!(" from {least} to {most}"),
        (Some(least), None, None, Some(below)) => format!(" from {least} to below {below}"),
        (None, Some(most), Some(above), _) => format!(" above {above} and at most {most}"),
        (None, None, Some(above), Some(below)) => format!(" above {above} and below {below}"),
        (Some(least), ..) if whole && schema["format"] == "uint64" => {
            format!(" from {least} to {}", u64::MAX)
        }
        _ => String::new(),
    }
}

fn hint(value: &Value, schema: &Json) -> Option<String> {
    let accepts = |kind: &str| match &schema["type"] {
        Json::String(one) => one == kind,
        Json::Array(all) => all.iter().any(|one| one == kind),
        _ => false,
    };
    match value {
        Value::Null if accepts("object") => Some("write `{}` for a section without keys".to_owned()),
        Value::Null => Some("leave the key out to have its default".to_owned()),
        Value::Text(text) => {
            if accepts("number") || accepts("integer") {
                return text.parse::<f64>().is_ok().then(|| "leave the quotes out".to_owned());
            }
            if accepts("boolean") {
                return match text.to_lowercase().as_str() {
                    "yes" | "on" | "true" | "y" => Some("write `true`".to_owned()),
                    "no" | "off" | "false" | "n" => Some("write `false`".to_owned()),
                    _ => None,
                };
            }
            let words = words(schema);
            let (word, near) = words
                .iter()
                .map(|word| (word, likeness(word, text)))
                .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
            (near >= 0.5).then(|| format!("the nearest is `{word}`"))
        }
        Value::Float(value) if accepts("integer") && value.fract() == 0.0 && value.abs() < 1e15 => {
            Some(format!("write `{value:.0}`"))
        }
        _ => None,
    }
}

fn collect_keys(schema: &Json, path: &str, keys: &mut Vec<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = join(path, key);
        collect_keys(property, &path, keys);
        keys.push(path);
    }
}

/// The known key nearest to `key`, preferably one of the `siblings` in its own section.
fn nearest_key(keys: &[String], section: &str, siblings: &[String], key: &str) -> Option<String> {
    let near = siblings.iter().map(|name| (likeness(name, key) + 0.2, join(section, name)));
    let far = keys.iter().map(|path| (likeness(path.rsplit('.').next().unwrap_or(path), key), path.clone()));
    let (score, nearest) = near.chain(far).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (score >= 0.5).then_some(nearest)
}

/// How much alike two keys are, from 0 to 1.
fn likeness(known: &str, found: &str) -> f64 {
    let found = found.to_lowercase().replace(['-', ' '], "_");
    let known = known.to_lowercase();
    let edits = strsim::normalized_damerau_levenshtein(&known, &found);
    // `rounds` is meant for `num_rounds`, `epsilon` for `epsilon_budget`.
    let contained = found.len() >= 3 && (known.contains(&found) || found.contains(&known));
    if contained { edits.max(0.7) } else { edits }
}
