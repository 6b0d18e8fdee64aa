//! From the configuration to the aggregation rule, the detector and the orchestrator.

use crate::coordinator::{CoordinatorSettings, OnDetection};
use crate::error::FederationError;
use crate::masking::{MaskingMode, MaskingPlan};
use medfed_aggregate::anomaly::{Detector, DetectorSettings, Method};
use medfed_aggregate::selection::{Detection, LEAST_SELECTED, SelectionRule};
use medfed_aggregate::{Aggregator, PreStep, Rule, TrimRatio};
use medfed_config::{Config, section};
use medfed_dp::{Orchestrator, OrchestratorTerms, Strategy};
use medfed_secagg::{ClipRange, Digest, NormBound, SiteNoise};

/// The rule; the weighted mean while the section is off.
pub(super) fn aggregator(robust: &section::RobustAggregation) -> Result<Aggregator, FederationError> {
    if !robust.enabled {
        return Ok(Aggregator::new(Rule::FedAvg, PreStep::None)?);
    }
    let byzantine = robust.num_byzantine as usize;
    let rule = match robust.method {
        section::RobustMethod::Fedavg => Rule::FedAvg,
        section::RobustMethod::Median => Rule::Median,
        section::RobustMethod::TrimmedMean => Rule::TrimmedMean { ratio: TrimRatio::new(robust.trim_ratio)? },
        section::RobustMethod::Krum => Rule::Krum { byzantine },
        section::RobustMethod::MultiKrum => {
            Rule::MultiKrum { byzantine, selected: robust.multi_krum_k as usize }
        }
        section::RobustMethod::Bulyan => Rule::Bulyan { byzantine },
        section::RobustMethod::Foolsgold => Rule::FoolsGold,
        section::RobustMethod::GeometricMedian => Rule::GeometricMedian,
        section::RobustMethod::CenteredClipping => Rule::CenteredClipping {
            radius: robust.clipping_radius.fixed(),
            iterations: robust.clipping_iterations as usize,
        },
    };
    let pre = match robust.pre {
        section::PreAggregation::None => PreStep::None,
        section::PreAggregation::Nnm => PreStep::NearestNeighbourMixing { byzantine },
    };
    Ok(Aggregator::new(rule, pre)?)
}

/// The detector; none while the section or the detection is off.
pub(super) fn detector(robust: &section::RobustAggregation) -> Result<Option<Detector>, FederationError> {
    Ok(detector_settings(robust)?.map(Detector::new))
}

fn detector_settings(
    robust: &section::RobustAggregation,
) -> Result<Option<DetectorSettings>, FederationError> {
    if !(robust.enabled && robust.enable_detection) {
        return Ok(None);
    }
    let method = match robust.detector {
        section::AnomalyDetector::Robust => Method::Robust,
        section::AnomalyDetector::Zscore => Method::ZScore,
    };
    Ok(Some(DetectorSettings::new(method, robust.detection_threshold)?))
}

pub(super) fn on_detection(robust: &section::RobustAggregation) -> OnDetection {
    match robust.on_detection {
        section::OnDetection::Flag => OnDetection::Flag,
        section::OnDetection::Exclude => OnDetection::Exclude,
        section::OnDetection::Halt => OnDetection::Halt,
    }
}

/// The orchestrator; none while its section is off.
pub(crate) fn orchestrator(section: &section::Orchestrator) -> Result<Option<Orchestrator>, FederationError> {
    if !section.enabled {
        return Ok(None);
    }
    let orchestrator = Orchestrator::new(OrchestratorTerms {
        strategy: match section.strategy {
            section::NoiseStrategy::Step => Strategy::Step,
            section::NoiseStrategy::Fit => Strategy::Fit,
            section::NoiseStrategy::Calibrated => Strategy::Calibrated,
        },
        warning: section.budget_warning_threshold,
        critical: section.budget_critical_threshold,
        factor: section.noise_increase_factor,
        limit: section.noise_increase_limit,
    })?;
    Ok(Some(orchestrator))
}

/// Masks on updates; none while the section or masking is off.
pub(super) fn masking(
    config: &Config,
    configuration: [u8; 32],
) -> Result<Option<MaskingPlan>, FederationError> {
    let (secure, robust) = (&config.secure_aggregation, &config.robust_aggregation);
    if !secure.masks() {
        return Ok(None);
    }
    let problem = |problem| FederationError::Setting { key: "secure_aggregation.mode", problem };
    let mode = match config.secure_mode().map_err(problem)? {
        section::SecureMode::Groups => MaskingMode::Groups,
        section::SecureMode::Selection => MaskingMode::Selection,
        section::SecureMode::Auto | section::SecureMode::Sum => MaskingMode::Sum,
    };
    let selects = mode == MaskingMode::Selection;
    let averages = !robust.enabled || robust.method == section::RobustMethod::Fedavg;
    Ok(Some(MaskingPlan {
        mode,
        selection: if selects { Some(selection(config)?) } else { None },
        by_samples: averages && mode == MaskingMode::Sum,
        threshold: secure.threshold.map(|threshold| threshold as usize),
        // The sum of two selected would show them, whatever noise they carry.
        min_clients: (secure.min_clients as usize).max(if selects { LEAST_SELECTED } else { 0 }),
        least_group: config.least_group() as usize,
        noise: if config.privacy.enabled { SiteNoise::Private } else { SiteNoise::None },
        clip_range: secure.clip_range.map(ClipRange::new).transpose()?,
        norm_bound: secure.norm_bound.map(NormBound::new).transpose()?,
        configuration: Digest::new(configuration),
    }))
}

/// How updates are selected under masks.
fn selection(config: &Config) -> Result<SelectionRule, FederationError> {
    let robust = &config.robust_aggregation;
    let least = config.secure_aggregation.min_clients as usize;
    let detection =
        detector_settings(robust)?.map(|settings| Detection { settings, on_detection: on_detection(robust) });
    Ok(SelectionRule::new(aggregator(robust)?.rule(), detection, least)?)
}

/// Standard deviations from which a reported measurement is out of line.
pub(super) fn measurement_threshold(section: &section::Orchestrator) -> Option<f64> {
    (section.enabled && section.enable_anomaly_detection).then_some(section.anomaly_zscore_threshold)
}

/// Refuses a rule that needs more hospitals than there are, or than a round draws.
pub(super) fn check_hospitals(settings: &CoordinatorSettings, found: usize) -> Result<(), FederationError> {
    if let Some(masking) = &settings.masking {
        let needed = masking.needed(settings.aggregator.needed());
        if needed > found && masking.mode == MaskingMode::Selection {
            let rule = settings.aggregator.rule();
            let problem = format!(
                "{rule} needs {needed} hospitals to select among masked updates, the data give {found}; lower robust_aggregation.num_byzantine or multi_krum_k, choose the method fedavg, or set secure_aggregation.use_masking to false"
            );
            return Err(FederationError::Setting { key: "robust_aggregation.method", problem });
        }
        if needed > found {
            let problem = format!(
                "masked updates of {needed} hospitals or more make a round, the data give {found}; lower secure_aggregation.min_clients, or choose the method fedavg"
            );
            return Err(FederationError::Setting { key: "secure_aggregation.enabled", problem });
        }
        return Ok(());
    }
    let (needed, rule) = (settings.aggregator.needed(), settings.aggregator.rule());
    if needed > found {
        let lower = match rule {
            Rule::MultiKrum { byzantine, selected } if byzantine + selected == needed => {
                "robust_aggregation.multi_krum_k"
            }
            _ => "robust_aggregation.num_byzantine",
        };
        let problem = format!(
            "{rule} needs {needed} hospitals, the data give {found}; lower {lower} or choose a method that needs fewer, such as median"
        );
        return Err(FederationError::Setting { key: "robust_aggregation.method", problem });
    }
    let drawn = (settings.fraction_fit * found as f64).round() as usize;
    let drawn = drawn.clamp(settings.min_fit.clamp(1, found), found);
    if needed > drawn {
        let problem = format!(
            "{rule} needs {needed} hospitals in every round, {drawn} of {found} are drawn; raise federated.fraction_fit or federated.min_fit_clients, or lower robust_aggregation.num_byzantine"
        );
        return Err(FederationError::Setting { key: "federated.fraction_fit", problem });
    }
    Ok(())
}
