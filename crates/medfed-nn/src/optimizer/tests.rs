use super::*;

fn one(range: std::ops::Range<usize>) -> [std::ops::Range<usize>; 1] {
    [range]
}

#[test]
fn frozen_parameters_do_not_move() {
    for optimizer in [
        Optimizer::Sgd(Sgd::new(0.0, 0.1).unwrap()),
        Optimizer::Sgd(Sgd::new(0.9, 0.1).unwrap()),
        Optimizer::Adam(Adam::with_weight_decay(0.1).unwrap()),
    ] {
        let mut state = optimizer.start(4);
        let mut params = [1.0f32, 2.0, 3.0, 4.0];
        state.step(&mut params, &[1.0; 4], 0.1, &[0..1, 3..4]).unwrap();
        assert_eq!(params[1..3], [2.0, 3.0]);
        assert!(params[0] < 1.0 && params[3] < 4.0);
    }
}

#[test]
fn resume_reproduces_bits() {
    for optimizer in [
        Optimizer::Sgd(Sgd::new(0.0, 0.0).unwrap()),
        Optimizer::Sgd(Sgd::new(0.9, 1e-3).unwrap()),
        Optimizer::Adam(Adam::with_weight_decay(1e-3).unwrap()),
    ] {
        let gradient = |t: usize| -> Vec<f32> { (0..7).map(|i| ((i * 31 + t * 17) as f32).sin()).collect() };
        let (mut whole, mut params) = (optimizer.start(7), vec![0.5f32; 7]);
        for t in 0..3 {
            whole.step(&mut params, &gradient(t), 0.01, &one(0..7)).unwrap();
        }
        let mut resumed = OptimizerState::from_bytes(optimizer, 7, &whole.to_bytes()).unwrap();
        assert_eq!(resumed.steps(), 3);
        let mut resumed_params = params.clone();
        for t in 3..6 {
            whole.step(&mut params, &gradient(t), 0.01, &one(0..7)).unwrap();
            resumed.step(&mut resumed_params, &gradient(t), 0.01, &one(0..7)).unwrap();
        }
        assert_eq!(params, resumed_params);
        assert_eq!(whole, resumed);
    }
}

#[test]
fn saved_state_of_another_model_or_optimiser_is_refused() {
    let sgd = Optimizer::Sgd(Sgd::new(0.9, 0.0).unwrap());
    let adam = Optimizer::Adam(Adam::with_weight_decay(0.0).unwrap());
    let bytes = sgd.start(3).to_bytes();
    assert!(OptimizerState::from_bytes(adam, 3, &bytes).is_err());
    assert!(OptimizerState::from_bytes(sgd, 4, &bytes).is_err());
    for cut in 0..bytes.len() {
        assert!(OptimizerState::from_bytes(sgd, 3, &bytes[..cut]).is_err());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(OptimizerState::from_bytes(sgd, 3, &longer).is_err());
}

#[test]
fn wrong_buffers_and_settings_are_refused_and_change_nothing() {
    let mut state = Optimizer::Sgd(Sgd::new(0.0, 0.0).unwrap()).start(3);
    let mut params = [1.0f32; 3];
    assert!(state.step(&mut params, &[0.0; 2], 0.1, &[]).is_err());
    assert!(state.step(&mut params[..2], &[0.0; 3], 0.1, &[]).is_err());
    let bad = state.step(&mut params, &[1.0; 3], 0.1, &[0..1, 2..4]);
    assert_eq!(bad, Err(OptimizerError::Range { start: 2, end: 4, len: 3 }));
    assert_eq!((params, state.steps()), ([1.0; 3], 0));
    assert!(Sgd::new(1.0, 0.0).is_err());
    assert!(Sgd::new(0.0, -1.0).is_err());
    assert!(Adam::new(0.9, f64::NAN, 1e-8, 0.0).is_err());
    assert!(Adam::new(0.9, 0.999, 0.0, 0.0).is_err());
}

/// `torch.optim` and `torch.optim.lr_scheduler` (generator: `testdata/generators/nn_vectors.py`).
#[test]
fn optimisers_and_schedule_agree_with_pytorch() {
    let text = include_str!("../../../../testdata/nn_optimizers.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let floats = |v: &serde_json::Value| -> Vec<f32> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let mut checked = 0;
    for case in vectors["optimizers"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let optimizer = match case["optimizer"].as_str().unwrap() {
            "sgd" => Optimizer::Sgd(Sgd::new(number("momentum"), number("weight_decay")).unwrap()),
            _ => Optimizer::Adam(Adam::with_weight_decay(number("weight_decay")).unwrap()),
        };
        let mut params = floats(&case["initial"]);
        let mut state = optimizer.start(params.len());
        for (gradient, expected) in
            case["gradients"].as_array().unwrap().iter().zip(case["parameters"].as_array().unwrap())
        {
            let range = one(0..params.len());
            state.step(&mut params, &floats(gradient), number("learning_rate"), &range).unwrap();
            for (found, expected) in params.iter().zip(floats(expected)) {
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 100);
    let cosine = &vectors["cosine"];
    let base = cosine["base"].as_f64().unwrap();
    let rates = cosine["rates"].as_array().unwrap();
    let schedule =
        crate::schedule::LearningRate::new(base, crate::schedule::Schedule::Cosine, rates.len() as u64 - 1)
            .unwrap();
    for (step, rate) in rates.iter().enumerate() {
        assert!((schedule.at(step as u64) - rate.as_f64().unwrap()).abs() < 1e-12);
    }
}
