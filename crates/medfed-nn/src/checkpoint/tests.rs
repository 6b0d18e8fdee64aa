use std::path::PathBuf;

use medfed_types::{Delta, Epsilon, ImageShape, RoundId, RunId};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::{Architecture, ModelSpec};

fn layout(parameters: &[(&str, &[usize])]) -> ParameterLayout {
    ParameterLayout::new(parameters.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()))).unwrap()
}

fn small() -> ParameterLayout {
    layout(&[
        ("conv1.weight", &[2, 1, 2, 2]),
        ("bn1.weight", &[2]),
        ("bn1.bias", &[2]),
        ("fc.weight", &[3, 2]),
    ])
}

fn metadata() -> CheckpointMetadata {
    CheckpointMetadata {
        model: ModelSpec {
            architecture: Architecture::SimpleCnn,
            input: ImageShape { channels: 1, height: 28, width: 20 },
            classes: 2,
            dropout: 0.25,
            channels: Some(vec![8, 16]),
        },
        classes: vec!["normal".to_owned(), "pneumonia, \"viral\"".to_owned()],
        normalization: Normalization { mean: vec![0.1], std: vec![0.3] },
        privacy: Some(PrivacyStatement {
            epsilon: Epsilon::new(2.125_000_000_01).unwrap(),
            delta: Delta::new(1e-5).unwrap(),
            accountant: "pld".to_owned(),
            unit: "patient".to_owned(),
            reproducible_noise: false,
        }),
        run: Some(RunId::try_from("run 7").unwrap()),
        round: Some(RoundId(5)),
    }
}

fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// A safetensors file of tensors given by type, shape and bytes, without metadata.
fn safetensors_file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn weights(tensors: &[(&str, &[usize], Vec<f32>)]) -> TensorMap {
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, v)| (*name, Dtype::F32, shape.to_vec(), f32_bytes(v))).collect();
    TensorMap::from_safetensors(&safetensors_file(&tensors)).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

/// The values that `testdata/generators/nn_vectors.py` gives to its files.
fn formula(text: &str, len: usize) -> Vec<f32> {
    let key = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    (1..=len as u64)
        .map(|i| {
            let mut z = key.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 * 2f32.powi(-23) - 1.0
        })
        .collect()
}

#[test]
fn what_is_written_is_read_and_bytes_repeat() {
    let (layout, metadata) = (small(), metadata());
    let parameters = ramp(layout.len());
    let bytes = Checkpoint::write(&layout, &parameters, &metadata).unwrap();
    assert_eq!(bytes, Checkpoint::write(&layout, &parameters, &metadata).unwrap());
    let read = Checkpoint::read(&bytes).unwrap();
    assert_eq!(read.metadata(), &metadata);
    assert_eq!(read.into_parameters(&layout).unwrap(), parameters);
}

#[test]
fn metadata_without_privacy_or_with_infinite_epsilon_survives() {
    let layout = small();
    let parameters = ramp(layout.len());
    let mut plain = metadata();
    (plain.privacy, plain.run, plain.round, plain.model.channels) = (None, None, None, None);
    let mut unbounded = metadata();
    unbounded.privacy.as_mut().unwrap().epsilon = Epsilon::new(f64::INFINITY).unwrap();
    for metadata in [plain, unbounded] {
        let bytes = Checkpoint::write(&layout, &parameters, &metadata).unwrap();
        assert_eq!(Checkpoint::read(&bytes).unwrap().metadata(), &metadata);
    }
}

#[test]
fn metadata_that_contradicts_itself_is_refused() {
    let layout = small();
    let parameters = ramp(layout.len());
    let refused = |change: fn(&mut CheckpointMetadata)| {
        let mut metadata = metadata();
        change(&mut metadata);
        let error = Checkpoint::write(&layout, &parameters, &metadata).unwrap_err();
        assert!(matches!(error, CheckpointError::MetadataValue { .. }), "{error}");
    };
    refused(|m| m.normalization.mean = vec![0.0; 3]);
    refused(|m| m.normalization.std = vec![0.0]);
    refused(|m| m.classes.clear());
    refused(|m| m.model.classes = 5);
    let foreign = safetensors_file(&[("a", Dtype::F32, vec![1], f32_bytes(&[1.0]))]);
    assert!(matches!(
        Checkpoint::read(&foreign),
        Err(CheckpointError::MetadataMissing { key: "medfed_version" })
    ));
}

#[test]
fn parameters_that_are_not_numbers_are_neither_written_nor_read() {
    let layout = small();
    let mut parameters = ramp(layout.len());
    parameters[9] = f32::NAN;
    assert!(matches!(
        Checkpoint::write(&layout, &parameters, &metadata()),
        Err(CheckpointError::NonFinite { name, index: 1 }) if name == "bn1.weight"
    ));
    assert!(matches!(
        Checkpoint::write(&layout, &parameters[1..], &metadata()),
        Err(CheckpointError::Parameters { .. })
    ));
    let huge = 1e300f64.to_le_bytes().to_vec();
    for (dtype, bytes) in [(Dtype::F32, f32_bytes(&[f32::INFINITY])), (Dtype::F64, huge)] {
        let file = safetensors_file(&[("w", dtype, vec![1], bytes)]);
        assert!(matches!(TensorMap::from_safetensors(&file), Err(CheckpointError::NonFinite { .. })));
    }
}

#[test]
fn other_float_widths_are_converted_and_foreign_types_refused() {
    let file = safetensors_file(&[
        ("half", Dtype::F16, vec![1], half::f16::from_f32(-0.5).to_le_bytes().to_vec()),
        ("brain", Dtype::BF16, vec![1], half::bf16::from_f32(3.0).to_le_bytes().to_vec()),
        ("double", Dtype::F64, vec![], 0.1f64.to_le_bytes().to_vec()),
        ("count", Dtype::I64, vec![], 7i64.to_le_bytes().to_vec()),
    ]);
    let map = TensorMap::from_safetensors(&file).unwrap();
    assert_eq!(map.len(), 3);
    assert_eq!(map.get("half").unwrap().values, [-0.5]);
    assert_eq!(map.get("brain").unwrap().values, [3.0]);
    assert_eq!(map.get("double").unwrap().values, [0.1f32]);
    let file = safetensors_file(&[("eight", Dtype::F8_E5M2, vec![1], vec![0])]);
    assert!(matches!(TensorMap::from_safetensors(&file), Err(CheckpointError::ElementType { .. })));
}

#[test]
fn a_checkpoint_of_another_network_names_the_culprit() {
    let bytes = Checkpoint::write(&small(), &ramp(small().len()), &metadata()).unwrap();
    let load =
        |layout: &ParameterLayout| Checkpoint::read(&bytes).unwrap().into_parameters(layout).unwrap_err();
    let conv: (&str, &[usize]) = ("conv1.weight", &[2, 1, 2, 2]);
    let norm: [(&str, &[usize]); 2] = [("bn1.weight", &[2]), ("bn1.bias", &[2])];

    let renamed = load(&layout(&[conv, norm[0], norm[1], ("fc1.weight", &[3, 2])]));
    assert_eq!(renamed.to_string(), r#"tensor "fc1.weight" is missing (the nearest name is "fc.weight")"#);
    let fewer = load(&layout(&[conv, norm[0], ("fc.weight", &[3, 2])]));
    assert!(matches!(&fewer, CheckpointError::Unexpected { name, .. } if name == "bn1.bias"), "{fewer}");
    let wider = load(&layout(&[conv, norm[0], norm[1], ("fc.weight", &[4, 2])]));
    assert!(
        matches!(&wider, CheckpointError::Shape { name, expected, found }
            if name == "fc.weight" && expected == &[4, 2] && found == &[3, 2]),
        "{wider}"
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let tensor = |shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let overlapping = format!(r#"{{"a":{},"b":{}}}"#, tensor("[2]", 0, 8), tensor("[2]", 4, 12));
    let beyond = format!(r#"{{"a":{}}}"#, tensor("[1000000]", 0, 4_000_000));
    let overflowing = format!(r#"{{"a":{}}}"#, tensor("[4611686018427387904,4]", 0, 0));
    let too_small = format!(r#"{{"a":{}}}"#, tensor("[3]", 0, 8));
    let mut cases = vec![
        file(&overlapping, 12),
        file(&beyond, 8),
        file(&overflowing, 0),
        file(&too_small, 8),
        file(&"[".repeat(100_000), 0),
        file("{", 0),
        vec![],
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}".to_vec(),
    ];
    let named = format!(r#"{{"{}":{}}}"#, "x".repeat(600), tensor("[1]", 0, 4));
    cases.push(file(&named, 4));
    for (i, bytes) in cases.iter().enumerate() {
        assert!(TensorMap::from_safetensors(bytes).is_err(), "case {i}");
        assert!(Checkpoint::read(bytes).is_err(), "case {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_checkpoints_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Checkpoint::write(&small(), &ramp(small().len()), &metadata()).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(checkpoint) = Checkpoint::read(&bytes)
            && let Ok(parameters) = checkpoint.into_parameters(&small())
        {
            prop_assert!(parameters.iter().all(|p| p.is_finite()));
        }
    }

    #[test]
    fn damaged_torch_files_never_panic(
        which in 0usize..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let name = ["nn_state_zip.pth", "nn_state_legacy.pth", "nn_state_nested.pth"][which];
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        if let Ok(map) = read_weights(file.path()) {
            prop_assert!(map.tensors.values().all(|t| t.values.iter().all(|v| v.is_finite())));
        }
    }
}

#[test]
fn both_containers_of_torch_save_are_read() {
    for name in ["nn_state_zip.pth", "nn_state_legacy.pth"] {
        let map = read_weights(&fixture(name)).unwrap();
        assert_eq!(map.len(), 7, "{name}");
        assert_eq!(map.get("bn1.weight").unwrap().values, formula("file/bn1.weight", 2));
        assert_eq!(map.get("bn1.bias").unwrap().values, formula("file/bn1.bias", 2), "from 64 bits");
        // Saved as the transpose of a [2, 3] tensor.
        let (stored, found) = (formula("file/fc.weight", 6), map.get("fc.weight").unwrap());
        assert_eq!(found.shape, [3, 2]);
        assert_eq!(found.values, [0, 3, 1, 4, 2, 5].map(|i| stored[i]));
        let exact = formula("file/conv1.weight", 24);
        for (found, exact) in map.get("conv1.weight").unwrap().values.iter().zip(exact) {
            assert_eq!(*found, half::f16::from_f32(exact).to_f32());
        }
    }
}

#[test]
fn a_tensor_that_claims_more_than_its_file_is_refused() {
    let error = read_weights(&fixture("nn_state_expanded.pth")).unwrap_err();
    assert!(matches!(error, CheckpointError::Oversized { found: 4_000_000_000, .. }), "{error}");
}

#[test]
fn files_that_are_no_weights_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for content in [&b""[..], b"PK\x03\x04", b"hello, world, this is text", &[0x80; 40]] {
        std::fs::write(file.path(), content).unwrap();
        assert!(read_weights(file.path()).is_err(), "{content:?}");
    }
    assert!(matches!(read_weights(&fixture("nn_no_such_file.pth")), Err(CheckpointError::Io(_))));

    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("archive/data.pkl", deflated).unwrap();
    std::io::Write::write_all(&mut archive, &vec![b'N'; 1 << 20]).unwrap();
    std::fs::write(file.path(), archive.finish().unwrap().into_inner()).unwrap();
    assert!(matches!(read_weights(file.path()), Err(CheckpointError::Compressed { .. })));
}

fn two_groups(name: &str) -> Option<usize> {
    (name == "bn1").then_some(2)
}

fn target(layout: &ParameterLayout) -> Target<'_> {
    Target { layout, head: "fc", groups: Box::new(two_groups) }
}

#[test]
fn a_pytorch_checkpoint_is_adapted_and_every_step_reported() {
    let layout = layout(&[
        ("conv1.weight", &[2, 1, 2, 2]),
        ("bn1.weight", &[2]),
        ("bn1.bias", &[2]),
        ("fc.weight", &[2, 2]),
        ("fc.bias", &[2]),
    ]);
    let fresh = vec![9.0; layout.len()];
    for name in ["nn_state_zip.pth", "nn_state_nested.pth"] {
        let map = read_weights(&fixture(name)).unwrap();
        let (parameters, report) = adapt(map, &target(&layout), fresh.clone()).unwrap();
        assert_eq!(report.loaded, [""; 0]);
        assert_eq!(report.folded, ["bn1"]);
        assert_eq!(report.summed.as_deref(), Some("conv1.weight"));
        assert_eq!(report.unused, [""; 0]);
        assert_eq!(report.fresh.len(), 2);
        assert_eq!(report.fresh[0].reason, FreshReason::Classes { found: 3 });
        assert_eq!(parameters[layout.find("fc.weight").unwrap().range()], [9.0; 4]);
        let rgb: Vec<f32> =
            formula("file/conv1.weight", 24).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect();
        assert_eq!(parameters[0], rgb[0] + rgb[4] + rgb[8]);
        assert_eq!(parameters[7], rgb[15] + rgb[19] + rgb[23]);
        let shown = report.to_string();
        assert!(shown.contains("3 classes") && shown.contains("approximation"), "{shown}");
    }
}

/// Weights in torchvision's names with BatchNorm, three channels and 1000 classes, for every network.
#[test]
fn torchvisions_own_networks_fit_but_for_head_and_stem() {
    for (architecture, norms) in [(Architecture::ResNet18, 20), (Architecture::DenseNet121, 121)] {
        let build = |channels, classes| {
            let input = ImageShape { channels, height: 64, width: 64 };
            ModelSpec { architecture, input, classes, dropout: 0.0, channels: None }.build().unwrap()
        };
        let (source, network) = (build(3, 1000), build(1, 2));
        let mut map = TensorMap::default();
        let mut put = |name: &str, shape: &[usize]| {
            let tensor = Tensor { shape: shape.to_vec(), values: vec![0.5; shape.iter().product()] };
            map.tensors.insert(name.to_owned(), tensor);
        };
        for view in source.layout().views() {
            put(&view.name, &view.shape);
            if let Some(base) = view.name.strip_suffix(".weight").filter(|_| view.shape.len() == 1) {
                put(&format!("{base}.running_mean"), &view.shape);
                put(&format!("{base}.running_var"), &view.shape);
            }
        }
        let fresh = vec![9.0; network.layout().len()];
        let (parameters, report) = adapt(map, &network.target(), fresh).unwrap();
        assert_eq!(report.folded.len(), norms, "{architecture}");
        assert_eq!(report.loaded.len() + 2 * norms + 3, network.layout().views().len());
        assert!(report.summed.is_some() && report.fresh.len() == 2 && report.unused.is_empty());
        assert_eq!(parameters[0], 1.5);
        assert_eq!(parameters.iter().filter(|p| **p == 9.0).count(), {
            let head = network.layout().find(&format!("{}.weight", network.head())).unwrap();
            head.len + 2
        });
    }
}

/// One image whose group statistics are the stored ones: GroupNorm must give what BatchNorm gives.
#[test]
fn a_folded_norm_agrees_where_the_statistics_agree() {
    const CHANNELS: usize = 6;
    const PIXELS: usize = 50;
    let image: Vec<f64> = (0..CHANNELS * PIXELS)
        .map(|i| (i as f64 * 1.7).sin() * (1.0 + i as f64 / 90.0) + 0.01 * i as f64)
        .collect();
    let statistics: Vec<(f64, f64)> = image
        .chunks(PIXELS)
        .map(|c| {
            let mean = c.iter().sum::<f64>() / PIXELS as f64;
            (mean, c.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / PIXELS as f64)
        })
        .collect();
    let (gamma, beta) = (ramp(CHANNELS), vec![0.2, -0.1, 0.4, 1.0, -2.0, 0.3]);
    let of = |pick: fn(&(f64, f64)) -> f64| statistics.iter().map(|s| pick(s) as f32).collect::<Vec<f32>>();
    let map = weights(&[
        ("bn1.weight", &[CHANNELS], gamma.clone()),
        ("bn1.bias", &[CHANNELS], beta.clone()),
        ("bn1.running_mean", &[CHANNELS], of(|s| s.0)),
        ("bn1.running_var", &[CHANNELS], of(|s| s.1)),
    ]);
    let layout = layout(&[("bn1.weight", &[CHANNELS]), ("bn1.bias", &[CHANNELS])]);
    let (parameters, _) = adapt(map, &target(&layout), vec![0.0; 2 * CHANNELS]).unwrap();
    let (scale, shift) = parameters.split_at(CHANNELS);
    for (g, group) in image.chunks(3 * PIXELS).enumerate() {
        let mean = group.iter().sum::<f64>() / group.len() as f64;
        let deviation =
            (group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / group.len() as f64 + 1e-5).sqrt();
        for (i, value) in group.iter().enumerate() {
            let c = 3 * g + i / PIXELS;
            let group_norm = f64::from(scale[c]) * (value - mean) / deviation + f64::from(shift[c]);
            let (channel_mean, variance) = statistics[c];
            let batch_norm =
                f64::from(gamma[c]) * (value - channel_mean) / (variance + 1e-5).sqrt() + f64::from(beta[c]);
            assert!((group_norm - batch_norm).abs() < 1e-5, "{group_norm} {batch_norm}");
        }
    }
}

#[test]
fn early_densenet_names_and_surplus_tensors_are_understood() {
    let name = "features.denseblock1.denselayer2.norm1.weight";
    let layout = layout(&[(name, &[1]), ("fc.weight", &[1, 1])]);
    let old = "features.denseblock1.denselayer2.norm.1.weight";
    let map =
        weights(&[(old, &[1], vec![0.5]), ("fc.weight", &[1, 1], vec![2.0]), ("extra", &[1], vec![1.0])]);
    let (parameters, report) = adapt(map, &target(&layout), vec![0.0; 2]).unwrap();
    assert_eq!(parameters, [0.5, 2.0]);
    assert_eq!(report.loaded, [name, "fc.weight"]);
    assert_eq!(report.unused, ["extra"]);
    let twice = weights(&[(old, &[1], vec![0.5]), (name, &[1], vec![0.5])]);
    assert!(matches!(adapt(twice, &target(&layout), vec![0.0; 2]), Err(CheckpointError::Duplicate { .. })));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let layout = layout(&[("conv1.weight", &[1, 1, 3, 3]), ("bn1.weight", &[2]), ("bn1.bias", &[2])]);
    let fresh = || vec![0.0; layout.len()];
    let norm = |var: f32| {
        vec![
            ("bn1.weight", &[2][..], vec![1.0, 1.0]),
            ("bn1.bias", &[2][..], vec![0.0, 0.0]),
            ("bn1.running_mean", &[2][..], vec![0.0, 0.0]),
            ("bn1.running_var", &[2][..], vec![1.0, var]),
        ]
    };
    let conv = ("conv1.weight", &[1, 1, 3, 3][..], vec![0.5; 9]);
    let fit = |tensors: &[(&str, &[usize], Vec<f32>)]| adapt(weights(tensors), &target(&layout), fresh());

    let whole: Vec<_> = norm(1.0).into_iter().chain([conv.clone()]).collect();
    assert!(fit(&whole).is_ok());
    let negative: Vec<_> = norm(-1.0).into_iter().chain([conv.clone()]).collect();
    assert!(matches!(fit(&negative), Err(CheckpointError::BatchNorm { .. })));
    let no_variance: Vec<_> = norm(1.0).into_iter().take(3).chain([conv]).collect();
    assert!(matches!(fit(&no_variance), Err(CheckpointError::BatchNorm { .. })));
    assert!(matches!(fit(&norm(1.0)), Err(CheckpointError::Missing { .. })));
    let seven: Vec<_> =
        norm(1.0).into_iter().chain([("conv1.weight", &[1, 3, 7, 7][..], vec![0.5; 147])]).collect();
    assert!(matches!(fit(&seven), Err(CheckpointError::Shape { .. })));
    let ungrouped = Target { layout: &layout, head: "fc", groups: Box::new(|_| None) };
    assert!(matches!(adapt(weights(&whole), &ungrouped, fresh()), Err(CheckpointError::BatchNorm { .. })));
    assert!(matches!(
        adapt(weights(&whole), &target(&layout), vec![0.0; 3]),
        Err(CheckpointError::Parameters { .. })
    ));
}
