//! The programs' own refusals: configs, tokens, ports and state directories that they can not use.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use std::{collections::BTreeMap, net::TcpListener, process::Stdio, time::Duration};
use test_processes::Group;
use tokio::{process::Command, time::timeout};

/// Far longer than a refusal takes.
const LIMIT: Duration = Duration::from_secs(30);

/// As in sysexits(3).
const EXIT_CONFIG: i32 = 78;

/// A program with a config that would be fine, ready to be spoilt. Ports are the kernel's choice.
struct Program {
    name: &'static str,
    temp: Utf8TempDir,
    config: toml::Table,
}

/// How a program ended.
struct End {
    code: Option<i32>,
    stderr: String,
}

impl Program {
    fn nexus() -> Program {
        Program::new(
            "nexus",
            &["operator_token_file", "sled_token_file", "coordinator_token_file"],
            |config| {
                config.insert("operator_port".to_owned(), 0.into());
                config.insert("internal_port".to_owned(), 0.into());
            },
        )
    }

    fn agent() -> Program {
        Program::new(
            "sled-agent",
            &["token_file", "coordinator_token_file", "operator_token_file"],
            |config| {
                config.insert("agent_port".to_owned(), 0.into());
                config.insert("depot_port".to_owned(), 0.into());
                config.insert("coordinators".to_owned(), toml::Value::Array(Vec::new()));
                config.insert("m2".to_owned(), toml::Value::Array(Vec::new()));
            },
        )
    }

    fn both() -> [Program; 2] {
        [Program::nexus(), Program::agent()]
    }

    fn new(name: &'static str, tokens: &[&str], more: impl FnOnce(&mut toml::Table)) -> Program {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let mut auth = toml::Table::new();
        for token in tokens {
            let file = temp.path().join(token);
            std::fs::write(&file, format!("{token}-0123456789\n")).expect("it can be written");
            auth.insert((*token).to_owned(), file.into_string().into());
        }
        let mut config = toml::Table::new();
        config.insert("name".to_owned(), "alone".into());
        config.insert("state_dir".to_owned(), temp.path().join("state").into_string().into());
        config.insert("address".to_owned(), "127.0.0.1".into());
        more(&mut config);
        config.insert("auth".to_owned(), auth.into());
        Program { name, temp, config }
    }

    fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    fn state_dir(&self) -> Utf8PathBuf {
        self.temp.path().join("state")
    }

    fn write_config(&self, text: &str) -> Utf8PathBuf {
        let file = self.temp.path().join("config.toml");
        std::fs::write(&file, text).expect("it can be written");
        file
    }

    fn command(&self) -> Command {
        let bin_dir = testbed::binaries::beside_this_test().expect("the programs are built");
        let mut command = Command::new(bin_dir.join(self.name));
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).kill_on_drop(true);
        Group::of_this_process().add(command.as_std_mut());
        command
    }

    /// Runs it with its config to its end.
    async fn run(&self) -> End {
        let text = toml::to_string(&self.config).expect("a config is TOML");
        self.end("run", &self.write_config(&text)).await
    }

    /// Runs it to its end. One that serves instead of refusing is ended by the limit.
    async fn end(&self, verb: &str, config: &Utf8Path) -> End {
        let output = self.command().args([verb, "--config", config.as_str()]).output();
        let output = timeout(LIMIT, output).await.unwrap_or_else(|_| panic!("{} did not refuse", self.name));
        let output = output.expect("it runs");
        End { code: output.status.code(), stderr: String::from_utf8(output.stderr).expect("it speaks UTF-8") }
    }
}

impl End {
    /// One line on stderr beyond the log, which holds all of these words.
    fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not in: {}", errors[0]);
        }
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_line_and_the_key_that_was_meant() {
    for program in Program::both() {
        let good = toml::to_string(&program.config).expect("a config is TOML");
        let line = good.lines().position(|line| line == "[auth]").expect("it has tables") + 1;
        let bad = good.replace("[auth]", "adress = \"127.0.0.1\"\n[auth]");
        let config = program.write_config(&bad);
        for verb in ["run", "check"] {
            let words = [config.as_str(), &format!("line {line}"), "`adress`", "did you mean `address`?"];
            program.end(verb, &config).await.assert_refused(EXIT_CONFIG, &words);
        }
        assert!(!program.state_dir().exists(), "{} began before it knew its config", program.name);
        let config = program.write_config(&good.replace("[auth]", "[auth]\nno_such_key = 1"));
        program.end("check", &config).await.assert_refused(EXIT_CONFIG, &["no_such_key"]);
        assert_eq!(program.end("check", &program.write_config(&good)).await.code, Some(0));
    }
}

#[tokio::test]
async fn a_task_that_is_not_there_is_refused_as_a_config_key() {
    let program = Program::nexus();
    let good = toml::to_string(&program.config).expect("a config is TOML");
    let of = |table: &str| program.write_config(&format!("{good}\n{table}"));
    let config = of("[tasks.staging_cleanup]\nperiodic = false\nperiod_secs = 300\n");
    assert_eq!(program.end("check", &config).await.code, Some(0));
    let config = of("[tasks.stage_cleanup]\nperiodic = false\n");
    for verb in ["run", "check"] {
        let words = ["tasks.stage_cleanup", "there are: ", "staging_cleanup"];
        program.end(verb, &config).await.assert_refused(EXIT_CONFIG, &words);
    }
    let config = of("[tasks.staging_cleanup]\nperiod_secs = 0\n");
    program.end("check", &config).await.assert_refused(EXIT_CONFIG, &["line", "nonzero"]);
}

#[tokio::test]
async fn configs_that_are_absent_incomplete_or_no_toml_are_refused_by_name() {
    for program in Program::both() {
        let absent = program.temp.path().join("nowhere.toml");
        program.end("run", &absent).await.assert_refused(EXIT_CONFIG, &[absent.as_str()]);
        program
            .end("run", &program.write_config(""))
            .await
            .assert_refused(EXIT_CONFIG, &["config.toml", "line 1"]);
        program
            .end("run", &program.write_config("a = \n"))
            .await
            .assert_refused(EXIT_CONFIG, &["config.toml, line 1"]);
    }
}

#[tokio::test]
async fn token_files_that_are_absent_or_hold_no_token_are_named() {
    for mut program in Program::both() {
        let key = "coordinator_token_file";
        let token_file = program.temp.path().join(key);
        for bad in ["short", "", "two words that are long enough"] {
            std::fs::write(&token_file, bad).expect("it can be written");
            program.run().await.assert_refused(1, &[token_file.as_str(), "at least 16"]);
        }
        let absent = program.temp.path().join("nowhere");
        let auth = program.config["auth"].as_table_mut().expect("a table");
        auth.insert(key.to_owned(), absent.as_str().into());
        program.run().await.assert_refused(1, &["token", absent.as_str(), "No such file"]);
    }
}

#[tokio::test]
async fn two_roles_never_share_a_token() {
    let program = Program::nexus();
    let token = |key: &str| program.temp.path().join(key);
    for (from, to) in [
        ("operator_token_file", "sled_token_file"),
        ("coordinator_token_file", "operator_token_file"),
        ("sled_token_file", "coordinator_token_file"),
    ] {
        let before = std::fs::read(token(to)).expect("it can be read");
        std::fs::copy(token(from), token(to)).expect("it can be copied");
        program.run().await.assert_refused(EXIT_CONFIG, &[from, to, "the same token"]);
        std::fs::write(token(to), before).expect("it can be written");
    }
    assert!(!program.state_dir().exists(), "it began before it knew its config");
}

#[tokio::test]
async fn a_port_that_is_in_use_is_named() {
    for (mut program, port) in [
        (Program::nexus(), "operator_port"),
        (Program::nexus(), "internal_port"),
        (Program::agent(), "agent_port"),
        (Program::agent(), "depot_port"),
    ] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = taken.local_addr().expect("it listens");
        program.set(port, i64::from(address.port()));
        program.run().await.assert_refused(1, &[&address.to_string(), "in use"]);
    }
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_named() {
    for mut program in Program::both() {
        program.set("address", "192.0.2.1");
        program.run().await.assert_refused(1, &["192.0.2.1"]);
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_named() {
    for mut program in Program::both() {
        let file = program.temp.path().join("file");
        std::fs::write(&file, "").expect("it can be written");
        let state_dir = file.join("state");
        program.set("state_dir", state_dir.as_str());
        program.run().await.assert_refused(1, &[state_dir.as_str(), "Not a directory"]);
    }
}

#[tokio::test]
async fn an_identity_that_is_damaged_is_named_and_left_as_it_is() {
    for program in Program::both() {
        let file =
            program.state_dir().join(if program.name == "nexus" { "coordinator.json" } else { "sled.json" });
        std::fs::create_dir(program.state_dir()).expect("it can be made");
        std::fs::write(&file, "{half").expect("it can be written");
        program.run().await.assert_refused(1, &[file.as_str(), "damaged"]);
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "{half");
    }
}

#[tokio::test]
async fn a_log_filter_that_is_none_is_named() {
    for mut program in Program::both() {
        program.set("log", toml::Table::from_iter([("filter".to_owned(), "no=such=filter".into())]));
        program.run().await.assert_refused(1, &["log.filter", "no=such=filter"]);
    }
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_of_a_document_makes_no_program_panic() {
    for (program, api) in [(Program::nexus(), "operator"), (Program::agent(), "sled")] {
        let mut child = program
            .command()
            .args(["openapi", api])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        drop(child.stdout.take());
        let output =
            timeout(LIMIT, child.wait_with_output()).await.expect("it ends").expect("it is waited for");
        let end =
            End { code: output.status.code(), stderr: String::from_utf8(output.stderr).expect("UTF-8") };
        end.assert_refused(1, &["cannot print the document"]);
    }
}

/// What the JSON files in a state directory say, and what else is there. The database is written to all the time.
fn identity_and_names(state_dir: &Utf8Path) -> BTreeMap<String, String> {
    let entries =
        state_dir.read_dir_utf8().expect("it is there").map(|entry| entry.expect("it can be listed"));
    let read = |path: &Utf8Path| std::fs::read_to_string(path).expect("it can be read");
    entries
        .map(|entry| {
            let content =
                if entry.path().extension() == Some("json") { read(entry.path()) } else { String::new() };
            (entry.file_name().to_owned(), content)
        })
        .collect()
}

#[tokio::test]
async fn two_processes_never_share_a_state_directory() {
    let stage = crate::stage::Stage::with(|builder| builder.sleds(1)).await;
    let environment = stage.cluster.environment().expect("it is recorded");
    let pids = [("nexus-1", environment.nexus[0].pid), ("sled-a", environment.sleds[0].pid)];
    for (program, (who, pid)) in Program::both().iter_mut().zip(pids) {
        let state_dir = stage.cluster.directory().state_dir(who);
        let before = identity_and_names(&state_dir);
        program.set("state_dir", state_dir.as_str());
        let pid = format!("(pid {})", pid.expect("it runs"));
        program.run().await.assert_refused(1, &[state_dir.as_str(), "in use", &pid]);
        assert_eq!(identity_and_names(&state_dir), before, "the second one left something");
    }
    // The first ones never noticed; and once one is gone, however it went, its directory is free again.
    stage.operator.get("/v1/status").await.ok();
    stage.sled().await.get("/inventory").await.ok();
    for who in ["nexus-1", "sled-a"] {
        stage.cluster.kill(who, testbed::KillScope::WholeSled).await.expect("it runs");
        stage.cluster.restart(who).await.expect("the lock went with the process");
    }
}
