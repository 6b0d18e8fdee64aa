//! Selection, between rounds 2 and 3: relays shares of vectors, opens inner products, proposes a selection.

use std::collections::BTreeMap;

use super::inputs::{add, admit};
use super::{CollectingConsents, Session, enough};
use crate::error::SecaggError;
use crate::message::{MaskedInput, MessageKind, Products, Proposal, VectorShare};
use crate::roster::{Members, SiteIndex};
use crate::selection::{Gram, open};
use crate::signed::{Broadcast, Signed};
use crate::site::check_selection;

/// Waits for masked inputs and for the sealed shares of the same vectors.
#[derive(Debug)]
pub struct CollectingVectors {
    session: Session,
    inputs: BTreeMap<SiteIndex, Vec<u32>>,
    /// By holder, then by dealer.
    deliveries: BTreeMap<SiteIndex, Vec<VectorShare>>,
}

impl CollectingVectors {
    pub(super) fn new(session: Session) -> Self {
        Self { session, inputs: BTreeMap::new(), deliveries: BTreeMap::new() }
    }

    /// Takes the masked input of one site and its shares for all other dealers.
    ///
    /// Refused are an input that is not signed under this transcript by a site that dealt, a second one,
    /// and shares that are not one for each other dealer.
    pub fn receive(
        &mut self,
        message: Signed<MaskedInput>,
        shares: Vec<VectorShare>,
    ) -> Result<(), SecaggError> {
        let dealers = self.session.dealers();
        admit(&self.session, &message, self.received())?;
        let dealer = message.sender();
        let mut others = Members::default();
        others.insert(dealer);
        let others = dealers.without(others);
        let fits = |share: &VectorShare| {
            let bytes = 8 * VectorShare::elements(&self.session.context, dealers);
            share.dealer == dealer && share.dealers == dealers && share.sealed.len() == bytes
        };
        let holders: Members = shares.iter().map(|share| share.holder).collect();
        if holders != others || shares.len() != others.len() || !shares.iter().all(fits) {
            return Err(SecaggError::DealtShare { dealer: self.session.context.name(dealer) });
        }
        self.inputs.insert(dealer, message.into_body().words);
        for share in shares {
            self.deliveries.entry(share.holder).or_default().push(share);
        }
        Ok(())
    }

    /// Who has sent an input and shares.
    pub fn received(&self) -> Members {
        self.inputs.keys().copied().collect()
    }

    /// Ends the round: for every site whose input has come, the shares of the others whose inputs have
    /// come.
    #[expect(clippy::type_complexity, reason = "the next state and what goes to each site")]
    pub fn close(self) -> Result<(CollectingProducts, Vec<(SiteIndex, Vec<VectorShare>)>), SecaggError> {
        let vectors = self.received();
        let Self { session, inputs, deliveries } = self;
        enough(MessageKind::MaskedInput, vectors.len(), session.context.least_sites())?;
        let deliveries = deliveries.into_iter().filter(|(holder, _)| vectors.contains(*holder)).collect();
        Ok((CollectingProducts { session, inputs, vectors, messages: BTreeMap::new() }, deliveries))
    }
}

/// Waits for the shares of inner products.
#[derive(Debug)]
pub struct CollectingProducts {
    session: Session,
    inputs: BTreeMap<SiteIndex, Vec<u32>>,
    vectors: Members,
    messages: BTreeMap<SiteIndex, Signed<Products>>,
}

impl CollectingProducts {
    /// Takes one site's shares of all inner products. Refused are shares that are not signed under this
    /// transcript, of other vectors, or sent twice.
    pub fn receive(&mut self, message: Signed<Products>) -> Result<(), SecaggError> {
        let context = &self.session.context;
        message.verify(context, self.session.transcript, self.vectors)?;
        let site = context.name(message.sender());
        if self.messages.contains_key(&message.sender()) {
            return Err(SecaggError::Duplicate { message: MessageKind::Products, site });
        }
        if message.body().vectors != self.vectors {
            return Err(SecaggError::Products { culprits: vec![site] });
        }
        self.messages.insert(message.sender(), message);
        Ok(())
    }

    /// Who has sent shares.
    pub fn received(&self) -> Members {
        self.messages.keys().copied().collect()
    }

    /// Ends the round: opens all inner products and passes on the shares that fit.
    ///
    /// Wrong shares are located and left out while enough others remain ([`Selecting::suspects`]); where
    /// they cannot be, or a dealer shared no vector at all, the error names whom it can.
    pub fn close(self) -> Result<(Selecting, Broadcast<Products>), SecaggError> {
        let Self { session, inputs, vectors, mut messages } = self;
        let threshold = session.context.terms().threshold;
        enough(MessageKind::Products, messages.len(), threshold)?;
        let shares: Vec<_> = messages.iter().map(|(site, it)| (*site, it.body())).collect();
        let opened = open(&session.context, vectors, &shares)?;
        messages.retain(|site, _| !opened.wrong.contains(*site));
        if messages.len() < threshold {
            let culprits = session.context.names(opened.wrong);
            return Err(SecaggError::Products { culprits });
        }
        let broadcast = Broadcast::new(messages.into_values());
        let transcript = broadcast.transcript(session.transcript);
        let session = Session { transcript, ..session };
        Ok((
            Selecting {
                session,
                inputs,
                gram: opened.gram,
                suspects: opened.wrong,
                too_long: opened.too_long,
            },
            broadcast,
        ))
    }
}

#[cfg(test)]
impl CollectingProducts {
    pub(crate) fn messages_for_tests(self) -> impl Iterator<Item = Signed<Products>> {
        self.messages.into_values()
    }
}

/// Knows the inner products; whom to select is up to the aggregation rule.
#[derive(Debug)]
pub struct Selecting {
    session: Session,
    inputs: BTreeMap<SiteIndex, Vec<u32>>,
    gram: Gram,
    suspects: Members,
    too_long: Members,
}

impl Selecting {
    /// The opened inner products.
    pub fn gram(&self) -> &Gram {
        &self.gram
    }

    /// Sites whose shares of inner products did not fit those of the others. Each sent wrong shares, or
    /// was dealt wrong ones by the one site whose products alone are wrong at its place.
    pub fn suspects(&self) -> Members {
        self.suspects
    }

    /// Sites whose vectors are longer than the norm bound. They are not in the inner products and cannot be
    /// selected.
    pub fn too_long(&self) -> Members {
        self.too_long
    }

    /// Proposes whose inputs are summed. All others count as dropped: their self-masks are never rebuilt.
    ///
    /// Refused are sites whose vectors were not multiplied and fewer sites than `min_clients`.
    pub fn select(self, summed: Members) -> Result<(CollectingConsents, Proposal), SecaggError> {
        let Self { session, inputs, gram, .. } = self;
        check_selection(&session.context, &gram, summed)?;
        let mut sum = vec![0; session.context.input_words()];
        for (_, words) in inputs.iter().filter(|(site, _)| summed.contains(**site)) {
            add(&mut sum, words);
        }
        Ok((CollectingConsents::new(session, sum, summed, Some(gram)), Proposal { summed }))
    }
}
