//! What a rule remembers between rounds, and its form in storage.
//!
//! Little endian: the mark `MFAG`, version 1 as `u16`, the kind of state as `u8`, the parameters of the model
//! as `u64`, the number of entries as `u32`; then for every entry the length of its name as `u8`, the name in
//! UTF-8, and its values as `f32`. Histories are entries in the order of the names; the centre is one entry
//! with an empty name.

use crate::aggregator::Aggregator;
use crate::error::{AggregateError, StateFault};
use crate::foolsgold::Histories;
use medfed_types::SiteId;
use std::sync::Arc;

const MARK: [u8; 4] = *b"MFAG";
const VERSION: u16 = 1;
const HEADER: usize = 4 + 2 + 1 + 8 + 4;

/// State between rounds. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// Rules that look at one round alone.
    Nothing,
    /// FoolsGold: the sum of each hospital's updates.
    Histories(Histories),
    /// Centred clipping: the last step.
    Centre(Option<Arc<Vec<f32>>>),
}

impl State {
    /// The history of a hospital.
    pub(crate) fn history(&self, site: &SiteId) -> Option<&[f32]> {
        match self {
            Self::Histories(histories) => histories.get(site).map(|history| history.as_slice()),
            _ => None,
        }
    }

    /// The last step.
    pub(crate) fn centre(&self) -> Option<&[f32]> {
        match self {
            Self::Centre(Some(centre)) => Some(centre),
            _ => None,
        }
    }

    /// Whether it fits a model of `parameters` parameters.
    pub(crate) fn check(&self, parameters: usize) -> Result<(), AggregateError> {
        match self.entries().iter().find(|(_, values)| values.len() != parameters) {
            Some((_, values)) => {
                Err(AggregateError::StateLength { expected: parameters, found: values.len() })
            }
            None => Ok(()),
        }
    }

    fn entries(&self) -> Vec<(&str, &[f32])> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Histories(histories) => {
                histories.iter().map(|(site, history)| (site.as_str(), history.as_slice())).collect()
            }
            Self::Centre(centre) => centre.iter().map(|centre| ("", centre.as_slice())).collect(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Histories(_) => 1,
            Self::Centre(_) => 2,
        }
    }
}

impl Aggregator {
    /// The state between rounds, for [`Aggregator::restore`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.state.entries();
        let parameters = entries.first().map_or(0, |(_, values)| values.len());
        let names: usize = entries.iter().map(|(name, _)| name.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER + entries.len() * (1 + 4 * parameters) + names);
        bytes.extend(MARK);
        bytes.extend(VERSION.to_le_bytes());
        bytes.push(self.state.kind());
        bytes.extend((parameters as u64).to_le_bytes());
        bytes.extend((entries.len() as u32).to_le_bytes());
        for (name, values) in entries {
            // Site names have at most 64 bytes.
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            for value in values {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes
    }

    /// Takes the state of another aggregator with the same kind of rule. On an error the state is what it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), AggregateError> {
        self.state = read(bytes, self.state.kind())?;
        Ok(())
    }
}

fn read(bytes: &[u8], kind: u8) -> Result<State, StateFault> {
    let length = StateFault::Length { found: bytes.len() };
    let mut rest = bytes;
    if take::<4>(&mut rest) != Some(MARK) || take(&mut rest).map(u16::from_le_bytes) != Some(VERSION) {
        return Err(StateFault::Format);
    }
    if take(&mut rest).ok_or(length)? != [kind] {
        return Err(StateFault::OtherRule);
    }
    let parameters = u64::from_le_bytes(take(&mut rest).ok_or(length)?);
    let count = u32::from_le_bytes(take(&mut rest).ok_or(length)?) as usize;
    let size = usize::try_from(parameters).ok().and_then(|it| it.checked_mul(4)).ok_or(length)?;
    let mut entries: Vec<(&str, Vec<f32>)> = Vec::new();
    for entry in 0..count {
        let [name] = take(&mut rest).ok_or(length)?;
        let name = rest.split_off(..usize::from(name)).ok_or(length)?;
        let name = std::str::from_utf8(name).map_err(|_| StateFault::Name { entry })?;
        // Nothing is allocated before its bytes are seen to be there.
        let (values, _) = rest.split_off(..size).ok_or(length)?.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(StateFault::NotFinite { entry });
        }
        if entries.last().is_some_and(|(before, _)| *before >= name) {
            return Err(StateFault::Name { entry });
        }
        entries.push((name, values));
    }
    if !rest.is_empty() {
        return Err(length);
    }
    match (kind, entries.len()) {
        (1, _) => {
            let mut histories = Histories::new();
            for (entry, (name, values)) in entries.into_iter().enumerate() {
                let site = SiteId::try_from(name).map_err(|_| StateFault::Name { entry })?;
                histories.insert(site, Arc::new(values));
            }
            Ok(State::Histories(histories))
        }
        (2, 0) => Ok(State::Centre(None)),
        (2, 1) if entries[0].0.is_empty() => {
            Ok(State::Centre(entries.pop().map(|(_, values)| Arc::new(values))))
        }
        (2, _) => Err(StateFault::Name { entry: 0 }),
        (_, 0) => Ok(State::Nothing),
        _ => Err(StateFault::OtherRule),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
