//! Groups: cases by hand, then random rules against a model that looks at each rule by itself.

use jiff::civil::{Weekday, date};
use proptest::prelude::*;

use super::*;
use crate::domain::schedule::{Days, TimeOfDay, Window};

fn gate(number: u8) -> GateId {
    GateId::parse(["north", "south", "vault"][usize::from(number)]).unwrap()
}

fn group(number: u8) -> GroupId {
    GroupId::parse(&format!("g{number}")).unwrap()
}

/// Every day from one hour to the next.
fn hour(from: u8) -> Arc<Schedule> {
    let time = |hour| TimeOfDay::parse(&format!("{hour:02}:00")).unwrap();
    let days = (1..=7).map(|day| Weekday::from_monday_one_offset(day).unwrap());
    let days = days.fold(Days::default(), Days::with);
    Arc::new(Schedule::new(vec![Window::new(days, time(from), time(from + 1)).unwrap()], vec![]))
}

fn rule(gates: Gates, schedule: Option<Arc<Schedule>>) -> GateRule {
    GateRule { gates, schedule }
}

fn these(gates: impl IntoIterator<Item = u8>) -> Gates {
    Gates::These(gates.into_iter().map(gate).collect())
}

fn now(hour: i8) -> Timestamp {
    let local = date(2026, 11, 20).at(hour, 30, 0, 0).to_zoned(TimeZone::UTC).unwrap();
    Timestamp::from_millis(local.timestamp().as_millisecond())
}

#[test]
fn reasons_say_whether_another_time_would_do() {
    let staff = Group { allow: vec![rule(Gates::All, Some(hour(9)))], deny: vec![rule(these([2]), None)] };
    let cleaners = Group { allow: vec![rule(these([1, 2]), Some(hour(20)))], deny: vec![] };
    let groups = Groups::new(TimeZone::UTC, [(group(0), staff), (group(1), cleaners)].into());
    let refusal = |named: &[u8], at, hour| {
        groups.refusal(&named.iter().map(|number| group(*number)).collect::<Vec<_>>(), &gate(at), now(hour))
    };
    let (not_here, not_now) = (Some(Reason::GateNotAllowed), Some(Reason::OutOfSchedule));
    assert_eq!((refusal(&[0], 0, 9), refusal(&[0], 0, 10)), (None, not_now));
    assert_eq!(refusal(&[1], 0, 20), not_here, "no rule names the north gate");
    assert_eq!((refusal(&[1], 2, 20), refusal(&[1], 2, 9)), (None, not_now));
    assert_eq!(refusal(&[1, 0], 2, 20), not_here, "the other group's deny wins");
    assert_eq!(refusal(&[0, 1], 1, 20), None, "any group's allow is enough");
    assert_eq!((refusal(&[], 0, 9), refusal(&[7], 0, 9)), (not_here, not_here));
    assert_eq!(refusal(&[7, 0], 0, 9), None, "a group that is not here takes nothing away");
}

#[test]
fn the_building_s_clock_counts() {
    let allow = vec![rule(Gates::All, Some(hour(9)))];
    let groups = |zone: &str| {
        let group_of_all = Group { allow: allow.clone(), deny: vec![] };
        Groups::new(TimeZone::get(zone).unwrap(), [(group(0), group_of_all)].into())
    };
    let opens = |zone, hour| groups(zone).refusal(&[group(0)], &gate(0), now(hour)).is_none();
    assert!(opens("Europe/Berlin", 8) && !opens("Europe/Berlin", 9));
    assert!(opens("America/New_York", 14) && !opens("America/New_York", 9));
}

/// A rule as it is written: gates (`None`: all), and the hour it holds in.
type Plain = (Option<Vec<u8>>, Option<u8>);
/// `allow` and `deny`.
type PlainGroup = (Vec<Plain>, Vec<Plain>);

fn plain_rules() -> impl Strategy<Value = Vec<Plain>> {
    let gates = prop::option::of(prop::sample::subsequence(vec![0, 1, 2_u8], 1..3));
    prop::collection::vec((gates, prop::option::of(8..11_u8)), 0..3)
}

fn plain_groups() -> impl Strategy<Value = Vec<PlainGroup>> {
    let deny = prop_oneof![2 => Just(vec![]), 1 => plain_rules()];
    prop::collection::vec((plain_rules(), deny), 0..4)
}

fn built(plain: &[PlainGroup]) -> Groups {
    let rules = |rules: &[Plain]| {
        let gates = |gates: &Option<Vec<u8>>| gates.clone().map_or(Gates::All, these);
        rules.iter().map(|(named, at)| rule(gates(named), at.map(hour))).collect()
    };
    let groups = plain.iter().enumerate().map(|(number, (allow, deny))| {
        (group(number.try_into().unwrap()), Group { allow: rules(allow), deny: rules(deny) })
    });
    Groups::new(TimeZone::UTC, groups.collect())
}

fn model(plain: &[PlainGroup], named: &[u8], at: u8, hour: u8) -> Option<Reason> {
    let is_of_gate = |(gates, _): &&Plain| gates.as_ref().is_none_or(|gates| gates.contains(&at));
    let is_now = |(_, when): &&Plain| when.is_none_or(|when| when == hour);
    let of = |deny: bool| -> Vec<Plain> {
        let groups = named.iter().filter_map(|number| plain.get(usize::from(*number)));
        groups.flat_map(|group| if deny { group.1.clone() } else { group.0.clone() }).collect()
    };
    let (allow, deny) = (of(false), of(true));
    let allow: Vec<_> = allow.iter().filter(is_of_gate).collect();
    if deny.iter().any(|rule| is_of_gate(&rule) && is_now(&rule)) || allow.is_empty() {
        Some(Reason::GateNotAllowed)
    } else if allow.iter().any(is_now) {
        None
    } else {
        Some(Reason::OutOfSchedule)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn agrees_with_the_model(
        plain in plain_groups(),
        named in prop::collection::vec(0..5_u8, 0..4),
        at in 0..3_u8,
        at_hour in 8..11_u8,
    ) {
        let groups = built(&plain);
        let ids: Vec<_> = named.iter().map(|number| group(*number)).collect();
        let found = groups.refusal(&ids, &gate(at), now(at_hour.cast_signed()));
        prop_assert_eq!(found, model(&plain, &named, at, at_hour));
    }

    /// One more group without `deny` closes no gate, one more `deny` opens none.
    #[test]
    fn is_monotone(
        plain in plain_groups(),
        more in plain_rules(),
        at in 0..3_u8,
        at_hour in 8..11_u8,
    ) {
        let opens = |plain: &[PlainGroup], named: &[u8]| {
            let ids: Vec<_> = named.iter().map(|number| group(*number)).collect();
            built(plain).refusal(&ids, &gate(at), now(at_hour.cast_signed())).is_none()
        };
        let named: Vec<u8> = (0..plain.len().try_into().unwrap()).collect();
        let with_one_more: Vec<u8> = (0..=plain.len().try_into().unwrap()).collect();
        let allowing = [plain.clone(), vec![(more.clone(), vec![])]].concat();
        prop_assert!(!opens(&plain, &named) || opens(&allowing, &with_one_more));
        let denying = [plain.clone(), vec![(vec![], more)]].concat();
        prop_assert!(opens(&plain, &named) || !opens(&denying, &with_one_more));
    }
}
