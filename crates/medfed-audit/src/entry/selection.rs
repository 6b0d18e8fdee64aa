//! What was opened of a round's updates to select among them, and who was selected: all that it takes to
//! select again.

use super::RosterNumber;
use crate::error::EntryProblem;
use crate::wire::{Reader, Writer};
use medfed_aggregate::anomaly::{DetectorSettings, Expected, Method, OnDetection};
use medfed_aggregate::selection::{
    Detection, LeftOut, OpenedProducts, ProductHistory, SelectionRule, Verdict,
};
use medfed_aggregate::{AggregateError, Gram, Rule};
use medfed_types::{RoundId, SiteId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Opened inner products and the selection that follows. Hospitals are `H`: numbers of the roster in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selection<H = RosterNumber> {
    /// The round.
    pub round: RoundId,
    /// How hospitals are selected.
    pub criterion: Criterion,
    /// How updates are searched before that; nothing where they are not.
    pub search: Option<Search>,
    /// Updates that a sum has at the least.
    pub least: u16,
    /// Values in an update.
    pub parameters: u64,
    /// Integer steps to one: a product divided by its square is an inner product of updates.
    pub steps: f64,
    /// Whose updates were compared, in the order of the hospitals' names.
    pub compared: Vec<Compared<H>>,
    /// Exact inner products of the compared updates in steps, row by row, each row from its diagonal on.
    pub products: Vec<i64>,
    /// Hospitals whose updates were longer than agreed, ascending.
    pub too_long: Vec<H>,
    /// Hospitals that said that their own update does not fit, ascending.
    pub withheld: Vec<H>,
    /// Whose updates were to be summed, ascending; nobody where no sum may be opened.
    pub selected: Vec<H>,
}

/// A hospital whose update was compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared<H = RosterNumber> {
    /// The hospital.
    pub hospital: H,
    /// What its plan makes of an update; nothing where nothing is known.
    pub expected: Option<ExpectedNorm>,
}

/// L2 norms that follow from a hospital's plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExpectedNorm {
    /// Of an ordinary update, up to a factor that all hospitals share.
    pub scale: f64,
    /// The least that the announced noise makes.
    pub least: Option<f64>,
}

/// How hospitals are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// All that are not left out.
    Everyone,
    /// By Multi-Krum.
    MultiKrum {
        /// Bad hospitals that are withstood.
        byzantine: u16,
        /// Updates that are selected.
        selected: u16,
    },
    /// By FoolsGold.
    FoolsGold,
}

/// A search for updates that are out of line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Search {
    /// Whether the mean and the standard deviation are the measure, and not medians.
    pub zscore: bool,
    /// The threshold.
    pub threshold: f64,
    /// What a finding leads to.
    pub consequence: Consequence,
}

/// What a finding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// Nothing.
    Flag = 0,
    /// The update is left out.
    Exclude = 1,
    /// Nothing is opened.
    Halt = 2,
}

impl Criterion {
    fn rule(self) -> Rule {
        match self {
            Self::Everyone => Rule::FedAvg,
            Self::FoolsGold => Rule::FoolsGold,
            Self::MultiKrum { byzantine, selected } => {
                Rule::MultiKrum { byzantine: byzantine.into(), selected: selected.into() }
            }
        }
    }
}

impl Search {
    fn detection(self) -> Result<Detection, AggregateError> {
        let method = if self.zscore { Method::ZScore } else { Method::Robust };
        Ok(Detection {
            settings: DetectorSettings::new(method, self.threshold)?,
            on_detection: match self.consequence {
                Consequence::Flag => OnDetection::Flag,
                Consequence::Exclude => OnDetection::Exclude,
                Consequence::Halt => OnDetection::Halt,
            },
        })
    }
}

impl<H> Selection<H> {
    /// The same of other hospitals; lists that are ascending are to be sorted again.
    pub(crate) fn map<G: Ord, E>(
        self,
        mut number: impl FnMut(&H) -> Result<G, E>,
    ) -> Result<Selection<G>, E> {
        let Self { round, criterion, search, least, parameters, steps, products, .. } = self;
        let Self { compared, too_long, withheld, selected, .. } = self;
        let compared = compared
            .into_iter()
            .map(|it| Ok(Compared { hospital: number(&it.hospital)?, expected: it.expected }))
            .collect::<Result<_, E>>()?;
        let mut ascending = |list: Vec<H>| -> Result<Vec<G>, E> {
            let mut list = list.iter().map(&mut number).collect::<Result<Vec<_>, E>>()?;
            list.sort_unstable();
            Ok(list)
        };
        let (too_long, withheld) = (ascending(too_long)?, ascending(withheld)?);
        let selected = ascending(selected)?;
        Ok(Selection {
            round,
            criterion,
            search,
            least,
            parameters,
            steps,
            compared,
            products,
            too_long,
            withheld,
            selected,
        })
    }
}

impl Selection<SiteId> {
    /// The inner products as real numbers.
    pub(crate) fn opened(&self) -> Result<OpenedProducts, AggregateError> {
        let n = self.compared.len();
        let row = |i: usize| i * n - i * i.saturating_sub(1) / 2;
        let entry = |k: usize| {
            let (i, j) = ((k / n).min(k % n), (k / n).max(k % n));
            self.products.get(row(i) + (j - i)).map(|value| *value as f64 / self.steps / self.steps)
        };
        let entries: Vec<f64> = (0..n * n).map_while(entry).collect();
        let sites = self.compared.iter().map(|it| it.hospital.clone()).collect();
        let parameters = usize::try_from(self.parameters).unwrap_or(usize::MAX);
        OpenedProducts::new(sites, Gram::new(n, entries)?, parameters)
    }

    /// Selects again, after the rounds in `past`.
    pub(crate) fn verdict(&self, past: &ProductHistory) -> Result<Verdict, AggregateError> {
        let detection = self.search.map(Search::detection).transpose()?;
        let rule = SelectionRule::new(self.criterion.rule(), detection, self.least.into())?;
        let expected: BTreeMap<SiteId, Expected> = (self.compared.iter())
            .filter_map(|it| it.expected.map(|norm| (it.hospital.clone(), norm)))
            .map(|(site, norm)| Ok((site, Expected::new(norm.scale, norm.least)?)))
            .collect::<Result<_, AggregateError>>()?;
        let gone = LeftOut { refused: self.too_long.len(), withheld: self.withheld.len() };
        Ok(rule.select(&self.opened()?, &expected, past, gone))
    }
}

impl Selection {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EntryProblem> {
        self.check()?;
        out.int(self.round.0);
        match self.criterion {
            Criterion::Everyone => out.byte(0),
            Criterion::MultiKrum { byzantine, selected } => {
                out.byte(1);
                out.short(byzantine);
                out.short(selected);
            }
            Criterion::FoolsGold => out.byte(2),
        }
        out.option(self.search.as_ref(), |out, search| {
            out.flag(search.zscore);
            out.real(search.threshold);
            out.byte(search.consequence as u8);
            Ok(())
        })?;
        out.short(self.least);
        out.long(self.parameters);
        out.real(self.steps);
        out.list("the compared hospitals", &self.compared, |out, it| {
            out.short(it.hospital.0);
            out.option(it.expected.as_ref(), |out, norm| {
                out.real(norm.scale);
                out.option(norm.least.as_ref(), |out, least| {
                    out.real(*least);
                    Ok(())
                })
            })
        })?;
        // As many as the pairs of compared hospitals: a count would say nothing.
        for product in &self.products {
            out.long(product.cast_unsigned());
        }
        for list in [&self.too_long, &self.withheld, &self.selected] {
            out.list("the hospitals", list, |out, number| {
                out.short(number.0);
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        let round = RoundId(fields.int("the round")?);
        let criterion = match fields.byte("the criterion")? {
            0 => Criterion::Everyone,
            1 => Criterion::MultiKrum {
                byzantine: fields.short("the bad hospitals")?,
                selected: fields.short("the selected updates")?,
            },
            2 => Criterion::FoolsGold,
            _ => return Err(EntryProblem::Range { field: "the criterion" }),
        };
        let search = fields.option("the search", |fields| {
            Ok(Search {
                zscore: fields.flag("the method of the search")?,
                threshold: fields.real("the threshold")?,
                consequence: match fields.byte("the consequence")? {
                    0 => Consequence::Flag,
                    1 => Consequence::Exclude,
                    2 => Consequence::Halt,
                    _ => return Err(EntryProblem::Range { field: "the consequence" }),
                },
            })
        })?;
        let least = fields.short("the updates of a sum")?;
        let parameters = fields.long("the parameters")?;
        let steps = fields.real("the steps to one")?;
        let compared = fields.list("the compared hospitals", |fields| {
            let hospital = RosterNumber(fields.short("a compared hospital")?);
            let expected = fields.option("the expected norm", |fields| {
                let scale = fields.real("the expected norm")?;
                let least = fields.option("the least norm", |fields| fields.real("the least norm"))?;
                Ok(ExpectedNorm { scale, least })
            })?;
            Ok(Compared { hospital, expected })
        })?;
        let pairs = compared.len() * (compared.len() + 1) / 2;
        let products = (0..pairs)
            .map(|_| fields.long("an inner product").map(u64::cast_signed))
            .collect::<Result<_, EntryProblem>>()?;
        let mut list = || fields.list("the hospitals", |fields| fields.short("a hospital").map(RosterNumber));
        let (too_long, withheld, selected) = (list()?, list()?, list()?);
        let selection = Self {
            round,
            criterion,
            search,
            least,
            parameters,
            steps,
            compared,
            products,
            too_long,
            withheld,
            selected,
        };
        selection.check()?;
        Ok(selection)
    }

    fn check(&self) -> Result<(), EntryProblem> {
        let range = |field| Err(EntryProblem::Range { field });
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.steps) {
            return range("the steps to one");
        }
        if self.search.is_some_and(|search| !positive(search.threshold)) {
            return range("the threshold");
        }
        let norms = self.compared.iter().filter_map(|it| it.expected);
        if norms.flat_map(|norm| [Some(norm.scale), norm.least]).flatten().any(|norm| !positive(norm)) {
            return range("the expected norm");
        }
        if self.products.len() != self.compared.len() * (self.compared.len() + 1) / 2 {
            return range("the inner products");
        }
        super::fields::ascending("the hospitals", &self.too_long)?;
        super::fields::ascending("the hospitals", &self.withheld)?;
        super::fields::ascending("the hospitals", &self.selected)
    }
}
