//! Which sinks an event goes to, and in which form.

use std::{collections::HashMap, sync::Arc};

use super::{event_types::EVENT_TYPES, outbound::Form, pattern::Pattern};

/// One `[[routes]]` entry: events of these types go to these sinks in this form.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The route's name, for people.
    pub name: String,
    /// An event takes the route if any of these matches its type.
    pub types: Vec<Pattern>,
    /// Sinks by name. Empty: these types go nowhere by this route, on purpose.
    pub to: Vec<Arc<str>>,
    /// What the route changes in the event on the way out.
    pub form: Arc<Form>,
}

impl Route {
    /// Whether events of this type take the route.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.types.iter().any(|pattern| pattern.matches(event_type))
    }
}

/// One sink that gets an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The form this sink gets the event in.
    pub form: Arc<Form>,
}

/// All routes, in the order of the file.
///
/// Every matching route adds its sinks. A sink gets an event once: **the first route that leads an event to
/// a sink decides its form**; later routes to the same sink change nothing. A route without sinks blocks
/// nothing, it only says that its types may go nowhere.
///
/// The answer for every type of [`EVENT_TYPES`] is computed once, here, so that the table is immutable,
/// shared without a lock and of bounded size; other types are matched when they come.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTable {
    routes: Vec<Route>,
    known: HashMap<&'static str, Arc<[Destination]>>,
}

impl RouteTable {
    /// Computes the table.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let known = EVENT_TYPES.iter().map(|name| (*name, destinations(&routes, name))).collect();
        Self { routes, known }
    }

    /// Where an event of this type goes: each sink once, in the order the routes name them.
    #[must_use]
    pub fn sinks_for(&self, event_type: &str) -> Arc<[Destination]> {
        match self.known.get(event_type) {
            Some(found) => Arc::clone(found),
            None => destinations(&self.routes, event_type),
        }
    }

    /// The form in which a sink gets events of this type; `None` if it does not get them.
    #[must_use]
    pub fn form_for(&self, event_type: &str, sink: &str) -> Option<Arc<Form>> {
        let destinations = self.sinks_for(event_type);
        destinations.iter().find(|found| *found.sink == *sink).map(|found| Arc::clone(&found.form))
    }

    /// Every route that events of this type take, also where an earlier one decides their form.
    pub fn taken_by(&self, event_type: &str) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |route| route.matches(event_type))
    }

    /// Whether both tables lead the same events to a sink, in the same form.
    #[must_use]
    pub fn leads_alike(&self, other: &Self, sink: &str) -> bool {
        fn to<'a>(table: &'a RouteTable, sink: &str) -> impl Iterator<Item = (&'a [Pattern], &'a Form)> {
            let leads = move |route: &&Route| route.to.iter().any(|to| **to == *sink);
            table.routes.iter().filter(leads).map(|route| (route.types.as_slice(), &*route.form))
        }
        to(self, sink).eq(to(other, sink))
    }

    /// The routes, in the order of the file.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

fn destinations(routes: &[Route], event_type: &str) -> Arc<[Destination]> {
    let mut found: Vec<Destination> = Vec::new();
    for route in routes.iter().filter(|route| route.matches(event_type)) {
        for sink in &route.to {
            if !found.iter().any(|earlier| earlier.sink == *sink) {
                found.push(Destination { sink: Arc::clone(sink), form: Arc::clone(&route.form) });
            }
        }
    }
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(name: &str, types: &[&str], to: &[&str], personal: bool) -> Route {
        Route {
            name: name.into(),
            types: types.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            to: to.iter().map(|sink| Arc::from(*sink)).collect(),
            form: Arc::new(Form { personal, ..Form::default() }),
        }
    }

    fn names(table: &RouteTable, event_type: &str) -> Vec<String> {
        table.sinks_for(event_type).iter().map(|found| found.sink.to_string()).collect()
    }

    #[test]
    fn every_matching_route_adds_its_sinks_and_the_first_decides_the_form() {
        let table = RouteTable::new(vec![
            route("cards", &["card.*"], &["hr", "archive"], true),
            route("exits", &["access.exit.*"], &["exits"], false),
            route("everything", &["**"], &["archive"], false),
        ]);
        assert_eq!(names(&table, "card.lost"), ["hr", "archive"]);
        assert_eq!(names(&table, "access.exit.recorded"), ["exits", "archive"]);
        assert_eq!(names(&table, "device.vending.sale"), ["archive"]);
        assert!(table.form_for("card.lost", "archive").unwrap().personal);
        assert!(!table.form_for("audit.read", "archive").unwrap().personal);
        assert_eq!(table.form_for("audit.read", "hr"), None);
    }

    #[test]
    fn a_route_to_nowhere_blocks_nothing() {
        let table = RouteTable::new(vec![
            route("none", &["**"], &[], false),
            route("all", &["card.*"], &["a"], false),
        ]);
        assert_eq!(names(&table, "card.lost"), ["a"]);
        let taken: Vec<&str> = table.taken_by("card.lost").map(|route| route.name.as_str()).collect();
        assert_eq!(taken, ["none", "all"]);
        assert!(names(&table, "audit.read").is_empty());
    }

    #[test]
    fn tables_that_differ_elsewhere_lead_alike() {
        let cards = || route("cards", &["card.*"], &["hr", "archive"], true);
        let all = |to: &[&str]| route("all", &["**"], to, false);
        let before = RouteTable::new(vec![cards(), all(&["archive"])]);
        let renamed = Route { name: "x".into(), ..cards() };
        let after = RouteTable::new(vec![renamed, all(&["archive", "new"])]);
        assert!(before.leads_alike(&after, "hr") && before.leads_alike(&after, "archive"));
        assert!(!before.leads_alike(&after, "new"));
        let other_order = RouteTable::new(vec![all(&["archive"]), cards()]);
        assert!(before.leads_alike(&other_order, "hr"));
        assert!(!before.leads_alike(&other_order, "archive"), "the first decides the form");
    }

    proptest! {
        #[test]
        fn what_is_precomputed_equals_what_is_matched(
            chosen in proptest::collection::vec(
                (proptest::collection::vec("card|access|entry|\\*|\\*\\*|lost", 1..4), proptest::collection::vec("[abc]", 0..3)),
                0..6,
            ),
            index in 0..EVENT_TYPES.len(),
        ) {
            let routes: Vec<Route> = chosen
                .iter()
                .map(|(words, to)| {
                    let to: Vec<&str> = to.iter().map(String::as_str).collect();
                    route("r", &[&words.join(".")], &to, false)
                })
                .collect();
            let event_type = EVENT_TYPES[index];
            let table = RouteTable::new(routes.clone());
            prop_assert_eq!(table.sinks_for(event_type), destinations(&routes, event_type));
            for sink in ["a", "b", "c"] {
                let expected = routes.iter().any(|r| r.matches(event_type) && r.to.iter().any(|to| **to == *sink));
                prop_assert_eq!(names(&table, event_type).iter().filter(|name| *name == sink).count(), usize::from(expected));
            }
        }
    }
}
