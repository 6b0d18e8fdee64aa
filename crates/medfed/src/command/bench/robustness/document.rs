//! The results as a document: a table and a heat map for each setting, the detector, what was missed.

use super::Shape;
use super::grid::{ATTACKERS, CHANNELS, Cell, RULES, Rule, SETTINGS, Setting, attacks};
use super::measure::Record;
use medfed_chart::{Chart, HeatMap, Width};
use medfed_config::section::SimulatedAttack;
use medfed_federation::report::RunStatus;
use std::fmt::Write as _;

/// The part of the document that is written by the command lies between these.
const BEGIN: &str = "<!-- measured by `medfed bench robustness`: begin -->";
const END: &str = "<!-- measured by `medfed bench robustness`: end -->";

/// How far the AUC may fall under an attack that a rule claims to withstand.
const MARGIN: f64 = 0.03;

/// The mean over the seeds of one rule under one attack.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mean {
    auc: f64,
    /// Seeds whose run was stopped before its last round.
    stopped: usize,
    /// Success of the backdoor, and what it is without trigger.
    backdoor: Option<(f64, f64)>,
}

/// One setting's results.
struct Table<'a> {
    records: Vec<&'a Record>,
    rules: Vec<Rule>,
    attacks: Vec<SimulatedAttack>,
}

impl<'a> Table<'a> {
    fn new(records: &'a [Record], cells: &[Cell], setting: Setting) -> Option<Self> {
        let of_setting = || cells.iter().filter(|cell| cell.setting == setting);
        let rules: Vec<Rule> =
            RULES.into_iter().filter(|rule| of_setting().any(|c| c.rule == *rule)).collect();
        let attacks: Vec<SimulatedAttack> =
            attacks().into_iter().filter(|attack| of_setting().any(|c| c.attack == *attack)).collect();
        let records: Vec<&Record> = records.iter().filter(|r| r.setting == setting.name()).collect();
        (!records.is_empty()).then_some(Self { records, rules, attacks })
    }

    fn of(&self, rule: Rule, attack: SimulatedAttack) -> impl Iterator<Item = &'a Record> {
        self.records.iter().copied().filter(move |r| r.rule == rule.name && r.attack == attack)
    }

    /// A run that never finished a round has the AUC of a coin.
    fn mean(&self, rule: Rule, attack: SimulatedAttack) -> Option<Mean> {
        let records: Vec<&Record> = self.of(rule, attack).collect();
        let n = records.len() as f64;
        let mean = |value: fn(&Record) -> f64| records.iter().map(|r| value(r)).sum::<f64>() / n;
        let has_backdoor = records.iter().all(|record| record.backdoor.is_some());
        (!records.is_empty()).then(|| Mean {
            auc: mean(|record| record.auc.unwrap_or(0.5)),
            stopped: records.iter().filter(|record| !ended_well(record)).count(),
            backdoor: has_backdoor.then(|| {
                (mean(|r| r.backdoor.map_or(0.0, |b| b.0)), mean(|r| r.backdoor.map_or(0.0, |b| b.1)))
            }),
        })
    }

    /// The attack under which the rule does worst.
    fn worst(&self, rule: Rule) -> Option<(SimulatedAttack, f64)> {
        let real = self.attacks.iter().filter(|attack| **attack != SimulatedAttack::None);
        real.filter_map(|attack| Some((*attack, self.mean(rule, *attack)?.auc)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Whether the rule claims to withstand the attack and falls by more than the margin.
    fn is_missed(&self, rule: Rule, attack: SimulatedAttack) -> bool {
        let (Some(free), Some(under)) = (self.mean(rule, SimulatedAttack::None), self.mean(rule, attack))
        else {
            return false;
        };
        rule.claims(attack) && (free.auc - under.auc > MARGIN || under.stopped > 0)
    }

    fn markdown(&self) -> String {
        let mut out = String::from("| rule |");
        for attack in &self.attacks {
            let name = if *attack == SimulatedAttack::None { "no attack" } else { attack.as_str() };
            let _ = write!(out, " {name} |");
        }
        out += "\n|---|";
        out += &"---|".repeat(self.attacks.len());
        for rule in &self.rules {
            let worst = self.worst(*rule).map(|(attack, _)| attack);
            let _ = write!(out, "\n| {} |", rule.name);
            for attack in &self.attacks {
                let Some(mean) = self.mean(*rule, *attack) else {
                    out += " – |";
                    continue;
                };
                let mut text = format!("{:.3}", mean.auc);
                if mean.stopped > 0 {
                    text += " ×";
                }
                if self.is_missed(*rule, *attack) {
                    text += " †";
                }
                if worst == Some(*attack) {
                    text = format!("**{text}**");
                }
                if let Some((with, without)) = mean.backdoor {
                    let _ = write!(text, " ({:.0} / {:.0} %)", with * 100.0, without * 100.0);
                }
                let _ = write!(out, " {text} |");
            }
        }
        out.push('\n');
        out
    }

    /// Sentences on what the rules claim and do not keep.
    fn misses(&self) -> Vec<String> {
        let of_rule = |rule: &Rule| {
            let missed: Vec<&str> = (self.attacks.iter())
                .filter(|attack| self.is_missed(*rule, **attack))
                .map(|attack| attack.as_str())
                .collect();
            (!missed.is_empty()).then(|| format!("`{}` under {}", rule.name, missed.join(", ")))
        };
        self.rules.iter().filter_map(of_rule).collect()
    }
}

fn ended_well(record: &Record) -> bool {
    matches!(record.status, RunStatus::Completed | RunStatus::BudgetExhausted)
}

/// What goes between the marks.
pub(super) fn part(records: &[Record], cells: &[Cell], shape: Shape) -> String {
    let mut seeds: Vec<String> = cells.iter().map(|cell| cell.seed.to_string()).collect();
    seeds.dedup();
    let [open, private] = [false, true].map(|private| Setting { skewed: false, private }.training());
    let mut out = format!("{BEGIN}\n\n");
    let _ = writeln!(
        out,
        "PneumoniaMNIST (28 × 28 pixels), {ATTACKERS} attackers among 10 hospitals (11 where it says so), `simple_cnn` with {CHANNELS:?} channels, {} rounds of one epoch with a cosine schedule, in batches of {} at a learning rate of {} ({} at {} with privacy), seed {}. With privacy: ε = 8 at δ = 1e-5 for every image of every hospital, noise calibrated. The value is the AUC on the 624 test images after the last round{}. **Bold**: the rule's worst case. †: the rule claims to withstand the attack, and the AUC is more than {MARGIN} below its value without an attack. ×: the run stopped before its last round. In parentheses: part of the pneumonias that are read as \"normal\" with the backdoor's trigger, and without it.",
        shape.rounds,
        open.0,
        open.1,
        private.0,
        private.1,
        seeds.join(", "),
        if seeds.len() > 1 { ", mean over the seeds" } else { "" },
    );
    for setting in SETTINGS {
        let Some(table) = Table::new(records, cells, setting) else { continue };
        let _ = write!(out, "\n### {}\n\n{}\n", setting.title(), table.markdown());
        let _ = writeln!(out, "![AUC of each rule under each attack](images/{}.png)\n", file_name(setting));
        let misses = table.misses();
        if misses.is_empty() {
            out += "Every rule keeps what it claims.\n";
        } else {
            let _ = writeln!(out, "Not kept: {}.", misses.join("; "));
        }
    }
    out += &detector(records, cells);
    if let Some(cell) = cells.iter().find(|cell| cell.attack != SimulatedAttack::None) {
        let _ = write!(
            out,
            "\nOne run of the table, by itself:\n\n```sh\necho '{{}}' > defaults.yaml\n{}\n```\n",
            cell.command(shape)
        );
    }
    let _ = write!(out, "\n{END}\n");
    out
}

/// How often the detector found what.
fn detector(records: &[Record], cells: &[Cell]) -> String {
    let mut out = String::from(
        "\n### The detector\n\nPart of the rounds in which the detector found an attacker, over all rules with ten hospitals that use what it flags; in the first column the part in which it found an honest hospital.\n\n| setting |",
    );
    let attacks: Vec<SimulatedAttack> =
        attacks().into_iter().filter(|attack| cells.iter().any(|cell| cell.attack == *attack)).collect();
    for attack in &attacks {
        let name = if *attack == SimulatedAttack::None { "no attack: false alarms" } else { attack.as_str() };
        let _ = write!(out, " {name} |");
    }
    out += "\n|---|";
    out += &"---|".repeat(attacks.len());
    for setting in SETTINGS {
        let flagging = |record: &&Record| {
            let rule = RULES.iter().find(|rule| rule.name == record.rule);
            record.setting == setting.name()
                && rule.is_some_and(|rule| rule.hospitals == 10 && !rule.name.contains("exclude"))
        };
        let of_setting: Vec<&Record> = records.iter().filter(flagging).collect();
        if of_setting.is_empty() {
            continue;
        }
        let _ = write!(out, "\n| {} |", setting.title());
        for attack in &attacks {
            let (mut found, mut rounds) = (0, 0);
            for record in of_setting.iter().filter(|record| record.attack == *attack) {
                rounds += record.rounds;
                found += match attack {
                    SimulatedAttack::None => record.rounds_with_honest_found,
                    _ => record.rounds_with_attacker_found,
                };
            }
            let part = if rounds == 0 {
                "–".to_owned()
            } else {
                format!("{:.1} %", 100.0 * found as f64 / rounds as f64)
            };
            let _ = write!(out, " {part} |");
        }
    }
    out.push('\n');
    out
}

fn file_name(setting: Setting) -> String {
    format!("robustness-{}", setting.name())
}

/// A heat map for each setting, with the name of its file.
pub(super) fn heat_maps(records: &[Record], cells: &[Cell]) -> Vec<(String, Chart)> {
    let map = |setting: Setting| {
        let table = Table::new(records, cells, setting)?;
        let cell = |rule: Rule, attack: SimulatedAttack| medfed_chart::Cell {
            value: table.mean(rule, attack).map(|mean| mean.auc),
            marked: table.worst(rule).is_some_and(|(worst, _)| worst == attack),
        };
        let name = |attack: &SimulatedAttack| match attack {
            SimulatedAttack::None => "no attack".to_owned(),
            attack => attack.as_str().replace('_', " "),
        };
        let chart = HeatMap {
            title: format!("Test AUC: {}", setting.title()),
            row_title: "rule".to_owned(),
            column_title: format!("attack by {ATTACKERS} hospitals"),
            value_title: "test AUC".to_owned(),
            rows: table.rules.iter().map(|rule| rule.name.replace('_', " ")).collect(),
            columns: table.attacks.iter().map(name).collect(),
            cells: table
                .rules
                .iter()
                .map(|rule| table.attacks.iter().map(|attack| cell(*rule, *attack)).collect())
                .collect(),
            range: Some((0.5, 1.0)),
            decimals: 3,
            marked_means: Some("the rule's worst case".to_owned()),
        };
        Some((file_name(setting), chart.draw(Width::new(1100))))
    };
    SETTINGS.into_iter().filter_map(map).collect()
}

/// `old` with `part` between the marks, or after all else where there are none.
pub(super) fn replaced(old: &str, part: &str) -> String {
    match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let after = old[end + END.len()..].strip_prefix('\n').unwrap_or(&old[end + END.len()..]);
            format!("{}{part}{after}", &old[..begin])
        }
        _ if old.is_empty() => format!("# Robustness\n\n{part}"),
        _ => format!("{}\n\n{part}", old.trim_end()),
    }
}
