//! Words, one after the other: each belongs to classes, and a rule is a row of classes that follow each other closely. All
//! rules are followed at once, so that a text is read once. No I/O.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Signal;
use super::marks::{Unseen, folded, is_role, unseen};

/// Letters of the longest word that is known.
const LONGEST: usize = 16;
/// Classes that follow each other in a rule, at most.
const STEPS: usize = 4;
/// Characters that nobody sees, in a row, and within words: more are no accident.
const MANY_IN_A_ROW: u32 = 4;
const MANY_IN_WORDS: u32 = 3;
/// The flag from which tags make another one.
const FLAG: char = '\u{1f3f4}';

type Classes = u32;

const IGNORE: Classes = 1;
const BEFORE: Classes = 1 << 1;
const RULES_OF: Classes = 1 << 2;
const ALL_OF: Classes = 1 << 3;
const NOT: Classes = 1 << 4;
const TELL: Classes = 1 << 5;
const PERSON: Classes = 1 << 6;
const SHOW: Classes = 1 << 7;
const OF_SYSTEM: Classes = 1 << 8;
const PROMPT: Classes = 1 << 9;
const SEND: Classes = 1 << 10;
const SECRET: Classes = 1 << 11;
const TO: Classes = 1 << 12;
const YOU: Classes = 1 << 13;
const ARE: Classes = 1 << 14;
const NOW: Classes = 1 << 15;
const LAWLESS: Classes = 1 << 16;
const WITHOUT: Classes = 1 << 17;
const LIMITS: Classes = 1 << 18;
const ACT: Classes = 1 << 19;
const NOTE: Classes = 1 << 20;
const MACHINE: Classes = 1 << 21;
const IF: Classes = 1 << 22;
const MUST: Classes = 1 << 23;
const RUN: Classes = 1 << 24;
const TOOL: Classes = 1 << 25;
const SPEAKER: Classes = 1 << 26;
const MODE: Classes = 1 << 27;
const ENABLED: Classes = 1 << 28;
const ODD_MODE: Classes = 1 << 29;

/// The words of each class: English, and what English attacks look like in German, French, Spanish and Portuguese.
const WORDS: [(Classes, &str); 30] = [
    (
        IGNORE,
        "ignore ignoring disregard forget override overrule bypass neglect dismiss discard ignoriere ignorieren vergiss \
         missachte ignorez ignorer oubliez ignora ignorar ignorad olvida olvide desconsidere esqueca",
    ),
    (
        BEFORE,
        "previous previously prior above earlier preceding before former original existing initial system all any your \
         these those vorherigen bisherigen obigen vorigen alle precedentes precedente anteriores anterior todas toutes \
         previas",
    ),
    (
        RULES_OF,
        "instruction instructions prompt prompts rule rules direction directions directive directives guideline \
         guidelines command commands order orders training programming anweisung anweisungen regeln vorgaben \
         instrucciones instruccion reglas consigne consignes instrucoes regras",
    ),
    (ALL_OF, "everything anything all alles todo tout tudo"),
    (NOT, "not dont don never without nicht no ne pas"),
    (
        TELL,
        "tell telling mention mentioning inform informing notify notifying reveal revealing disclose disclosing alert \
         alerting sage erwahne digas",
    ),
    (
        PERSON,
        "user users human humans operator owner nutzer benutzer usuario utilisateur",
    ),
    (
        SHOW,
        "reveal print repeat show output display expose disclose leak recite dump tell zeige affiche muestra",
    ),
    (
        OF_SYSTEM,
        "system initial hidden original secret developer your internal",
    ),
    (
        PROMPT,
        "prompt prompts instruction instructions preprompt systemprompt",
    ),
    (
        SEND,
        "send post forward upload exfiltrate email transmit leak submit deliver append include sende schicke envia envie \
         envoyez",
    ),
    (
        SECRET,
        "key keys apikey password passwords secret secrets credential credentials token tokens ssh env conversation \
         cookie cookies passphrase passwort contrasena",
    ),
    (
        TO,
        "to into via http https url webhook endpoint address server attacker nach",
    ),
    (YOU, "you u"),
    (ARE, "are re"),
    (NOW, "now"),
    (
        LAWLESS,
        "dan unrestricted jailbroken unfiltered uncensored evil root lawless",
    ),
    (WITHOUT, "no without any"),
    (
        LIMITS,
        "restriction restrictions filter filters limitation limitations censorship guardrails morals ethics",
    ),
    (ACT, "act pretend respond behave answer roleplay imagine"),
    (
        NOTE,
        "attention note notice message instruction instructions important hey dear",
    ),
    (
        MACHINE,
        "ai llm llms assistant assistants chatbot gpt chatgpt claude copilot gemini",
    ),
    (IF, "if when"),
    (MUST, "must should need have please"),
    (RUN, "call invoke run execute use"),
    (TOOL, "tool function command"),
    (SPEAKER, "system assistant developer human"),
    (MODE, "mode"),
    (ENABLED, "enabled activated active on unlocked"),
    (ODD_MODE, "developer dan god jailbreak sudo"),
];

/// A row of classes, each at most so many words after the one before.
struct Rule(Signal, &'static [(Classes, u32)]);

const RULES: [Rule; 14] = [
    Rule(Signal::Override, &[(IGNORE, 0), (BEFORE, 4), (RULES_OF, 4)]),
    Rule(Signal::Override, &[(IGNORE, 0), (RULES_OF, 4), (BEFORE, 4)]),
    Rule(Signal::Override, &[(IGNORE, 0), (ALL_OF, 2), (BEFORE, 5)]),
    Rule(Signal::Conceal, &[(NOT, 0), (TELL, 3), (PERSON, 4)]),
    Rule(Signal::Reveal, &[(SHOW, 0), (OF_SYSTEM, 4), (PROMPT, 2)]),
    Rule(Signal::Exfiltrate, &[(SEND, 0), (SECRET, 6), (TO, 6)]),
    Rule(
        Signal::Persona,
        &[(YOU, 0), (ARE, 1), (NOW, 1), (LAWLESS, 5)],
    ),
    Rule(Signal::Persona, &[(ACT, 0), (WITHOUT, 8), (LIMITS, 2)]),
    Rule(
        Signal::Persona,
        &[(YOU, 0), (ARE, 2), (WITHOUT, 5), (LIMITS, 2)],
    ),
    Rule(Signal::Persona, &[(ODD_MODE, 0), (MODE, 1), (ENABLED, 3)]),
    Rule(Signal::Addressed, &[(NOTE, 0), (MACHINE, 3)]),
    Rule(
        Signal::Addressed,
        &[(IF, 0), (YOU, 1), (ARE, 1), (MACHINE, 3)],
    ),
    Rule(Signal::Tool, &[(YOU, 0), (MUST, 2), (RUN, 3), (TOOL, 5)]),
    Rule(Signal::Tool, &[(MUST, 0), (RUN, 1), (TOOL, 5)]),
];

/// The words, and by the first letter which lengths there are.
struct Known {
    words: HashMap<&'static [u8], Classes>,
    lengths: [u32; 26],
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let (mut words, mut lengths) = (HashMap::new(), [0; 26]);
    for (class, all) in WORDS {
        for word in all.split_whitespace() {
            *words.entry(word.as_bytes()).or_default() |= class;
            let first = word.bytes().next().unwrap_or_default();
            let of = lengths.get_mut(usize::from(first.wrapping_sub(b'a')));
            if let Some(of) = of {
                *of |= 1 << word.len();
            }
        }
    }
    Known { words, lengths }
});

impl Known {
    fn classes(&self, word: &[u8]) -> Classes {
        let first = word.first().copied().unwrap_or_default();
        let lengths = self.lengths.get(usize::from(first.wrapping_sub(b'a')));
        if lengths.is_none_or(|it| it & (1 << word.len()) == 0) {
            return 0;
        }
        self.words.get(word).copied().unwrap_or_default()
    }
}

/// A text that is read.
struct Reader<'f> {
    known: &'static Known,
    told: &'f mut dyn FnMut(Signal),
    word: [u8; LONGEST],
    /// Letters of the word; more than [`LONGEST`] are no word that is known.
    length: usize,
    /// Whether the word is the first of its line.
    first: bool,
    /// How many words there were.
    count: u32,
    /// The word at which each step of each rule was last reached, counted from 1.
    reached: [[u32; STEPS]; RULES.len()],
    /// Characters that nobody sees: in a row, and within words.
    row: u32,
    within: u32,
    /// Tags follow a flag.
    flag: bool,
}

/// Reads a text, and tells what is seen.
pub(super) fn read(text: &str, told: &mut dyn FnMut(Signal)) {
    let mut reader = Reader {
        known: &KNOWN,
        told,
        word: [0; LONGEST],
        length: 0,
        first: true,
        count: 0,
        reached: [[0; STEPS]; RULES.len()],
        row: 0,
        within: 0,
        flag: false,
    };
    let (bytes, mut at) = (text.as_bytes(), 0);
    while let Some(rest) = bytes.get(at..).filter(|it| !it.is_empty()) {
        at += match rest.first() {
            Some(b'\\') => reader.escape(rest),
            Some(byte) if byte.is_ascii() => {
                reader.ascii(*byte, rest);
                1
            }
            _ => {
                let one = text.get(at..).and_then(|it| it.chars().next());
                one.map_or(1, |it| {
                    reader.wide(it);
                    it.len_utf8()
                })
            }
        };
    }
    reader.end(None);
}

impl Reader<'_> {
    fn letter(&mut self, letter: u8) {
        if let Some(place) = self.word.get_mut(self.length) {
            *place = letter;
        }
        self.length += usize::from(self.length <= LONGEST);
    }

    fn ascii(&mut self, byte: u8, rest: &[u8]) {
        self.row = 0;
        if byte.is_ascii_alphanumeric() {
            self.letter(byte.to_ascii_lowercase());
            return;
        }
        self.end(Some(byte));
        match byte {
            b'\n' | b'\r' => self.first = true,
            b'<' | b'[' | b'#' if is_role(rest) => (self.told)(Signal::Role),
            _ => {}
        }
    }

    /// What stands for a character in JSON that stands in JSON. Tells how many bytes it has.
    fn escape(&mut self, rest: &[u8]) -> usize {
        match rest {
            [_, b'n' | b'r' | b't', ..] => {
                self.ascii(b'\n', &[]);
                2
            }
            [_, b'u', digits @ ..] if digits.len() >= 4 => {
                let digits = digits.get(..4).and_then(|it| std::str::from_utf8(it).ok());
                let point = digits.and_then(|it| u32::from_str_radix(it, 16).ok());
                let Some(point) = point else {
                    self.ascii(b'\\', &[]);
                    return 1;
                };
                match (u8::try_from(point), char::from_u32(point)) {
                    (Ok(byte), _) if byte.is_ascii() => self.ascii(byte, &[]),
                    (_, Some(it)) => self.wide(it),
                    (_, None) => self.end(None),
                }
                6
            }
            _ => {
                self.ascii(b'\\', &[]);
                1
            }
        }
    }

    /// A character that is not ASCII.
    fn wide(&mut self, it: char) {
        let Some(unseen) = unseen(it) else {
            self.row = 0;
            self.flag = it == FLAG;
            match folded(it) {
                Some(letter) => self.letter(letter),
                // A letter of a word that is not known.
                None if it.is_alphanumeric() => self.letter(b'?'),
                None => self.end(None),
            }
            return;
        };
        match unseen {
            Unseen::Tag(_) | Unseen::TagEnd if self.flag => {
                self.flag = unseen != Unseen::TagEnd;
            }
            Unseen::Tag(letter) => {
                (self.told)(Signal::Hidden);
                self.ascii(letter, &[]);
            }
            Unseen::TagEnd | Unseen::Turns => (self.told)(Signal::Hidden),
            Unseen::Few => {
                self.row += 1;
                // Where scripts have such characters, the letters before them are none of these.
                let latin = self.length > 0 && self.word.first().is_some_and(|it| *it != b'?');
                self.within += u32::from(latin);
                if self.row >= MANY_IN_A_ROW || self.within >= MANY_IN_WORDS {
                    (self.told)(Signal::Hidden);
                }
            }
            Unseen::Plain => {}
        }
    }

    /// A word has ended.
    fn end(&mut self, next: Option<u8>) {
        let length = std::mem::take(&mut self.length);
        if length == 0 {
            return;
        }
        self.count = self.count.saturating_add(1);
        let first = std::mem::take(&mut self.first);
        let Some(word) = self.word.get(..length) else {
            return;
        };
        let classes = self.known.classes(word);
        if classes == 0 {
            return;
        }
        if first && next == Some(b':') && classes & SPEAKER != 0 {
            (self.told)(Signal::Speaker);
        }
        for (Rule(signal, steps), reached) in RULES.iter().zip(&mut self.reached) {
            // From the last on: a word is one step alone.
            for place in (0..steps.len().min(STEPS)).rev() {
                let Some((class, most)) = steps.get(place) else {
                    continue;
                };
                let before = place.checked_sub(1).and_then(|it| reached.get(it).copied());
                let follows =
                    before.is_none_or(|it| it > 0 && self.count.saturating_sub(it) <= *most);
                if classes & class == 0 || !follows {
                    continue;
                }
                if let Some(one) = reached.get_mut(place) {
                    *one = self.count;
                }
                if place + 1 == steps.len() {
                    (self.told)(*signal);
                }
            }
        }
    }
}
