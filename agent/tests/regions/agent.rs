//! A real agent with disks of its own. Owns its config, its process, and the end of all that it has started.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use ids::DiskId;
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    ClientOptions, SledClient,
    disks::{DiskStatus, DownstairsState},
};
use std::{
    fmt::Debug,
    fs::{self, File},
    io::Write,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use test_processes::{Group, OwnAddress};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const TOKEN: &str = "coordinator-0123456789";

/// A child that does not outlive whoever holds this.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // If it was waited for, this does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes that are stopped until this is gone.
pub(crate) struct Stopped(Vec<Pid>);

impl Stopped {
    /// All that serve the agent's first disks, so many: nothing that is asked of them is answered. For less time than it takes to believe them gone.
    pub(crate) async fn disks_of(agent: &Agent, disks: usize) -> Stopped {
        let mut stopped = Stopped(Vec::new());
        for disk in 0..disks {
            let pid = agent.stands(disk, DownstairsState::Running).await.downstairs.pid;
            let pid = Pid::from_raw(pid.unwrap().try_into().unwrap()).unwrap();
            kill_process(pid, Signal::STOP).unwrap();
            stopped.0.push(pid);
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that has ended needs nothing.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// An agent, running or not, and its disks.
pub(crate) struct Agent {
    /// All lives of it, what they have started, and every command of the program: killed with this test, however it ends.
    group: Group,
    pub(crate) temp: Utf8TempDir,
    pub(crate) disks: Vec<DiskId>,
    pub(crate) client: SledClient,
    address: OwnAddress,
    /// How `sled-agent disk` is told which one is meant.
    named: Vec<Vec<String>>,
    process: Option<Child>,
}

impl Agent {
    /// One with so many disks, not prepared yet.
    pub(crate) fn new(disks: usize) -> Agent {
        let mut agent = Agent::without_disks();
        for _ in 0..disks {
            agent.add_directory();
        }
        agent
    }

    /// One disk more, not prepared yet.
    pub(crate) fn add_directory(&mut self) {
        let dir = self.disk_dir(self.disks.len());
        fs::create_dir(&dir).unwrap();
        self.add_disk("dir", dir.as_str(), vec![dir.to_string()]);
    }

    /// One with a directory of a mounted disk as its disk.
    pub(crate) fn with_directory(dir: &Utf8Path) -> Agent {
        let mut agent = Agent::without_disks();
        agent.add_disk("dir", dir.as_str(), vec![dir.to_string()]);
        agent
    }

    /// One with a dataset of a pool as its disk, which need not be there.
    pub(crate) fn with_zfs(dataset: &str) -> Agent {
        let mut agent = Agent::without_disks();
        agent.add_disk("zfs", dataset, vec!["--zfs".to_owned(), dataset.to_owned()]);
        agent
    }

    fn add_disk(&mut self, key: &str, place: &str, named: Vec<String>) {
        let (index, id) = (self.disks.len(), DiskId::generate());
        let mut config = File::options().append(true).open(self.temp.path().join("agent.toml")).unwrap();
        writeln!(config, "[[disks]]\nid = \"{id}\"\nname = \"disk-{index}\"\n{key} = \"{place}\"").unwrap();
        self.disks.push(id);
        self.named.push(named);
    }

    fn without_disks() -> Agent {
        let (temp, own) = (camino_tempfile::tempdir().unwrap(), OwnAddress::claim());
        let address = own.ip();
        let config = format!(
            "name = \"alone\"\nstate_dir = \"{0}/state\"\naddress = \"{address}\"\ncoordinators = []\nm2 = []\n\
             [auth]\ntoken_file = \"{0}/own\"\ncoordinator_token_file = \"{0}/coordinator\"\n\
             operator_token_file = \"{0}/operator\"\n",
            temp.path()
        );
        for (name, token) in
            [("own", "own-0123456789abc"), ("coordinator", TOKEN), ("operator", "operator-0123456789")]
        {
            let path = temp.path().join(name);
            fs::write(&path, token).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        fs::write(temp.path().join("agent.toml"), config).unwrap();
        let options = ClientOptions {
            token: Some(TOKEN.to_owned()),
            source_address: Some(address.into()),
            read_idle_timeout: None,
        };
        let client = SledClient::new(&format!("http://{address}:12345"), &options).unwrap();
        let (disks, named, process) = (Vec::new(), Vec::new(), None);
        Agent { temp, disks, client, address: own, named, process, group: Group::start() }
    }

    /// One whose disks are prepared and served.
    pub(crate) async fn served(disks: usize) -> Agent {
        let mut agent = Agent::new(disks);
        for index in 0..disks {
            assert!(agent.disk_command("prepare", index).status().unwrap().success());
        }
        agent.start();
        for index in 0..disks {
            agent.stands(index, DownstairsState::Running).await;
        }
        agent
    }

    /// Its own address, from which it and what it has started come to others.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip().into()
    }

    /// Where its sled API is.
    pub(crate) fn address(&self) -> String {
        format!("{}:12345", self.address.ip())
    }

    pub(crate) fn disk_dir(&self, index: usize) -> Utf8PathBuf {
        self.temp.path().join(format!("disk-{index}"))
    }

    /// The program, with these arguments; what it says goes to the log.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let log = File::options().create(true).append(true).open(self.temp.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sled-agent"));
        command.args(arguments).current_dir(self.temp.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.group.add(&mut command);
        command
    }

    /// `sled-agent disk`, of one disk.
    pub(crate) fn disk_command(&self, what: &str, index: usize) -> Command {
        let mut command = self.command(&["disk", what]);
        command.args(&self.named[index]);
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.temp.path().join("log")).unwrap_or_default()
    }

    /// Starts it, or a next life of it.
    pub(crate) fn start(&mut self) {
        let mut command = self.command(&["run", "--config", "agent.toml"]);
        self.process = Some(command.spawn().unwrap());
    }

    /// SIGKILL to the agent alone.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM to the agent alone, and its end.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        assert!(process.wait().unwrap().success(), "{}", self.log());
    }

    /// A disk as it is, once that is so.
    pub(crate) async fn disk_where(&self, index: usize, is_so: impl Fn(&DiskStatus) -> bool) -> DiskStatus {
        self.eventually(async || match self.client.disks().await {
            Ok(page) if is_so(&page.disks[index]) => Ok(page.disks[index].clone()),
            other => Err(other),
        })
        .await
    }

    /// A disk, once its Downstairs is in that state.
    pub(crate) async fn stands(&self, index: usize, state: DownstairsState) -> DiskStatus {
        self.disk_where(index, |disk| disk.downstairs.state == state).await
    }

    /// What it tells at last.
    pub(crate) async fn eventually<T, E: Debug>(&self, look: impl AsyncFnMut() -> Result<T, E>) -> T {
        eventually(look).await.unwrap_or_else(|last| panic!("{last:?}\n{}", self.log()))
    }
}

/// What is seen at last, where nobody tells when; what was seen instead, if that takes too long.
pub(crate) async fn eventually<T, E>(mut look: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
    let since = Instant::now();
    loop {
        match look().await {
            Err(_) if since.elapsed() <= LIMIT => tokio::time::sleep(Duration::from_millis(20)).await,
            found => return found,
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Our own child, which was not waited for.
            let _ = process.kill();
            let _ = process.wait();
        }
        let pantry = self.temp.path().join("state/pantry");
        // All are asked, whatever becomes of one.
        let mut stopped = vec![self.command(&["pantry-stop", "--directory", pantry.as_str()]).status()];
        stopped.extend((0..self.named.len()).map(|index| self.disk_command("stop", index).status()));
        for stopped in stopped {
            if !std::thread::panicking() {
                assert!(stopped.unwrap().success(), "{}", self.log());
            }
        }
    }
}
