//! Repairs of real volumes, told to a real coordinator: whichever of the two was away, it is one repair from its start to its end.

use crate::stage::{LIMIT, Stage};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use serde_json::Value;
use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};
use testbed::{KillScope, OwnedProcess, owned_command, wait_for};

/// The volumes of this process, each with ports of its own.
static VOLUMES: AtomicU32 = AtomicU32::new(0);

/// A volume by hand, its processes, and where the coordinator is.
struct Volume {
    temp: Utf8TempDir,
    program: Utf8PathBuf,
    address: String,
    number: u32,
    downstairs: Vec<OwnedProcess>,
    notify: Vec<String>,
}

impl Volume {
    /// A volume of 16 MiB on three disks, which are served; a fourth disk is not.
    async fn new(stage: &Stage) -> Volume {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let program = stage.cluster.record().expect("it is recorded").bin_dir.join("sled-agent");
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{middle}.{low}", 64 + high % 128);
        let token = temp.path().join("token");
        fs::write(&token, &stage.tokens.sled).expect("it is written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&token, mode).expect("it is ours");
        let notify = ["--notices", temp.path().join("notices").as_str(), "--notify", &stage.internal.url]
            .into_iter()
            .chain(["--notify-token-file", token.as_str()])
            .map(str::to_owned)
            .collect();
        let number = VOLUMES.fetch_add(1, Ordering::SeqCst);
        let mut volume = Volume { temp, program, address, number, downstairs: Vec::new(), notify };
        let places: Vec<String> = (1..=3).map(|disk| volume.place(disk)).collect();
        let mut create = vec!["create", "--size", "16MiB", "--output", "volume.json"];
        places.iter().for_each(|place| create.extend(["--member", place]));
        volume.ask(&create).await.expect("it is made");
        (1..=3).for_each(|disk| volume.serve(disk));
        volume
    }

    fn path(&self) -> &Utf8Path {
        self.temp.path()
    }

    fn place(&self, disk: u32) -> String {
        format!("disk{disk}@{}", self.served_at(disk))
    }

    fn served_at(&self, disk: u32) -> String {
        format!("{}:124{}{disk}", self.address, self.number)
    }

    fn start(&self, name: &str, args: &[String]) -> OwnedProcess {
        OwnedProcess::start(self.path(), name, &self.program, args).expect("it is started")
    }

    fn serve(&mut self, disk: u32) {
        let directory = self.path().join(format!("disk{disk}")).into_string();
        let listen = self.served_at(disk);
        let args = ["downstairs", "--directory", &directory, "--listen", &listen].map(str::to_owned);
        let process = self.start(&format!("downstairs{disk}"), &args);
        self.downstairs.push(process);
    }

    fn export(&self, epoch: u32) -> OwnedProcess {
        let (file, socket) = (self.path().join("volume.json"), self.path().join("nbd"));
        let mut args: Vec<String> =
            ["volume", "export", "--volume", file.as_str(), "--epoch"].map(str::to_owned).into();
        args.extend([epoch.to_string(), "--listen".to_owned(), format!("unix:{socket}")]);
        args.extend(self.notify.iter().cloned());
        self.start(&format!("export{epoch}"), &args)
    }

    /// A command about volumes; what it says.
    async fn ask(&self, args: &[&str]) -> Result<String, String> {
        let mut command = owned_command(&self.program);
        let output = command.arg("volume").args(args).current_dir(self.path()).output().await;
        let output = output.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// What the export says of itself, once it is as wanted.
    async fn look_until(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let said = self.ask(&["look", "volume.json", "--json"]).await?;
            let status: Value = serde_json::from_str(&said).expect("it is JSON");
            if is_it(&status) {
                Ok(status)
            } else {
                Err(format!("{} {}", status["repairs"], status["notices"]))
            }
        };
        wait_for(what, LIMIT, look).await.expect("it comes about")
    }

    fn file(&self) -> Value {
        let text = fs::read_to_string(self.path().join("volume.json")).expect("it is there");
        serde_json::from_str(&text).expect("it is JSON")
    }
}

#[tokio::test]
async fn a_repair_is_one_row_though_the_coordinator_was_away_and_the_export_killed_in_its_middle() {
    let stage = Stage::coordinator("").await;
    let mut volume = Volume::new(&stage).await;
    let export = volume.export(1);
    volume.ask(&["wait", "volume.json", "--for", "whole"]).await.expect("all are there");

    // The coordinator is away when the repair begins. The new member is not there yet, so it cannot end.
    stage.cluster.kill("nexus-1", KillScope::WholeSled).await.expect("it is killed");
    let before = volume.file();
    let old = before["sub_volumes"][0]["region_set"]["members"][2]["region_id"].clone();
    let place = volume.place(4);
    let replace = ["replace", "volume.json", "--region", old.as_str().expect("an id"), "--member", &place];
    volume.ask(&replace).await.expect("it begins");
    let is_kept = |status: &Value| {
        let outbox = &status["notices"]["outbox"];
        status["repairs"][0]["phase"] == "away" && outbox["waiting"] == 2 && outbox["away"].is_string()
    };
    let begun = volume.look_until("the start to wait for the coordinator", is_kept).await;
    let id = begun["repairs"][0]["id"].clone();
    assert_eq!(begun["repairs"][0]["why"], "replaces_leaving");

    // Killed in the middle. The next one goes on with the same repair, and nobody else may tell meanwhile.
    export.kill().await.expect("it is killed");
    let export = volume.export(2);
    let is_same = |status: &Value| status["repairs"][0]["phase"] == "away";
    let again = volume.look_until("the next export to know the repair", is_same).await;
    assert_eq!((&again["repairs"][0]["id"], again["repairs"].as_array().map(Vec::len)), (&id, Some(1)));
    let file = volume.path().join("volume.json");
    let mut other = volume.notify.clone();
    other.extend(["--control".to_owned(), volume.path().join("other").into_string()]);
    let mut args = vec!["export", "--volume", file.as_str(), "--epoch", "3", "--listen", "tcp:127.0.0.1:0"];
    args.extend(other.iter().map(String::as_str));
    let refused = volume.ask(&args).await.expect_err("one tells at a time");
    assert!(refused.contains("error[notices_held]"), "{refused}");

    // Now it comes to its end; and then the coordinator comes back.
    volume.serve(4);
    let is_over = |status: &Value| status["repairs"][0]["outcome"] == "completed";
    let ended = volume.look_until("the repair to end", is_over).await;
    assert_eq!(ended["repairs"][0]["id"], id);
    assert!(ended["notices"]["outbox"]["waiting"].as_u64() >= Some(2), "{}", ended["notices"]);
    stage.cluster.restart("nexus-1").await.expect("it is back");
    let is_told = |status: &Value| {
        let outbox = &status["notices"]["outbox"];
        outbox["waiting"] == 0 && outbox["repairs"] == 0 && outbox["away"].is_null()
    };
    volume.look_until("everything to be told", is_told).await;

    let volume_id = before["id"].as_str().expect("an id");
    let rows = stage.operator.get(&format!("/v1/volumes/{volume_id}/repairs")).await.ok()["items"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let row = &rows[0];
    let after = volume.file();
    let new = &after["sub_volumes"][0]["region_set"]["members"][2];
    for (key, value) in [
        ("id", &id),
        ("state", &Value::from("completed")),
        ("why", &Value::from("replaces_leaving")),
        ("bytes_done", &Value::from(16 << 20)),
        ("region_set_id", &before["sub_volumes"][0]["region_set"]["id"]),
    ] {
        assert_eq!(&row[key], value, "{key} of {row}");
    }
    assert_eq!(row["region"]["region_id"], new["region_id"]);
    assert_eq!(row["replaces"]["region_id"], old);
    assert!(row["started_at"].is_string() && row["finished_at"].is_string(), "{row}");
    // Its start was told by the first export, its end by the second one.
    assert_eq!((&row["newest"]["epoch"], &row["newest"]["config_version"]), (&2.into(), &2.into()));

    volume.ask(&["stop", "volume.json"]).await.expect("it ends");
    assert!(export.stop(LIMIT).await.expect("it ends").is_some_and(|status| status.success()));
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_before_the_volume_is_served() {
    let stage = Stage::coordinator("").await;
    let volume = Volume::new(&stage).await;
    let refused = async |notify: &[&str]| {
        let mut args =
            vec!["export", "--volume", "volume.json", "--epoch", "1", "--listen", "tcp:127.0.0.1:0"];
        args.extend(notify);
        volume.ask(&args).await.expect_err("it is refused")
    };
    fs::write(volume.path().join("short"), "short").expect("it is written");
    fs::create_dir(volume.path().join("damaged")).expect("it is made");
    let id = volume.file()["id"].as_str().expect("an id").to_owned();
    fs::write(volume.path().join(format!("damaged/{id}.json")), "{}").expect("it is written");
    let fine = ["--notices", "kept", "--notify", "http://127.0.0.1:1"];
    for (wrong, code) in [
        (&["--notices", "volume.json", "--notify", fine[3]][..], "notices_directory"),
        (&["--notices", "damaged", "--notify", fine[3]], "notices_damaged"),
        (&["--notices", "kept", "--notify", "https://127.0.0.1"], "notify_url"),
        (&[&fine[..], &["--notify-token-file", "short"]].concat(), "notify_token_file"),
    ] {
        let words = refused(wrong).await;
        assert!(words.contains(&format!("error[{code}]")), "{code}: {words}");
    }
    for half in [&fine[..2], &fine[2..]] {
        assert!(refused(half).await.contains("required"), "one goes with the other");
    }
}
