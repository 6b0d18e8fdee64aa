//! State machines of the coordinator and the site, and the simulation that runs them in one process.
