//! What a model's name tells the upstream to do: `NAME+option=value+option=value`.

use std::time::Duration;

/// Tokens, deltas and thoughts of one answer.
const MOST_TOKENS: u64 = 1_000_000;
/// Bytes of one delta.
const MOST_BYTES: u64 = 64 << 20;

/// The options of one request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Script {
    /// The name before the first `+`: what the answer calls the model.
    pub(crate) base: String,
    /// Answer this.
    pub(crate) say: Option<String>,
    /// Answer so many words.
    pub(crate) tokens: Option<usize>,
    /// Tell so many input tokens; those of the cache are among them.
    pub(crate) prompt: Option<u64>,
    /// So many of them were in the cache.
    pub(crate) cached: u64,
    /// So many of them were put into the cache.
    pub(crate) written: u64,
    /// Tell so many output tokens, whatever is sent.
    pub(crate) lie: Option<u64>,
    /// Tell no usage.
    pub(crate) nousage: bool,
    /// Wait before the answer.
    pub(crate) delay: Duration,
    /// Wait before each delta but the first.
    pub(crate) pace: Duration,
    /// Fail with this status, and so many times; always without a number.
    pub(crate) fail: Option<(u16, Option<u64>)>,
    /// What a failure says of when to come back, in seconds.
    pub(crate) after: Option<u64>,
    /// Cut the connection after so many deltas.
    pub(crate) cut: Option<usize>,
    /// Tell more bytes than come.
    pub(crate) cutbody: bool,
    /// Tell an error in the stream after so many deltas.
    pub(crate) error: Option<usize>,
    /// Call this tool.
    pub(crate) tool: Option<String>,
    /// Think so many words before.
    pub(crate) think: usize,
    /// Say nothing until the client goes.
    pub(crate) stall: bool,
    /// Answer so many bytes in one delta.
    pub(crate) huge: Option<usize>,
}

/// Text with `%20` and the like as what they stand for.
pub(crate) fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn number(name: &str, value: &str, most: u64) -> Result<u64, String> {
    let number = value.parse().ok().filter(|it| *it <= most);
    number.ok_or_else(|| format!("{name}={value} is no number up to {most}"))
}

fn count(name: &str, value: &str, most: u64) -> Result<usize, String> {
    Ok(usize::try_from(number(name, value, most)?).unwrap_or_default())
}

impl Script {
    /// Reads a model's name.
    pub(crate) fn read(model: &str) -> Result<Self, String> {
        let mut words = model.split('+');
        let mut script = Self {
            base: words.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            script.set(name, value)?;
        }
        Ok(script)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let whole = || number(name, value, u64::MAX);
        let millis = || whole().map(Duration::from_millis);
        match name {
            "say" => self.say = Some(decode(value)),
            "tokens" => self.tokens = Some(count(name, value, MOST_TOKENS)?),
            "prompt" => self.prompt = Some(whole()?),
            "cached" => self.cached = whole()?,
            "written" => self.written = whole()?,
            "lie" => self.lie = Some(whole()?),
            "nousage" => self.nousage = true,
            "delay" => self.delay = millis()?,
            "pace" => self.pace = millis()?,
            "fail" => {
                let (status, times) = match value.split_once('x') {
                    Some((status, times)) => (status, Some(number(name, times, u64::MAX)?)),
                    None => (value, None),
                };
                let status = status.parse().ok().filter(|it| (400..600).contains(it));
                let status = status.ok_or_else(|| format!("fail={value} is no status"))?;
                self.fail = Some((status, times));
            }
            "after" => self.after = Some(whole()?),
            "cut" => self.cut = Some(count(name, value, MOST_TOKENS)?),
            "cutbody" => self.cutbody = true,
            "error" => self.error = Some(count(name, value, MOST_TOKENS)?),
            "tool" => self.tool = Some(decode(value)),
            "think" => self.think = count(name, value, MOST_TOKENS)?,
            "stall" => self.stall = true,
            "huge" => self.huge = Some(count(name, value, MOST_BYTES)?),
            // Nothing but another name: tests that share a script keep apart by it.
            "as" => {}
            _ => return Err(format!("the upstream knows no option {name}")),
        }
        Ok(())
    }
}
