//! What a coordinator or a site may try. Each attempt ends before a secret is lost, and names the culprit
//! where one can be told.

use std::sync::Arc;

use medfed_types::RoundId;

use super::federation::*;
use crate::agreement::AgreementSecret;
use crate::context::*;
use crate::coordinator::*;
use crate::mask::fold;
use crate::message::*;
use crate::shamir::Seed;
use crate::site::*;
use crate::*;

const INPUT: [f32; 5] = [0.5, -0.25, 1.0, 0.0, -1.0];

fn federation(sites: usize) -> Federation {
    Federation::new(sites, updates(INPUT.len()))
}

fn none() -> Drops {
    Drops::default()
}

fn consented(
    states: States<AwaitingProposal>,
    proposal: Proposal,
) -> Vec<(SiteIndex, AwaitingAgreement, Signed<Consent>)> {
    let consent = |(site, state): (_, AwaitingProposal)| {
        let (state, message) = state.consent(proposal).unwrap();
        (site, state, message)
    };
    states.into_iter().map(consent).collect()
}

fn proposal(sites: &[usize]) -> Proposal {
    Proposal { summed: sites.iter().map(|i| index(*i)).collect() }
}

// The coordinator.

#[test]
fn no_site_gives_both_shares_of_another() {
    // A site that signed one set of survivors releases nothing for another, however many signed that.
    let federation = federation(4);
    let (states, _, _) = federation.inputs(&none(), |_| Input::Update(&INPUT)).unwrap();
    let mut states = states.into_iter();
    let (_, victim) = states.next().unwrap();
    let (victim, _) = victim.consent(proposal(&[0, 1, 2, 3])).unwrap();
    let others = consented(states.collect(), proposal(&[1, 2, 3]));
    let agreement = Broadcast::new(others.into_iter().map(|(_, _, message)| message));
    let refused = victim.unmask(&agreement).unwrap_err();
    assert_eq!(refused, SecaggError::OtherSurvivors { site: name(1) });
}

#[test]
fn each_dealer_is_released_one_share_of_the_kind_it_is_due() {
    let federation = federation(5);
    let drops = Drops { input: vec![4], ..none() };
    let (states, _, proposal) = federation.inputs(&drops, |_| Input::Update(&INPUT)).unwrap();
    let consented = consented(states, proposal);
    let held: Vec<_> = consented[0]
        .1
        .holdings_for_tests()
        .map(|(dealer, self_mask, mask_key)| (dealer, self_mask.to_bytes(), mask_key.to_bytes()))
        .collect();
    let agreement = Broadcast::new(consented.iter().map(|(_, _, message)| message.clone()));
    let (_, state, _) = consented.into_iter().next().unwrap();
    let released = state.unmask(&agreement).unwrap().into_body();
    assert_eq!(released.shares.len(), 5);
    for ((dealer, self_mask, mask_key), share) in held.into_iter().zip(&released.shares) {
        let due = if dealer.get() == 4 { mask_key } else { self_mask };
        assert_eq!(share.to_bytes(), due);
    }
}

#[test]
fn different_survivors_for_different_sites_find_no_quorum() {
    let federation = federation(6);
    let (states, mut collecting, _) = federation.inputs(&none(), |_| Input::Update(&INPUT)).unwrap();
    let (half, rest): (States<_>, States<_>) = states.into_iter().partition(|(site, _)| site.get() < 3);
    let (all, fewer) = (proposal(&[0, 1, 2, 3, 4, 5]), proposal(&[1, 2, 3, 4, 5]));
    let (half, rest) = (consented(half, all), consented(rest, fewer));
    // Neither set has the five signatures that it takes, and mixed ones are refused.
    let own = Broadcast::new(half.iter().map(|(_, _, message)| message.clone()));
    let mixed = Broadcast::new(half.iter().chain(&rest).map(|(_, _, message)| message.clone()));
    collecting.receive(rest[0].2.clone()).unwrap_err();
    let mut half = half.into_iter();
    let (_, first, _) = half.next().unwrap();
    let refused = first.unmask(&own).unwrap_err();
    assert_eq!(refused, SecaggError::TooFew { message: MessageKind::Consent, expected: 5, found: 3 });
    let (_, second, _) = half.next().unwrap();
    assert_eq!(second.unmask(&mixed).unwrap_err(), SecaggError::OtherSurvivors { site: name(3) });
}

#[test]
fn one_signature_does_not_count_twice() {
    let federation = federation(4);
    let (states, _, proposal) = federation.inputs(&none(), |_| Input::Update(&INPUT)).unwrap();
    let consented = consented(states, proposal);
    let (one, two) = (consented[0].2.clone(), consented[1].2.clone());
    let agreement = Broadcast::new([one, two.clone(), two]);
    let (_, state, _) = consented.into_iter().next().unwrap();
    assert!(matches!(state.unmask(&agreement), Err(SecaggError::Duplicate { .. })));
}

#[test]
fn a_live_site_that_is_declared_dropped_keeps_its_input() {
    let federation = federation(5);
    let (mut states, _) = federation.dealings(&none()).unwrap();
    let (_, collecting) = federation.dealings(&none()).unwrap();
    let (mut collecting, dealings) = collecting.close().unwrap();
    let (mut late, mut waiting) = (None, States::new());
    while let Some((site, state)) = states.pop_first() {
        let input = Input::Update(&INPUT);
        let (state, message) = state.mask(&dealings, input, &mut Participation::default()).unwrap();
        if site.get() == 2 {
            late = Some((state, message));
            continue;
        }
        collecting.receive(message).unwrap();
        waiting.insert(site, state);
    }
    let (victim, input) = late.unwrap();
    let (mut collecting, proposal) = collecting.close().unwrap();
    // The victim itself does not sign.
    assert_eq!(victim.consent(proposal).unwrap_err(), SecaggError::DeclaredDropped);
    // The others do, and the coordinator rebuilds the victim's mask key.
    let consented = consented(waiting, proposal);
    for (_, _, message) in &consented {
        collecting.receive(message.clone()).unwrap();
    }
    let (mut collecting, agreement) = collecting.close().unwrap();
    for (_, state, _) in consented {
        collecting.receive(state.unmask(&agreement).unwrap()).unwrap();
    }
    // Everything that the coordinator can take from the late input.
    let masks = collecting.pairwise_masks_for_tests(index(2));
    let mut words = input.body().words.clone();
    fold(&mut words, &masks);
    let plain = Input::Update(&INPUT).quantise(&federation.context).unwrap();
    assert!(words.iter().zip(&plain).all(|(word, plain)| word != plain), "the self-mask is still on it");
    assert_eq!(collecting.close().unwrap().survivors().len(), 4);
}

#[test]
fn a_replayed_round_gets_no_second_input() {
    let federation = federation(3);
    let mut participation = Participation::default();
    let mask = |federation: &Federation, participation: &mut Participation, values: &[f32]| {
        let (states, collecting) = federation.dealings(&none()).unwrap();
        let (_, dealings) = collecting.close().unwrap();
        let (_, state) = states.into_iter().next().unwrap();
        state.mask(&dealings, Input::Update(values), participation).map(|(_, message)| message)
    };
    let input =
        |federation: &Federation, participation: &mut Participation| mask(federation, participation, &INPUT);
    let first = input(&federation, &mut participation).unwrap();
    // The same message may leave again, as after a restart, and no other under the same masks.
    assert_eq!(input(&federation, &mut participation).unwrap(), first);
    let again = mask(&federation, &mut participation, &[0.0; INPUT.len()]).unwrap_err();
    assert_eq!(again, SecaggError::Replayed { last: RoundId(3), found: RoundId(3) });
    // Under another session name, too, and for an earlier round.
    for (session, round) in [([8; 16], 3), ([8; 16], 2)] {
        let mut terms = federation.context.terms().clone();
        (terms.session, terms.round) = (SessionId(session), RoundId(round));
        let other = Federation::with(3, terms);
        assert!(matches!(input(&other, &mut participation), Err(SecaggError::Replayed { .. })));
    }
    // The old message is of no use in the next round.
    let mut terms = federation.context.terms().clone();
    terms.round = RoundId(4);
    let next = Federation::with(3, terms);
    input(&next, &mut participation).unwrap();
    let (mut collecting, _) = next.dealings(&none()).unwrap().1.close().unwrap();
    assert!(matches!(collecting.receive(first), Err(SecaggError::OtherContext { .. })));
}

#[test]
fn keys_are_not_substituted() {
    let federation = federation(4);
    let attempt = |forge: &dyn Fn(Vec<Signed<Keys>>) -> Vec<Signed<Keys>>| {
        let (states, _, keys) = federation.keys(&[]).unwrap();
        let forged = Broadcast::new(forge(keys.messages().to_vec()));
        let (_, state) = states.into_iter().next().unwrap();
        state.deal(&forged, &mut federation.rng(9)).unwrap_err()
    };
    let own = AgreementSecret::random(&mut federation.rng(8)).public();
    let keys = || Keys { encryption: own, mask: own };
    // With a name on them, but not its signature.
    let signed = |identity: usize, sender: usize| {
        let context = &federation.context;
        Signed::new(context, context.digest(), &federation.identities[identity], index(sender), keys())
    };
    let refused = attempt(&|mut all| {
        all[2] = signed(3, 2);
        all
    });
    assert_eq!(refused, SecaggError::Signature { message: MessageKind::Keys, site: name(2) });
    // This site's own, by someone who has its signing key.
    let refused = attempt(&|mut all| {
        all[0] = signed(0, 0);
        all
    });
    assert_eq!(refused, SecaggError::OwnMessage { message: MessageKind::Keys });
    // One site's keys under two names.
    let refused = attempt(&|mut all| {
        let copied = all[1].body().clone();
        let context = &federation.context;
        all[3] = Signed::new(context, context.digest(), &federation.identities[3], index(3), copied);
        all
    });
    assert_eq!(refused.culprits(), [name(1), name(3)]);
    // Too few left.
    let refused = attempt(&|all| all[..2].to_vec());
    assert!(matches!(refused, SecaggError::TooFew { expected: 3, found: 2, .. }));
    // The same twice.
    let refused = attempt(&|mut all| {
        all[3] = all[2].clone();
        all
    });
    assert_eq!(refused, SecaggError::Duplicate { message: MessageKind::Keys, site: name(2) });
}

#[test]
fn unenrolled_sites_have_no_place() {
    let federation = federation(3);
    let key = federation.key.subkey("stranger", &[]);
    let stranger = Arc::new(Identity::new(name(7), &key));
    let refused = join(&federation.context, &stranger, &mut federation.rng(0)).unwrap_err();
    assert_eq!(refused, SecaggError::NotEnrolled { site: name(7) });
    // With the name of an enrolled one.
    let impostor = Arc::new(Identity::new(name(1), &key));
    let refused = join(&federation.context, &impostor, &mut federation.rng(0)).unwrap_err();
    assert_eq!(refused, SecaggError::OtherIdentity { site: name(1) });
    // A place beyond the cohort is no canonical sender.
    let (_, _, keys) = federation.keys(&[]).unwrap();
    let mut bytes = keys.messages()[0].encode();
    bytes[34] = 3;
    let refused = Signed::<Keys>::decode(&bytes, &federation.context).unwrap_err();
    assert_eq!(refused, SecaggError::Malformed { message: MessageKind::Keys, fault: Fault::Value });
}

#[test]
fn other_terms_make_other_signatures() {
    // One site is told another threshold, model, configuration, round, range or cohort.
    let federation = federation(5);
    let changes: [&dyn Fn(&mut SessionTerms); 8] = [
        &|terms| terms.threshold = 5,
        &|terms| terms.min_clients = 2,
        &|terms| terms.model = Digest::new([3; 32]),
        &|terms| terms.configuration = Digest::new([3; 32]),
        &|terms| terms.round = RoundId(4),
        &|terms| terms.noise = SiteNoise::None,
        &|terms| terms.contribution = updates(6),
        &|terms| {
            terms.cohort.pop();
        },
    ];
    for change in changes {
        let mut terms = federation.context.terms().clone();
        change(&mut terms);
        let context = SessionContext::new(terms, &federation.roster).unwrap();
        let (state, message) = join(&context, &federation.identities[0], &mut federation.rng(0)).unwrap();
        // The coordinator's own context refuses it; so does every site, and so does it the others.
        let mut collecting = CollectingKeys::new(federation.context.clone());
        let refused = collecting.receive(message.clone()).unwrap_err();
        assert_eq!(refused, SecaggError::OtherContext { message: MessageKind::Keys, site: name(0) });
        let (mut states, _, keys) = federation.keys(&[]).unwrap();
        let mut all = keys.messages().to_vec();
        all[0] = message;
        let mixed = Broadcast::new(all);
        let (_, other) = states.pop_last().unwrap();
        let refused = other.deal(&mixed, &mut federation.rng(9)).unwrap_err();
        assert!(matches!(refused, SecaggError::OtherContext { .. }), "{refused:?}");
        let refused = state.deal(&mixed, &mut federation.rng(9)).unwrap_err();
        assert!(matches!(refused, SecaggError::OtherContext { .. }), "{refused:?}");
        // A forged label does not help: the signature covers the terms themselves.
        let mut bytes = mixed.messages()[0].encode();
        bytes[2..34].copy_from_slice(federation.context.digest().as_bytes());
        let relabelled = Signed::<Keys>::decode(&bytes, &federation.context).unwrap();
        assert!(matches!(collecting.receive(relabelled), Err(SecaggError::Signature { .. })));
    }
}

#[test]
fn a_dealing_is_not_left_out_or_exchanged() {
    let federation = federation(4);
    let attempt = |forge: &dyn Fn(Vec<Signed<Dealing>>) -> Vec<Signed<Dealing>>| {
        let (states, collecting) = federation.dealings(&none()).unwrap();
        let (_, dealings) = collecting.close().unwrap();
        let forged = Broadcast::new(forge(dealings.messages().to_vec()));
        let (_, state) = states.into_iter().next().unwrap();
        state.mask(&forged, Input::Update(&INPUT), &mut Participation::default()).unwrap_err()
    };
    let refused = attempt(&|all| all[1..].to_vec());
    assert_eq!(refused, SecaggError::OwnMessage { message: MessageKind::Dealing });
    let refused = attempt(&|all| all[..2].to_vec());
    assert!(matches!(refused, SecaggError::TooFew { .. }));
    // One bit of a share sealed for someone else.
    let refused = attempt(&|mut all| {
        let mut bytes = all[2].encode();
        let at = bytes.len() - 70;
        bytes[at] ^= 1;
        all[2] = Signed::decode(&bytes, &federation.context).unwrap();
        all
    });
    assert_eq!(refused, SecaggError::Signature { message: MessageKind::Dealing, site: name(2) });
}

#[test]
fn survivors_are_checked_before_they_are_signed() {
    let federation = federation(5);
    let drops = Drops { dealing: vec![4], ..none() };
    let attempt = |sites: &[usize]| {
        let (states, ..) = federation.inputs(&drops, |_| Input::Update(&INPUT)).unwrap();
        let (_, state) = states.into_iter().next().unwrap();
        state.consent(proposal(sites)).unwrap_err()
    };
    assert_eq!(attempt(&[0, 1, 2, 4]), SecaggError::UnknownSurvivors { sites: vec![name(4)] });
    assert!(matches!(attempt(&[0, 1, 2]), SecaggError::TooFew { expected: 4, found: 3, .. }));
    assert_eq!(attempt(&[1, 2, 3]), SecaggError::DeclaredDropped);
}

// Sites.

#[test]
fn points_of_low_order_are_refused() {
    let federation = federation(3);
    let context = &federation.context;
    let good = AgreementSecret::random(&mut federation.rng(8)).public();
    for keys in [Keys { encryption: [0; 32], mask: good }, Keys { encryption: good, mask: [0; 32] }] {
        let message = Signed::new(context, context.digest(), &federation.identities[1], index(1), keys);
        let mut collecting = CollectingKeys::new(context.clone());
        let refused = collecting.receive(message.clone()).unwrap_err();
        assert_eq!(refused.culprits(), [name(1)]);
        // Nor does a site take them from a coordinator that lets them pass.
        let (states, _, keys) = federation.keys(&[]).unwrap();
        let mut all = keys.messages().to_vec();
        all[1] = message;
        let (_, state) = states.into_iter().next().unwrap();
        let refused = state.deal(&Broadcast::new(all), &mut federation.rng(9)).unwrap_err();
        assert_eq!(refused, SecaggError::LowOrderPoint { site: name(1) });
    }
}

/// A session in which the dealing of site 1 is what `change` makes of it, signed anew.
fn with_dealing(change: impl Fn(&mut Dealing)) -> (Federation, States<AwaitingDealings>, CollectingDealings) {
    let federation = federation(4);
    let (states, collecting) = federation.dealings(&none()).unwrap();
    let (_, dealings) = collecting.close().unwrap();
    let (_, mut collecting, keys) = federation.keys(&[]).unwrap();
    let transcript = keys.transcript(federation.context.digest());
    for message in dealings.messages() {
        let mut body = message.body().clone();
        if message.sender() == index(1) {
            change(&mut body);
        }
        let identity = &federation.identities[message.sender().get()];
        let message = Signed::new(&federation.context, transcript, identity, message.sender(), body);
        collecting.receive(message).unwrap();
    }
    (federation, states, collecting)
}

#[test]
fn tampered_shares_name_their_dealer() {
    let changes: [&dyn Fn(&mut Dealing); 3] = [
        // What is sealed for site 0: a bit of it, its tag, what it was committed to.
        &|dealing| dealing.sealed[0][3] ^= 1,
        &|dealing| dealing.sealed[0][SEALED_BYTES - 1] ^= 1,
        &|dealing| dealing.committed[0].mask_key = Digest::new([0; 32]),
    ];
    for change in changes {
        let (_, states, collecting) = with_dealing(change);
        let (_, dealings) = collecting.close().unwrap();
        let (_, state) = states.into_iter().next().unwrap();
        let mut participation = Participation::default();
        let refused = state.mask(&dealings, Input::Update(&INPUT), &mut participation).unwrap_err();
        assert_eq!(refused, SecaggError::DealtShare { dealer: name(1) });
        assert_eq!(participation, Participation::default(), "no input has left");
    }
}

#[test]
fn malformed_and_second_dealings_name_their_dealer() {
    let federation = federation(4);
    let (_, mut collecting) = federation.dealings(&none()).unwrap();
    let (_, _, keys) = federation.keys(&[]).unwrap();
    let transcript = keys.transcript(federation.context.digest());
    let (_, dealings) = federation.dealings(&none()).unwrap().1.close().unwrap();
    let again = dealings.messages()[1].clone();
    let refused = collecting.receive(again).unwrap_err();
    assert_eq!(refused, SecaggError::Duplicate { message: MessageKind::Dealing, site: name(1) });
    // A holder is left out.
    let mut body = dealings.messages()[2].body().clone();
    body.holders = body.holders.without([index(3)].into_iter().collect());
    body.committed.pop();
    body.sealed.pop();
    let message = Signed::new(&federation.context, transcript, &federation.identities[2], index(2), body);
    let (_, mut collecting, _) = federation.keys(&[]).unwrap();
    assert_eq!(collecting.receive(message).unwrap_err().culprits(), [name(2)]);
}

#[test]
fn shares_of_no_secret_name_their_dealer() {
    // Every share is as committed to, but they rebuild another seed than the dealer's.
    let (federation, states, collecting) = with_dealing(|dealing| dealing.seed = Digest::new([9; 32]));
    let (mut collecting, dealings) = collecting.close().unwrap();
    let mut waiting = States::new();
    for (site, state) in states {
        // The dealer itself does not recognise the altered message: it is dishonest and sends on.
        if site == index(1) {
            continue;
        }
        let input = Input::Update(&INPUT);
        let (state, message) = state.mask(&dealings, input, &mut Participation::default()).unwrap();
        collecting.receive(message).unwrap();
        waiting.insert(site, state);
    }
    let words = vec![1; INPUT.len()];
    let transcript =
        dealings.transcript(federation.keys(&[]).unwrap().2.transcript(federation.context.digest()));
    let sent = Signed::new(
        &federation.context,
        transcript,
        &federation.identities[1],
        index(1),
        MaskedInput { words },
    );
    collecting.receive(sent).unwrap();
    let (collecting, proposal) = collecting.close().unwrap();
    let refused = federation.open(&none(), consented(waiting, proposal), collecting).unwrap_err();
    assert_eq!(refused, SecaggError::RebuiltSecret { dealer: name(1) });
}

#[test]
fn wrong_released_shares_name_their_sender_and_cost_nothing() {
    let federation = federation(7);
    let drops = Drops { input: vec![4], ..none() };
    let (states, mut collecting, proposal) = federation.inputs(&drops, |_| Input::Update(&INPUT)).unwrap();
    let consented = consented(states, proposal);
    for (_, _, message) in &consented {
        collecting.receive(message.clone()).unwrap();
    }
    let (mut collecting, agreement) = collecting.close().unwrap();
    let transcript = consented[0].1.transcript_for_tests();
    let mut messages: Vec<_> =
        consented.into_iter().map(|(_, state, _)| state.unmask(&agreement).unwrap()).collect();
    let resigned = |body: Unmasking| {
        Signed::new(&federation.context, transcript, &federation.identities[0], index(0), body)
    };
    // A share that nobody dealt.
    let mut forged = messages.remove(0).into_body();
    forged.shares[4] = Seed::random(&mut federation.rng(1));
    let refused = collecting.receive(resigned(forged)).unwrap_err();
    assert_eq!(refused, SecaggError::ReleasedShare { site: name(0), dealer: name(4) });
    for message in messages {
        collecting.receive(message).unwrap();
    }
    // The other five are enough.
    assert_eq!(collecting.close().unwrap().survivors().len(), 6);
}

#[test]
fn inputs_that_do_not_fit_never_leave() {
    let federation = federation(3);
    let attempt = |input: Input<'_>| {
        let (states, collecting) = federation.dealings(&none()).unwrap();
        let (_, dealings) = collecting.close().unwrap();
        let (_, state) = states.into_iter().next().unwrap();
        let mut participation = Participation::default();
        let refused = state.mask(&dealings, input, &mut participation).unwrap_err();
        assert_eq!(participation, Participation::default());
        refused
    };
    let with = |value: f32| [0.0, 0.0, 0.0, value, 0.0];
    assert_eq!(attempt(Input::Update(&with(f32::NAN))), SecaggError::NotFinite { index: 3 });
    assert_eq!(attempt(Input::Update(&with(f32::NEG_INFINITY))), SecaggError::NotFinite { index: 3 });
    assert_eq!(attempt(Input::Update(&with(1.001))), SecaggError::OutOfRange { index: 3, range: 1.0 });
    assert_eq!(attempt(Input::Update(&[0.0; 4])), SecaggError::Length { expected: 5, found: 4 });
    assert!(matches!(attempt(Input::Count(3)), SecaggError::OtherContribution { .. }));
    let weighted = Input::Weighted { values: &INPUT, samples: 3 };
    assert!(matches!(attempt(weighted), SecaggError::OtherContribution { .. }));
}

#[test]
fn a_share_of_the_samples_is_at_most_all_of_them() {
    let weighting = Weighting::Samples { total: 10 };
    let range = ClipRange::new(1.0).unwrap();
    let federation = Federation::new(3, Contribution::Update { parameters: 5, range, weighting });
    let run = |samples| federation.run(&none(), |_| Input::Weighted { values: &INPUT, samples });
    assert_eq!(run(11).unwrap_err(), SecaggError::Count { most: 10, found: 11 });
    assert!(run(3).is_ok());
}
