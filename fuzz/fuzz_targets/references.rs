//! References to secrets in variables: what is named can be named again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let env = BTreeMap::from([("NAME".to_owned(), text)]);
    let Ok(named) = skep_runtime::named(&env) else {
        return;
    };
    for one in named {
        let kind = match one.how {
            skep_runtime::Use::Placeholder => "secret",
            skep_runtime::Use::File => "secret-file",
        };
        let field = one.field.as_ref().map_or(String::new(), |it| format!("#{it}"));
        let again = format!("${{{kind}:{}{field}}}", one.name);
        let env = BTreeMap::from([("AGAIN".to_owned(), again)]);
        let again = skep_runtime::named(&env).expect("it was one before");
        assert!(again.len() == 1 && again.contains(&one));
    }
});
