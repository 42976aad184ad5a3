//! What others are told of an agent: its card.

use skep_api::AgentCardSpec;

use super::parts::short;
use crate::RuntimeError;

/// Characters of a text that describes something.
const MOST_TEXT: usize = 2_000;
/// Characters of a name, a tag, a media type.
const MOST_WORD: usize = 200;
/// Skills of an agent; tags, examples and media types of one.
const MOST: usize = 100;

fn text(field: &str, text: &str, most: usize) -> Result<(), RuntimeError> {
    let long = text.chars().count() > most;
    if text.trim().is_empty() || long || text.chars().any(char::is_control) {
        let why = format!("write 1 to {most} characters, without control characters");
        return Err(RuntimeError::spec(field, why));
    }
    Ok(())
}

fn words(field: &str, all: &[String]) -> Result<(), RuntimeError> {
    if all.len() > MOST {
        return Err(RuntimeError::spec(field, format!("write {MOST} at most")));
    }
    all.iter().try_for_each(|it| text(field, it, MOST_WORD))
}

pub(super) fn card(card: Option<&AgentCardSpec>) -> Result<(), RuntimeError> {
    let Some(card) = card else {
        return Ok(());
    };
    for (field, value, most) in [
        ("card.description", &card.description, MOST_TEXT),
        ("card.version", &card.version, MOST_WORD),
        ("card.documentation_url", &card.documentation_url, MOST_TEXT),
    ] {
        if let Some(value) = value {
            text(field, value, most)?;
        }
    }
    let url = card.documentation_url.as_deref();
    let is_web = |it: &str| it.starts_with("https://") || it.starts_with("http://");
    if !url.is_none_or(is_web) {
        let why = "write an address such as `https://example.com/agent`";
        return Err(RuntimeError::spec("card.documentation_url", why));
    }
    words("card.input_modes", &card.input_modes)?;
    words("card.output_modes", &card.output_modes)?;
    if card.skills.len() > MOST {
        let why = format!("write {MOST} at most");
        return Err(RuntimeError::spec("card.skills", why));
    }
    for (at, skill) in card.skills.iter().enumerate() {
        let field = |name: &str| format!("card.skills[{at}].{name}");
        text(&field("id"), &skill.id, MOST_WORD)?;
        text(&field("description"), &skill.description, MOST_TEXT)?;
        if let Some(name) = &skill.name {
            text(&field("name"), name, MOST_WORD)?;
        }
        words(&field("tags"), &skill.tags)?;
        words(&field("examples"), &skill.examples)?;
        let before = card.skills.iter().take(at);
        if before.into_iter().any(|it| it.id == skill.id) {
            let why = format!("there is another skill `{}`", short(&skill.id));
            return Err(RuntimeError::spec(field("id"), why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_cannot_say_is_refused_by_its_field() {
        let of = |value: serde_json::Value| {
            let spec: AgentCardSpec = serde_json::from_value(value).unwrap();
            card(Some(&spec)).map_err(|error| error.to_string())
        };
        let skill = |id: &str| serde_json::json!({ "id": id, "description": "Adds." });
        let whole = serde_json::json!({ "description": "Counts.", "skills": [skill("a"), skill("b")],
            "documentation_url": "https://example.com", "output_modes": ["text/plain"] });
        assert_eq!(of(whole), Ok(()));
        for (value, field) in [
            (
                serde_json::json!({ "description": " " }),
                "card.description",
            ),
            (serde_json::json!({ "version": "1\n2" }), "card.version"),
            (
                serde_json::json!({ "documentation_url": "ftp://x" }),
                "card.documentation_url",
            ),
            (
                serde_json::json!({ "input_modes": [""] }),
                "card.input_modes",
            ),
            (
                serde_json::json!({ "skills": [skill("a"), skill("a")] }),
                "card.skills[1].id",
            ),
            (
                serde_json::json!({ "skills": [skill("")] }),
                "card.skills[0].id",
            ),
        ] {
            let said = of(value).unwrap_err();
            assert!(said.contains(field), "{said}");
        }
    }
}
