//! The thread on which a hospital works, so that its site can answer meanwhile.

use super::engine::Command;
use super::{Hospital, Trouble};
use crate::runtime::error::KeeperError;
use medfed_federation::Snapshot;
use medfed_federation::site::{LocalOutcome, TrainRequest};
use medfed_protocol::Payload;
use medfed_protocol::message::{DeclineCode, Offer};
use medfed_protocol::site::SiteEvent;
use medfed_types::{Cancel, RoundId};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::mpsc::WeakSender;

/// What the hospital is asked.
pub(super) enum Job {
    /// Prepare for an offer that was prepared for before, and go on from a state.
    Resume(Box<Offer>, Option<Snapshot>),
    /// Prepare for an offer.
    Prepare(Box<Offer>),
    Train(TrainRequest, Cancel),
    Stop,
    Evaluate(Arc<Vec<f32>>),
    Cosign(RoundId, Payload),
    EndRound,
}

/// The engine's end of the thread. When it is dropped, training stops between two steps and the thread ends.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    /// Stops the training that was asked for and not answered.
    training: Option<Cancel>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Begins to work for a run. Answers go to `answers`, with the number `epoch`.
    pub(super) fn start(
        hospital: Box<dyn Hospital>,
        epoch: u64,
        answers: WeakSender<Command>,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("hospital".to_owned())
            .spawn(move || work(hospital, epoch, &inbox, &answers))?;
        Ok(Self { jobs: Some(jobs), training: None, thread: Some(thread) })
    }

    /// Trains.
    pub(super) fn train(&mut self, request: TrainRequest) {
        let cancel = Cancel::default();
        self.training = Some(cancel.clone());
        self.give(Job::Train(request, cancel));
    }

    /// Stops training. Training that was asked for and not answered answers this too.
    pub(super) fn stop(&mut self) {
        match &self.training {
            Some(training) => training.cancel(),
            None => self.give(Job::Stop),
        }
    }

    /// Training has been answered.
    pub(super) fn trained(&mut self) {
        self.training = None;
    }

    /// Queues a job.
    pub(super) fn give(&self, job: Job) {
        // A thread that has ended has said why.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(training) = &self.training {
            training.cancel();
        }
        self.jobs = None;
        // A panic of the thread has been reported by its hook.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn work(mut hospital: Box<dyn Hospital>, epoch: u64, inbox: &Receiver<Job>, answers: &WeakSender<Command>) {
    while let Ok(job) = inbox.recv() {
        let event = match job {
            Job::Resume(offer, state) => {
                let prepared = hospital.prepare(&offer);
                match prepared.and_then(|_| state.map_or(Ok(()), |state| hospital.restore(&state))) {
                    Ok(()) => continue,
                    Err(Trouble::Fatal(error)) => Err(error),
                    // It could be done when the run began.
                    Err(Trouble::Unable { reason, .. }) => Err(reason.into()),
                }
            }
            Job::Prepare(offer) => hospital
                .prepare(&offer)
                .map(|announcement| SiteEvent::Prepared { announcement: Box::new(announcement) })
                .or_else(|trouble| unable(trouble, None)),
            Job::Train(request, cancel) => {
                let round = request.round;
                match (hospital.train(&request, &cancel), hospital.snapshot().map(Box::new)) {
                    (Ok(LocalOutcome::Replied(reply)), Some(state)) => {
                        Ok(SiteEvent::Trained { round, result: reply.into(), state })
                    }
                    (Ok(LocalOutcome::Interrupted), Some(state)) => Ok(SiteEvent::Stopped { state }),
                    (Ok(_), None) => unable(unprepared(), None),
                    (Err(trouble), state) => unable(trouble, state),
                }
            }
            Job::Stop => match hospital.snapshot() {
                Some(state) => Ok(SiteEvent::Stopped { state: Box::new(state) }),
                None => unable(unprepared(), None),
            },
            Job::Evaluate(parameters) => hospital
                .evaluate(&parameters)
                .map(|found| SiteEvent::Evaluated { evaluation: found.map(Box::new) })
                .or_else(|trouble| unable(trouble, None)),
            Job::Cosign(round, checkpoint) => hospital
                .cosign(round, &checkpoint)
                .map(|note| SiteEvent::Cosigned { note })
                .or_else(|trouble| unable(trouble, None)),
            Job::EndRound => {
                hospital.end_round();
                continue;
            }
        };
        // An engine that has ended needs no answer.
        let Some(answers) = answers.upgrade() else { return };
        if answers.blocking_send(Command::Answer { epoch, event }).is_err() {
            return;
        }
    }
}

fn unprepared() -> Trouble {
    Trouble::Unable { code: DeclineCode::Order, reason: "the hospital has joined no run".to_owned() }
}

/// What the coordinator hears of trouble; the process ends by what is its own.
fn unable(trouble: Trouble, state: Option<Box<Snapshot>>) -> Result<SiteEvent, KeeperError> {
    match trouble {
        Trouble::Unable { code, reason } => Ok(SiteEvent::Unable { code, reason, state }),
        Trouble::Fatal(error) => Err(error),
    }
}
