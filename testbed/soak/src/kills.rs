//! Run B: clients create sagas while the coordinator is killed at random instants, again and again, also while it starts.
//!
//! The instants are the seed's choice, and so is what the sagas are told to do. What the coordinator was doing at such an
//! instant is not: a seed replays the order of things as far as the machine's timing allows.

use crate::{
    audit::Audit,
    ledger::{Counts, Finding},
    order::{KillOrder, Progress, SoakSite},
    recovery::RecoveryTotals,
    run::{Books, Run},
    site::COORDINATOR,
};
use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;
use std::time::Duration;
use testbed::{Cluster, KillScope};
use tokio::time::{sleep, timeout};

/// Of a hundred sagas, how many are told to fail, so that unwinding is killed too.
const FAILING_PERCENT: u32 = 20;

/// One life in so many ends before it serves, in the midst of opening its database and recovering.
const ENDS_EARLY_ONE_IN: u32 = 5;

/// How long the coordinator lives at most once it serves: some ten times what a saga takes.
const LIFE_MS_MAX: u64 = 600;

/// How long after its start it is killed at most where it ends early: about what a start takes.
const START_MS_MAX: u64 = 120;

/// Between two looks at clients that end.
const LOOK: Duration = Duration::from_millis(50);

/// What run B saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KillReport {
    /// The seed.
    pub seed: u64,
    /// Clients at once.
    pub clients: u32,
    /// SIGKILLs.
    pub kills: u64,
    /// Of these, before the coordinator served.
    pub kills_while_starting: u64,
    /// Sagas that were acknowledged.
    pub acknowledged: u64,
    /// Sagas whose ends were seen, and whose effects were right.
    pub ended: u64,
    /// Nodes whose action or undo ran more than once: they were in flight at a kill.
    pub repeated: u64,
    /// Answers that were lost, and asked for again.
    pub lost_answers: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Recovery's own numbers in the last life.
    pub totals: RecoveryTotals,
    /// The database afterwards.
    pub audit: Audit,
    /// What must not be.
    pub findings: Vec<Finding>,
}

/// When a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// So long after its process was started, unless it serves by then.
    Starting(Duration),
    /// So long after it served.
    Serving(Duration),
}

/// The ends of all lives.
fn ends(seed: u64) -> impl Iterator<Item = End> {
    let mut random = StdRng::seed_from_u64(seed);
    std::iter::repeat_with(move || {
        if random.random_ratio(1, ENDS_EARLY_ONE_IN) {
            End::Starting(Duration::from_millis(random.random_range(0..START_MS_MAX)))
        } else {
            End::Serving(Duration::from_millis(random.random_range(0..LIFE_MS_MAX)))
        }
    })
}

/// Runs it.
///
/// # Errors
/// The run could not be made; what it finds wrong is in the report.
pub async fn run_kills(site: &SoakSite, order: &KillOrder, progress: Progress<'_>) -> Result<KillReport> {
    let mut run = Run::begin(site, "soak-kills", FAILING_PERCENT, order.clients, order.seed).await?;
    let (mut kills, mut kills_while_starting) = (0, 0);
    for end in ends(order.seed) {
        if kills == order.kills || run.ledger.is_closed() {
            break;
        }
        kills_while_starting += u64::from(one_life(&run.cluster, end).await?);
        kills += 1;
        progress(&format!("{kills} kills, {} sagas", run.ledger.counts().ended));
    }
    run.cluster.start(COORDINATOR).await?;
    run.ledger.close();
    while run.is_any_left()? {
        sleep(LOOK).await;
    }
    let Books { counts, totals, audit, seconds, findings } = run.close(agree).await?;
    let Counts { acknowledged, ended, repeated, lost_answers } = counts;
    Ok(KillReport {
        seed: order.seed,
        clients: order.clients,
        kills,
        kills_while_starting,
        acknowledged,
        ended,
        repeated,
        lost_answers,
        seconds,
        totals,
        audit,
        findings,
    })
}

/// Starts the coordinator unless it runs, and kills it. Whether it did not serve yet.
async fn one_life(cluster: &Cluster, end: End) -> Result<bool> {
    let is_up = cluster.is_running(COORDINATOR)?;
    let is_starting = match end {
        End::Serving(life) => {
            if !is_up {
                cluster.start(COORDINATOR).await?;
            }
            sleep(life).await;
            false
        }
        End::Starting(life) if is_up => {
            sleep(life).await;
            false
        }
        // The process is started before this waits for the first time.
        End::Starting(life) => match timeout(life, cluster.start(COORDINATOR)).await {
            Ok(started) => started.map(|()| false)?,
            Err(_) => true,
        },
    };
    cluster.kill(COORDINATOR, KillScope::WholeSled).await?;
    Ok(is_starting)
}

/// The books say the same.
fn agree(counts: Counts, totals: RecoveryTotals, audit: Audit) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rows = audit.rows;
    let all = [counts.ended, rows.all, rows.succeeded + rows.failed];
    if all.iter().any(|count| *count != counts.acknowledged) {
        let what = format!("{} were acknowledged, and the books say {all:?}", counts.acknowledged);
        findings.push(Finding::of_all(what));
    }
    if totals.running > 0 {
        findings.push(Finding::of_all(format!("{} sagas run although all have ended", totals.running)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_order_of_ends_and_some_of_them_are_early() {
        let first = |seed| ends(seed).take(400).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        let early = first(1).into_iter().filter(|end| matches!(end, End::Starting(_))).count();
        assert!((50..110).contains(&early), "{early}");
    }
}
