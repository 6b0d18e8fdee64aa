//! One of each kind of chart, with numbers like those of a run, and with hostile ones.

use medfed_chart::{
    Axis, Bar, BarChart, CalibrationBin, CalibrationChart, Ceiling, Cell, Chart, ConfusionMatrix, Curve,
    Gauge, HeatMap, LineChart, PrecisionRecallChart, RocChart, Series, Sparkline, Threshold, Width,
};

/// Ordinary charts by name.
pub(crate) fn ordinary() -> Vec<(&'static str, Chart)> {
    let full = Width::FULL;
    vec![
        ("line", auc_by_round().draw(full)),
        ("line-log", loss().draw(Width::HALF)),
        ("bars", accuracy_by_group().draw(full)),
        ("roc", roc().draw(Width::HALF)),
        ("roc-log", attack().draw(full)),
        ("precision-recall", precision_recall().draw(Width::HALF)),
        ("calibration", calibration().draw(full)),
        ("confusion", confusion(&["normal", "pneumonia"]).draw(Width::HALF)),
        (
            "confusion-many",
            confusion(&[
                "atelectasis",
                "cardiomegaly",
                "effusion",
                "infiltration",
                "mass",
                "nodule",
                "pneumonia",
                "pneumothorax",
                "consolidation",
            ])
            .draw(full),
        ),
        ("heat-map", rules_and_attacks().draw(full)),
        ("gauge", gauge(&["coordinator"]).draw(Width::HALF)),
        (
            "gauge-hospitals",
            gauge(&["Hospital_A", "Hospital_B", "University Hospital of the Northern Region"]).draw(full),
        ),
        ("sparkline", Sparkline { title: "AUC".to_owned(), values: wave(20) }.draw()),
        ("many-hospitals", many().draw(full)),
    ]
}

/// What nobody should give to a chart, by name.
pub(crate) fn hostile() -> Vec<(String, Chart)> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e308, -1e308, 5e-324, 1.0];
    let long = "<script>alert(\"x\")</script> & a name that does not end ".repeat(8);
    let names = [String::new(), long.clone(), "\u{1}\u{202e}דוגמה 東京都立病院".to_owned()];
    let mut charts = Vec::new();
    let mut add = |name: String, chart: Chart| charts.push((name, chart));
    for width in [Width::new(1), Width::HALF, Width::new(u32::MAX)] {
        for values in [&[][..], &odd[..1], &odd[3..4], &odd] {
            let n = values.len();
            let points = || values.iter().map(|value| (*value, Some(*value)));
            let title = long.clone();
            for axis in
                [Axis::new(long.clone()), Axis::new("").log(), Axis::new("x").whole().range(3.0, f64::NAN)]
            {
                let series = names.iter().map(|name| Series::new(name.clone(), points())).collect();
                let thresholds = values.iter().map(|value| Threshold::new(long.clone(), *value)).collect();
                let line =
                    LineChart { title: title.clone(), x: axis.clone(), y: axis.clone(), series, thresholds };
                add(format!("line-{n}"), line.draw(width));
                let bar = |(index, value): (usize, &f64)| Bar {
                    name: names[index % 3].clone(),
                    value: Some(*value),
                    interval: Some((*value, values[n - 1 - index])),
                    note: Some(names[(index + 1) % 3].clone()),
                    alert: index % 2 == 0,
                };
                let bars = values.iter().enumerate().map(bar).collect();
                let thresholds = vec![Threshold::new("", f64::NAN), Threshold::new(long.clone(), 1e300)];
                let (bar_title, interval_title) = (long.clone(), long.clone());
                let chart =
                    BarChart { title: title.clone(), bar_title, axis, interval_title, bars, thresholds };
                add(format!("bars-{n}"), chart.draw(width));
            }
            let points: Vec<(f64, f64)> = values.iter().map(|value| (*value, -*value)).collect();
            let curves = vec![Curve { name: long.clone(), points, area: values.first().copied() }];
            for log in [false, true] {
                let ceiling = Some(Ceiling { epsilon: 1e300, delta: f64::NAN });
                let roc = RocChart { title: title.clone(), curves: curves.clone(), log, ceiling };
                add(format!("roc-{n}"), roc.draw(width));
            }
            let prevalence = Some(f64::NAN);
            let chart = PrecisionRecallChart { title: title.clone(), curves, prevalence };
            add(format!("precision-recall-{n}"), chart.draw(width));
            let bin = |value: &f64| CalibrationBin {
                range: (*value, -*value),
                predicted: Some(*value),
                observed: Some(*value),
                interval: Some((*value, *value)),
                count: u64::MAX,
            };
            let bins = values.iter().map(bin).collect();
            let chart = CalibrationChart { title: title.clone(), counted: long.clone(), bins };
            add(format!("calibration-{n}"), chart.draw(width));
            let classes: Vec<String> = (0..n).map(|index| names[index % 3].clone()).collect();
            let counts = vec![vec![u64::MAX; n + 1]; n.saturating_sub(1)];
            let chart = ConfusionMatrix { title: title.clone(), classes: classes.clone(), counts };
            add(format!("confusion-{n}"), chart.draw(width));
            let cell = |value: &f64| Cell { value: Some(*value), marked: true };
            let chart = HeatMap {
                title: title.clone(),
                row_title: String::new(),
                column_title: long.clone(),
                value_title: long.clone(),
                rows: classes.clone(),
                columns: classes.clone(),
                cells: vec![values.iter().map(cell).collect()],
                range: Some((f64::NAN, 1.0)),
                decimals: usize::MAX,
                marked_means: Some(long.clone()),
            };
            add(format!("heat-map-{n}"), chart.draw(width));
            for budget in [0.0, 1.0, f64::NAN] {
                let (warning, critical) = (Some(f64::NAN), Some(7.0));
                let spent =
                    values.iter().zip(names.iter().cycle()).map(|(value, name)| (name.clone(), Some(*value)));
                let gauge = Gauge {
                    title: title.clone(),
                    quantity: long.clone(),
                    budget,
                    warning,
                    critical,
                    spent: spent.collect(),
                };
                add(format!("gauge-{n}"), gauge.draw(width));
            }
            let values = values.iter().map(|value| Some(*value)).collect();
            add(format!("sparkline-{n}"), Sparkline { title, values }.draw());
        }
    }
    charts
}

/// A line with more points than pixels.
pub(crate) fn long_line() -> Chart {
    let points = (0..10_000).map(|index| (f64::from(index), Some((f64::from(index) / 300.0).sin())));
    LineChart {
        title: "Ten thousand steps".to_owned(),
        x: Axis::new("step").whole(),
        y: Axis::new("loss"),
        series: vec![Series::new("loss", points)],
        thresholds: Vec::new(),
    }
    .draw(Width::FULL)
}

fn wave(count: usize) -> Vec<Option<f64>> {
    let value = |index: usize| 0.93 - 0.4 / (index as f64 + 1.0) + 0.01 * (index as f64 * 1.7).sin();
    (0..count).map(|index| (index % 13 != 7).then(|| value(index))).collect()
}

fn by_round(values: Vec<Option<f64>>, shift: f64) -> impl Iterator<Item = (f64, Option<f64>)> {
    values
        .into_iter()
        .enumerate()
        .map(move |(index, value)| (index as f64 + 1.0, value.map(|value| value - shift)))
}

fn auc_by_round() -> LineChart {
    let names = ["Hospital_A", "Hospital_B", "Hospital_C", "test set"];
    let series = names
        .iter()
        .enumerate()
        .map(|(index, name)| Series::new(*name, by_round(wave(20), index as f64 * 0.02)));
    LineChart {
        title: "AUC after each round".to_owned(),
        x: Axis::new("round").whole(),
        y: Axis::new("area under the ROC curve"),
        series: series.collect(),
        thresholds: vec![Threshold::new("agreed minimum", 0.85)],
    }
}

fn many() -> LineChart {
    let series = (1..=18)
        .map(|index| Series::new(format!("Hospital {index}"), by_round(wave(100), f64::from(index) * 0.01)));
    LineChart {
        title: "Accuracy of eighteen hospitals".to_owned(),
        x: Axis::new("round").whole(),
        y: Axis::new("accuracy"),
        series: series.collect(),
        thresholds: Vec::new(),
    }
}

fn loss() -> LineChart {
    let points = (1..=60).map(|step| (f64::from(step), Some(3.0 * (-f64::from(step) / 9.0).exp() + 0.002)));
    LineChart {
        title: "Training loss".to_owned(),
        x: Axis::new("step").whole(),
        y: Axis::new("log loss (nats)").log(),
        series: vec![Series::new("loss", points)],
        thresholds: Vec::new(),
    }
}

fn accuracy_by_group() -> BarChart {
    let bar = |name: &str, value: Option<f64>, half: f64, note: Option<&str>, alert| Bar {
        name: name.to_owned(),
        value,
        interval: value.map(|value| (value - half, (value + half).min(1.0))),
        note: note.map(str::to_owned),
        alert,
    };
    BarChart {
        title: "Accuracy by group of patients".to_owned(),
        bar_title: "group".to_owned(),
        axis: Axis::new("accuracy").range(0.0, 1.0),
        interval_title: "95 % interval".to_owned(),
        bars: vec![
            bar("sex: female", Some(0.912), 0.03, Some("n = 412"), false),
            bar("sex: male", Some(0.874), 0.035, Some("n = 398"), false),
            bar("age group: below 18", None, 0.0, Some("too small"), false),
            bar("age group: 18 to 39", Some(0.931), 0.05, Some("n = 120"), false),
            bar("age group: 40 to 64", Some(0.893), 0.03, Some("n = 390"), false),
            bar("age group: 65 and above", Some(0.712), 0.06, Some("n = 96"), true),
        ],
        thresholds: vec![Threshold::new("agreed minimum", 0.8)],
    }
}

fn curve(name: &str, power: f64, area: f64) -> Curve {
    let points = (0..=200).map(|index| f64::from(index) / 200.0).map(|x| (x, x.powf(power)));
    Curve { name: name.to_owned(), points: points.collect(), area: Some(area) }
}

fn roc() -> RocChart {
    RocChart {
        title: "Receiver operating characteristic".to_owned(),
        curves: vec![curve("normal", 0.1, 0.909), curve("pneumonia", 0.15, 0.87)],
        log: false,
        ceiling: None,
    }
}

fn attack() -> RocChart {
    RocChart {
        title: "Membership inference".to_owned(),
        curves: vec![curve("threshold", 0.96, 0.51), curve("likelihood ratio (LiRA)", 0.9, 0.53)],
        log: true,
        ceiling: Some(Ceiling { epsilon: 2.0, delta: 1e-5 }),
    }
}

fn precision_recall() -> PrecisionRecallChart {
    let points = (0..=100).map(|index| f64::from(index) / 100.0).map(|x| (x, 1.0 - 0.5 * x.powi(6)));
    PrecisionRecallChart {
        title: "Precision and recall".to_owned(),
        curves: vec![Curve { name: "pneumonia".to_owned(), points: points.collect(), area: Some(0.93) }],
        prevalence: Some(0.625),
    }
}

fn calibration() -> CalibrationChart {
    let bin = |index: u32| {
        let middle = (f64::from(index) + 0.5) / 10.0;
        let observed = middle.powf(1.3);
        CalibrationBin {
            range: (f64::from(index) / 10.0, f64::from(index + 1) / 10.0),
            predicted: (index != 3).then_some(middle),
            observed: (index != 3).then_some(observed),
            interval: Some(((observed - 0.07).max(0.0), (observed + 0.07).min(1.0))),
            count: if index == 3 { 0 } else { u64::from(20 + (index * index * 37) % 300) },
        }
    };
    let title = "Calibration".to_owned();
    CalibrationChart { title, counted: "images".to_owned(), bins: (0..10).map(bin).collect() }
}

fn confusion(classes: &[&str]) -> ConfusionMatrix {
    let count = |row: usize, column: usize| {
        if row == column { 390 - 20 * row as u64 } else { (row * 7 + column * 3) as u64 }
    };
    let row = |row: usize| (0..classes.len()).map(|column| count(row, column)).collect();
    ConfusionMatrix {
        title: "Confusion".to_owned(),
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        counts: (0..classes.len()).map(row).collect(),
    }
}

fn rules_and_attacks() -> HeatMap {
    let rules = ["FedAvg", "Median", "Trimmed mean", "Krum", "Multi-Krum", "Bulyan", "FoolsGold"];
    let attacks = [
        "none",
        "sign flip",
        "label flip",
        "Gaussian noise",
        "scaled update",
        "a little is enough",
        "inner product manipulation",
    ];
    let cell = |row: usize, column: usize| Cell {
        value: (row != 5 || column < 5).then(|| 0.95 - 0.4 * ((row * 5 + column * 3) % 7) as f64 / 7.0),
        marked: row == 3 && column > 0 || row == 0 && column == 4,
    };
    HeatMap {
        title: "Test AUC of each rule under each attack, 2 of 10 hospitals hostile".to_owned(),
        row_title: "rule".to_owned(),
        column_title: "attack".to_owned(),
        value_title: "test AUC".to_owned(),
        rows: rules.map(str::to_owned).to_vec(),
        columns: attacks.map(str::to_owned).to_vec(),
        cells: (0..7).map(|row| (0..7).map(|column| cell(row, column)).collect()).collect(),
        range: Some((0.5, 1.0)),
        decimals: 3,
        marked_means: Some("more than 0.05 below the run without attack".to_owned()),
    }
}

fn gauge(names: &[&str]) -> Gauge {
    Gauge {
        title: "Privacy budget".to_owned(),
        quantity: "ε at δ = 1e−5".to_owned(),
        budget: 8.0,
        warning: Some(0.7),
        critical: Some(0.9),
        spent: names
            .iter()
            .zip([4.213, 6.3, 7.61])
            .map(|(name, spent)| ((*name).to_owned(), Some(spent)))
            .collect(),
    }
}
