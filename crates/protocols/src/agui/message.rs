//! Messages of a conversation, and the parts that they are made of.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Which it is, in its thread.
    pub id: String,
    /// Who says what.
    #[serde(flatten)]
    pub said: Said,
    /// The subagent that it is from; none: the agent itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagent_run_id: Option<String>,
    /// What a provider wants to see again with it; nobody else can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_value: Option<String>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// Who says what in a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "role",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[expect(missing_docs, reason = "the schema's own names, which it documents")]
pub enum Said {
    Developer {
        content: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    System {
        content: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Assistant {
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    User {
        content: Content,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Tool {
        content: Content,
        tool_call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    Activity {
        activity_type: String,
        content: Object,
    },
    Reasoning {
        content: String,
    },
}

/// A tool that a message calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Which call it is.
    pub id: String,
    /// Always `function`.
    pub r#type: Function,
    /// The tool, and what it is given.
    pub function: FunctionCall,
    /// What a provider wants to see again with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_value: Option<String>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

/// The one type of a tool call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// It is a function.
    #[default]
    Function,
}

/// The tool that is called, and what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The name of the tool.
    pub name: String,
    /// A text that should be JSON.
    pub arguments: String,
}

/// A text, or parts in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text alone.
    Text(String),
    /// Texts and media.
    Parts(Vec<Part>),
}

impl Content {
    /// The text of it; media are left out.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                let texts = parts.iter().filter_map(|part| match part {
                    Part::Text { text, .. } => Some(text.as_str()),
                    _ => None,
                });
                texts.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// One part of a content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the schema's own names, which it documents")]
pub enum Part {
    Text {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
    },
    Image(Media),
    Audio(Media),
    Video(Media),
    Document(Media),
}

/// A part that is no text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// Which part it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where its bytes are.
    pub source: Source,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// Where the bytes of a part are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[expect(missing_docs, reason = "the schema's own names, which it documents")]
pub enum Source {
    /// Here, in base 64.
    Data { value: String, mime_type: String },
    /// There.
    Url {
        value: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
    },
    /// At a provider, under its own name.
    File {
        value: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
    },
}

impl Message {
    /// A message with nothing but what it says.
    #[must_use]
    pub fn new(id: impl Into<String>, said: Said) -> Self {
        Self {
            id: id.into(),
            said,
            subagent_run_id: None,
            encrypted_value: None,
            metadata: None,
        }
    }

    /// The calls in it.
    #[must_use]
    pub fn tool_calls(&self) -> &[ToolCall] {
        match &self.said {
            Said::Assistant { tool_calls, .. } => tool_calls,
            _ => &[],
        }
    }

    /// Its text; what has none is empty.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.said {
            Said::Developer { content, .. }
            | Said::System { content, .. }
            | Said::Reasoning { content } => content.clone(),
            Said::Assistant { content, .. } => content.clone().unwrap_or_default(),
            Said::User { content, .. } | Said::Tool { content, .. } => content.text(),
            Said::Activity { .. } => String::new(),
        }
    }
}
