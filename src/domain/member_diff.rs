//! How an archived event differs from the log's. Routes may leave out and add fields of `data`; nothing else.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{outbound::Form, raw_object::RawObject};

/// How deep `data` is looked into, as deep as it may nest on its way in. Below, values are equal or not.
const MAX_DEPTH: usize = 128;
/// The most changed members that are named; more are counted.
const MAX_NAMED: usize = 8;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberDiff {
    /// Members of `data` that only the log's event has.
    pub left_out: u64,
    /// Members of `data` that only the archived event has, or that the route replaces.
    pub added: u64,
    /// The paths of what is not equal, the first [`MAX_NAMED`] of them.
    pub changed: Vec<String>,
    /// How many more there are.
    pub changed_more: u64,
}

impl MemberDiff {
    /// Compares the log's event with the archived one, `chainhash` and the like already taken off. Whatever `form`
    /// puts in may replace what is in the log.
    ///
    /// # Errors
    /// One of them is not a JSON object.
    pub fn between(log: &[u8], archived: &[u8], form: &Form) -> Result<Self, serde_json::Error> {
        let mut diff = Self::default();
        let (log, archived): (RawObject<'_>, RawObject<'_>) =
            (serde_json::from_slice(log)?, serde_json::from_slice(archived)?);
        for (name, there) in &archived.0 {
            match (log.get(name), name.as_ref()) {
                (Some(here), "data") => diff.data(here, there, form),
                (Some(here), _) if here == there.as_ref() => {}
                _ => diff.change(name),
            }
        }
        let left_out = log.0.iter().filter(|(name, _)| archived.get(name).is_none());
        left_out.for_each(|(name, _)| diff.change(name));
        Ok(diff)
    }

    fn data(&mut self, log: &str, archived: &str, form: &Form) {
        let replaced = |name: &str| form.add.contains_key(name);
        self.value("data", log, archived, MAX_DEPTH, &replaced);
    }

    fn value(
        &mut self,
        path: &str,
        log: &str,
        archived: &str,
        depth: usize,
        replaced: &dyn Fn(&str) -> bool,
    ) {
        if log == archived {
            return;
        }
        let Some(depth) = depth.checked_sub(1) else { return self.change(path) };
        if let (Ok(log), Ok(archived)) = (serde_json::from_str(log), serde_json::from_str(archived)) {
            return self.object(path, &log, &archived, depth, replaced);
        }
        let items: (Result<Vec<&RawValue>, _>, Result<Vec<&RawValue>, _>) =
            (serde_json::from_str(log), serde_json::from_str(archived));
        match items {
            (Ok(log), Ok(archived)) if log.len() == archived.len() => {
                for (index, (log, archived)) in log.iter().zip(archived).enumerate() {
                    self.value(&format!("{path}[{index}]"), log.get(), archived.get(), depth, &|_| false);
                }
            }
            _ => self.change(path),
        }
    }

    fn object(
        &mut self,
        path: &str,
        log: &RawObject<'_>,
        archived: &RawObject<'_>,
        depth: usize,
        replaced: &dyn Fn(&str) -> bool,
    ) {
        if let Some(name) = archived.repeated_name() {
            return self.change(&format!("{path}.{name} (there twice)"));
        }
        let mut log: BTreeMap<&str, &str> =
            log.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        for (name, there) in &archived.0 {
            match log.remove(name.as_ref()) {
                None => self.added += 1,
                Some(here) if here != there.as_ref() && replaced(name) => self.added += 1,
                Some(here) => self.value(&format!("{path}.{name}"), here, there, depth, &|_| false),
            }
        }
        self.left_out += log.len() as u64;
    }

    fn change(&mut self, path: &str) {
        if self.changed.len() < MAX_NAMED {
            self.changed.push(path.to_owned());
        } else {
            self.changed_more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn diff(log: &str, archived: &str, form: &Form) -> (u64, u64, Vec<String>) {
        let MemberDiff { left_out, added, changed, .. } =
            MemberDiff::between(log.as_bytes(), archived.as_bytes(), form).unwrap();
        (left_out, added, changed)
    }

    #[test]
    fn only_data_may_lack_and_gain_members() {
        let log = r#"{"id":"a","time":"t","data":{"by":"k","n":1.0,"cards":[{"holder_name":"Ada","v":1}]}}"#;
        let plain = Form::default();
        let compare = |archived| diff(log, archived, &plain);
        let none = Vec::<String>::new;
        assert_eq!(compare(log), (0, 0, none()));
        assert_eq!(compare(r#"{"time":"t","id":"a","data":{"cards":[{"v":1}],"site":"x"}}"#), (3, 1, none()));
        let (_, _, changed) = compare(r#"{"id":"b","data":{"n":1.00,"cards":[{"v":2}]},"x":1}"#);
        assert_eq!(changed, ["id", "data.n", "data.cards[0].v", "x", "time"]);
        let (_, _, changed) = compare(r#"{"id":"a","time":"t","data":{"n":1.0,"n":2,"cards":[]}}"#);
        assert_eq!(changed, ["data.n (there twice)"]);
        assert_eq!(compare(r#"{"id":"a","time":"t","data":{"cards":[]}}"#).2, ["data.cards"]);
    }

    #[test]
    fn what_a_route_puts_in_may_replace() {
        let form = Form { add: json!({ "n": 2 }).as_object().unwrap().clone(), ..Form::default() };
        let (log, archived) = (r#"{"data":{"n":1}}"#, r#"{"data":{"n":2}}"#);
        assert_eq!(diff(log, archived, &form), (0, 1, vec![]));
        assert_eq!(diff(log, archived, &Form::default()).2, ["data.n"]);
    }

    #[test]
    fn many_changes_are_counted() {
        let object = |value: u32| {
            let members: Vec<_> = (0..20).map(|number| format!("\"m{number}\":{value}")).collect();
            format!("{{\"data\":{{{}}}}}", members.join(","))
        };
        let found =
            MemberDiff::between(object(1).as_bytes(), object(2).as_bytes(), &Form::default()).unwrap();
        assert_eq!((found.changed.len(), found.changed_more), (MAX_NAMED, 20 - MAX_NAMED as u64));
    }
}
