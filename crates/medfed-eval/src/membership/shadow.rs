//! The shadow model attack (Shokri, Stronati, Song, Shmatikov 2017): an attack model that has learned from
//! shadow models, whose training sets are known, how a model speaks of images it was trained on.

use super::logistic::Logistic;
use super::logits::{confidence_score, entropy, logit_confidence, loss_score};
use crate::EvalError;

/// Examples of either kind from which on a class gets an attack model of its own.
const LEAST_EXAMPLES: usize = 50;
const FEATURES: usize = 4;

/// What a shadow model says about one image whose membership is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowExample {
    class: u32,
    features: [f64; FEATURES],
    member: bool,
}

impl ShadowExample {
    /// From the shadow model's `logits` of an image of the class `class`.
    ///
    /// # Panics
    ///
    /// If there is no logit of that class.
    pub fn new(logits: &[f32], class: u32, member: bool) -> Self {
        Self { class, features: features(logits, class), member }
    }
}

/// The prediction vector as the attack sees it: log-odds of the true and of the predicted class, loss,
/// entropy.
fn features(logits: &[f32], class: u32) -> [f64; FEATURES] {
    let class = class as usize;
    [logit_confidence(logits, class), confidence_score(logits), loss_score(logits, class), entropy(logits)]
}

/// The attack model: a logistic regression for each class.
#[derive(Debug, Clone, PartialEq)]
pub struct AttackModel {
    /// Nothing for a class with few examples.
    classes: Vec<Option<Logistic>>,
    /// For those classes: of all together.
    all: Logistic,
}

impl AttackModel {
    /// Learns from examples, which must be finite and of both kinds.
    pub fn fit(examples: &[ShadowExample]) -> Result<Self, EvalError> {
        for example in examples {
            if let Some(value) = example.features.iter().find(|value| !value.is_finite()) {
                let what = "what a shadow model says";
                return Err(EvalError::Audit { what, expected: "finite", found: *value });
            }
        }
        let of = |class: Option<u32>, least: usize| {
            let taken = || examples.iter().filter(|example| class.is_none_or(|class| example.class == class));
            let rows: Vec<&[f64]> = taken().map(|example| &example.features[..]).collect();
            let member: Vec<bool> = taken().map(|example| example.member).collect();
            let members = member.iter().filter(|member| **member).count();
            (members.min(member.len() - members) >= least).then(|| Logistic::fit(&rows, &member)).flatten()
        };
        let Some(all) = of(None, 1) else {
            let what = "the number of shadow examples of either kind";
            return Err(EvalError::Audit { what, expected: "at least 1", found: 0.0 });
        };
        let most = examples.iter().map(|example| example.class + 1).max().unwrap_or(0);
        Ok(Self { classes: (0..most).map(|class| of(Some(class), LEAST_EXAMPLES)).collect(), all })
    }

    /// The log-odds that an image of the class `class` with these logits was trained on.
    ///
    /// # Panics
    ///
    /// If there is no logit of that class.
    pub fn score(&self, logits: &[f32], class: u32) -> f64 {
        let model = self.classes.get(class as usize).and_then(Option::as_ref).unwrap_or(&self.all);
        model.log_odds(&features(logits, class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::Seed;
    use rand::RngExt;

    #[test]
    fn each_class_has_its_own_rule() {
        // Members of class 0 are more certain, members of class 1 less.
        let mut rng = Seed(2).generator("shadow", &[]);
        let mut image = |class: u32, member: bool| {
            let certain = (class == 0) == member;
            let margin = rng.random::<f32>() * 2.0 + if certain { 1.5 } else { 0.0 };
            let logits = if class == 0 { [margin, 0.0] } else { [0.0, margin] };
            (logits, class, member)
        };
        let mut sample =
            |n: u32| -> Vec<([f32; 2], u32, bool)> { (0..n).map(|i| image(i % 2, i % 4 < 2)).collect() };
        let examples: Vec<ShadowExample> = sample(800)
            .iter()
            .map(|(logits, class, member)| ShadowExample::new(logits, *class, *member))
            .collect();
        let model = AttackModel::fit(&examples).unwrap();
        let right = sample(400)
            .iter()
            .filter(|(logits, class, member)| (model.score(logits, *class) > 0.0) == *member)
            .count();
        assert!(right > 320, "{right} of 400");
        // A class never seen is judged by all together.
        assert!(model.score(&[0.0, 1.0, 2.0], 2).is_finite());
    }

    #[test]
    fn examples_of_one_kind_teach_nothing() {
        assert!(AttackModel::fit(&[]).is_err());
        assert!(AttackModel::fit(&[ShadowExample::new(&[0.0, 1.0], 0, true)]).is_err());
        assert!(AttackModel::fit(&[ShadowExample::new(&[f32::NAN, 1.0], 0, true)]).is_err());
    }
}
