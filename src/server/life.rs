//! The server's end, as its requests see it.

use tokio::sync::watch;

/// Shared by all requests of one server.
#[derive(Clone, Debug)]
pub(super) struct Life {
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Running requests may end; no new ones come.
    Stopping,
    /// The grace is over.
    Over,
}

impl Life {
    pub(super) fn new() -> Self {
        Self { stage: watch::Sender::new(Stage::Serving) }
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    pub(super) fn stop(&self) {
        self.stage.send_replace(Stage::Stopping);
    }

    pub(super) fn end(&self) {
        self.stage.send_replace(Stage::Over);
    }

    /// Resolves when the shutdown has been asked for.
    pub(super) async fn stopping(&self) {
        self.reaches(|stage| *stage != Stage::Serving).await;
    }

    /// Resolves when the grace is over.
    pub(super) async fn over(&self) {
        self.reaches(|stage| *stage == Stage::Over).await;
    }

    async fn reaches(&self, stage: impl FnMut(&Stage) -> bool) {
        let reached = self.stage.subscribe().wait_for(stage).await.map(drop);
        reached.expect("this very value holds the sender");
    }
}
