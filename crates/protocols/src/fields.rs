//! Fields of JSON as ProtoJSON allows them: in camel case or as the schema writes them, and `null` is absent.

use serde_json::{Map, Value};

use crate::agui::Object;

/// Bytes of an id.
pub(crate) const MOST_ID: usize = 200;

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where, as in `message.parts[2].text`; empty: the whole.
    pub(crate) field: String,
    /// What it must be.
    pub(crate) why: String,
}

impl Wrong {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            why: why.into(),
        }
    }

    pub(crate) fn within(mut self, name: &str) -> Self {
        let dot = match self.field.chars().next() {
            None | Some('[') => "",
            Some(_) => ".",
        };
        self.field = format!("{name}{dot}{}", self.field);
        self
    }
}

pub(crate) type Read<T> = Result<T, Wrong>;

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value) -> Read<Self> {
        let object = value.as_object();
        object
            .map(Self)
            .ok_or_else(|| Wrong::new("it must be an object"))
    }

    /// A field, even when it is `null`.
    pub(crate) fn told(&self, name: &str) -> Option<&'a Value> {
        let found = self.0.get(name);
        found.or_else(|| {
            let snake = snake(name)?;
            self.0.get(&snake)
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.told(name).filter(|it| !it.is_null())
    }

    /// A text; an empty one is absent.
    pub(crate) fn text(&self, name: &str) -> Read<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|it| !it.is_empty())),
            Some(_) => Err(Wrong::new("it must be a text").within(name)),
        }
    }

    pub(crate) fn needs_text(&self, name: &str) -> Read<String> {
        let missing = || Wrong::new("it is missing; it must be a text").within(name);
        self.text(name)?.ok_or_else(missing)
    }

    /// An id; it is kept short, and one line.
    pub(crate) fn id(&self, name: &str) -> Read<Option<String>> {
        let id = self.text(name)?;
        let is_odd = |it: &str| it.len() > MOST_ID || it.chars().any(char::is_control);
        if id.as_deref().is_some_and(is_odd) {
            let why = format!("it has 1 to {MOST_ID} bytes, none of which is a control character");
            return Err(Wrong::new(why).within(name));
        }
        Ok(id)
    }

    pub(crate) fn needs_id(&self, name: &str) -> Read<String> {
        let missing = || Wrong::new("it is missing; it must be a text").within(name);
        self.id(name)?.ok_or_else(missing)
    }

    pub(crate) fn flag(&self, name: &str) -> Read<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Wrong::new("it must be true or false").within(name)),
        }
    }

    /// A whole number, which may be written as a text, too.
    pub(crate) fn whole(&self, name: &str, least: u32, most: u32) -> Read<Option<u32>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it has no fraction and is in range"
        )]
        let number = match value {
            Value::Number(it) => it.as_i64().or_else(|| {
                let it = it.as_f64()?;
                (it.fract() == 0.0 && it.abs() < 1e15).then_some(it as i64)
            }),
            Value::String(it) => it.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|it| u32::try_from(it).ok());
        match number.filter(|it| (least..=most).contains(it)) {
            Some(number) => Ok(Some(number)),
            None => {
                let why = match most {
                    u32::MAX => format!("it must be a whole number, not below {least}"),
                    _ => format!("it must be a whole number from {least} to {most}"),
                };
                Err(Wrong::new(why).within(name))
            }
        }
    }

    pub(crate) fn object(&self, name: &str) -> Read<Option<Object>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(_) => Err(Wrong::new("it must be an object").within(name)),
        }
    }

    pub(crate) fn list<T>(&self, name: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Vec<T>> {
        let list = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(Wrong::new("it must be a list").within(name)),
        };
        let each = list.iter().enumerate();
        let each = each.map(|(at, it)| read(it).map_err(|wrong| wrong.within(&format!("[{at}]"))));
        let all: Read<Vec<T>> = each.collect();
        all.map_err(|wrong| wrong.within(name))
    }

    pub(crate) fn texts(&self, name: &str) -> Read<Vec<String>> {
        self.list(name, |it| {
            let text = it.as_str().map(str::to_owned);
            text.ok_or_else(|| Wrong::new("it must be a text"))
        })
    }

    pub(crate) fn inner<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Value) -> Read<T>,
    ) -> Read<Option<T>> {
        let found = self.get(name).map(read).transpose();
        found.map_err(|wrong| wrong.within(name))
    }

    pub(crate) fn needs<T>(&self, name: &str, read: impl FnOnce(&Value) -> Read<T>) -> Read<T> {
        let missing = || Wrong::new("it is missing").within(name);
        self.inner(name, read)?.ok_or_else(missing)
    }
}

/// A name as the schema writes it, when that is another.
fn snake(name: &str) -> Option<String> {
    if !name.bytes().any(|it| it.is_ascii_uppercase()) {
        return None;
    }
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    Some(out)
}
