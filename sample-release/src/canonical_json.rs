//! Canonical JSON as TUF uses it (OLPC): what a signature is made over. Pure.
//!
//! Keys sorted by bytes, no white space, only `"` and `\` escaped. Our documents have integers, ASCII strings and
//! booleans only; fractions have no canonical form.

use serde_json::Value;

/// The canonical bytes of a document.
pub(crate) fn canonical_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            // Sorted here, because the map's own order depends on how serde_json was built.
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::String(text) => write_string(text, out),
        Value::Number(number) => {
            assert!(!number.is_f64(), "TUF metadata has no fractions: {number}");
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Bool(_) | Value::Null => out.extend_from_slice(value.to_string().as_bytes()),
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_only_two_characters_are_escaped() {
        let value = json!({"b": [1, true, null], "a": {"z": "q\"\\\n", "B": ""}});
        assert_eq!(canonical_json(&value), b"{\"a\":{\"B\":\"\",\"z\":\"q\\\"\\\\\n\"},\"b\":[1,true,null]}");
    }
}
