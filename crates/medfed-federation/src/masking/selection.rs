//! Selection under masks: what it goes by besides the plan, the verdict, and the messages of its steps.
//!
//! After the masked inputs have left, two steps follow ([`medfed_secagg::selection`]): shares of the vectors
//! are multiplied ([`Step::Multiply`](super::Step::Multiply)), and the products are reviewed
//! ([`Step::Review`](super::Step::Review)): the coordinator opens them, selects, and passes on products and
//! selection together; every hospital opens and selects for itself and signs the set only if it is its own.
//!
//! The verdict is a function of the plan's rule, the opened products and a [`Prospect`], which the coordinator
//! sends with its invitation. It is part of the terms: hospitals that were shown different ones find that
//! nobody's signature verifies.

use super::wire::{Fault, Reader};
use crate::report::SelectionReport;
use medfed_aggregate::AggregateError;
use medfed_aggregate::anomaly::Expected;
use medfed_aggregate::selection::{LeftOut, OpenedProducts, ProductHistory, SelectionRule, Verdict};
use medfed_secagg::coordinator::Selecting;
use medfed_secagg::message::{MaskedInput, Products, Proposal, VectorShare};
use medfed_secagg::selection::Gram;
use medfed_secagg::{
    Broadcast, Digest, Members, MessageKind, NormBound, SecaggError, SessionContext, Signed, SiteIndex,
};
use medfed_types::SiteId;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What a selection goes by besides the plan: the coordinator's word, the same to every hospital.
#[derive(Debug, Clone, PartialEq)]
pub struct Prospect {
    /// The largest L2 norm of an update.
    pub norm: NormBound,
    /// What an honest update of each hospital looks like, by its announced plan.
    pub expected: BTreeMap<SiteId, Expected>,
    /// What was opened in earlier rounds; empty for rules that look at one round.
    pub past: ProductHistory,
}

impl Prospect {
    /// The norm bound, the number of hospitals (2 bytes), for each its name behind its length, a byte that
    /// says whether there is a least norm, the scale and the least norm; then what was opened before.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.norm.get().to_le_bytes().to_vec();
        // A federation has far fewer hospitals.
        out.extend((self.expected.len() as u16).to_le_bytes());
        for (site, expected) in &self.expected {
            out.push(site.as_str().len() as u8);
            out.extend_from_slice(site.as_str().as_bytes());
            let least = expected.least_norm();
            out.push(u8::from(least.is_some()));
            out.extend(expected.scale().to_le_bytes());
            out.extend(least.unwrap_or(0.0).to_le_bytes());
        }
        out.extend(self.past.to_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        let norm = NormBound::new(f64::from_le_bytes(reader.array()?)).map_err(|_| Fault::Value)?;
        let count = u16::from_le_bytes(reader.array()?);
        let mut expected = BTreeMap::new();
        for _ in 0..count {
            let [length] = reader.array()?;
            let name = std::str::from_utf8(reader.bytes(usize::from(length))?).map_err(|_| Fault::Value)?;
            let site = SiteId::try_from(name).map_err(|_| Fault::Value)?;
            let [bounded] = reader.array()?;
            let (scale, least) = (f64::from_le_bytes(reader.array()?), f64::from_le_bytes(reader.array()?));
            let least = match bounded {
                0 if least.to_bits() == 0 => None,
                1 => Some(least),
                _ => return Err(Fault::Value),
            };
            if expected.last_key_value().is_some_and(|(last, _)| *last >= site) {
                return Err(Fault::Value);
            }
            expected.insert(site, Expected::new(scale, least).map_err(|_| Fault::Value)?);
        }
        let past = ProductHistory::from_bytes(reader.0).map_err(|_| Fault::Value)?;
        Ok(Self { norm, expected, past })
    }

    /// The hash of the configuration that terms carry: it covers this, too, and how many hospitals withheld
    /// their update.
    pub(super) fn bind(&self, configuration: Digest, withheld: u8) -> Digest {
        let hash = Sha256::new_with_prefix(b"medfed selection v1\0").chain_update(configuration.as_bytes());
        Digest::new(hash.chain_update([withheld]).chain_update(self.encode()).finalize().into())
    }
}

/// What was opened of a round's updates, and what follows.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The inner products.
    pub opened: OpenedProducts,
    /// Who is selected, and why the others are not.
    pub verdict: Verdict,
}

/// All that a verdict follows from besides the opened products.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub(super) rule: SelectionRule,
    pub(super) prospect: Prospect,
    /// Hospitals that said that their update does not fit.
    pub(super) withheld: u8,
}

impl Basis {
    /// The same for everyone who has the products.
    fn judgement(
        &self,
        context: &SessionContext,
        gram: &Gram,
        too_long: Members,
    ) -> Result<Judgement, AggregateError> {
        let sites = context.names(gram.vectors());
        let products = medfed_aggregate::Gram::new(sites.len(), gram.to_matrix())?;
        let opened = OpenedProducts::new(sites, products, context.input_words())?;
        let gone = LeftOut { refused: too_long.len(), withheld: usize::from(self.withheld) };
        let verdict = self.rule.select(&opened, &self.prospect.expected, &self.prospect.past, gone);
        Ok(Judgement { opened, verdict })
    }

    /// A site's own selection from products that it has opened; nothing where no sum may be opened.
    pub(super) fn own_selection(
        &self,
        context: &SessionContext,
        gram: &Gram,
        too_long: Members,
    ) -> Option<Members> {
        self.judgement(context, gram, too_long).ok()?.selected(context)
    }

    /// The coordinator's selection, with what everyone may know of it.
    pub(super) fn judge(
        &self,
        context: &SessionContext,
        selecting: &Selecting,
    ) -> Result<(Judgement, SelectionReport, Option<Members>), AggregateError> {
        let (gram, too_long) = (selecting.gram(), selecting.too_long());
        let judgement = self.judgement(context, gram, too_long)?;
        let mut report = SelectionReport::new(&self.rule, &self.prospect, context, gram, &judgement.verdict);
        report.too_long = context.names(too_long);
        report.suspects = context.names(selecting.suspects());
        let selected = judgement.selected(context);
        Ok((judgement, report, selected))
    }
}

impl Judgement {
    /// Whose updates are to be summed; nothing where no sum may be opened.
    fn selected(&self, context: &SessionContext) -> Option<Members> {
        let sites = self.verdict.selected.as_ref().ok()?;
        context.members(sites).ok()
    }
}

/// A masked input and the shares of the same vector for all others, each behind its length.
pub(super) fn put_vector(
    context: &SessionContext,
    input: &Signed<MaskedInput>,
    shares: &[VectorShare],
) -> Vec<u8> {
    let mut out = Vec::new();
    put_piece(&mut out, &input.encode());
    for share in shares {
        put_piece(&mut out, &share.encode(context));
    }
    out
}

/// What [`put_vector`] wrote.
pub(super) fn read_vector(
    context: &SessionContext,
    bytes: &[u8],
) -> Result<(Signed<MaskedInput>, Vec<VectorShare>), SecaggError> {
    let pieces = pieces(context, bytes)?;
    let (input, shares) = pieces.split_first().ok_or_else(malformed)?;
    let shares = shares.iter().map(|share| VectorShare::decode(share, context));
    Ok((Signed::decode(input, context)?, shares.collect::<Result<_, _>>()?))
}

/// The shares for each holder.
pub(super) fn put_deliveries(
    context: &SessionContext,
    deliveries: Vec<(SiteIndex, Vec<VectorShare>)>,
) -> Vec<(SiteId, Vec<u8>)> {
    let body = |(holder, shares): (SiteIndex, Vec<VectorShare>)| {
        let mut out = Vec::new();
        for share in &shares {
            put_piece(&mut out, &share.encode(context));
        }
        context.site(holder).map(|site| (site.clone(), out))
    };
    deliveries.into_iter().filter_map(body).collect()
}

/// What [`put_deliveries`] wrote for this site.
pub(super) fn read_delivery(context: &SessionContext, bytes: &[u8]) -> Result<Vec<VectorShare>, SecaggError> {
    pieces(context, bytes)?.into_iter().map(|share| VectorShare::decode(share, context)).collect()
}

/// Everyone's shares of the products, and whose updates are to be summed.
pub(super) fn put_review(
    context: &SessionContext,
    products: &Broadcast<Products>,
    proposal: Proposal,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_piece(&mut out, &products.encode(context));
    put_piece(&mut out, &proposal.encode(context));
    out
}

/// What [`put_review`] wrote.
pub(super) fn read_review(
    context: &SessionContext,
    bytes: &[u8],
) -> Result<(Broadcast<Products>, Proposal), SecaggError> {
    let [products, proposal] = *pieces(context, bytes)? else { return Err(malformed()) };
    Ok((Broadcast::decode(products, context)?, Proposal::decode(proposal, context)?))
}

fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    out.reserve(8 + piece.len());
    out.extend((piece.len() as u64).to_le_bytes());
    out.extend_from_slice(piece);
}

/// The pieces of a message, at most one more than there are hospitals. Nothing is allocated for a length.
fn pieces<'a>(context: &SessionContext, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, SecaggError> {
    let mut reader = Reader(bytes);
    let mut pieces = Vec::new();
    while !reader.0.is_empty() && pieces.len() <= context.sites() {
        let length = reader.array().map_err(|_| malformed())?;
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| malformed())?;
        pieces.push(reader.bytes(length).map_err(|_| malformed())?);
    }
    if reader.0.is_empty() { Ok(pieces) } else { Err(malformed()) }
}

fn malformed() -> SecaggError {
    SecaggError::Malformed { message: MessageKind::VectorShare, fault: medfed_secagg::Fault::Truncated }
}
