//! Schemas as Gemini has them of its own, made into JSON Schema.

use crate::json::Json;

/// How deep a schema is followed; JSON that is read is no deeper than this.
const MOST_DEPTH: usize = 128;

/// The JSON Schema that says the same.
pub(crate) fn plain(schema: Json) -> Json {
    within(schema, MOST_DEPTH)
}

fn each(value: Json, left: usize) -> Json {
    match value {
        Json::Object(fields) => {
            let fields = fields.into_iter();
            Json::Object(fields.map(|(name, it)| (name, within(it, left))).collect())
        }
        Json::List(list) => Json::List(list.into_iter().map(|it| within(it, left)).collect()),
        value => value,
    }
}

fn within(schema: Json, left: usize) -> Json {
    let is_nullable = schema.get("nullable") == Some(&Json::Bool(true));
    let (fields, left) = match (schema, left.checked_sub(1)) {
        (Json::Object(fields), Some(left)) => (fields, left),
        (schema, _) => return schema,
    };
    let mut made = Vec::new();
    for (name, value) in fields {
        let known = match name.as_str() {
            // The order is that of the properties themselves.
            "nullable" | "propertyOrdering" | "property_ordering" => continue,
            "anyOf" | "any_of" => "anyOf",
            "minItems" | "min_items" => "minItems",
            "maxItems" | "max_items" => "maxItems",
            "minLength" | "min_length" => "minLength",
            "maxLength" | "max_length" => "maxLength",
            "example" => "examples",
            _ => name.as_str(),
        };
        let value = match (known, value) {
            ("type", Json::Text(kind)) => {
                let kind = Json::from(kind.to_ascii_lowercase());
                match is_nullable {
                    true => Json::List(vec![kind, "null".into()]),
                    false => kind,
                }
            }
            ("enum", Json::List(mut values)) if is_nullable => {
                values.push(Json::Null);
                Json::List(values)
            }
            // These are numbers, which JSON of protocol buffers writes as texts.
            ("minItems" | "maxItems" | "minLength" | "maxLength", Json::Text(text)) => {
                text.parse::<u64>().map_or(Json::Text(text), Json::from)
            }
            ("examples", value) => Json::List(vec![value]),
            ("properties" | "anyOf", value) => each(value, left),
            ("items", value) => within(value, left),
            (_, value) => value,
        };
        made.push((known.to_owned(), value));
    }
    Json::Object(made)
}
