//! What a framework wants to know before something is done: data that leaves has a purpose.

use crate::Framework;

/// The longest purpose, in characters.
pub const MOST_PURPOSE: usize = 200;
/// What takes data out, so that somebody has to say what for.
const TAKES_OUT: [&str; 3] = ["agent:export", "audit:export", "backup:fetch"];

/// Why an operation is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// Nobody said what for.
    #[error("it takes data out, and nobody says what for")]
    Missing,
    /// What was said is no text of its own.
    #[error("its purpose is not a text of 1 to 200 characters")]
    Malformed,
}

/// Whether an action may be done under these frameworks, with what was said of its purpose. Gives the
/// purpose that belongs into the record; none where nobody asks for one.
///
/// # Errors
/// [`OperationError`].
pub fn validate_operation<'a>(
    frameworks: &[Framework],
    action: &str,
    purpose: Option<&'a [u8]>,
) -> Result<Option<&'a str>, OperationError> {
    if !frameworks.contains(&Framework::Gdpr) || !TAKES_OUT.contains(&action) {
        return Ok(None);
    }
    let said = purpose.ok_or(OperationError::Missing)?;
    let text = std::str::from_utf8(said).map_err(|_| OperationError::Malformed)?;
    let text = text.trim();
    let fits = (1..=MOST_PURPOSE).contains(&text.chars().count());
    match fits && !text.chars().any(char::is_control) {
        true => Ok(Some(text)),
        false => Err(OperationError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_the_gdpr_what_is_taken_out_has_a_purpose() {
        let gdpr = [Framework::Sox, Framework::Gdpr];
        let long = "ä".repeat(MOST_PURPOSE);
        let over = format!("{long}a");
        for action in TAKES_OUT {
            let ask = |said| validate_operation(&gdpr, action, said);
            assert_eq!(ask(None), Err(OperationError::Missing));
            for wrong in ["", "  ", "a\nb", over.as_str()] {
                assert_eq!(ask(Some(wrong.as_bytes())), Err(OperationError::Malformed));
            }
            assert_eq!(ask(Some(b"\xff")), Err(OperationError::Malformed));
            assert_eq!(ask(Some(long.as_bytes())), Ok(Some(long.as_str())));
            assert_eq!(
                ask(Some(b" a request by Ada ")),
                Ok(Some("a request by Ada"))
            );
            for others in [
                &[][..],
                &[Framework::Sox, Framework::Hipaa, Framework::Soc2],
            ] {
                assert_eq!(validate_operation(others, action, None), Ok(None));
            }
        }
        assert_eq!(validate_operation(&gdpr, "agent:read", None), Ok(None));
    }
}
