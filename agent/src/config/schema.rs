//! The configuration file's JSON Schema, made from what reads it: for editors, and for whoever writes the file by a program.
//! `docs/config.schema.json` is what [`text`] gives.

use serde_json::Value;

use super::ConfigFile;
use crate::{Error, Result};

/// The name of the schema of [`super::SecretValue`].
const SECRET: &str = "#/$defs/Secret";
const MASK: &str = "********";
/// Schemas lead to schemas; no value is deeper.
const DEPTH_MAX: usize = 64;

/// The schema.
pub fn schema() -> Value {
    schemars::schema_for!(ConfigFile).to_value()
}

/// The schema as a file.
///
/// # Errors
/// Never: it is made of texts and lists.
pub fn text() -> Result<String> {
    let text = serde_json::to_string_pretty(&schema())
        .map_err(|e| Error::failed(format_args!("cannot write the schema: {e}")))?;
    Ok(text + "\n")
}

/// Hides every secret that is written in a configuration. Which values are secrets the schema says, so none can be forgotten here.
pub fn mask(configuration: &mut Value) {
    let schema = schema();
    mask_as(configuration, &schema, &schema, 0);
}

fn mask_as(value: &mut Value, schema: &Value, root: &Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        if reference == SECRET {
            if value.is_string() {
                *value = MASK.into();
            }
            return;
        }
        if let Some(named) = reference.strip_prefix('#').and_then(|path| root.pointer(path)) {
            mask_as(value, named, root, depth + 1);
        }
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for one in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
            mask_as(value, one, root, depth + 1);
        }
    }
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| mask_as(item, schema, root, depth + 1));
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let own = schema.get("properties").and_then(|properties| properties.get(name));
                if let Some(schema) = own.or_else(|| schema.get("additionalProperties")) {
                    mask_as(field, schema, root, depth + 1);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_documentation_is_the_schema() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.schema.json");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text().unwrap(),
            "docs/config.schema.json is not what the code reads. Run: lifeboat config schema > docs/config.schema.json"
        );
    }

    #[test]
    fn every_key_says_what_it_is() {
        fn keys(schema: &Value, path: &str, found: &mut usize) {
            for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                let described = property.get("description").is_some() || property.get("$ref").is_some();
                assert!(described, "{path}.{name} has no description");
                *found += 1;
            }
        }
        let schema = schema();
        let mut found = 0;
        keys(&schema, "", &mut found);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            keys(definition, name, &mut found);
        }
        assert!(found > 40, "only {found} keys found");
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn every_secret_that_is_written_is_hidden_and_places_of_secrets_are_not() {
        let text = "passphrase = \"hunter2\"\nhost = \"here\"\n[[destination]]\nname = \"a\"\nurl = \"/a\"\nsecret_access_key = \"hunter2\"\n\
                    [[destination]]\nname = \"b\"\nurl = \"/b\"\nsecret_access_key = { env = \"NAME\" }\n";
        let mut value: Value = toml::from_str(text).unwrap();
        mask(&mut value);
        let shown = value.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!((&value["passphrase"], &value["host"]), (&MASK.into(), &"here".into()));
        assert_eq!(value["destination"][1]["secret_access_key"]["env"], "NAME");
    }
}
