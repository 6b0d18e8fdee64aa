//! The fields of the longer entries, and the words with numbers of their own.

use super::{Disclosure, Excluded, Finished, Payment, Promise, RosterNumber, Round, Rules, Started, name};
use crate::error::EntryProblem;
use crate::wire::{Reader, Writer};
use medfed_dp::{Accountant, PrivacyUnit, Spent};
use medfed_types::RoundId;
use serde::Serialize;

/// An enumeration whose members have a number and words for people.
macro_rules! coded {
    ($(#[$doc:meta])* $name:ident ($field:literal) { $($(#[$member:meta])* $variant:ident = $code:literal, $words:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$member])* $variant,)*
        }

        impl $name {
            fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
                match fields.byte($field)? {
                    $($code => Ok(Self::$variant),)*
                    _ => Err(EntryProblem::Range { field: $field }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $words,)*
                })
            }
        }
    };
}

coded! {
    /// What can be shown.
    Matter("the matter") {
        /// A hospital's update, a function of its images.
        Update = 0, "each hospital's update, without noise";
        /// A hospital's update, made of noised sums only.
        NoisedUpdate = 1, "each hospital's noised update";
        /// The global model.
        Model = 2, "the global model";
        /// Losses, norms, counts and validation metrics of a hospital, exact.
        Measurements = 3, "each hospital's losses, counts and validation metrics, exact";
        /// Sums of updates under masks, of all hospitals or of groups of them.
        Sums = 4, "sums of several hospitals' updates, no single one";
        /// Inner products of updates, so their norms, distances and directions.
        Products = 5, "inner products of all updates: norms, distances and directions, no single value";
    }
}

coded! {
    /// To whom something is shown.
    Audience("the audience") {
        /// The coordinator.
        Coordinator = 0, "the coordinator";
        /// Every hospital.
        Hospitals = 1, "every hospital";
    }
}

coded! {
    /// A protection that was given up.
    Escape("the escape") {
        /// Training without differential privacy.
        NoPrivacy = 0, "no differential privacy: updates are functions of the images";
        /// Noise and samples follow from the seed.
        ReproducibleNoise = 1, "noise follows from the seed: whoever knows it can subtract the noise";
        /// All hospitals are simulated in one process, which has everyone's data and keys.
        Simulation = 2, "simulation: one process has every hospital's data and keys";
        /// Some hospitals attack on purpose.
        SimulatedAttack = 3, "some hospitals attack on purpose";
    }
}

coded! {
    /// How a run ended.
    Status("the status") {
        /// Every planned round was done.
        Completed = 0, "completed";
        /// The privacy budget ended it.
        BudgetExhausted = 1, "ended by the privacy budget";
        /// A round could not be finished.
        Aborted = 2, "aborted";
        /// The configuration stopped it because the model was unfair.
        Halted = 3, "halted because the model was unfair";
    }
}

impl Started {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EntryProblem> {
        out.text("the run", self.run.as_str())?;
        out.long(self.time);
        out.text("the program", &self.program)?;
        out.digest(self.log_key);
        out.short(self.cosignatures);
        out.digest(self.model);
        out.flag(self.averaged);
        out.digest(self.configuration);
        out.digest(self.data);
        Ok(())
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        Ok(Self {
            run: name("the run", fields.text("the run")?)?,
            time: fields.long("the time")?,
            program: fields.text("the program")?.to_owned(),
            log_key: fields.digest("the log's key")?,
            cosignatures: fields.short("the number of cosignatures")?,
            model: fields.digest("the model")?,
            averaged: fields.flag("the average")?,
            configuration: fields.digest("the configuration")?,
            data: fields.digest("the data")?,
        })
    }
}

impl Rules {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EntryProblem> {
        out.text("the aggregation", &self.aggregation)?;
        out.int(self.min_updates);
        out.option(self.privacy.as_ref(), |out, promise| {
            promise.write(out);
            Ok(())
        })?;
        ascending("the disclosures", &self.disclosures)?;
        out.list("the disclosures", &self.disclosures, |out, Disclosure { what, to }| {
            out.byte(what.code());
            out.byte(to.code());
            Ok(())
        })?;
        ascending("the escapes", &self.escapes)?;
        out.list("the escapes", &self.escapes, |out, escape| {
            out.byte(escape.code());
            Ok(())
        })?;
        out.list("the warnings", &self.warnings, |out, warning| out.text("a warning", warning))
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        let rules = Self {
            aggregation: fields.text("the aggregation")?.to_owned(),
            min_updates: fields.int("the number of updates")?,
            privacy: fields.option("the promise", Promise::read)?,
            disclosures: fields.list("the disclosures", |fields| {
                Ok(Disclosure { what: super::Matter::read(fields)?, to: super::Audience::read(fields)? })
            })?,
            escapes: fields.list("the escapes", super::Escape::read)?,
            warnings: fields.list("the warnings", |fields| Ok(fields.text("a warning")?.to_owned()))?,
        };
        ascending("the disclosures", &rules.disclosures)?;
        ascending("the escapes", &rules.escapes)?;
        Ok(rules)
    }
}

impl Promise {
    fn write(&self, out: &mut Writer) {
        out.byte(match self.unit {
            PrivacyUnit::Image => 0,
            PrivacyUnit::Patient => 1,
        });
        out.real(self.clip.get());
        out.real(self.delta.get());
        out.byte(match self.accountant {
            Accountant::Pld => 0,
            Accountant::Rdp => 1,
        });
        out.real(self.budget.get());
        out.flag(self.secure_mode);
    }

    fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        Ok(Self {
            unit: match fields.byte("the unit")? {
                0 => PrivacyUnit::Image,
                1 => PrivacyUnit::Patient,
                _ => return Err(EntryProblem::Range { field: "the unit" }),
            },
            clip: fields.real("the clipping norm")?,
            delta: fields.real("the delta")?,
            accountant: match fields.byte("the accountant")? {
                0 => Accountant::Pld,
                1 => Accountant::Rdp,
                _ => return Err(EntryProblem::Range { field: "the accountant" }),
            },
            budget: fields.real("the budget")?,
            secure_mode: fields.flag("the secure mode")?,
        })
    }
}

impl Payment {
    pub(super) fn write(&self, out: &mut Writer) {
        out.int(self.round.0);
        out.short(self.hospital.0);
        out.real(self.rate.get());
        out.real(self.noise.get());
        out.long(self.steps);
        out.real(self.spent.pld.get());
        out.real(self.spent.rdp.get());
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        let payment = Self {
            round: RoundId(fields.int("the round")?),
            hospital: RosterNumber(fields.short("the hospital")?),
            rate: fields.real("the sampling rate")?,
            noise: fields.real("the noise multiplier")?,
            steps: fields.long("the steps")?,
            spent: Spent { pld: fields.real("epsilon")?, rdp: fields.real("epsilon")? },
        };
        if payment.steps == 0 { Err(EntryProblem::Range { field: "the steps" }) } else { Ok(payment) }
    }
}

impl Round {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EntryProblem> {
        self.check()?;
        out.int(self.round.0);
        out.list("the participants", &self.participants, |out, number| {
            out.short(number.0);
            Ok(())
        })?;
        out.list("the excluded hospitals", &self.excluded, |out, excluded| {
            out.short(excluded.hospital.0);
            out.text("a reason", &excluded.reason)
        })?;
        out.digest(self.before);
        out.digest(self.after);
        Ok(())
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        let round = Self {
            round: RoundId(fields.int("the round")?),
            participants: fields
                .list("the participants", |fields| fields.short("a participant").map(RosterNumber))?,
            excluded: fields.list("the excluded hospitals", |fields| {
                let hospital = RosterNumber(fields.short("an excluded hospital")?);
                Ok(Excluded { hospital, reason: fields.text("a reason")?.to_owned() })
            })?,
            before: fields.digest("the model before")?,
            after: fields.digest("the model after")?,
        };
        round.check()?;
        Ok(round)
    }

    fn check(&self) -> Result<(), EntryProblem> {
        ascending("the participants", &self.participants)?;
        let excluded: Vec<RosterNumber> = self.excluded.iter().map(|it| it.hospital).collect();
        ascending("the excluded hospitals", &excluded)?;
        if excluded.iter().any(|number| self.participants.binary_search(number).is_ok()) {
            return Err(EntryProblem::Order { field: "the excluded hospitals" });
        }
        Ok(())
    }
}

impl Finished {
    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EntryProblem> {
        out.long(self.time);
        out.byte(self.status.code());
        out.option(self.best_round.as_ref(), |out, round| {
            out.int(round.0);
            Ok(())
        })?;
        out.digest(self.model);
        out.option(self.file.as_ref(), |out, file| {
            out.digest(*file);
            Ok(())
        })
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, EntryProblem> {
        Ok(Self {
            time: fields.long("the time")?,
            status: Status::read(fields)?,
            best_round: fields
                .option("the best round", |fields| fields.int("the best round").map(RoundId))?,
            model: fields.digest("the model")?,
            file: fields.option("the model file", |fields| fields.digest("the model file"))?,
        })
    }
}

pub(super) fn ascending<T: Ord>(field: &'static str, items: &[T]) -> Result<(), EntryProblem> {
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(EntryProblem::Order { field }) }
}
