use super::*;
use crate::accountant::Accountant;
use crate::plan::PrivacyUnit;
use crate::plan::tests::terms;
use medfed_types::{Epsilon, NoiseMultiplier, SamplingRate};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an append does besides working.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It fails and keeps nothing.
    Lost,
    /// It fails and keeps the record.
    Kept,
}

#[derive(Debug, thiserror::Error)]
#[error("the power went out")]
struct PowerCut;

/// Storage that outlives the ledgers over it.
#[derive(Debug, Clone)]
struct Memory {
    records: Rc<RefCell<Vec<Vec<u8>>>>,
    fault: Rc<Cell<Fault>>,
}

impl Memory {
    fn new(records: Vec<Vec<u8>>) -> Self {
        Self { records: Rc::new(RefCell::new(records)), fault: Rc::new(Cell::new(Fault::None)) }
    }
}

impl LedgerStorage for Memory {
    type Error = PowerCut;

    fn records(&mut self) -> Result<Vec<Vec<u8>>, PowerCut> {
        Ok(self.records.borrow().clone())
    }

    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), PowerCut> {
        let fault = self.fault.replace(Fault::None);
        let mut records = self.records.borrow_mut();
        if fault == Fault::Lost || position != records.len() {
            return Err(PowerCut);
        }
        records.push(record.to_vec());
        if fault == Fault::Kept { Err(PowerCut) } else { Ok(()) }
    }
}

fn site() -> SiteId {
    SiteId::try_from("North").unwrap()
}

fn open(storage: &Memory) -> Result<Ledger<Memory>, DpError> {
    Ledger::open(RunId::try_from("run-1").unwrap(), site(), storage.clone())
}

fn request(round: u32, steps: u64) -> RoundRequest {
    RoundRequest { round: RoundId(round), steps: NonZeroU64::new(steps).unwrap(), inputs: [round as u8; 32] }
}

fn plan(noise: f64) -> DpPlan {
    DpPlan::new(PlanTerms { noise: NoiseMultiplier::new(noise).unwrap(), ..terms() }).unwrap()
}

/// Three paid rounds.
fn paid() -> Memory {
    let storage = Memory::new(Vec::new());
    let mut ledger = open(&storage).unwrap();
    for round in 1..=3 {
        assert_eq!(ledger.reserve(&plan(1.1), request(round, 5)).unwrap().steps(), 5);
    }
    storage
}

#[test]
fn a_paid_round_returns_its_grant_again_and_no_other() {
    let storage = paid();
    let mut ledger = open(&storage).unwrap();
    let before = (ledger.history().clone(), ledger.head());
    let grant = ledger.reserve(&plan(1.1), request(2, 5)).unwrap();
    assert_eq!((grant.round(), grant.steps()), (RoundId(2), 5));
    assert!(grant.step(4).is_some() && grant.step(5).is_none());
    let other = |change: fn(&mut PlanTerms)| {
        let mut terms = plan(1.1).terms().clone();
        change(&mut terms);
        DpPlan::new(terms).unwrap()
    };
    let refusals = [
        (plan(1.2), request(2, 5), "noise multiplier"),
        (plan(1.1), request(2, 6), "number of steps"),
        (other(|t| t.rate = SamplingRate::new(0.06).unwrap()), request(2, 5), "sampling rate"),
        (other(|t| t.unit = PrivacyUnit::Patient), request(2, 5), "privacy unit"),
        (other(|t| t.secure_mode = true), request(2, 5), "secure mode"),
        (
            plan(1.1),
            RoundRequest { inputs: [9; 32], ..request(2, 5) },
            "start (parameters, settings or data)",
        ),
    ];
    for (plan, request, expected) in refusals {
        match ledger.reserve(&plan, request) {
            Err(DpError::AlreadyPaid { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(matches!(
        ledger.reserve(&other(|t| t.unit = PrivacyUnit::Patient), request(4, 5)),
        Err(DpError::UnitChanged { .. })
    ));
    assert_eq!((ledger.history().clone(), ledger.head()), before);
    assert_eq!(storage.records.borrow().len(), 3);
}

#[test]
fn rounds_only_go_forward() {
    let mut ledger = open(&Memory::new(Vec::new())).unwrap();
    ledger.reserve(&plan(1.1), request(5, 1)).unwrap();
    let error = ledger.reserve(&plan(1.1), request(4, 1)).unwrap_err();
    assert!(matches!(error, DpError::RoundOrder { newest: RoundId(5), .. }), "{error}");
}

#[test]
fn the_budget_is_used_up_and_never_passed() {
    let plan = DpPlan::new(PlanTerms { budget: Epsilon::new(2.0).unwrap(), ..terms() }).unwrap();
    let mut ledger = open(&Memory::new(Vec::new())).unwrap();
    let grant = ledger.reserve(&plan, request(1, 1_000_000)).unwrap();
    assert!(grant.steps() < 1_000_000);
    let spent = ledger.spent(plan.terms().delta).unwrap();
    assert!(spent.rdp.get() <= 2.0 && spent.pld.get() <= spent.rdp.get() * 1.01);
    let mut more = ledger.history().clone();
    more.push(plan.phase(1));
    assert!(plan.terms().accountant.epsilon(&more, plan.terms().delta).unwrap().get() > 2.0);
    // The partial grant is remembered as such.
    assert_eq!(ledger.reserve(&plan, request(1, 1_000_000)).unwrap(), grant);
    match ledger.reserve(&plan, request(2, 1)) {
        Err(DpError::BudgetExhausted { site: who, spent: so_far, budget }) => {
            assert_eq!((who, so_far, budget.get()), (site(), spent.rdp, 2.0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn steps_draw_from_streams_of_their_own() {
    let site_key = SecretKey::from_bytes([1; 32]);
    let mut ledger = open(&Memory::new(Vec::new())).unwrap();
    let first = ledger.reserve(&plan(1.1), request(1, 2)).unwrap();
    let second = ledger.reserve(&plan(1.1), request(2, 2)).unwrap();
    let mut other = Ledger::open(RunId::try_from("run-2").unwrap(), site(), Memory::new(Vec::new())).unwrap();
    let elsewhere = other.reserve(&plan(1.1), request(1, 2)).unwrap();
    let mut unlike = open(&Memory::new(Vec::new())).unwrap();
    let changed = unlike.reserve(&plan(1.1), RoundRequest { inputs: [7; 32], ..request(1, 2) }).unwrap();
    let keys: std::collections::HashSet<[u8; 32]> =
        [first.step(0), first.step(1), second.step(0), changed.step(0)]
            .iter()
            .map(|step| *step.as_ref().unwrap().key(&site_key).expose())
            .collect();
    assert_eq!(keys.len(), 4);
    // The same work under the same key is the same sum: a run repeated under another name gives its bits.
    assert!(keys.contains(elsewhere.step(0).unwrap().key(&site_key).expose()));
    let again = open(&ledger.storage).unwrap().reserve(&plan(1.1), request(1, 2)).unwrap();
    assert_eq!(
        again.step(1).unwrap().key(&site_key).expose(),
        first.step(1).unwrap().key(&site_key).expose()
    );
}

/// Records outlive versions of the program: this one was made by another implementation of the layout.
#[test]
fn the_layout_of_a_record_does_not_change() {
    let entry = Entry::new([1; 32], &terms(), request(7, 9), 5);
    let record = entry.encode();
    assert_eq!(record.len(), 168);
    let digest: String =
        record[record.len() - 32..].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(digest, "0c401f4009a508554c29bc89c32917f359d106843f2f065d8d2ff44a25cb214a");
    assert_eq!(Entry::decode(&record), Ok(entry));
}

#[test]
fn a_changed_ledger_is_refused_by_the_entry() {
    let records = paid().records.borrow().clone();
    let refused = |records: Vec<Vec<u8>>| match open(&Memory::new(records)) {
        Err(DpError::LedgerEntry { position, problem, .. }) => (position, problem),
        other => panic!("{other:?}"),
    };
    for byte in 0..records[1].len() {
        let mut records = records.clone();
        records[1][byte] ^= 0x10;
        let expected = if byte == 0 { EntryProblem::Format { found: 0x11 } } else { EntryProblem::Digest };
        assert_eq!(refused(records), (1, expected), "byte {byte}");
    }
    let [a, b, c] = [0, 1, 2].map(|i| records[i].clone());
    assert_eq!(refused(vec![a.clone(), c.clone()]), (1, EntryProblem::Chain));
    assert_eq!(refused(vec![b.clone(), c.clone()]), (0, EntryProblem::Chain));
    assert_eq!(refused(vec![a.clone(), c.clone(), b.clone()]), (1, EntryProblem::Chain));
    assert_eq!(refused(vec![a.clone(), a.clone()]), (1, EntryProblem::Chain));
    let found = b.len() - 1;
    let short = EntryProblem::Length { expected: b.len(), found };
    assert_eq!(refused(vec![a.clone(), b[..found].to_vec()]), (1, short));
    assert_eq!(refused(vec![vec![]]).0, 0);
    // An entry of another site or run begins elsewhere.
    let run = RunId::try_from("run-1").unwrap();
    let foreign = Ledger::open(run, SiteId::try_from("South").unwrap(), Memory::new(vec![a.clone()]));
    assert!(matches!(foreign, Err(DpError::LedgerEntry { position: 0, problem: EntryProblem::Chain, .. })));
    // Whoever can compute digests still cannot write what no plan could have.
    let mut unpaid = Entry::decode(&a).unwrap();
    unpaid.granted = unpaid.asked + 1;
    let forged = Entry::new(unpaid.previous, plan(1.1).terms(), request(1, unpaid.asked), unpaid.granted);
    assert_eq!(refused(vec![forged.encode()]), (0, EntryProblem::Range { field: "its steps" }));
    let second = Entry::new(Entry::decode(&a).unwrap().digest, plan(1.1).terms(), request(1, 5), 5);
    assert_eq!(refused(vec![a, second.encode()]), (1, EntryProblem::RoundOrder));
}

#[derive(Debug, Clone)]
enum Operation {
    Reserve { ahead: u32, steps: u64, noisy: bool, inputs: bool },
    Fault(Fault),
    Crash,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let reserve = (0..3u32, 1..60u64, prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(
        |(ahead, steps, noisy, inputs)| Operation::Reserve {
            ahead,
            steps: steps / 20 * 20 + 1,
            noisy,
            inputs,
        },
    );
    let fault = prop::sample::select(vec![Fault::Lost, Fault::Kept]).prop_map(Operation::Fault);
    prop::collection::vec(prop_oneof![6 => reserve, 1 => fault, 1 => Just(Operation::Crash)], 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over any list of requests, failures and crashes: what was granted is recorded, once, and fits.
    #[test]
    fn grants_are_recorded_once_and_fit_the_budget(operations in operations()) {
        let terms = PlanTerms { accountant: Accountant::Rdp, budget: Epsilon::new(2.0).unwrap(), ..terms() };
        let storage = Memory::new(Vec::new());
        let mut ledger = open(&storage).unwrap();
        let mut granted: BTreeMap<RoundId, Grant> = BTreeMap::new();
        let mut newest = 1;
        for operation in operations {
            match operation {
                Operation::Fault(fault) => storage.fault.set(fault),
                Operation::Crash => ledger = open(&storage).unwrap(),
                Operation::Reserve { ahead, steps, noisy, inputs } => {
                    let noise = NoiseMultiplier::new(if noisy { 2.0 } else { 1.1 }).unwrap();
                    let plan = DpPlan::new(PlanTerms { noise, ..terms.clone() }).unwrap();
                    let mut request = request((newest + ahead).saturating_sub(1).max(1), steps);
                    request.inputs[31] ^= u8::from(inputs);
                    if let Ok(grant) = ledger.reserve(&plan, request) {
                        newest = newest.max(grant.round().0);
                        prop_assert!(grant.steps() <= steps);
                        let first = granted.entry(grant.round()).or_insert_with(|| grant.clone());
                        prop_assert_eq!(&*first, &grant);
                    }
                }
            }
            let mut released = History::default();
            for grant in granted.values() {
                released.push(crate::accountant::Phase { rate: grant.terms.rate, noise: grant.terms.noise, steps: grant.steps });
            }
            let reopened = open(&storage).unwrap();
            let epsilon = |history: &History| terms.accountant.epsilon(history, terms.delta).unwrap().get();
            let recorded = epsilon(reopened.history());
            prop_assert!(epsilon(&released) <= recorded * (1.0 + 1e-9));
            prop_assert!(recorded <= 2.0);
            let rounds: std::collections::BTreeSet<RoundId> = reopened.entries.iter().map(|e| e.round).collect();
            prop_assert_eq!(rounds.len(), storage.records.borrow().len());
            for (round, grant) in &granted {
                let entry = reopened.entries.iter().find(|entry| entry.round == *round).unwrap();
                prop_assert_eq!(&super::grant(entry), grant);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(record in prop::collection::vec(any::<u8>(), 0..220), format in any::<bool>()) {
        let mut record = record;
        if let (Some(first), true) = (record.first_mut(), format) {
            *first = 1;
        }
        prop_assert!(Entry::decode(&record).is_err());
    }
}
