//! Did you mean …?

/// Names that are less alike than this are no help.
const ALIKE: f64 = 0.8;

/// The candidate that is most like a name, if one is like it at all.
#[must_use]
pub fn similar<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn the_closest_that_is_close() {
        let names = ["replicas", "resources", "restart"];
        assert_eq!(similar("replica", names), Some("replicas"));
        assert_eq!(similar("resource", names), Some("resources"));
        assert_eq!(similar("zzz", names), None);
    }
}
