//! Finding agents by what their cards say they can, and by how they are.

use skep_api::{AgentSpec, InstanceState};

/// What an agent takes and gives, unless its card says otherwise.
const MODES: [&str; 2] = ["text/plain", "application/json"];

/// Which agents; what is not said, any of them fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentQuery {
    /// With a skill of this id.
    pub skill: Option<String>,
    /// With a skill that has this tag, upper and lower case alike.
    pub tag: Option<String>,
    /// That take this media type.
    pub input_mode: Option<String>,
    /// That give this media type.
    pub output_mode: Option<String>,
    /// That stand so, as of their last probe.
    pub state: Option<InstanceState>,
    /// In whose name, description and skills all these words are.
    pub text: Option<String>,
}

impl AgentQuery {
    /// Whether what an agent says of itself fits. Its state is another question.
    #[must_use]
    pub fn fits(&self, spec: &AgentSpec) -> bool {
        self.fits_skill(spec) && self.fits_modes(spec) && self.fits_text(spec)
    }

    fn fits_skill(&self, spec: &AgentSpec) -> bool {
        if self.skill.is_none() && self.tag.is_none() {
            return true;
        }
        let skills = spec.card.as_ref().map(|it| it.skills.as_slice());
        let skills = skills.unwrap_or_default();
        let is_tag = |word: &str| {
            let wanted = self.tag.as_deref();
            wanted.is_none_or(|it| it.eq_ignore_ascii_case(word))
        };
        let is_skill = |id: &str| self.skill.as_deref().is_none_or(|it| it == id);
        // A card that names no skill has one, of the agent's name; and so has a skill without a tag.
        if skills.is_empty() {
            return is_skill(&spec.name) && is_tag(&spec.name);
        }
        skills.iter().any(|skill| {
            let is_tagged = match skill.tags.as_slice() {
                [] => is_tag(&spec.name),
                tags => tags.iter().any(|it| is_tag(it)),
            };
            is_skill(&skill.id) && is_tagged
        })
    }

    fn fits_modes(&self, spec: &AgentSpec) -> bool {
        let has = |told: Option<&Vec<String>>, wanted: Option<&String>| {
            let Some(wanted) = wanted else {
                return true;
            };
            match told.filter(|it| !it.is_empty()) {
                Some(told) => told.iter().any(|it| it.eq_ignore_ascii_case(wanted)),
                None => MODES.iter().any(|it| it.eq_ignore_ascii_case(wanted)),
            }
        };
        let card = spec.card.as_ref();
        has(card.map(|it| &it.input_modes), self.input_mode.as_ref())
            && has(card.map(|it| &it.output_modes), self.output_mode.as_ref())
    }

    fn fits_text(&self, spec: &AgentSpec) -> bool {
        let Some(text) = &self.text else {
            return true;
        };
        let mut said = vec![spec.name.as_str()];
        if let Some(card) = &spec.card {
            said.extend(card.description.as_deref());
            for skill in &card.skills {
                said.extend([skill.id.as_str(), &skill.description]);
                said.extend(skill.name.as_deref());
                said.extend(skill.tags.iter().map(String::as_str));
                said.extend(skill.examples.iter().map(String::as_str));
            }
        }
        let said = said.join("\n").to_lowercase();
        let text = text.to_lowercase();
        text.split_whitespace().all(|word| said.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(name: &str, card: serde_json::Value) -> AgentSpec {
        let mut spec = AgentSpec::new(name, vec!["x".to_owned()]);
        spec.card = serde_json::from_value(card).unwrap();
        spec
    }

    #[test]
    fn an_agent_is_found_by_what_its_card_says() {
        let plain = spec("plain", json!(null));
        let sums = spec(
            "sums",
            json!({ "description": "Adds numbers up.", "output_modes": ["image/png"],
                "skills": [{ "id": "add", "description": "Sums.", "tags": ["Maths"] }, { "id": "draw", "description": "Charts." }] }),
        );
        let query = |field: &str, value: &str| {
            let mut query = AgentQuery::default();
            let value = Some(value.to_owned());
            match field {
                "skill" => query.skill = value,
                "tag" => query.tag = value,
                "input" => query.input_mode = value,
                "output" => query.output_mode = value,
                _ => query.text = value,
            }
            query
        };
        for (field, value, of_plain, of_sums) in [
            ("skill", "add", false, true),
            ("skill", "plain", true, false),
            ("skill", "Add", false, false),
            ("tag", "maths", false, true),
            ("tag", "sums", false, true),
            ("tag", "plain", true, false),
            ("input", "text/plain", true, true),
            ("output", "image/png", false, true),
            ("output", "Text/Plain", true, false),
            ("text", "NUMBERS chart", false, true),
            ("text", "numbers tables", false, false),
            ("text", "plain", true, false),
        ] {
            let query = query(field, value);
            assert_eq!(query.fits(&plain), of_plain, "{field}={value}");
            assert_eq!(query.fits(&sums), of_sums, "{field}={value}");
        }
        // Both of one skill.
        let both = AgentQuery {
            skill: Some("draw".to_owned()),
            ..query("tag", "maths")
        };
        assert!(!both.fits(&sums));
    }
}
