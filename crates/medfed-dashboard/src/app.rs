//! What every request handler shares.

use crate::control::{Control, Trainer, TrainingState};
use crate::events::Hub;
use crate::source::Source;
use crate::view::View;
use medfed_store::Timestamp;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};

/// Streams of events that may be open at once.
const STREAMS: usize = 512;

/// The dashboard's parts, shared by all requests.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Parts>);

/// The parts.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The results folder.
    pub(crate) source: Source,
    /// Start and stop.
    pub(crate) control: Control,
    /// Events.
    pub(crate) hub: Hub,
    /// The configuration that training starts with.
    pub(crate) config: PathBuf,
    /// Held while its file is changed.
    pub(crate) editing: Mutex<()>,
    /// One permit for each open stream of events.
    pub(crate) streams: Arc<Semaphore>,
    /// True once the server is to end: streams would hold it up.
    pub(crate) ending: watch::Sender<bool>,
    /// Whether one has to log in.
    pub(crate) has_users: bool,
    /// When the dashboard started.
    pub(crate) started: Timestamp,
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    pub(crate) fn new(trainer: Trainer, has_users: bool) -> Self {
        let started = Timestamp::now();
        Self(Arc::new(Parts {
            source: Source::new(trainer.results.clone()),
            config: trainer.config.clone(),
            editing: Mutex::default(),
            control: Control::new(trainer),
            // Above every number of an earlier start, unless that sent more than a thousand events a second.
            hub: Hub::new(u64::try_from(started.0).unwrap_or_default()),
            streams: Arc::new(Semaphore::new(STREAMS)),
            ending: watch::Sender::new(false),
            has_users,
            started,
        }))
    }

    /// The contents of the results folder as of the last look.
    pub(crate) fn view(&self) -> Arc<View> {
        self.source.view()
    }

    /// Where training stands.
    pub(crate) fn training(&self) -> TrainingState {
        self.control.state(&self.view(), self.source.live().as_deref())
    }
}
