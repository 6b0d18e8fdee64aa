use super::*;
use crate::tests::federation::*;
use crate::{Contribution, Input};

type Committed = (Vec<AwaitingCommitments>, CollectingCommitments);

fn committed(federation: &Federation) -> Committed {
    let mut collecting = CollectingCommitments::new(federation.context.clone());
    let toss = |(i, identity)| {
        let (state, message) = toss(&federation.context, identity, &mut federation.rng(i)).unwrap();
        collecting.receive(federation.through(&message)).unwrap();
        state
    };
    (federation.identities.iter().enumerate().map(toss).collect(), collecting)
}

#[test]
fn everyone_draws_the_same_groups_and_sums_them() {
    let federation = Federation::new(7, updates(3));
    let (sites, collecting) = committed(&federation);
    let (mut collecting, commitments) = collecting.close();
    let commitments = federation.broadcast(&commitments);
    let revealed: Vec<_> = sites.into_iter().map(|site| site.reveal(&commitments).unwrap()).collect();
    for (_, message) in &revealed {
        collecting.receive(federation.through(message)).unwrap();
    }
    let (groups, coins) = collecting.close(2).unwrap();
    let coins = federation.broadcast(&coins);
    for (site, _) in revealed {
        assert_eq!(site.draw(&coins, 2).unwrap(), groups);
    }
    let mut sizes: Vec<usize> = groups.groups().iter().map(|group| group.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 3]);
    let all = groups.groups().iter().flat_map(|group| group.iter()).collect::<Members>();
    assert_eq!(all.len(), 7);

    for (at, group) in groups.groups().iter().enumerate() {
        let terms = groups.terms(&federation.context, at).unwrap();
        let context = SessionContext::new(terms, &federation.roster).unwrap();
        let identities = group.iter().map(|i| Arc::clone(&federation.identities[i.get()])).collect();
        let own = Federation { identities, context, ..Federation::new(7, updates(3)) };
        let opened = own.run(&Drops::default(), |_| Input::Update(&[0.25, 0.5, -1.0])).unwrap();
        assert_eq!(opened.sites(), federation.context.names(*group));
        assert!(opened.mean().iter().zip([0.25, 0.5, -1.0]).all(|(mean, real)| (mean - real).abs() < 1e-8));
    }
    assert_eq!(groups.terms(&federation.context, 3), None);
}

#[test]
fn a_coin_is_the_one_that_was_committed_to() {
    let federation = Federation::new(4, updates(3));
    let (sites, collecting) = committed(&federation);
    let (mut collecting, commitments) = collecting.close();
    let transcript = commitments.transcript(federation.context.digest());
    let mut revealed: Vec<_> = sites.into_iter().map(|site| site.reveal(&commitments).unwrap()).collect();
    let (site, _) = revealed.pop().unwrap();
    for (_, message) in &revealed {
        collecting.receive(message.clone()).unwrap();
    }
    let again = collecting.receive(revealed[0].1.clone()).unwrap_err();
    assert_eq!(again, SecaggError::Duplicate { message: MessageKind::Coin, site: name(0) });
    let forged =
        Signed::new(&federation.context, transcript, &federation.identities[3], index(3), Coin([0; 32]));
    let refused = collecting.receive(forged.clone()).unwrap_err();
    assert_eq!(refused, SecaggError::Coin { site: name(3) });
    // Withheld, or exchanged by the coordinator.
    let mut all: Vec<_> = revealed.iter().map(|(_, message)| message.clone()).collect();
    let withheld = Broadcast::new(all.clone());
    all.push(forged);
    let exchanged = Broadcast::new(all);
    let (other, _) = revealed.pop().unwrap();
    assert_eq!(other.draw(&withheld, 2).unwrap_err(), SecaggError::Coin { site: name(3) });
    assert_eq!(site.draw(&exchanged, 2).unwrap_err(), SecaggError::Coin { site: name(3) });
    assert_eq!(collecting.close(2).unwrap_err().culprits(), [name(3)]);
}

#[test]
fn a_commitment_is_not_left_out_and_groups_are_no_single_sites() {
    let federation = Federation::new(3, Contribution::Counts);
    let (mut sites, collecting) = committed(&federation);
    let (_, commitments) = collecting.close();
    let fewer = Broadcast::new(commitments.messages()[1..].to_vec());
    let refused = sites.remove(0).reveal(&fewer).unwrap_err();
    assert_eq!(refused, SecaggError::OwnMessage { message: MessageKind::CoinCommitment });
    for least in [0, 1, 4] {
        let (sites, collecting) = committed(&federation);
        let (mut collecting, commitments) = collecting.close();
        for site in sites {
            collecting.receive(site.reveal(&commitments).unwrap().1).unwrap();
        }
        assert!(matches!(collecting.close(least), Err(SecaggError::Terms { .. })));
    }
}

#[test]
fn every_pair_is_as_likely() {
    // Over 6000 coins, site 0 shares a group of three with each other site of nine in a quarter of them;
    // six standard deviations are 201.
    let mut together = [0; 9];
    for coin in 0u64..6000 {
        let coin = Digest::of("test", &[&coin.to_le_bytes()]);
        let groups = Groups::new(Members::all(9), 3, coin);
        let own = groups.groups().iter().find(|group| group.contains(index(0))).unwrap();
        own.iter().for_each(|site| together[site.get()] += 1);
    }
    assert!(together[1..].iter().all(|count| (1299..=1701).contains(count)), "{together:?}");
}
