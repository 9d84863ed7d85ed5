//! Modes and rosters: a table of cards, unit cases, and random histories against a naive reading of the log.

use std::collections::BTreeMap;

use super::*;
use crate::domain::{
    building::{
        modes::AccountRefusal,
        muster::{LineState, RosterLine},
    },
    event::GateDecision,
    mode::{Mode, RosterMark},
};

impl Site {
    fn put_in(&mut self, mode: Mode) -> bool {
        let here = RosterMark {
            log: LogName { server: "hq-1".to_owned(), epoch: 1 },
            sequence: self.log.len() as u64 + 1,
            taken_at: Timestamp::from_millis(self.now),
        };
        let body = self.building.decide_mode(mode, "a drill".to_owned(), here);
        body.map(|body| self.record(body)).is_some()
    }

    fn account(&mut self, employee: &str) -> Result<bool, AccountRefusal> {
        let body = self.building.decide_account(&employee_id(employee), Some("at the tree".to_owned()))?;
        Ok(body.map(|body| self.record(body)).is_some())
    }

    fn put(&mut self, card: &str, details: CardDetails) {
        self.command(card, CardCommand::Put { details, expected: None });
    }

    fn line(&self, employee: &str) -> Option<RosterLine> {
        self.building.mode().muster.as_ref()?.find(&employee_id(employee)).cloned()
    }

    fn state(&self, employee: &str) -> Option<LineState> {
        self.line(employee).map(|line| line.state())
    }

    fn is_inside(&self, employee: &str) -> bool {
        self.building.find(&employee_id(employee)).is_some()
    }
}

fn employee_id(id: &str) -> EmployeeId {
    EmployeeId::parse(id).unwrap()
}

fn responder(employee: &str) -> CardDetails {
    CardDetails { responder: true, ..details(employee) }
}

#[test]
fn each_kind_of_card_in_each_mode() {
    use Reason::{Evacuation, Expired, GateNotAllowed, Lockdown, Lost, NotYetValid, Suspended, UnknownCard};
    let (past, future) = (Timestamp::from_millis(1), Timestamp::from_millis(i64::MAX));
    let both = |make: &dyn Fn(CardDetails) -> CardDetails| [make(details("E1")), make(responder("E1"))];
    let [expired, expired_responder] = both(&|card| CardDetails { valid_until: Some(past), ..card });
    let [early, early_responder] = both(&|card| CardDetails { valid_from: Some(future), ..card });
    let [nowhere, nowhere_responder] = both(&|card| CardDetails { gates: Some([].into()), ..card });
    // the card, what was done to it, and its answer in normal, lockdown, evacuation
    let table = [
        (None, None, [Some(UnknownCard); 3]),
        (Some(details("E1")), None, [None, Some(Lockdown), Some(Evacuation)]),
        (Some(responder("E1")), None, [None; 3]),
        (Some(details("E1")), Some(CardCommand::Suspend), [Some(Suspended); 3]),
        (Some(responder("E1")), Some(CardCommand::Suspend), [Some(Suspended); 3]),
        (Some(responder("E1")), Some(CardCommand::ReportLost), [Some(Lost); 3]),
        (Some(responder("E1")), Some(CardCommand::Revoke), [Some(Reason::Revoked); 3]),
        (Some(expired), None, [Some(Expired); 3]),
        (Some(expired_responder), None, [Some(Expired); 3]),
        (Some(early), None, [Some(NotYetValid); 3]),
        (Some(early_responder), None, [Some(NotYetValid); 3]),
        (Some(nowhere), None, [Some(GateNotAllowed), Some(Lockdown), Some(Evacuation)]),
        (Some(nowhere_responder), None, [Some(GateNotAllowed); 3]),
    ];
    for (number, (card, command, answers)) in table.into_iter().enumerate() {
        for (mode, answer) in Mode::ALL.into_iter().zip(answers) {
            let mut site = Site::new(rules(AntiPassback::Hard));
            card.iter().for_each(|details| site.put("C1", details.clone()));
            command.iter().for_each(|command| site.command("C1", command.clone()));
            assert_eq!(site.put_in(mode), mode != Mode::Normal);
            assert_eq!(site.enter("C1"), answer.map_or(GRANTED, Decision::Denied), "line {number}, {mode:?}");
        }
    }
}

#[test]
fn the_same_mode_again_changes_nothing() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    assert!(!site.put_in(Mode::Normal));
    assert!(site.put_in(Mode::Evacuation) && !site.put_in(Mode::Evacuation));
    assert_eq!(site.log.len(), 1);
}

#[test]
fn an_evacuation_takes_everyone_inside_and_normal_takes_them_out() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    for number in 1..=4 {
        site.register(&format!("C{number}"), &format!("E{number}"));
    }
    site.put("C9", responder("E9"));
    for card in ["C1", "C2", "C3"] {
        assert_eq!(site.enter(card), GRANTED);
    }
    assert_eq!(site.account("E1"), Err(AccountRefusal::NoRoster));
    site.command("C3", CardCommand::Revoke);
    site.put_in(Mode::Evacuation);
    assert_eq!(site.building.mode().muster.as_ref().unwrap().missing(), 3);
    assert_eq!(site.enter("C4"), Decision::Denied(Reason::Evacuation));
    assert_eq!(site.enter("C9"), GRANTED);
    assert_eq!(site.leave("C1"), None, "exits flow");
    assert_eq!(site.leave("C4"), Some(Anomaly::NotInside));
    assert_eq!((site.account("E3"), site.account("E3")), (Ok(true), Ok(false)));
    assert_eq!(site.account("E4"), Err(AccountRefusal::NotOnRoster(employee_id("E4"))));
    let states = ["E1", "E2", "E3", "E4", "E9"].map(|employee| site.state(employee));
    assert_eq!(
        states,
        [Some(LineState::Left), Some(LineState::Missing), Some(LineState::Accounted), None, None]
    );
    assert!(site.is_inside("E3"), "accounting for someone does not change presence");
    assert_eq!(site.line("E1").unwrap().left.unwrap().gate, gate("north"));
    assert_eq!(site.line("E3").unwrap().accounted.unwrap().by, "device/test");
    // through a lockdown and an evacuation again it is the same roster
    site.put_in(Mode::Lockdown);
    assert_eq!(site.leave("C2"), None);
    site.put_in(Mode::Evacuation);
    assert_eq!(site.state("E2"), Some(LineState::Left));
    assert_eq!(site.state("E9"), None, "E9 came in since");
    site.put_in(Mode::Normal);
    let inside: Vec<_> = site.building.inside().map(|(employee, _)| employee.as_str()).collect();
    assert_eq!(inside, ["E9"], "who came in since the roster stays");
    assert_eq!(site.building.mode().muster, None);
    assert_eq!(site.enter("C1"), GRANTED);
}

#[test]
fn a_lockdown_alone_takes_no_roster_and_takes_nobody_out() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.enter("C1");
    site.put_in(Mode::Lockdown);
    assert_eq!(site.building.mode().muster, None);
    site.put_in(Mode::Normal);
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::AntiPassback));
}

#[test]
fn a_responder_enters_inside_or_not_and_full_or_not_unless_the_mode_is_normal() {
    let mut site = Site::new(Rules { max_occupancy: Some(1), ..rules(AntiPassback::Hard) });
    site.put("C1", responder("E1"));
    site.put("C2", responder("E2"));
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::AntiPassback));
    site.put_in(Mode::Lockdown);
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C2"), GRANTED);
    site.put_in(Mode::Normal);
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::AntiPassback), "as everyone");
    site.put_in(Mode::Evacuation);
    assert_eq!((site.enter("C1"), site.enter("C2")), (GRANTED, GRANTED));
    site.put_in(Mode::Lockdown);
    assert_eq!(site.enter("C1"), GRANTED, "it does not while there is a roster");
    assert_eq!(site.state("E1"), Some(LineState::Missing));
    site.put_in(Mode::Normal);
    assert!(site.is_inside("E1") && site.is_inside("E2"), "both have entered since");
}

#[test]
fn who_enters_again_is_missing_again() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.put("C1", responder("E1"));
    site.enter("C1");
    site.put_in(Mode::Evacuation);
    site.leave("C1");
    site.account("E1").unwrap();
    assert_eq!(site.building.mode().muster.as_ref().unwrap().missing(), 0);
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.state("E1"), Some(LineState::Missing));
    assert_eq!(site.building.mode().muster.as_ref().unwrap().missing(), 1);
    site.leave("C1");
    assert_eq!(site.state("E1"), Some(LineState::Left));
}

#[test]
fn a_presence_that_times_out_leaves_its_line_missing() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.enter("C1");
    site.put_in(Mode::Evacuation);
    site.now += 17 * 3_600_000;
    let over = site.building.expire(Timestamp::from_millis(site.now), 10);
    over.into_iter().for_each(|body| site.record(body));
    assert!(!site.is_inside("E1"));
    assert_eq!(site.state("E1"), Some(LineState::Missing));
    assert_eq!(site.leave("C1"), Some(Anomaly::NotInside));
    assert_eq!(site.state("E1"), Some(LineState::Left), "and the exit still counts");
}

#[test]
fn a_gates_later_word_makes_nobody_enter_again() {
    for (outcome, state) in [(Outcome::Entered, LineState::Missing), (Outcome::NoEntry, LineState::Left)] {
        let mut site = Site::new(all_rules(AntiPassback::Hard));
        site.register("C1", "E1");
        site.enter("C1");
        let granted = site.log.last().unwrap().id;
        site.put_in(Mode::Evacuation);
        site.say(granted, outcome).unwrap();
        assert_eq!(site.state("E1"), Some(state));
        assert_eq!(site.is_inside("E1"), outcome == Outcome::Entered);
        site.put_in(Mode::Normal);
        assert!(!site.is_inside("E1"), "confirmed since, but come in before");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Step(Step),
    Mode(u8),
    Account(u8),
    Responder { card: u8, employee: u8 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => step().prop_map(Act::Step),
        2 => (0..3_u8).prop_map(Act::Mode),
        2 => (0..4_u8).prop_map(Act::Account),
        1 => (0..6_u8, 0..4_u8).prop_map(|(card, employee)| Act::Responder { card, employee }),
    ]
}

fn perform(site: &mut Site, act: &Act) {
    match act {
        Act::Step(step) => drop(run(site, step)),
        Act::Mode(mode) => drop(site.put_in(Mode::ALL[usize::from(*mode)])),
        Act::Account(employee) => drop(site.account(&format!("E{employee}"))),
        Act::Responder { card, employee } => {
            site.put(&format!("C{card}"), responder(&format!("E{employee}")));
        }
    }
}

/// What one comes to who reads the whole log.
#[derive(Default)]
struct Naive {
    /// By which entry.
    inside: BTreeMap<String, u64>,
    roster: Option<BTreeMap<String, LineState>>,
    taken_at: u64,
}

impl Naive {
    fn of(log: &[Event]) -> Self {
        let mut naive = Self::default();
        log.iter().for_each(|event| naive.read(event));
        naive
    }

    fn read(&mut self, event: &Event) {
        match &event.body {
            Body::Entry(Entry { swipe, decision: Decision::Granted { .. }, .. }) => {
                self.enter(swipe.employee_id.as_ref().unwrap(), event.sequence);
            }
            Body::EntryRecorded(recorded)
                if recorded.decision == GateDecision::Granted && !recorded.stale =>
            {
                if let Some(who) = &recorded.employee_id {
                    self.enter(who, event.sequence);
                }
            }
            Body::Passage(ended) => match &ended.presence {
                Presence::Unchanged => {}
                Presence::Inside(inside) => {
                    self.inside.insert(ended.employee_id.to_string(), inside.sequence);
                }
                Presence::Outside => self.leave(&ended.employee_id),
            },
            Body::Exit(Exit { swipe, .. }) => {
                if let Some(who) = &swipe.employee_id {
                    self.leave(who);
                }
            }
            Body::Accounted(accounted) => {
                let roster = self.roster.as_mut().expect("nobody is accounted for without a roster");
                *roster.get_mut(accounted.employee_id.as_str()).unwrap() = LineState::Accounted;
            }
            Body::ModeChanged(changed) if changed.mode == Mode::Normal => {
                if let Some(roster) = self.roster.take() {
                    let taken_at = self.taken_at;
                    let is_out = |who: &str, entered: u64| roster.contains_key(who) && entered < taken_at;
                    assert!(
                        self.inside.iter().all(|(who, entered)| is_out(who, *entered) || *entered > taken_at)
                    );
                    self.inside.retain(|who, entered| !is_out(who, *entered));
                }
            }
            Body::ModeChanged(changed) if changed.mode == Mode::Evacuation && self.roster.is_none() => {
                let everyone = self.inside.keys().map(|who| (who.clone(), LineState::Missing));
                (self.roster, self.taken_at) = (Some(everyone.collect()), event.sequence);
            }
            // whatever else takes someone out is no sign of them outside
            other => match taken_out(other) {
                Some(Some(who)) => drop(self.inside.remove(&who)),
                Some(None) => self.inside.clear(),
                None => {}
            },
        }
    }

    fn line(&mut self, who: &EmployeeId) -> Option<&mut LineState> {
        self.roster.as_mut()?.get_mut(who.as_str())
    }

    fn enter(&mut self, who: &EmployeeId, sequence: u64) {
        self.inside.insert(who.to_string(), sequence);
        if let Some(state) = self.line(who) {
            *state = LineState::Missing;
        }
    }

    fn leave(&mut self, who: &EmployeeId) {
        self.inside.remove(who.as_str());
        if let Some(state) = self.line(who).filter(|state| **state == LineState::Missing) {
            *state = LineState::Left;
        }
    }
}

/// Whom an event takes out beside exits; `Some(None)`: everyone.
fn taken_out(body: &Body) -> Option<Option<String>> {
    match body {
        Body::PresenceExpired(expired) => Some(Some(expired.employee_id.to_string())),
        Body::PresenceForgiven(forgiven) => Some(Some(forgiven.employee_id.to_string())),
        Body::PresenceReset(_) => Some(None),
        _ => None,
    }
}

proptest! {
    #[test]
    fn the_roster_is_what_a_naive_reader_of_the_log_writes(acts in proptest::collection::vec(act(), 0..120), soft in any::<bool>()) {
        let mut site = Site::new(all_rules(if soft { AntiPassback::Soft } else { AntiPassback::Hard }));
        for act in &acts {
            perform(&mut site, act);
            let Naive { roster, inside, .. } = Naive::of(&site.log);
            let mut live: Vec<_> = site.building.inside().map(|(who, _)| who.to_string()).collect();
            live.sort();
            prop_assert_eq!(live, inside.into_keys().collect::<Vec<_>>());
            let muster = site.building.mode().muster.as_ref();
            let lines = muster.map(|muster| muster.lines().map(|(who, line)| (who.to_string(), line.state())).collect());
            prop_assert_eq!(&lines, &roster);
            if let (Some(muster), Some(roster)) = (muster, roster) {
                let missing = roster.values().filter(|state| **state == LineState::Missing).count();
                prop_assert_eq!(muster.missing(), missing);
            }
        }
        prop_assert_eq!(&site.replayed().building, &site.building);
    }

    #[test]
    fn nobody_but_responders_enters_unless_normal(acts in proptest::collection::vec(act(), 0..120)) {
        let mut site = Site::new(rules(AntiPassback::Hard));
        for act in &acts {
            let (mode, known) = (site.building.mode().mode, site.log.len());
            perform(&mut site, act);
            for event in &site.log[known..] {
                let Body::Entry(Entry { swipe, decision: Decision::Granted { .. }, .. }) = &event.body else { continue };
                let is_responder = site.directory.find(&swipe.card_id).unwrap().details.responder;
                prop_assert!(mode == Mode::Normal || is_responder, "{mode:?}: {swipe:?}");
            }
        }
    }
}
