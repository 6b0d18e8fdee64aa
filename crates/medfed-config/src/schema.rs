//! The JSON Schema of the configuration.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::section::Sections;

/// The schema (draft 2020-12), without references: each key has its description, default and bounds
/// in place.
pub(crate) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Sections>().to_value();
    join_lines(&mut schema);
    schema
}

/// Descriptions come from documentation comments; where those break their lines means nothing.
fn join_lines(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    value => join_lines(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}
