//! From what a model says to the scores of an attack.

use crate::failure::Failure;
use medfed_config::section::Attack;
use medfed_eval::membership::{
    AttackModel, LiraMode, References, ShadowExample, confidence_score, lira, logit_confidence, loss_score,
    rmia,
};
use medfed_federation::FederationError;
use medfed_federation::reference::Reference;

/// Pairs of shadow model and image from which the attack model learns, at the most.
const MOST_EXAMPLES: usize = 200_000;

/// What the attacked model and the reference models say about the targets.
pub(super) struct Said<'a> {
    /// `[target, class]`.
    pub(super) logits: &'a [f32],
    /// True classes.
    pub(super) labels: &'a [u32],
    pub(super) classes: usize,
    pub(super) references: Option<&'a [Reference]>,
}

impl Said<'_> {
    /// The attack's score of each of `targets` images.
    pub(super) fn scores(&self, attack: Attack, targets: usize) -> Result<Vec<f64>, Failure> {
        let scores = match attack {
            Attack::Threshold => self.rows().map(|(logits, _)| confidence_score(logits)).collect(),
            Attack::LossBased => {
                self.rows().map(|(logits, class)| loss_score(logits, class as usize)).collect()
            }
            Attack::Shadow => self.shadow()?,
            Attack::Lira => self.compared(targets, |own, all| lira(own, all, LiraMode::Online))?,
            Attack::LiraOffline => self.compared(targets, |own, all| lira(own, all, LiraMode::Offline))?,
            Attack::Rmia => self.compared(targets, rmia)?,
        };
        Ok(scores)
    }

    fn rows(&self) -> impl Iterator<Item = (&[f32], u32)> {
        self.logits.chunks_exact(self.classes).zip(self.labels.iter().copied())
    }

    fn references(&self) -> Result<&[Reference], Failure> {
        self.references.ok_or_else(|| {
            Failure::user(anyhow::anyhow!("this attack needs models trained for comparison")).hint(
                "they are trained as the model's run was: audit a model that lies in the results folder of its run",
            )
        })
    }

    fn shadow(&self) -> Result<Vec<f64>, Failure> {
        let references = self.references()?;
        let used = (MOST_EXAMPLES / self.labels.len().max(1)).clamp(2, references.len().max(2));
        let mut examples = Vec::new();
        for reference in references.iter().take(used) {
            let said = reference.logits.chunks_exact(self.classes).zip(self.labels).zip(&reference.included);
            examples
                .extend(said.map(|((logits, class), member)| ShadowExample::new(logits, *class, *member)));
        }
        let model = AttackModel::fit(&examples).map_err(FederationError::from)?;
        Ok(self.rows().map(|(logits, class)| model.score(logits, class)).collect())
    }

    fn compared(
        &self,
        targets: usize,
        attack: impl Fn(&[f64], &References) -> Result<Vec<f64>, medfed_eval::EvalError>,
    ) -> Result<Vec<f64>, Failure> {
        let log_odds = |logits: &[f32]| -> Vec<f64> {
            let rows = logits.chunks_exact(self.classes).zip(self.labels);
            rows.map(|(logits, class)| logit_confidence(logits, *class as usize)).collect()
        };
        let mut all = References::new(targets);
        for reference in self.references()? {
            all.push(log_odds(&reference.logits), reference.included.clone())
                .map_err(FederationError::from)?;
        }
        Ok(attack(&log_odds(self.logits), &all).map_err(FederationError::from)?)
    }
}
