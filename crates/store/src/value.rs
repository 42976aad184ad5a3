//! Values that go into and come out of statements, the same for every engine.

use crate::StoreError;

/// A value bound to a statement's numbered parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param<'a> {
    /// NULL.
    Null,
    /// A 64-bit integer; times are microseconds, booleans 0 and 1.
    Int(i64),
    /// UTF-8 text. A NUL in it becomes U+FFFD: not every engine has it.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u32> for Param<'_> {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<u16> for Param<'_> {
    fn from(value: u16) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<skep_core::Timestamp> for Param<'_> {
    fn from(value: skep_core::Timestamp) -> Self {
        Self::Int(value.as_micros())
    }
}
impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}
impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}
impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Blob(value)
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Blob(value)
    }
}
impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'a> From<&'a Value> for Param<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Int(value) => Self::Int(*value),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

/// A text as every engine takes it: PostgreSQL has no NUL in texts.
pub(crate) fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Int(i64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One row of an answer; columns are counted from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(Vec<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// All of them.
    pub(crate) fn values(&self) -> &[Value] {
        &self.0
    }

    /// A column as the parameter of a statement; NULL when there is no such column.
    #[must_use]
    pub fn param(&self, column: usize) -> Param<'_> {
        self.0.get(column).map_or(Param::Null, Param::from)
    }

    fn wrong(column: usize, wanted: &str) -> StoreError {
        StoreError::Statement(format!("column {column} is not {wanted}"))
    }

    /// An integer.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?
            .ok_or_else(|| Self::wrong(column, "an integer"))
    }

    /// An integer or NULL.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(Self::wrong(column, "an integer")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.opt_text(column)?
            .ok_or_else(|| Self::wrong(column, "a text"))
    }

    /// A text or NULL.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(Self::wrong(column, "a text")),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        self.opt_blob(column)?
            .ok_or_else(|| Self::wrong(column, "bytes"))
    }

    /// Bytes or NULL.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            Some(Value::Blob(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(Self::wrong(column, "bytes")),
        }
    }

    /// Exactly `N` bytes, for identifiers and hashes.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N], StoreError> {
        self.blob(column)?
            .try_into()
            .map_err(|_| Self::wrong(column, "bytes of that length"))
    }

    /// A time.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn time(&self, column: usize) -> Result<skep_core::Timestamp, StoreError> {
        self.int(column).map(skep_core::Timestamp::from_micros)
    }

    /// A time or NULL.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when the column holds something else.
    pub fn opt_time(&self, column: usize) -> Result<Option<skep_core::Timestamp>, StoreError> {
        Ok(self.opt_int(column)?.map(skep_core::Timestamp::from_micros))
    }
}
