//! `testbed` and `testbed up`: from nothing to a cluster that has a release on every sled. Owns the story that is told and
//! when it ends; the `testbed` crate owns every step of it.
//!
//! ```text
//!   build ─► refuse, or start the cluster ─┬─► every sled in service ─┬─► on every sled ─► what to try next
//!            make the sample release ──────┴─► upload ────────────────┘                       │
//!                                                             --detach: leave it ◄────────────┴──► wait for Ctrl-C,
//!                                                                                                  end and remove all
//!                                  --demo: the story of a volume, in the place of what to try; then the end, or --detach
//! ```
//!
//! Ctrl-C at any moment of it ends and, in the foreground, removes everything. A second Ctrl-C does not wait for polite
//! stops.

use super::{Place, demo, narrator::Narrator, signals::Interrupts};
use crate::{
    cargo::{Profile, build_programs},
    workspace,
};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use sample_release::{Keys, SampleRelease};
use std::{
    fs,
    process::{ExitCode, Stdio},
    time::Duration,
};
use testbed::{
    ClaimOrder, Cluster, ClusterBuilder, DISKS_DEFAULT, DatabaseKind, KeeperCommand, OwnedCluster,
    names::DISKS_MAX,
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// The sample release's version.
const SAMPLE_VERSION: &str = "1.0.0";

/// How often the foreground looks whether another command has ended its cluster.
const STILL_OURS_PAUSE: Duration = Duration::from_secs(1);

/// Exit code of a command that Ctrl-C ended before it was done, as shells have it.
const INTERRUPTED: u8 = 130;

/// What cluster is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct UpArgs {
    /// Sleds; 4 unless said, or as many as there were
    #[arg(long, value_name = "K")]
    sleds: Option<usize>,
    /// Data disks of each sled, each with a Downstairs; 2 unless said, or as many as there were
    #[arg(long, value_name = "D")]
    disks: Option<usize>,
    /// The coordinator's database: sqlite, or postgres (a server of the cluster's own); sqlite unless said, or what it had
    #[arg(long, value_name = "DATABASE")]
    db: Option<String>,
    /// Coordinators: 1 (more are not built yet)
    #[arg(long, value_name = "C")]
    nexus: Option<usize>,
    /// This release instead of the sample one; the root in it is trusted on sight
    #[arg(long, value_name = "FILE.zip", conflicts_with = "no_release")]
    release: Option<Utf8PathBuf>,
    /// No release at all
    #[arg(long)]
    no_release: bool,
    /// Return when every sled is in service and the release is everywhere; the cluster lives on
    #[arg(long)]
    detach: bool,
    /// Run programs that are compiled as they are shipped (cargo build --release)
    #[arg(long)]
    release_build: bool,
    /// Run the programs in this directory instead of building them
    #[arg(long, value_name = "DIR", conflicts_with = "release_build")]
    bin_dir: Option<Utf8PathBuf>,
    /// Shows a volume at work once the release is everywhere: a disk fails, a new one is filled, the coordinator is killed meanwhile; ends
    /// by itself, with 0 only if every check has held
    #[arg(long, conflicts_with = "no_release")]
    demo: bool,
}

impl UpArgs {
    /// Refuses what is not built, before anything else happens.
    fn check(&self) -> Result<()> {
        if let Some(disks) = self.disks.filter(|&disks| disks > DISKS_MAX) {
            bail!("--disks {disks}: a sled has at most {DISKS_MAX}");
        }
        if self.database()? == Some(DatabaseKind::Postgres) {
            test_postgres::Programs::required().context("--db postgres")?;
        }
        if let Some(count) = self.nexus.filter(|&count| count != 1) {
            bail!("--nexus {count} is not built yet: a cluster has 1 coordinator");
        }
        if self.sleds == Some(0) {
            bail!("--sleds 0: a cluster has at least 1 sled");
        }
        if let Some(zip) = &self.release {
            if !zip.is_file() {
                bail!("--release {zip}: there is no such file");
            }
            testbed::root_in_zip(zip).with_context(|| format!("--release {zip} is no release"))?;
        }
        Ok(())
    }

    /// Refuses a demo in a cluster that would be too small for it.
    fn check_demo(&self, sleds: usize, disks: usize) -> Result<()> {
        if self.demo && (sleds < demo::SLEDS_MIN || disks == 0) {
            bail!(
                "--demo needs {} sleds with a data disk each, and there would be {sleds} with {disks}; a cluster has that unless \
                 --sleds or --disks say otherwise, or an earlier one was smaller: `cargo xtask testbed reset`",
                demo::SLEDS_MIN
            );
        }
        Ok(())
    }

    fn database(&self) -> Result<Option<DatabaseKind>> {
        match self.db.as_deref() {
            None => Ok(None),
            Some("sqlite") => Ok(Some(DatabaseKind::Sqlite)),
            Some("postgres") => Ok(Some(DatabaseKind::Postgres)),
            Some(other) => bail!("no database {other:?}; there is sqlite and postgres"),
        }
    }

    fn profile(&self) -> Profile {
        if self.release_build { Profile::Release } else { Profile::Dev }
    }
}

/// Runs the command.
pub(crate) fn run(place: &Place, args: &UpArgs, runtime: &Runtime) -> Result<ExitCode> {
    args.check()?;
    let mut builder = ClusterBuilder::new(&place.dir)
        .name(&place.name)
        .order(ClaimOrder::LowestFirst)
        .keeper(KeeperCommand::of_xtask(workspace::this_program()?))
        .remove_state(!args.detach);
    if let Some(sleds) = args.sleds {
        builder = builder.sleds(sleds);
    }
    if let Some(database) = args.database()? {
        builder = builder.database(database);
    }
    if let Some(disks) = args.disks {
        builder = builder.disks(disks);
    }
    let disks = builder.planned_disks(DISKS_DEFAULT)?;
    let builder = builder.disks(disks);
    let sleds = builder.planned_sleds()?;
    args.check_demo(sleds, disks)?;
    let database = match builder.planned_database()? {
        DatabaseKind::Sqlite => "sqlite",
        DatabaseKind::Postgres => "postgres",
    };
    let anew = builder.starts_anew()?;
    let builder = builder.bin_dir(match &args.bin_dir {
        Some(bin_dir) => camino::absolute_utf8(bin_dir).with_context(|| format!("--bin-dir {bin_dir}"))?,
        None => build_programs(args.profile())?,
    });
    runtime.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let narrator = Narrator::start();
        narrator.fact(&format!(
            "cluster {}: 1 coordinator ({database}), {sleds} sleds × 2 M.2 and {disks} data disks; no root needed",
            place.name
        ));
        if anew {
            narrator
                .fact("the foreground starts anew: the directories that an earlier cluster left are removed");
        }
        let brought_up = tokio::select! {
            brought_up = bring_up(place, args, builder, &narrator) => brought_up?,
            () = interrupts.next() => {
                eprintln!("interrupted; everything that was started is ended");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        if args.detach {
            brought_up.detach()?;
            return Ok(ExitCode::SUCCESS);
        }
        if !args.demo {
            stay(&brought_up, &narrator, &mut interrupts).await?;
        }
        end(brought_up, &narrator, &mut interrupts).await
    })
}

/// Waits for the end of the foreground.
async fn stay(cluster: &OwnedCluster, narrator: &Narrator, interrupts: &mut Interrupts) -> Result<()> {
    narrator.line("\nCtrl-C ends everything and removes it.");
    tokio::select! {
        () = interrupts.next() => Ok(()),
        taken = taken_away(cluster) => taken,
    }
}

/// Ends the foreground.
async fn end(cluster: OwnedCluster, narrator: &Narrator, interrupts: &mut Interrupts) -> Result<ExitCode> {
    if !cluster.is_still_ours()? {
        narrator.line("another command has ended this cluster");
        return Ok(ExitCode::SUCCESS);
    }
    narrator.line("\nstopping …");
    tokio::select! {
        finished = cluster.finish() => finished?,
        // What is left is killed without asking, by the keeper at the latest.
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    narrator.line("everything is stopped and removed");
    Ok(ExitCode::SUCCESS)
}

/// Returns when another command has ended the cluster.
async fn taken_away(cluster: &OwnedCluster) -> Result<()> {
    let mut looks = tokio::time::interval(STILL_OURS_PAUSE);
    loop {
        looks.tick().await;
        if !cluster.is_still_ours()? {
            return Ok(());
        }
    }
}

async fn bring_up(
    place: &Place,
    args: &UpArgs,
    builder: ClusterBuilder,
    narrator: &Narrator,
) -> Result<OwnedCluster> {
    // Made meanwhile: it takes longer than the start.
    let release = Release::prepare(place, args);
    let cluster = builder.start().await?;
    let environment = cluster.environment()?;
    for nexus in &environment.nexus {
        narrator.fact(&format!("{} is ready: {}", nexus.name, nexus.url));
    }
    // Sleds register while the release is uploaded: the coordinator takes it in without them.
    let joining = async {
        cluster.wait_in_service().await?;
        for sled in &environment.sleds {
            let id = sled.id.map_or_else(|| "no id yet".to_owned(), |id| id.to_string());
            narrator.fact(&format!("{} is in service: {} ({id})", sled.name, sled.agent_url));
        }
        Ok(())
    };
    let ((), version) = tokio::try_join!(joining, upload(&cluster, release, narrator))?;
    if version.is_some() {
        let copies = cluster.wait_replicated(&mut |now| narrator.progress(now)).await?;
        narrator.fact("every sled has everything");
        if !copies.is_complete() {
            bail!("the coordinator says that all is replicated, but the sleds themselves say: {copies}");
        }
        narrator.line(&format!("\n{copies}\n"));
        artifact_matrix(&cluster).await?;
    }
    if args.demo {
        let told = demo::tell(place, &cluster, narrator).await;
        told.with_context(|| match args.detach {
            true => format!(
                "the demo does not hold; its processes' logs are kept in {}",
                cluster.directory().root()
            ),
            false => {
                "the demo does not hold; `cargo xtask testbed up --detach --demo` keeps its processes' logs"
                    .to_owned()
            }
        })?;
    }
    if !args.demo || args.detach {
        closing_words(place, args, &cluster, version.as_deref(), narrator)?;
    }
    Ok(cluster)
}

/// Uploads the release that is wanted; the version of the newest release that the cluster then has.
async fn upload(cluster: &Cluster, release: Release, narrator: &Narrator) -> Result<Option<String>> {
    let known = cluster.newest_release().await?;
    let ready = match release {
        Release::None => return Ok(known),
        // Made anew it would have other keys and be another release of the same version.
        Release::Sample(_) if known.is_some() => {
            narrator.fact("the cluster has a release already; no other one is uploaded");
            return Ok(known);
        }
        Release::Sample(making) => making.await.context("making the sample release")??,
        Release::File(zip) => {
            let root_json = testbed::root_in_zip(&zip)?;
            narrator.fact(&format!("the root in {zip} is trusted on sight"));
            ReadyRelease { zip, root_json, remove: false }
        }
    };
    let report = &mut |now| narrator.progress(now);
    let uploaded = cluster.upload_release(&ready.zip, ready.root_json.clone(), report).await?;
    narrator
        .fact(&format!("release {} is uploaded, its signatures and bytes are good", uploaded.system_version));
    for warning in &uploaded.warnings {
        narrator.fact(&format!("warning: {warning}"));
    }
    Ok(Some(uploaded.system_version))
}

/// The table that the operator's own tool prints.
async fn artifact_matrix(cluster: &Cluster) -> Result<()> {
    let environment = cluster.environment()?;
    let nexus = environment.nexus.first().context("the cluster has no coordinator")?;
    let sledctl = environment.bin_dir.join("sledctl");
    let status = tokio::process::Command::new(&sledctl)
        .args(["artifact", "matrix"])
        .env("SLEDCTL_URL", &nexus.url)
        .env("SLEDCTL_TOKEN", &environment.token)
        .stdin(Stdio::null())
        .status()
        .await
        .with_context(|| format!("running {sledctl}"))?;
    if !status.success() {
        bail!("`sledctl artifact matrix` failed: {status}");
    }
    Ok(())
}

fn closing_words(
    place: &Place,
    args: &UpArgs,
    cluster: &Cluster,
    release: Option<&str>,
    narrator: &Narrator,
) -> Result<()> {
    let environment = cluster.environment()?;
    let name = place.name_option();
    narrator.line("");
    for nexus in &environment.nexus {
        narrator.line(&format!("{:<8}  {}   for sleds: {}", nexus.name, nexus.url, nexus.internal_url));
    }
    for sled in &environment.sleds {
        narrator.line(&format!("{:<8}  {}  depot: {}", sled.name, sled.agent_url, sled.depot_url));
    }
    let elsewhere = if args.detach { "" } else { ", in another terminal" };
    narrator.line(&format!("\n{:.1} s after compiling. Now try{elsewhere}:\n", narrator.seconds()));
    let last = environment.sleds.last().map_or("sled-a", |sled| sled.name.as_str());
    for (command, what) in suggestions(&name, last, release) {
        narrator.line(&format!("  {command}\n      {what}"));
    }
    if !args.detach {
        narrator.line(
            "\nAfterwards, `cargo xtask testbed --demo` shows a volume that loses a disk, and what becomes of it.",
        );
    }
    Ok(())
}

/// Commands to try, and what they show. The first one tells the shell where the cluster is.
fn suggestions(name: &str, last: &str, release: Option<&str>) -> Vec<(String, &'static str)> {
    let mut all = vec![
        (format!("eval \"$(cargo xtask testbed env{name})\" && sledctl status"), "the cluster on one screen"),
        (
            format!("cargo xtask testbed kill {last}{name} && cargo xtask testbed restart {last}{name}"),
            "a sled dies and comes back",
        ),
        (
            format!("cargo xtask testbed add-sled{name} && sledctl artifact matrix"),
            "a new sled gets everything",
        ),
    ];
    match release {
        Some(version) => all.extend([
            (
                format!(
                    "cargo xtask testbed disk corrupt 3 sled-a/m2-1{name} && sledctl sled scrub sled-a --wait && \
                     sledctl sled show sled-a"
                ),
                "bits rot; a scrub finds them, and the copies are made anew",
            ),
            (
                format!("sledctl repo delete {version} --yes && sledctl artifact matrix"),
                "what nobody wants goes away",
            ),
        ]),
        None => all.extend([
            ("cargo xtask release make".to_owned(), "a signed sample release, and its trust root"),
            (
                "sledctl trust-root add ROOT.json && sledctl repo upload FILE.zip --wait".to_owned(),
                "a release reaches every sled",
            ),
        ]),
    }
    all
}

/// The release that is wanted.
enum Release {
    None,
    /// Being made.
    Sample(JoinHandle<Result<ReadyRelease>>),
    File(Utf8PathBuf),
}

/// A release that can be uploaded. The sample one is removed again afterwards.
struct ReadyRelease {
    zip: Utf8PathBuf,
    root_json: Vec<u8>,
    remove: bool,
}

impl Release {
    fn prepare(place: &Place, args: &UpArgs) -> Release {
        if args.no_release {
            return Release::None;
        }
        if let Some(zip) = &args.release {
            return Release::File(zip.clone());
        }
        let zip = place.dir.join(format!("{}.release.zip", place.name));
        Release::Sample(tokio::task::spawn_blocking(move || make_sample(&zip)))
    }
}

fn make_sample(zip: &Utf8Path) -> Result<ReadyRelease> {
    if let Some(parent) = zip.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {parent}"))?;
    }
    let made = SampleRelease::standard(SAMPLE_VERSION).make(&Keys::generate()?, zip)?;
    Ok(ReadyRelease { zip: made.path, root_json: made.root_json, remove: true })
}

impl Drop for ReadyRelease {
    fn drop(&mut self) {
        if self.remove {
            let _ = fs::remove_file(&self.zip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_commands_fit_what_the_cluster_has() {
        let with = suggestions(" --name x", "sled-d", Some("9.1.0"));
        let without = suggestions("", "sled-d", None);
        assert_eq!((with.len(), without.len()), (5, 5));
        assert!(with.iter().any(|(command, _)| command.contains("repo delete 9.1.0 ")), "{with:?}");
        assert!(without.iter().all(|(command, _)| !command.contains("delete") && !command.contains("scrub")));
        let testbed = with.iter().flat_map(|(command, _)| command.split(" && "));
        for command in testbed.filter(|command| command.contains("cargo xtask testbed")) {
            assert!(command.contains("--name x"), "{command} goes to another cluster");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let refused = |args: UpArgs, wanted: &str| {
            let refusal = args.check().unwrap_err().to_string();
            assert!(refusal.contains(wanted), "{refusal}");
        };
        let none = UpArgs::default;
        refused(UpArgs { disks: Some(17), ..none() }, "at most 16");
        refused(UpArgs { db: Some("mysql".into()), ..none() }, "there is sqlite and postgres");
        refused(UpArgs { nexus: Some(2), ..none() }, "not built yet");
        refused(UpArgs { sleds: Some(0), ..none() }, "at least 1");
        refused(UpArgs { release: Some("/absent.zip".into()), ..none() }, "no such file");
        refused(UpArgs { release: Some("Cargo.toml".into()), ..none() }, "Cargo.toml is no release");
        UpArgs { db: Some("sqlite".into()), nexus: Some(1), disks: Some(0), ..none() }.check().unwrap();
    }
}
