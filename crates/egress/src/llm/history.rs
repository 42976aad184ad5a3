//! Where something was before: what rolling back goes back to. No I/O.

/// A place that something has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step<T> {
    /// Its number, from 1 on.
    pub(super) nth: u64,
    /// The step that this one went back to.
    pub(super) back: Option<u64>,
    /// How it is there; nothing when it was taken away.
    pub(super) what: Option<T>,
}

/// The step to go back to: the one before where it is now. What was gone back to counts as that, so that going back again
/// goes further.
pub(super) fn before<T: PartialEq>(all: &[Step<T>]) -> Option<&Step<T>> {
    let now = all.iter().max_by_key(|it| it.nth)?;
    let origin = now.back.unwrap_or(now.nth);
    let could = |it: &&Step<T>| {
        it.nth < origin && it.back.is_none() && it.what.is_some() && it.what != now.what
    };
    all.iter().filter(could).max_by_key(|it| it.nth)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(nth: u64, back: Option<u64>, what: u64) -> Step<u64> {
        let what = Some(what);
        Step { nth, back, what }
    }

    #[test]
    fn it_goes_back_to_where_it_was_and_further() {
        let number = |all: &[Step<u64>]| before(all).map(|it| it.nth);
        assert_eq!(number(&[]), None);
        let mut all = vec![step(1, None, 1)];
        assert_eq!(number(&all), None);
        all.extend([step(2, None, 2), step(3, None, 3)]);
        assert_eq!(number(&all), Some(2));
        all.push(step(4, Some(2), 2));
        assert_eq!(number(&all), Some(1));
        all.push(step(5, Some(1), 1));
        assert_eq!(number(&all), None);
        // From a place that was taken anew, the one before that.
        all.push(step(6, None, 7));
        assert_eq!(number(&all), Some(3));
        // How it is now it does not go back to, nor to nothing.
        all.push(step(7, None, 7));
        let (nth, back) = (8, None);
        let gone = Step {
            nth,
            back,
            what: None,
        };
        all.push(gone);
        assert_eq!(number(&all), Some(7));
        all.push(step(9, None, 9));
        assert_eq!(number(&all), Some(7));
    }

    proptest! {
        /// However it is moved and gone back: a way back leads to a place where it was, and going back ends.
        #[test]
        fn going_back_ends(places in prop::collection::vec(prop::option::of(1_u64..4), 1..20)) {
            let mut all: Vec<Step<u64>> = Vec::new();
            let nth = |all: &[Step<u64>]| all.len() as u64 + 1;
            for place in places {
                let next = match place {
                    Some(what) => step(nth(&all), None, what),
                    None => match before(&all) {
                        Some(it) => step(nth(&all), Some(it.nth), it.what.unwrap()),
                        None => continue,
                    },
                };
                all.push(next);
            }
            let mut steps = 0;
            while let Some(it) = before(&all) {
                prop_assert!(it.back.is_none() && it.nth < nth(&all));
                let next = step(nth(&all), Some(it.nth), it.what.unwrap());
                all.push(next);
                steps += 1;
                prop_assert!(steps <= 20);
            }
        }
    }
}
