//! `soak volume`: a volume under load while its processes are killed and paused, and bits flipped. Owns the command line and what is
//! said; what is done and what is right is the `volume-soak` crate's.

use super::{INTERRUPTED, end_progress, progress, seed_of_now};
use crate::{
    cargo::{Profile, build_agent_alone},
    testbed::signals::Interrupts,
    workspace,
};
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::Args;
use std::process::ExitCode;
use tokio::runtime::Runtime;
use volume_soak::{VolumeOrder, VolumeSite, run_volume};

/// What is done, and for how long.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing was found wrong; 1 something was, or the run could not be made.\n\
Part 1: clients and fio work while Downstairs are killed, paused, killed in a row, two at once, and bits of one copy flipped.\n\
Part 2: clients work while the export, or everything at once, is killed; they come again and read every block.\n\
Part 3: clients work while members are replaced, healthy ones and such as are gone, and source, target or export are killed meanwhile:\n\
half of these kills at least have to hit a repair that is under way.\n\
After each part the three copies are compared, block by block. Short: 10 rounds, 3, and 10. Full: 100, 20, and 100. Needs fio."
)]
pub(crate) struct VolumeArgs {
    /// The short form, on programs as they are compiled for development; without it the full one, as they are shipped
    #[arg(long)]
    short: bool,
    /// A volume with a key: blocks are forged, too, and no member may have anything of what clients write
    #[arg(long)]
    encrypted: bool,
    /// Chooses what is done when, and what clients write; chosen, and printed, unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Rounds of part 1
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Rounds of part 2
    #[arg(long, value_name = "N")]
    ends: Option<u32>,
    /// Rounds of part 3: members that are replaced
    #[arg(long, value_name = "N")]
    replacements: Option<u32>,
    /// Clients at once, beside fio
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    clients: Option<u32>,
    /// Run the programs in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<Utf8PathBuf>,
    /// Keep all files if something was found wrong
    #[arg(long)]
    keep: bool,
    /// The report as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &VolumeArgs) -> Result<ExitCode> {
    let bin_dir = match &args.bin_dir {
        Some(bin_dir) => camino::absolute_utf8(bin_dir).with_context(|| format!("--bin-dir {bin_dir}"))?,
        None => build_agent_alone(if args.short { Profile::Dev } else { Profile::Release })?,
    };
    let site = VolumeSite {
        parent: workspace::target_dir()?.join("soak"),
        bin_dir: Some(bin_dir),
        keeps_files: args.keep,
    };
    let order = args.order(args.seed.unwrap_or_else(seed_of_now));
    eprintln!("seed {}", order.seed);
    let outcome = Runtime::new()?.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            report = run_volume(&site, &order, &progress) => {
                report.map(Some).with_context(|| format!("seed {}", order.seed))
            }
            // Its processes end with what is dropped here.
            () = interrupts.next() => Ok(None),
        }
    })?;
    end_progress();
    let Some(report) = outcome else {
        eprintln!("interrupted; everything is ended and removed");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        say!("{}", report.to_string().trim_end());
    }
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl VolumeArgs {
    fn order(&self, seed: u64) -> VolumeOrder {
        let form = if self.short { VolumeOrder::short(seed) } else { VolumeOrder::full(seed) };
        VolumeOrder {
            rounds: self.rounds.unwrap_or(form.rounds),
            ends: self.ends.unwrap_or(form.ends),
            replacements: self.replacements.unwrap_or(form.replacements),
            clients: self.clients.unwrap_or(form.clients),
            is_encrypted: self.encrypted,
            ..form
        }
    }
}
