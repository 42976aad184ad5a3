//! How far somebody was told of a run, and what they are told next: no I/O.

use skep_protocols::EventId;
use skep_protocols::a2a::StreamResponse;
use skep_runs::Place;

/// Goes through a run from its beginning, and knows what was told already.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    /// It has come to what was told last: all that follows is new.
    fresh: bool,
    /// Which event it is at, and how much of what that says it has seen.
    at: Option<(EventId, u32)>,
}

/// What is told, and how far somebody is with it.
pub(super) type Next = (StreamResponse, Place);

impl Reader {
    pub(super) const fn new(place: Place) -> Self {
        Self {
            place,
            fresh: place.attempt == 0,
            at: None,
        }
    }

    /// Where whoever is told nothing of what stands before the first event gets the task as it is then.
    pub(super) fn begin(&mut self, task: StreamResponse) -> Option<Next> {
        if self.place.attempt > 0 || self.place.told > 0 {
            return None;
        }
        self.place.told = 1;
        Some((task, self.place))
    }

    /// Whether what was told of an attempt does not count any more, and an event is of another: then the task as it is before it
    /// is told first.
    pub(super) fn is_other(&self, id: Option<EventId>) -> bool {
        !self.fresh && id.is_some_and(|it| it.attempt != self.place.attempt)
    }

    /// What is told of an event that is not the last one of its run.
    pub(super) fn take(
        &mut self,
        id: Option<EventId>,
        whole: Option<StreamResponse>,
        says: Vec<StreamResponse>,
    ) -> Vec<Next> {
        let Some(id) = id else {
            // What takes back an attempt that was cut is not recorded.
            let next = says.into_iter().filter(|_| self.fresh);
            return next.map(|it| (it, self.place)).collect();
        };
        let mut next = Vec::new();
        if let Some(whole) = whole {
            self.fresh = true;
            next.push((whole, self.place));
        }
        let was = EventId {
            attempt: self.place.attempt,
            index: self.place.index,
        };
        if !self.fresh && id < was {
            return next;
        }
        let mut seen = match self.at {
            Some((at, seen)) if at == id => seen,
            _ => 0,
        };
        for one in says {
            seen += 1;
            if !self.fresh && id == was && seen <= self.place.told {
                continue;
            }
            self.fresh = true;
            (self.place.attempt, self.place.index) = (id.attempt, id.index);
            self.place.told = seen;
            next.push((one, self.place));
        }
        self.at = Some((id, seen));
        self.fresh |= id > was;
        next
    }

    /// What is told of the end. Where nothing of the run is left that was told before, that is the whole task.
    pub(super) fn end(&mut self, whole: StreamResponse, says: Vec<StreamResponse>) -> Vec<Next> {
        let is_known = self.fresh || self.at.is_some();
        let says = if is_known { says } else { vec![whole] };
        let mut next: Vec<Next> = says.into_iter().map(|it| (it, self.place)).collect();
        self.place.ended = true;
        if let Some((_, place)) = next.last_mut() {
            place.ended = true;
        }
        next
    }

    /// How far it is.
    pub(super) const fn place(&self) -> Place {
        self.place
    }
}

#[cfg(test)]
mod tests {
    use skep_core::RunId;
    use skep_protocols::a2a::{Artifact, ArtifactUpdate, Part};

    use super::*;

    fn says(text: &str) -> StreamResponse {
        StreamResponse::ArtifactUpdate(ArtifactUpdate {
            task_id: "t".to_owned(),
            context_id: "c".to_owned(),
            artifact: Artifact::new("a", vec![Part::text(text)]),
            append: false,
            last_chunk: false,
            metadata: None,
        })
    }

    const fn id(attempt: u32, index: u64) -> EventId {
        EventId { attempt, index }
    }

    fn text(next: &StreamResponse) -> String {
        match next {
            StreamResponse::ArtifactUpdate(it) => it.artifact.parts[0]
                .as_text()
                .unwrap_or_default()
                .to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// What one attempt of a run says: its second event says two things.
    const RUN: [(u64, &str); 5] = [(1, "a"), (2, "b"), (2, "c"), (4, "d"), (7, "e")];

    /// Tells a run from a place on, as an attempt says it.
    fn tell(place: Place, attempt: u32) -> Vec<(String, Place)> {
        let mut reader = Reader::new(place);
        let mut all: Vec<Next> = reader.begin(says("task")).into_iter().collect();
        for (index, said) in RUN {
            let id = Some(id(attempt, index));
            let whole = reader.is_other(id).then(|| says("whole"));
            all.extend(reader.take(id, whole, vec![says(said)]));
        }
        all.extend(reader.end(says("kept"), vec![says("end")]));
        all.iter().map(|(it, place)| (text(it), *place)).collect()
    }

    #[test]
    fn who_is_cut_off_anywhere_is_told_the_rest_and_nothing_twice() {
        let begin = Place::before(RunId::new(), 0);
        let whole = tell(begin, 1);
        let texts = |all: &[(String, Place)]| -> Vec<String> {
            all.iter().map(|(text, _)| text.clone()).collect()
        };
        assert_eq!(texts(&whole), ["task", "a", "b", "c", "d", "e", "end"]);
        for at in 0..whole.len() - 1 {
            let rest = tell(whole[at].1, 1);
            assert_eq!(texts(&rest), texts(&whole[at + 1..]), "after {at}");
        }
        assert!(whole.last().is_some_and(|(_, place)| place.ended));
    }

    #[test]
    fn what_another_attempt_says_comes_after_the_whole_task() {
        let begin = Place::before(RunId::new(), 0);
        let told = tell(begin, 1)[3].1;
        let again: Vec<String> = tell(told, 2).into_iter().map(|(text, _)| text).collect();
        assert_eq!(again, ["whole", "a", "b", "c", "d", "e", "end"]);
        // Who was told nothing of it needs no whole one.
        let fresh = tell(Place::before(RunId::new(), 1), 2);
        assert_eq!(fresh[0].0, "a");
    }

    #[test]
    fn what_takes_back_an_attempt_is_told_to_who_was_told_of_it_just_now() {
        let mut reader = Reader::new(Place::before(RunId::new(), 1));
        assert_eq!(reader.take(Some(id(1, 1)), None, vec![says("a")]).len(), 1);
        assert_eq!(reader.take(None, None, vec![says("gone")]).len(), 1);
        assert!(!reader.is_other(Some(id(2, 1))));
        let next = reader.take(Some(id(2, 1)), None, vec![says("b")]);
        assert_eq!((next.len(), next[0].1.attempt), (1, 2));
        let mut later = Reader::new(next[0].1);
        assert!(later.take(None, None, vec![says("gone")]).is_empty());
    }

    #[test]
    fn a_run_of_which_only_the_end_is_kept_is_told_as_a_whole() {
        let place = Place {
            attempt: 1,
            index: 2,
            ..Place::before(RunId::new(), 1)
        };
        let mut reader = Reader::new(place);
        let next = reader.end(says("kept"), vec![says("end")]);
        assert_eq!((text(&next[0].0).as_str(), next.len()), ("kept", 1));
        assert!(reader.place().ended);
    }
}
