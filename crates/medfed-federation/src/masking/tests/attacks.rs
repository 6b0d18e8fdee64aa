//! A coordinator that asks twice, and hospitals that break the protocol.

use super::*;
use crate::masking::wire::{Opened, Phase, Place, Verdict};
use medfed_secagg::SessionId;

const EVERYTHING: [(MaskingMode, bool); 3] =
    [(MaskingMode::Sum, false), (MaskingMode::Sum, true), (MaskingMode::Groups, false)];

fn place(step: Step, attempt: u8) -> Place {
    Place { round: RoundId(3), attempt, phase: Phase::Updates, step }
}

/// A call for one hospital.
fn call(to: usize, place: Place, body: &[u8]) -> Message {
    Message { to: site(to), bytes: place.call(body).into() }
}

#[test]
fn the_same_calls_get_the_same_answers_before_and_after_a_restart() {
    for (mode, by_samples) in EVERYTHING {
        let mut hospitals = Hospitals::new(&order(plan(mode, by_samples)), updates(5));
        let mut calls: Vec<(Message, Arc<[u8]>)> = Vec::new();
        let (mut opening, mut asked) = hospitals.start();
        let first = loop {
            for call in asked {
                let answer = hospitals.handle(&call).unwrap();
                assert_eq!(hospitals.handle(&call).unwrap(), answer, "a call that comes twice");
                opening.receive(&call.to, &answer).unwrap();
                opening.receive(&call.to, &answer).unwrap();
                calls.push((call, answer));
            }
            match opening.close() {
                Turn::Ask(next, messages) => (opening, asked) = (next, messages),
                Turn::Done(unmasked) => break unmasked.opened.unwrap(),
            }
        };
        // The hospitals restart and keep their records; the coordinator begins the round again.
        hospitals.train(updates(5));
        for (call, answer) in &calls {
            assert_eq!(hospitals.handle(call).unwrap(), *answer);
        }
        hospitals.train(updates(5));
        let again = hospitals.play(|_, _, answered| Some(answered.unwrap()));
        assert_eq!(again.opened.unwrap(), first);
        // Another update never leaves under the masks of the first.
        let mut others = updates(5);
        for update in others.values_mut() {
            update.delta[0] += 0.25;
        }
        hospitals.train(others);
        let again = hospitals.play(|_, _, answered| answered.ok());
        let reason = again.opened.unwrap_err();
        assert!(reason.contains("has left already"), "{reason}");
    }
}

#[test]
fn a_coordinator_with_another_key_gets_no_second_session() {
    for (mode, by_samples) in EVERYTHING {
        let order = order(plan(mode, by_samples));
        let mut hospitals = Hospitals::new(&order, updates(5));
        hospitals.play(|_, _, answered| answered.ok()).opened.unwrap();
        hospitals.train(updates(5));
        let other = SecretKey::from_bytes([3; 32]);
        let names = hospitals.parties.keys().cloned();
        let (mut opening, mut calls) = Opening::start(order, hospitals.roster.clone(), names, &other);
        let unmasked = loop {
            for call in &calls {
                if let Ok(answer) = hospitals.handle(call) {
                    opening.receive(&call.to, &answer).unwrap();
                }
            }
            match opening.close() {
                Turn::Ask(next, messages) => (opening, calls) = (next, messages),
                Turn::Done(unmasked) => break unmasked,
            }
        };
        if mode == MaskingMode::Groups {
            // The name of a toss is the same, so it is the same round again.
            unmasked.opened.unwrap();
        } else {
            unmasked.opened.unwrap_err();
        }
    }
}

#[test]
fn a_second_set_of_survivors_or_coins_is_refused_also_after_a_restart() {
    for (mode, step) in [(MaskingMode::Groups, Step::Reveal), (MaskingMode::Sum, Step::Consent)] {
        let order = order(plan(mode, false));
        let mut hospitals = Hospitals::new(&order, updates(6));
        let (_, honest) = hospitals.play_to(step);
        // The same round, of which the last hospital saw nothing.
        let mut others = Hospitals::new(&order, updates(6));
        let (mut opening, mut calls) = others.start();
        while opening.step() != step {
            let silent = matches!(opening.step(), Step::Toss | Step::Mask);
            for call in calls.iter().filter(|call| !(silent && call.to == site(5))) {
                let answer = others.handle(call).unwrap();
                opening.receive(&call.to, &answer).unwrap();
            }
            let Turn::Ask(next, messages) = opening.close() else { panic!("the round goes on") };
            (opening, calls) = (next, messages);
        }
        assert_ne!(honest[0].bytes, calls[0].bytes);
        assert_eq!(honest[0].to, calls[0].to);
        let first = hospitals.handle(&honest[0]).unwrap();
        let refused = MaskingError::Second { from: Peer::Coordinator, step };
        assert_eq!(hospitals.handle(&calls[0]).unwrap_err(), refused);
        assert_eq!(hospitals.handle(&honest[0]).unwrap(), first);
        let records: Vec<Record> = hospitals.parties.values().map(|party| party.record().clone()).collect();
        let text = serde_json::to_string(&records[0]).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), records[0]);
        hospitals.train(updates(6));
        let (mut again, mut asked) = hospitals.start();
        while again.step() != step {
            for call in &asked {
                let answer = hospitals.handle(call).unwrap();
                again.receive(&call.to, &answer).unwrap();
            }
            let Turn::Ask(next, messages) = again.close() else { panic!("the round goes on") };
            (again, asked) = (next, messages);
        }
        assert_eq!(hospitals.handle(&calls[0]).unwrap_err(), refused);
    }
}

#[test]
fn an_attempt_leaves_somebody_out_and_comes_after_the_one_before() {
    let opened = |hospitals: &[usize]| {
        let cohort = hospitals.iter().map(|index| site(*index)).collect();
        Opened { session: SessionId([7; 16]), total: 0, cohort, withheld: 0 }.encode()
    };
    let mut hospitals = Hospitals::new(&order(plan(MaskingMode::Groups, false)), updates(6));
    let (_, calls) = hospitals.play_to(Step::Toss);
    hospitals.handle(&calls[0]).unwrap();
    for (attempt, cohort) in [
        // The same hospitals toss again; others do; an attempt is left out.
        (1, &[0, 1, 2, 3, 4, 5][..]),
        (2, &[0, 1, 2, 3, 4]),
    ] {
        let refused = hospitals.handle(&call(0, place(Step::Toss, attempt), &opened(cohort))).unwrap_err();
        assert_eq!(refused, MaskingError::Attempt { round: RoundId(3), attempt });
    }
    hospitals.handle(&call(0, place(Step::Toss, 1), &opened(&[0, 1, 2, 3, 4]))).unwrap();
    // Who was left out does not come back.
    let refused = hospitals.handle(&call(0, place(Step::Toss, 2), &opened(&[0, 1, 2, 5])));
    assert!(matches!(refused, Err(MaskingError::Attempt { .. })));
    // So a coordinator has fewer tosses than hospitals.
    let tosses = (2..7).map(|attempt| {
        let cohort: Vec<usize> = (0..6 - usize::from(attempt)).collect();
        hospitals
            .handle(&call(0, place(Step::Toss, attempt), &opened(&cohort)))
            .map(|answer| matches!(Place::of_answer(&answer, &site(0)).unwrap().1, Verdict::Answer(_)))
    });
    let tosses: Vec<_> = tosses.collect();
    assert_eq!(tosses.iter().filter(|toss| matches!(toss, Ok(true))).count(), 3, "{tosses:?}");
}

#[test]
fn a_call_for_another_model_configuration_range_or_round_is_refused() {
    let fixed =
        MaskingPlan { clip_range: Some(ClipRange::new(RANGE).unwrap()), ..plan(MaskingMode::Sum, false) };
    let honest = order(fixed);
    let mut hospitals = Hospitals::new(&honest, updates(3));
    let other = |change: &dyn Fn(&mut Order)| {
        let mut order = honest.clone();
        change(&mut order);
        let names = (0..3).map(site);
        Opening::start(order, hospitals.roster.clone(), names, &key()).1.remove(0)
    };
    let what = |what| MaskingError::Other { what };
    let lies = [
        (other(&|order| order.model = Digest::new([8; 32])), what("model")),
        (other(&|order| order.parameters += 1), what("model")),
        (other(&|order| order.plan.configuration = Digest::new([8; 32])), what("configuration")),
        (other(&|order| order.range = ClipRange::new(64.0).unwrap()), what("clip range")),
        (
            other(&|order| order.round = RoundId(4)),
            MaskingError::OutOfTurn { from: Peer::Coordinator, found: Step::Invite },
        ),
    ];
    for (call, refused) in lies {
        assert_eq!(hospitals.handle(&call).unwrap_err(), refused);
    }
    let unmasked = hospitals.play(|_, _, answered| answered.ok());
    assert_eq!(unmasked.report.survivors.len(), 3);
}

#[test]
fn whom_enough_hospitals_blame_is_left_out_and_a_lone_accuser_leaves_itself() {
    // Of seven hospitals two may lie; the threshold is five.
    let accuse = |accusations: &[(usize, usize)]| {
        let order = order(plan(MaskingMode::Sum, false));
        let unmasked = Hospitals::new(&order, updates(7)).play(|opening, sender, answered| {
            let blamed = accusations.iter().find(|(accuser, _)| site(*accuser) == *sender);
            let blamed = blamed.filter(|_| opening.attempt() == 0 && opening.step() == Step::Deal);
            Some(match blamed {
                Some((_, blamed)) => {
                    let culprits = vec![site(*blamed)];
                    let reason = "a share\u{1b}[31m is wrong".to_owned();
                    place(Step::Deal, 0).answer(&Verdict::Refused { reason, culprits }).into()
                }
                None => answered.unwrap(),
            })
        });
        let opened = unmasked.opened.unwrap();
        assert_mean(&opened[0], &updates(7), false);
        assert_eq!(unmasked.report.attempts.len(), 1);
        let lost = &unmasked.report.lost[0];
        assert_eq!(lost.reason, "a share [31m is wrong", "a terminal obeys nothing in it");
        unmasked.report.attempts[0].left_out.clone()
    };
    assert_eq!(accuse(&[(4, 0), (5, 0), (6, 0)]), [site(0)]);
    assert_eq!(accuse(&[(4, 0), (5, 1), (6, 2)]), [site(4), site(5), site(6)]);
}

#[test]
fn who_sends_something_else_is_named_and_the_others_go_on() {
    let order = order(plan(MaskingMode::Sum, true));
    let mut hospitals = Hospitals::new(&order, updates(5));
    let (mut opening, calls) = hospitals.play_to(Step::Deal);
    let answers: Vec<_> = calls.iter().map(|call| hospitals.handle(call).unwrap()).collect();
    assert_eq!(opening.waiting_for().count(), 5);
    let stranger = SiteId::try_from("stranger").unwrap();
    let refused = opening.receive(&stranger, &answers[0]).unwrap_err();
    assert_eq!(refused, MaskingError::NotAsked { site: stranger });
    // Early or late: nothing happens.
    let late = Place { phase: Phase::Counts, ..place(Step::Join, 0) }.answer(&Verdict::Answer(&[]));
    let refused = opening.receive(&site(0), &late).unwrap_err();
    assert_eq!(refused, MaskingError::OutOfTurn { from: Peer::Site(site(0)), found: Step::Join });
    opening.receive(&site(0), &answers[0]).unwrap();
    // The answer of another, a second answer, and no answer at all.
    let refused = opening.receive(&site(1), &answers[0]).unwrap_err();
    assert_eq!(refused, MaskingError::Sender { site: site(1), step: Step::Deal });
    let second = opening.receive(&site(0), &answers[2]).unwrap_err();
    assert_eq!(second, MaskingError::Second { from: Peer::Site(site(0)), step: Step::Deal });
    for (call, answer) in calls.iter().zip(&answers).skip(2) {
        opening.receive(&call.to, answer).unwrap();
    }
    assert_eq!(opening.waiting_for().count(), 0);
    let Turn::Ask(mut opening, mut calls) = opening.close() else { panic!("four of five are enough") };
    let unmasked = loop {
        for call in &calls {
            let answer = hospitals.handle(call).unwrap();
            opening.receive(&call.to, &answer).unwrap();
        }
        match opening.close() {
            Turn::Ask(next, messages) => (opening, calls) = (next, messages),
            Turn::Done(unmasked) => break unmasked,
        }
    };
    assert_eq!(unmasked.report.survivors, [site(0), site(2), site(3), site(4)]);
    assert_mean(&unmasked.opened.unwrap()[0], &updates(5), true);
    let lost = &unmasked.report.lost;
    assert_eq!((lost.len(), &lost[0].hospital), (1, &site(1)));
    assert!(lost[0].reason.contains("names another sender"), "{lost:?}");
}

#[test]
fn one_bad_hospital_changes_the_sum_of_its_group_and_no_other() {
    use medfed_aggregate::{Aggregator, PreStep, Rule, SiteUpdate};
    let order = order(plan(MaskingMode::Groups, false));
    let honest = updates(7);
    let play = |updates: &BTreeMap<SiteId, RawUpdate>| {
        let unmasked = Hospitals::new(&order, updates.clone()).play(|_, _, answered| answered.ok());
        (unmasked.report.groups, unmasked.opened.unwrap())
    };
    let (groups, before) = play(&honest);
    for bad in 0..7 {
        let mut attacked = honest.clone();
        attacked.get_mut(&site(bad)).unwrap().delta = vec![RANGE as f32; PARAMETERS];
        let (same, after) = play(&attacked);
        assert_eq!(groups, same, "no update moves the coin");
        for (before, after) in before.iter().zip(&after) {
            let inside = before.sites.contains(&site(bad));
            assert_eq!(before.sites, after.sites);
            assert_eq!(before.mean != after.mean, inside, "{:?}", before.sites);
        }
        // So the median stays between the sums of the groups without it; the mean does not.
        let step = |rule: Rule| {
            let update = |mean: &OpenedMean| {
                SiteUpdate::new(mean.sites[0].clone(), order.round, mean.mean.clone(), 1.0).unwrap()
            };
            let mut sums: Vec<SiteUpdate> = after.iter().map(update).collect();
            sums.sort_by(|a, b| a.site().cmp(b.site()));
            let mut aggregator = Aggregator::new(rule, PreStep::None).unwrap();
            aggregator.aggregate(&sums, order.round, PARAMETERS).unwrap().step
        };
        let (median, mean) = (step(Rule::Median), step(Rule::FedAvg));
        let clean = after.iter().filter(|mean| !mean.sites.contains(&site(bad))).collect::<Vec<_>>();
        let mut beyond = 0;
        for at in 0..PARAMETERS {
            let low = clean.iter().map(|group| group.mean[at]).fold(f32::INFINITY, f32::min);
            let high = clean.iter().map(|group| group.mean[at]).fold(f32::NEG_INFINITY, f32::max);
            assert!((low..=high).contains(&median[at]), "{} is not in {low}..={high}", median[at]);
            beyond += usize::from(!(low..=high).contains(&mean[at]));
        }
        assert!(beyond > 0, "the mean follows the bad hospital");
    }
}
