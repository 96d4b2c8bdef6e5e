//! The loop that looks after one process.

use super::{
    launch::Launch,
    ports::{Charge, Found, PROBE},
    state::{Pause, Standing, State},
};
use std::time::Duration;
use supervised_process::Ours;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::Instrument;

/// Between two attempts to see whether a process that was started answers: a call may wait for it.
const ANSWER_PROBE: Duration = Duration::from_millis(20);

/// How long one such attempt may take: it is an address of this machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The task of one process.
#[derive(Debug)]
pub struct Supervisor<C> {
    charge: C,
    launch: Launch,
    standing: watch::Sender<Standing>,
}

impl<C: Charge> Supervisor<C> {
    /// Of this process, which is started so.
    pub fn new(charge: C, launch: Launch) -> Supervisor<C> {
        Supervisor { charge, launch, standing: watch::Sender::new(Standing::not_looked()) }
    }

    /// How it stands, from now on.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Sees to it that it runs, until `stop` turns true. The process goes on after that.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.supervise().instrument(self.charge.span()) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn supervise(&self) {
        let mut pause = Pause::new();
        loop {
            let found = self.charge.look().await;
            let since = Instant::now();
            let end = match found {
                Ok(Found::Nobody) => self.start().await,
                Ok(Found::Ours(ours)) => self.adopt(ours).await,
                Ok(Found::NotNow(reason)) => {
                    self.stands(State::Idle, None, reason);
                    self.charge.worth_another_look().await;
                    continue;
                }
                Ok(Found::Elsewhere { pid, why }) => {
                    self.stands(State::HeldElsewhere, pid, Some(why));
                    sleep(PROBE).await;
                    continue;
                }
                Err(why) => why,
            };
            let pause = pause.after(since.elapsed());
            tracing::warn!(reason = end, pause_ms = pause.as_millis(), "a supervised process has ended");
            self.stands(State::BackingOff, None, Some(end));
            sleep(pause).await;
            self.standing.send_modify(|standing| standing.restarts += 1);
        }
    }

    /// Starts it and waits for its end; tells how it ended.
    async fn start(&self) -> String {
        let mut child = match self.launch.start(self.charge.arguments()) {
            Ok(child) => child,
            Err(why) => return why,
        };
        let pid = child.id();
        tracing::info!(pid, "a supervised process was started");
        match self.until_end(pid, child.wait()).await {
            Ok(status) => format!("it has ended: {status}; its log says why"),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    /// Takes over one that an earlier life of the agent has started, and waits for its end.
    async fn adopt(&self, ours: Ours) -> String {
        let pid = Some(ours.pid());
        tracing::info!(pid, "a supervised process was found again");
        match self.until_end(pid, ours.ended()).await {
            Ok(()) => "it has ended; its log says why".to_owned(),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    /// Waits for its end, and tells meanwhile once it answers.
    async fn until_end<T>(&self, pid: Option<u32>, ended: impl Future<Output = T>) -> T {
        self.stands(State::Starting, pid, None);
        tokio::pin!(ended);
        tokio::select! {
            ended = &mut ended => ended,
            () = self.answers() => {
                self.stands(State::Running, pid, None);
                ended.await
            }
        }
    }

    async fn answers(&self) {
        while timeout(ANSWER_LIMIT, self.charge.answers()).await != Ok(true) {
            sleep(ANSWER_PROBE).await;
        }
    }

    fn stands(&self, state: State, pid: Option<u32>, reason: Option<String>) {
        self.standing.send_modify(|standing| {
            standing.state = state;
            standing.pid = pid;
            standing.reason = reason;
        });
    }
}
