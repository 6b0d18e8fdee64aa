//! Secure selection: exact inner products, one sum, and attacks on either.

use medfed_types::SecretKey;
use rand::Rng;

use super::federation::*;
use crate::context::*;
use crate::coordinator::*;
use crate::field::Fe;
use crate::message::*;
use crate::selection::{HeldShare, VectorShares};
use crate::site::*;
use crate::*;

const LENGTH: usize = 5000;

fn contribution() -> Contribution {
    Contribution::Selection {
        parameters: LENGTH,
        range: ClipRange::new(1.0).unwrap(),
        norm: NormBound::new(8.0).unwrap(),
    }
}

fn federation(sites: usize) -> Federation {
    Federation::new(sites, contribution())
}

/// Vectors of norm about 4; that of the last site points elsewhere.
fn vectors(sites: usize) -> Vec<Vec<f32>> {
    let mut rng = SecretKey::from_bytes([5; 32]).generator("vectors", &[]);
    let mut value = || (f64::from(rng.next_u32()) / 2f64.powi(32) - 0.5) as f32;
    let shared: Vec<f32> = (0..LENGTH).map(|_| value() * 0.15).collect();
    let own = |i: usize, value: &mut dyn FnMut() -> f32| {
        let sign = if i + 1 == sites { -1.0 } else { 1.0 };
        shared.iter().map(|it| sign * it + value() * 0.15).collect()
    };
    (0..sites).map(|i| own(i, &mut value)).collect()
}

fn set(sites: &[usize]) -> Members {
    sites.iter().map(|i| index(*i)).collect()
}

/// What a site sends in round 2.
type Sent = (Signed<MaskedInput>, Vec<VectorShare>);

/// Rounds 0 to 2, with what each site sends passed through `change`.
fn shared(
    federation: &Federation,
    gone: &[usize],
    change: impl Fn(SiteIndex, Sent, Digest) -> Sent,
) -> (States<AwaitingShares>, CollectingVectors, Digest) {
    let integers = |it: &Vec<f32>| Input::Update(it).quantise(&federation.context).unwrap();
    let words: Vec<_> = vectors(federation.identities.len()).iter().map(integers).collect();
    shared_words(federation, &words, gone, change)
}

/// The same, of these integers.
fn shared_words(
    federation: &Federation,
    words: &[Vec<u32>],
    gone: &[usize],
    change: impl Fn(SiteIndex, Sent, Digest) -> Sent,
) -> (States<AwaitingShares>, CollectingVectors, Digest) {
    let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
    let (_, _, keys) = federation.keys(&[]).unwrap();
    let (mut collecting, dealings) = collecting.close_for_selection().unwrap();
    let transcript = dealings.transcript(keys.transcript(federation.context.digest()));
    let mut waiting = States::new();
    for (site, state) in states.into_iter().filter(|(site, _)| !gone.contains(&site.get())) {
        let mut rng = federation.key.generator("share", &[site.get() as u64]);
        let mut participation = Participation::default();
        let (state, input, shares) =
            state.share_words(&dealings, &words[site.get()], &mut participation, &mut rng).unwrap();
        let (input, shares) = change(site, (input, shares), transcript);
        let through = |share: VectorShare| {
            VectorShare::decode(&share.encode(&federation.context), &federation.context).unwrap()
        };
        let shares = shares.into_iter().map(through).collect();
        collecting.receive(federation.through(&input), shares).unwrap();
        waiting.insert(site, state);
    }
    (waiting, collecting, transcript)
}

/// Up to the shares of inner products, with each site's passed through `change`.
fn multiplied(
    federation: &Federation,
    gone: &[usize],
    send: impl Fn(SiteIndex, Sent, Digest) -> Sent,
    change: impl Fn(SiteIndex, &mut Products),
) -> (States<AwaitingProducts>, CollectingProducts) {
    let (states, collecting, transcript) = shared(federation, gone, send);
    multiply_all(federation, states, collecting, transcript, change)
}

fn multiply_all(
    federation: &Federation,
    mut states: States<AwaitingShares>,
    collecting: CollectingVectors,
    transcript: Digest,
    change: impl Fn(SiteIndex, &mut Products),
) -> (States<AwaitingProducts>, CollectingProducts) {
    let (mut collecting, deliveries) = collecting.close().unwrap();
    let mut waiting = States::new();
    for (site, shares) in deliveries {
        let (state, message) = states.remove(&site).unwrap().multiply(shares).unwrap();
        let mut body = message.into_body();
        change(site, &mut body);
        let identity = &federation.identities[site.get()];
        let message = Signed::new(&federation.context, transcript, identity, site, body);
        collecting.receive(federation.through(&message)).unwrap();
        waiting.insert(site, state);
    }
    (waiting, collecting)
}

fn honest(_: SiteIndex, sent: Sent, _: Digest) -> Sent {
    sent
}

fn right(_: SiteIndex, _: &mut Products) {}

/// Opens the sum of the selected.
fn finish(
    federation: &Federation,
    states: States<AwaitingProducts>,
    selecting: Selecting,
    products: &Broadcast<Products>,
    selected: Members,
) -> Result<OpenedSum, SecaggError> {
    let gram = selecting.gram().clone();
    let (collecting, proposal) = selecting.select(selected)?;
    let products = federation.broadcast(products);
    let mut consented = Vec::new();
    for (site, state) in states {
        let Ok((state, own)) = state.review(&products) else { continue };
        assert_eq!(own, gram, "sites open what the coordinator opens");
        let (state, message) = state.consent(proposal, selected)?;
        consented.push((site, state, message));
    }
    federation.open(&Drops::default(), consented, collecting)
}

#[test]
fn inner_products_are_exact_and_one_sum_is_opened() {
    for (sites, gone) in [(4, vec![]), (5, vec![]), (7, vec![2]), (10, vec![0, 9])] {
        let federation = federation(sites);
        let vectors = vectors(sites);
        let (states, collecting) = multiplied(&federation, &gone, honest, right);
        let (selecting, products) = collecting.close().unwrap();
        assert!(selecting.suspects().is_empty());
        let gram = selecting.gram().clone();
        assert_eq!(gram.vectors().len(), sites - gone.len());
        let words: Vec<Vec<i64>> = vectors
            .iter()
            .map(|it| Input::Update(it).quantise(&federation.context).unwrap())
            .map(|words| words.into_iter().map(|word| i64::from(word.cast_signed())).collect())
            .collect();
        for u in gram.vectors().iter() {
            for v in gram.vectors().iter() {
                let (a, b) = (&words[u.get()], &words[v.get()]);
                let exact: i64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert_eq!(gram.integer(u, v), Some(exact));
                let real = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                };
                let (a, b) = (&vectors[u.get()], &vectors[v.get()]);
                let found = gram.inner_product(u, v).unwrap();
                assert!((found - real(a, b)).abs() < 1e-5, "{found}");
                let distance = real(a, a) - 2.0 * real(a, b) + real(b, b);
                let squared = gram.squared_distance(u, v).unwrap();
                let error = gram.distance_error(distance.max(0.0).sqrt(), LENGTH);
                assert!((squared - distance).abs() <= error + 1e-12 && error < 1e-3, "{error}");
            }
        }
        let matrix = gram.to_matrix();
        let first = gram.vectors().iter().next().unwrap();
        assert_eq!(matrix.len(), gram.vectors().len().pow(2));
        assert_eq!(Some(matrix[0]), gram.inner_product(first, first));

        let selected: Members = gram.vectors().iter().skip(1).take(3).collect();
        let opened = finish(&federation, states, selecting, &products, selected).unwrap();
        assert_eq!(opened.survivors(), selected);
        for (at, sum) in opened.integers().iter().enumerate() {
            let exact: i64 = selected.iter().map(|site| words[site.get()][at]).sum();
            assert_eq!(i64::from(*sum), exact);
        }
    }
}

#[test]
fn a_wrong_distance_share_names_its_sender() {
    let wrong = |site: SiteIndex, products: &mut Products| {
        if site == index(6) {
            products.shares[11] = products.shares[11] + Fe::ONE;
        }
    };
    // Ten sites are the fewest that outvote three liars: nothing is believed, but the share is located.
    let (_, collecting) = multiplied(&federation(10), &[], honest, wrong);
    let refused = collecting.close().unwrap_err();
    assert_eq!(refused, SecaggError::Products { culprits: vec![name(6)] });
    // Nine sites are two more than outvote two: the share is left out.
    let federation = federation(9);
    let (states, collecting) = multiplied(&federation, &[], honest, wrong);
    let (selecting, products) = collecting.close().unwrap();
    assert_eq!(selecting.suspects(), set(&[6]));
    let (_, honest_products) = multiplied(&federation, &[], honest, right).1.close().unwrap();
    assert_eq!(products.messages().len(), 8);
    assert_eq!(honest_products.messages().len(), 9);
    let opened = finish(&federation, states, selecting, &products, set(&[0, 1, 2, 3])).unwrap();
    assert_eq!(opened.survivors().len(), 4);
}

#[test]
fn several_wrong_distance_shares_are_never_believed() {
    let federation = federation(10);
    for liars in [vec![1, 4], vec![1, 4, 8]] {
        let wrong = |site: SiteIndex, products: &mut Products| {
            if liars.contains(&site.get()) {
                products.shares[0] = products.shares[0] + Fe::from_u64(1000 + site.get() as u64);
            }
        };
        let (_, collecting) = multiplied(&federation, &[], honest, wrong);
        let refused = collecting.close().unwrap_err();
        assert!(matches!(refused, SecaggError::Products { .. }), "{refused:?}");
    }
    // Nor by a site, if a coordinator passes them on.
    let lie = |site: SiteIndex, products: &mut Products| {
        if site == index(1) {
            products.shares[0] = products.shares[0] + Fe::ONE;
        }
    };
    let (mut states, collecting) = multiplied(&federation, &[], honest, lie);
    let messages = collecting.messages_for_tests();
    let refused = states.remove(&index(0)).unwrap().review(&Broadcast::new(messages)).unwrap_err();
    assert_eq!(refused, SecaggError::Products { culprits: vec![name(1)] });
}

#[test]
fn a_site_that_masks_another_vector_than_it_shared_is_found_out() {
    let federation = federation(5);
    // Adds 1 to a single step of what it masks.
    let swap = |site: SiteIndex, (input, shares): Sent, transcript: Digest| {
        if site != index(2) {
            return (input, shares);
        }
        let mut body = input.into_body();
        body.words[77] = body.words[77].wrapping_add(1);
        let identity = &federation.identities[2];
        (Signed::new(&federation.context, transcript, identity, site, body), shares)
    };
    let (states, collecting) = multiplied(&federation, &[], swap, right);
    let (selecting, products) = collecting.close().unwrap();
    let refused = finish(&federation, states, selecting, &products, set(&[1, 2, 3])).unwrap_err();
    assert_eq!(refused, SecaggError::Linkage);
    // Where it is not selected, it did no harm.
    let (states, collecting) = multiplied(&federation, &[], swap, right);
    let (selecting, products) = collecting.close().unwrap();
    assert!(finish(&federation, states, selecting, &products, set(&[0, 1, 3])).is_ok());
}

#[test]
fn a_vector_that_wraps_around_the_field_is_found_out() {
    // Site 2 shares and masks a vector whose squared norm is the modulus and a little: it seems short.
    let federation = federation(5);
    let long = long_vector();
    let norm: i128 = long.iter().map(|value| i128::from(*value).pow(2)).sum();
    let p = i128::from(crate::field::P);
    assert!(norm > p && norm - p < 1 << 40);
    let integers = |it: &Vec<f32>| Input::Update(it).quantise(&federation.context).unwrap();
    let mut words: Vec<Vec<u32>> = vectors(5).iter().map(integers).collect();
    words[2] = long.iter().map(|value| *value as u32).collect();
    let (states, collecting, transcript) = shared_words(&federation, &words, &[], honest);
    let (waiting, collecting) = multiply_all(&federation, states, collecting, transcript, right);
    let (selecting, products) = collecting.close().unwrap();
    let seems = selecting.gram().integer(index(2), index(2)).unwrap();
    assert_eq!(i128::from(seems), norm - p);
    let refused = finish(&federation, waiting, selecting, &products, set(&[1, 2, 3])).unwrap_err();
    assert_eq!(refused, SecaggError::Linkage);
}

#[test]
fn a_vector_beyond_the_norm_bound_is_left_out() {
    let federation = federation(5);
    let integers = |it: &Vec<f32>| Input::Update(it).quantise(&federation.context).unwrap();
    let mut words: Vec<Vec<u32>> = vectors(5).iter().map(integers).collect();
    // Twice as long as may be: its square wraps around the field, to a negative number or to a large one.
    let steps = (2.0 * 8.0 * federation.context.fixed_point().unwrap().scale()) as u32;
    words[1] = vec![0; LENGTH];
    words[1][9] = steps;
    let (states, collecting, transcript) = shared_words(&federation, &words, &[], honest);
    let (states, collecting) = multiply_all(&federation, states, collecting, transcript, right);
    let (selecting, products) = collecting.close().unwrap();
    assert_eq!(selecting.too_long(), set(&[1]));
    assert_eq!(selecting.gram().integers().len(), 10);
    assert_eq!(selecting.gram().vectors(), set(&[0, 2, 3, 4]));
    let exact: i64 = words[2]
        .iter()
        .zip(&words[4])
        .map(|(a, b)| i64::from(a.cast_signed()) * i64::from(b.cast_signed()))
        .sum();
    assert_eq!(selecting.gram().integer(index(4), index(2)), Some(exact));
    assert_eq!(selecting.gram().integer(index(1), index(2)), None);
    assert_eq!(selecting.gram().to_matrix().len(), 16);
    assert!(finish(&federation, states, selecting, &products, set(&[0, 2, 3])).is_ok());
    let (states, collecting, transcript) = shared_words(&federation, &words, &[], honest);
    let (_, collecting) = multiply_all(&federation, states, collecting, transcript, right);
    let (selecting, _) = collecting.close().unwrap();
    let refused = selecting.select(set(&[0, 1, 2])).unwrap_err();
    assert_eq!(refused, SecaggError::UnknownSurvivors { sites: vec![name(1)] });
}

/// Integers whose squares add up to a little more than the modulus.
fn long_vector() -> Vec<i32> {
    let mut values = vec![0; LENGTH];
    let mut left = i128::from(crate::field::P) + 1000;
    for value in &mut values {
        let root = (left as f64).sqrt().floor().min(1.0e9) as i128;
        let root = if root * root > left { root - 1 } else { root };
        *value = root as i32;
        left -= root * root;
    }
    values
}

#[test]
fn a_dealer_of_no_vector_is_named() {
    // Its shares lie on no polynomial of the right degree: all products with it fail, and no others.
    let context = &federation(7).context;
    let all = set(&[0, 1, 2, 3, 4, 5, 6]);
    let elements = VectorShare::elements(context, all);
    let mut held: Vec<VectorShares> = (0..7).map(|_| Vec::new()).collect();
    for dealer in all.iter() {
        let key = SecretKey::from_bytes([dealer.get() as u8; 32]);
        let dealt = crate::selection::deal(context, &vec![dealer.get() as u32 + 1; LENGTH], all, &key);
        for (holder, bytes) in dealt {
            let mut bytes = bytes.to_vec();
            if dealer == index(3) {
                let mut rng = key.generator("noise", &[holder.get() as u64]);
                for value in bytes[..8 * LENGTH].chunks_exact_mut(8) {
                    value.copy_from_slice(&Fe::random(&mut rng).get().to_le_bytes());
                }
            }
            held[holder.get()].push((dealer, HeldShare::read(&bytes, elements).unwrap()));
        }
    }
    let products: Vec<Products> =
        held.iter().map(|held| crate::selection::multiply(context, held, all)).collect();
    let shares: Vec<_> = all.iter().zip(&products).collect();
    let refused = crate::selection::open(context, all, &shares).unwrap_err();
    assert_eq!(refused, SecaggError::Products { culprits: vec![name(3)] });
}

#[test]
fn a_selection_that_does_not_follow_is_not_signed() {
    let federation = federation(5);
    let attempt = |proposed: &[usize], own: &[usize]| {
        let (mut states, collecting) = multiplied(&federation, &[4], honest, right);
        let (_, products) = collecting.close().unwrap();
        let (state, _) = states.remove(&index(0)).unwrap().review(&products).unwrap();
        state.consent(Proposal { summed: set(proposed) }, set(own)).unwrap_err()
    };
    assert_eq!(attempt(&[0, 1, 2], &[0, 1, 3]), SecaggError::OtherSelection);
    assert_eq!(attempt(&[0, 1, 4], &[0, 1, 4]), SecaggError::UnknownSurvivors { sites: vec![name(4)] });
    assert!(matches!(attempt(&[0, 1], &[0, 1]), SecaggError::TooFew { expected: 3, found: 2, .. }));
}

#[test]
fn vector_shares_are_sealed_and_complete() {
    let federation = federation(5);
    let (states, collecting, _) = shared(&federation, &[], honest);
    let (_, mut deliveries) = collecting.close().unwrap();
    let (site, mut shares) = deliveries.remove(0);
    shares[1].sealed[1000] ^= 1;
    let dealer = name(shares[1].dealer().get());
    let refused = { states }.remove(&site).unwrap().multiply(shares).unwrap_err();
    assert_eq!(refused, SecaggError::DealtShare { dealer });
    // The coordinator sees a share that is missing.
    let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
    let (mut collecting, dealings) = collecting.close_for_selection().unwrap();
    let (site, state) = states.into_iter().next().unwrap();
    let mut rng = federation.rng(1);
    let vectors = vectors(5);
    let (_, input, mut sent) =
        state.share(&dealings, &vectors[0], &mut Participation::default(), &mut rng).unwrap();
    sent.pop();
    let refused = collecting.receive(input, sent).unwrap_err();
    assert_eq!(refused.culprits(), [name(site.get())]);
}

#[test]
fn what_is_too_long_or_for_another_session_is_refused() {
    let federation = federation(5);
    let dealt = |federation: &Federation| {
        let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
        (states.into_iter().next().unwrap().1, collecting)
    };
    let (state, collecting) = dealt(&federation);
    let (_, dealings) = collecting.close_for_selection().unwrap();
    let long = vec![0.2; LENGTH];
    let mut participation = Participation::default();
    let refused = state.share(&dealings, &long, &mut participation, &mut federation.rng(1)).unwrap_err();
    assert!(matches!(refused, SecaggError::Norm { bound: 8.0, .. }), "{refused:?}");
    assert_eq!(participation, Participation::default());
    let (state, collecting) = dealt(&federation);
    assert!(matches!(collecting.close(), Err(SecaggError::OtherContribution { .. })));
    let refused = state.mask(&dealings, Input::Update(&long), &mut participation).unwrap_err();
    assert!(matches!(refused, SecaggError::OtherContribution { .. }));
    let few = terms(3, contribution());
    assert!(matches!(SessionContext::new(few, &federation.roster), Err(SecaggError::Terms { .. })));
    let mut two = terms(5, contribution());
    two.min_clients = 2;
    assert!(matches!(SessionContext::new(two, &federation.roster), Err(SecaggError::MinClients { .. })));
}

#[test]
fn fewer_than_the_privacy_threshold_see_uniform_shares() {
    // T holders' shares of two different vectors are equally likely: for every value there is exactly one
    // polynomial through the shares they hold. Seen as numbers: shares of zero and of ones fill the field
    // alike.
    let federation = federation(10);
    let all = set(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for value in [0, 1] {
        let dealt = crate::selection::deal(&federation.context, &vec![value; LENGTH], all, &federation.key);
        for (_, share) in &dealt[..3] {
            let (words, _) = share[..8 * LENGTH].as_chunks();
            let high = words.iter().filter(|word| u64::from_le_bytes(**word) > crate::field::P / 2).count();
            // Six standard deviations are 212.
            assert!((2288..=2712).contains(&high), "{high}");
        }
    }
}
