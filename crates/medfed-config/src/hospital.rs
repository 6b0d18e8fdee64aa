//! The hospitals of a federation as the configuration names them.

use std::collections::HashSet;

use medfed_types::SiteId;

use crate::section::{
    AgeBias, Data, Dataset, Demographics, PathologyBias, Sections, SecureAggregation, SexBias,
};

/// A hospital: its name, and what its synthetic images are like.
#[derive(Debug, Clone, PartialEq)]
pub struct Hospital {
    /// Name.
    pub name: SiteId,
    /// Synthetic images.
    pub samples: u32,
    /// Finding that is more common here.
    pub pathology_bias: PathologyBias,
    /// Ages and sexes of its patients.
    pub demographics: Demographics,
}

impl Sections {
    /// The `num_clients` hospitals: those of `data.nodes`, then `hospital_1`, `hospital_2` and so on.
    pub fn hospitals(&self) -> Vec<Hospital> {
        let taken: HashSet<&str> = self.data.nodes.iter().map(|node| node.name.as_str()).collect();
        let listed = self.data.nodes.iter().map(|node| {
            let samples = node.samples.unwrap_or(self.data.samples_per_client);
            (node.name.clone(), samples, node.pathology_bias)
        });
        let others = (1..=u32::MAX)
            .map(|index| format!("hospital_{index}"))
            .filter(|name| !taken.contains(name.as_str()))
            .filter_map(|name| SiteId::try_from(name).ok())
            .map(|name| (name, self.data.samples_per_client, PathologyBias::Balanced));
        listed
            .chain(others)
            .take(self.federated.num_clients as usize)
            .map(|(name, samples, pathology_bias)| {
                let demographics =
                    self.fairness.hospital_demographics.get(&name).cloned().unwrap_or_default();
                Hospital { name, samples, pathology_bias, demographics }
            })
            .collect()
    }
}

impl Data {
    /// Whether images are drawn and not read.
    pub fn is_synthetic(&self) -> bool {
        self.dataset != Dataset::Files
    }
}

impl SecureAggregation {
    /// Hospitals that have to work together to remove the masks, of `hospitals` in all.
    pub fn threshold_of(&self, hospitals: u32) -> u32 {
        self.threshold.unwrap_or(hospitals * 2 / 3 + 1)
    }
}

impl AgeBias {
    /// Shares of the ages 18 to 39, 40 to 59, and 60 and more; together 1. Groups without a share divide
    /// evenly what the others leave; shares of all groups count in proportion.
    pub fn shares(&self) -> [f64; 3] {
        complete([self.young, self.middle, self.old])
    }
}

impl SexBias {
    /// Share of women.
    pub fn women(&self) -> f64 {
        let [_, women] = complete([self.male, self.female]);
        women
    }
}

fn complete<const N: usize>(shares: [Option<f64>; N]) -> [f64; N] {
    let sum: f64 = shares.iter().flatten().sum();
    let open = shares.iter().filter(|share| share.is_none()).count();
    if open > 0 {
        return shares.map(|share| share.unwrap_or((1.0 - sum).max(0.0) / open as f64));
    }
    if sum > 0.0 { shares.map(|share| share.unwrap_or(0.0) / sum) } else { [1.0 / N as f64; N] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn hospitals_without_a_name_get_one() {
        let text = "federated: {num_clients: 3}\ndata: {nodes: [{name: hospital_2, samples: 7}]}";
        let config = Config::from_yaml(text, "t", &[]).unwrap();
        let hospitals = config.hospitals();
        let names: Vec<_> = hospitals.iter().map(|hospital| hospital.name.as_str()).collect();
        assert_eq!(names, ["hospital_2", "hospital_1", "hospital_3"]);
        assert_eq!((hospitals[0].samples, hospitals[1].samples), (7, 600));
        let shares = |young, middle, old| AgeBias { young, middle, old }.shares();
        assert_eq!(shares(None, None, Some(0.4)), [0.3, 0.3, 0.4]);
        assert_eq!(shares(Some(0.25), Some(0.25), Some(0.0)), [0.5, 0.5, 0.0]);
        assert_eq!(shares(Some(0.0), Some(0.0), Some(0.0)), [1.0 / 3.0; 3]);
        assert_eq!(SexBias { male: Some(0.75), female: None }.women(), 0.25);
        assert_eq!(SexBias { male: Some(0.3), female: Some(0.3) }.women(), 0.5);
    }
}
