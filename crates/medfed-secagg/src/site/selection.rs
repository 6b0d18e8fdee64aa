//! Selection, between rounds 2 and 3: vectors are shared, multiplied and reviewed.

use medfed_types::{SecretKey, SecretRng};
use rand::Rng;
use zeroize::{Zeroize, Zeroizing};

use super::masked_input::Dealt;
use super::{AwaitingAgreement, AwaitingDealings, Holdings, Me, Participation};
use crate::agreement::{DerivedKey, SharedSecret};
use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::field::Fe;
use crate::input::Input;
use crate::message::{Consent, Dealing, MaskedInput, MessageKind, Products, Proposal, VectorShare};
use crate::roster::{Members, SiteIndex};
use crate::selection::{Factors, Gram, HeldShare, Opened, VectorShares, deal, multiply, open};
use crate::signed::{Broadcast, Signed};

/// The shares of everyone's vector that this site holds.
#[derive(Debug)]
pub(super) struct SharedVectors {
    shares: VectorShares,
    length: usize,
}

impl SharedVectors {
    /// This site's share of the random combination of the coordinates of the sum of the selected vectors.
    pub(super) fn combine(&self, coin: Digest, summed: Members) -> Fe {
        let selected: Vec<&[Fe]> = self
            .shares
            .iter()
            .filter(|(dealer, _)| summed.contains(*dealer))
            .map(|(_, it)| &it[..])
            .collect();
        let sum = |at: usize| selected.iter().fold(Fe::ZERO, |sum, share| sum + share[at]);
        Factors::new(coin).combine(self.length, sum)
    }
}

/// The site has masked its input and shared it, and waits for the shares of others.
#[derive(Debug)]
pub struct AwaitingShares {
    me: Me,
    transcript: Digest,
    dealers: Members,
    holdings: Holdings,
    keys: Vec<(SiteIndex, DerivedKey)>,
    own: HeldShare,
}

impl AwaitingDealings {
    /// Takes everyone's dealings; masks the input and shares it among all dealers.
    ///
    /// Refuses what [`mask`](Self::mask) refuses, and an input beyond the norm bound.
    pub fn share(
        self,
        dealings: &Broadcast<Dealing>,
        update: &[f32],
        participation: &mut Participation,
        rng: &mut SecretRng,
    ) -> Result<(AwaitingShares, Signed<MaskedInput>, Vec<VectorShare>), SecaggError> {
        if !self.me.context.selects() {
            let (expected, found) = ("updates that are not selected", "selected updates");
            return Err(SecaggError::OtherContribution { expected, found });
        }
        let words = Input::Update(update).quantise(&self.me.context)?;
        let words = Zeroizing::new(words);
        self.share_words(dealings, &words, participation, rng)
    }

    /// Masks and shares integers that were checked against the terms.
    pub(crate) fn share_words(
        self,
        dealings: &Broadcast<Dealing>,
        words: &[u32],
        participation: &mut Participation,
        rng: &mut SecretRng,
    ) -> Result<(AwaitingShares, Signed<MaskedInput>, Vec<VectorShare>), SecaggError> {
        let mut dealt = self.receive(dealings)?;
        let message = dealt.masked_input(words.to_vec());
        participation.claim(&dealt.me.context, &message)?;
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let open = deal(&dealt.me.context, words, dealt.dealers, &SecretKey::from_bytes(key));
        key.zeroize();

        let shared = std::mem::take(&mut dealt.shared);
        let mut own = None;
        let mut sealed = Vec::with_capacity(shared.len());
        for (holder, mut share) in open {
            if holder == dealt.me.index {
                let elements = VectorShare::elements(&dealt.me.context, dealt.dealers);
                own = HeldShare::read(&share, elements);
                continue;
            }
            // Every other dealer has a key with this site.
            let Some((_, secret)) = shared.iter().find(|(other, _)| *other == holder) else { continue };
            let dealer = dealt.me.index;
            let tag = vector_key(secret, dealt.keys_transcript, dealer, holder).seal(&mut share);
            let bytes = std::mem::take(&mut *share);
            sealed.push(VectorShare { dealer, holder, dealers: dealt.dealers, sealed: bytes, tag });
        }
        let receive = |(dealer, secret): &(SiteIndex, SharedSecret)| {
            (*dealer, vector_key(secret, dealt.keys_transcript, *dealer, dealt.me.index))
        };
        let keys = shared.iter().map(receive).collect();
        let own = own.ok_or(SecaggError::OwnMessage { message: MessageKind::Dealing })?;
        let Dealt { me, transcript, dealers, holdings, .. } = dealt;
        Ok((AwaitingShares { me, transcript, dealers, holdings, keys, own }, message, sealed))
    }
}

fn vector_key(secret: &SharedSecret, transcript: Digest, dealer: SiteIndex, holder: SiteIndex) -> DerivedKey {
    secret.key(transcript, "vector share", [dealer, holder])
}

impl AwaitingShares {
    /// Takes the shares of every site that masked an input, and multiplies them.
    ///
    /// Refused are shares that do not open, two from one dealer, and fewer than the threshold or
    /// `min_clients`.
    pub fn multiply(
        self,
        shares: Vec<VectorShare>,
    ) -> Result<(AwaitingProducts, Signed<Products>), SecaggError> {
        let Self { me, transcript, dealers, holdings, keys, own } = self;
        let message = MessageKind::VectorShare;
        let elements = VectorShare::elements(&me.context, dealers);
        let mut held = VectorShares::with_capacity(shares.len() + 1);
        held.push((me.index, own));
        for share in shares {
            let dealer = share.dealer;
            let site = || me.context.name(dealer);
            let key = keys.iter().find(|(other, _)| *other == dealer);
            let (_, key) = key.ok_or_else(|| SecaggError::Uninvited { message, site: site() })?;
            if held.iter().any(|(other, _)| *other == dealer) {
                return Err(SecaggError::Duplicate { message, site: site() });
            }
            let mut open = Zeroizing::new(share.sealed);
            let opens = key.open(&mut open, &share.tag);
            let read = if opens { HeldShare::read(&open, elements) } else { None };
            held.push((dealer, read.ok_or_else(|| SecaggError::DealtShare { dealer: site() })?));
        }
        let (found, expected) = (held.len(), me.context.least_sites());
        if found < expected {
            return Err(SecaggError::TooFew { message, expected, found });
        }
        held.sort_unstable_by_key(|(dealer, _)| *dealer);
        let products = multiply(&me.context, &held, dealers);
        let own = Signed::new(&me.context, transcript, &me.identity, me.index, products);
        let vectors = SharedVectors { shares: held, length: me.context.input_words() };
        Ok((AwaitingProducts { me, transcript, dealers, holdings, vectors, own: own.clone() }, own))
    }
}

/// The site has sent its shares of the inner products and waits for those of others.
#[derive(Debug)]
pub struct AwaitingProducts {
    me: Me,
    transcript: Digest,
    dealers: Members,
    holdings: Holdings,
    vectors: SharedVectors,
    own: Signed<Products>,
}

impl AwaitingProducts {
    /// Takes the shares of the inner products and opens them, so that the site can select for itself.
    ///
    /// Refused are shares that do not fit together, are of other vectors or too few, and a list without
    /// this site's own.
    pub fn review(self, products: &Broadcast<Products>) -> Result<(AwaitingSelection, Gram), SecaggError> {
        let Self { me, transcript, dealers, holdings, vectors, own } = self;
        if !products.messages().contains(&own) {
            return Err(SecaggError::OwnMessage { message: MessageKind::Products });
        }
        products.verify(&me.context, transcript, dealers)?;
        let Opened { gram, too_long, .. } = review(&me.context, own.body().vectors, products)?;
        let transcript = products.transcript(transcript);
        let state =
            AwaitingSelection { me, transcript, dealers, holdings, vectors, gram: gram.clone(), too_long };
        Ok((state, gram))
    }
}

/// Opens verified shares that all fit.
fn review(
    context: &SessionContext,
    vectors: Members,
    products: &Broadcast<Products>,
) -> Result<Opened, SecaggError> {
    let (found, expected) = (products.messages().len(), context.terms().threshold);
    if found < expected {
        return Err(SecaggError::TooFew { message: MessageKind::Products, expected, found });
    }
    if let Some(other) = products.messages().iter().find(|it| it.body().vectors != vectors) {
        return Err(SecaggError::Products { culprits: vec![context.name(other.sender())] });
    }
    let shares: Vec<_> = products.messages().iter().map(|it| (it.sender(), it.body())).collect();
    let opened = open(context, vectors, &shares)?;
    if !opened.wrong.is_empty() {
        return Err(SecaggError::Products { culprits: context.names(opened.wrong) });
    }
    Ok(opened)
}

/// The site knows the inner products and waits for the coordinator's selection.
#[derive(Debug)]
pub struct AwaitingSelection {
    me: Me,
    transcript: Digest,
    dealers: Members,
    holdings: Holdings,
    vectors: SharedVectors,
    gram: Gram,
    too_long: Members,
}

impl AwaitingSelection {
    /// Sites whose vectors are longer than the norm bound. They are not in the inner products and cannot be
    /// selected.
    pub fn too_long(&self) -> Members {
        self.too_long
    }

    /// Takes the coordinator's selection and signs it, if it is the one that this site selected itself.
    /// This site need not be in it.
    ///
    /// Refused are another selection, one with sites whose vectors were not multiplied, and fewer sites
    /// than `min_clients`.
    pub fn consent(
        self,
        proposal: Proposal,
        selected: Members,
    ) -> Result<(AwaitingAgreement, Signed<Consent>), SecaggError> {
        let Self { me, transcript, dealers, holdings, vectors, gram, .. } = self;
        let summed = proposal.summed;
        if summed != selected {
            return Err(SecaggError::OtherSelection);
        }
        check_selection(&me.context, &gram, summed)?;
        let consent = Signed::new(&me.context, transcript, &me.identity, me.index, Consent { summed });
        let vectors = Some(vectors);
        Ok((AwaitingAgreement { me, transcript, dealers, holdings, summed, vectors }, consent))
    }
}

/// Refuses a selection of strangers, or of too few.
pub(crate) fn check_selection(
    context: &SessionContext,
    gram: &Gram,
    summed: Members,
) -> Result<(), SecaggError> {
    if !summed.is_subset(gram.vectors()) {
        let sites = context.names(summed.without(gram.vectors()));
        return Err(SecaggError::UnknownSurvivors { sites });
    }
    let (found, expected) = (summed.len(), context.terms().min_clients);
    if found < expected {
        return Err(SecaggError::TooFew { message: MessageKind::Products, expected, found });
    }
    Ok(())
}
