//! The walk through `docs/DEVELOPING.md`, "Break it", typed into one shell: every block of commands, in their order. Needs fio; the part that
//! cuts a sled off needs root and nft, and is left out where they are not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};
use testbed::ProcessIdentity;

/// The developer commands.
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// What is typed.
const PAGE: &str = include_str!("../../docs/DEVELOPING.md");

/// Alone it takes some 30 s.
const LIMIT: Duration = Duration::from_secs(180);

/// What stands for `cargo xtask`: the program that is tested, which runs programs that are built already.
const CARGO: &str = r#"
cargo() {
    shift
    if [ "$2" = up ]; then set -- "$@" --bin-dir "$BIN_DIR"; fi
    "$XTASK" "$@"
}
"#;

/// The blocks of commands between this heading and the next one.
fn blocks(heading: &str) -> Vec<String> {
    let (_, behind) = PAGE.split_once(&format!("\n{heading}\n")).expect("the page has it");
    let section = behind.split("\n#").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_page_says_can_be_typed() {
    let can_cut_off = match testbed::check_partition() {
        Ok(()) => true,
        Err(refusal) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs this: {refusal:#}");
            eprintln!("a part is left out: {refusal:#}");
            false
        }
    };
    let temp = Utf8TempDir::new().unwrap();
    let blocks = blocks("### Break it");
    assert_eq!((blocks.len(), blocks.iter().filter(|block| block.contains("partition")).count()), (4, 1));
    let typed = blocks.into_iter().filter(|block| can_cut_off || !block.contains("partition"));
    let script = CARGO.to_owned() + &typed.collect::<String>();
    let output = temp.path().join("said");
    let shell = Shell::start(&script, temp.path(), &output);
    let is_well = shell.ends_well().await;
    let said = std::fs::read_to_string(&output).unwrap();
    assert!(is_well, "{said}");
    assert!(said.contains("err= 0") && said.contains("active with epoch 1"), "{said}");
    assert!(!temp.path().join("default").exists());
}

/// A shell, what it has started, and the cluster; all of it is ended with this.
struct Shell {
    child: Child,
    dir: Utf8PathBuf,
}

impl Shell {
    fn start(script: &str, dir: &Utf8Path, output: &Utf8Path) -> Shell {
        let xtask = Utf8Path::new(XTASK);
        let said = File::create(output).unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-eux", "-o", "pipefail", "-c", script]).current_dir(dir).process_group(0);
        shell.env("XTASK", xtask).env("BIN_DIR", xtask.parent().unwrap()).env("TESTBED_DIR", dir);
        shell.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        Shell { child: shell.spawn().expect("bash is there"), dir: dir.to_owned() }
    }

    /// Whether it has ended in time, and without an error. It is not waited for: its number stays its own.
    async fn ends_well(&self) -> bool {
        let pid = Pid::from_child(&self.child);
        let live = ProcessIdentity::of(self.child.id()).unwrap().and_then(|shell| shell.open().unwrap());
        if let Some(live) = live
            && !live.ended_within(LIMIT).await.unwrap()
        {
            return false;
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).unwrap().and_then(|ended| ended.exit_status()) == Some(0)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell is waited for below, so the group is still its own.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        let mut reset = Command::new(XTASK);
        let _ = reset.args(["testbed", "reset"]).env("TESTBED_DIR", &self.dir).stdout(Stdio::null()).status();
    }
}
