//! One server: started from nothing or from what it had.
//!
//! | | ends | its directory | durable |
//! |---|---|---|---|
//! | [`Server`] | with its owner, however that ends | is removed | no: it is for tests |
//! | [`Standing`] | when it is told to | stays | yes |

use crate::{account::Account, programs::Programs};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Tries with other ports: between the choice of a free port and its use, somebody else may take it.
const PORT_TRIES: usize = 3;

/// Lines of the server's log that an error repeats.
const LOG_TAIL_LINES: usize = 12;

/// What the keeper does. Its arguments: directory, programs, port, settings, `stand` or `remove`, and the words that run
/// a command as the server's user. It touches nothing outside of the directory.
const KEEPER: &str = r#"
dir=$1; bin=$2; port=$3; settings=$4; keeping=$5; shift 5
init() {
    "$@" "$bin/initdb" -D "$dir/data" -U postgres --pwfile="$dir/password" --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8 --no-sync --locale=C $collation >>"$dir/log" 2>&1
}
if [ ! -f "$dir/data/PG_VERSION" ]; then
    # A collation that is not by bytes, where there is one: what relies on bytes must say so.
    collation='--locale-provider=icu --icu-locale=en-US'
    init "$@" || { rm -rf "$dir/data"; collation=; init "$@"; } || exit 1
fi
"$@" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -o "-p $port -k $dir $settings" start >>"$dir/log" 2>&1 || exit 1
echo ready
[ "$keeping" = stand ] && exit 0
read -r _
"$@" "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >>"$dir/log" 2>&1
rm -rf "$dir"
"#;

/// A server for tests. It ends when this is dropped, and when this process ends; then its directory is removed.
#[derive(Debug)]
pub struct Server {
    directory: Utf8PathBuf,
    keeper: Child,
    /// Its end is the server's.
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Starts a server in a directory, which is made if it is not there. When this returns it takes connections.
    pub fn start(directory: &Utf8Path) -> Result<Server> {
        let settings = "-c listen_addresses=127.0.0.1 -c max_connections=300 -c fsync=off";
        let (keeper, pipe) = launch(directory, "remove", settings)?;
        Ok(Server { directory: directory.to_owned(), keeper, pipe })
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // A keeper that can not be waited for ends all the same.
        let _ = self.keeper.wait();
    }
}

/// A server that outlives whoever starts it. All that is known of it is in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    directory: Utf8PathBuf,
}

impl Standing {
    /// The server of this directory, whether it runs or not.
    #[must_use]
    pub fn at(directory: &Utf8Path) -> Standing {
        Standing { directory: directory.to_owned() }
    }

    /// Starts it, from nothing or with what it had; on the port that it had, unless somebody else has taken that.
    pub fn start(&self) -> Result<()> {
        let settings = "-c listen_addresses=127.0.0.1 -c max_connections=300";
        let (mut keeper, _pipe) = launch(&self.directory, "stand", settings)?;
        keeper.wait().context("waiting for the start of PostgreSQL").map(drop)
    }

    /// Ends it: at once, or after what it does. One that does not run has ended.
    pub fn end(&self, at_once: bool) -> Result<()> {
        if !self.directory.join("data/postmaster.pid").exists() {
            return Ok(());
        }
        let data = self.directory.join("data");
        let mode = if at_once { "immediate" } else { "fast" };
        let mut words = Account::choose()?.prefix();
        words.push(Programs::required()?.program("pg_ctl").into_string());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(["-D", data.as_str(), "-m", mode, "-w", "stop"])
            .current_dir("/")
            .output()
            .context("running pg_ctl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        // What it says of a pid file that a crash left.
        if output.status.success() || said.contains("No such process") || said.contains("Is server running") {
            return Ok(());
        }
        bail!("PostgreSQL in {} does not end: {}", self.directory, said.trim())
    }

    /// Stops it as it stands, with all that it does for its clients: it neither answers nor breaks a connection.
    pub fn freeze(&self) -> Result<()> {
        // First the process that makes others.
        let server = self.process()?;
        signal(server, Signal::STOP)?;
        children(server)?.into_iter().try_for_each(|child| signal(child, Signal::STOP))
    }

    /// Stops as they stand only the processes that serve clients now; new clients are served. How many there are.
    pub fn freeze_sessions(&self) -> Result<usize> {
        let mut frozen = 0;
        for child in children(self.process()?)? {
            // As a session calls itself: `postgres: USER DATABASE 127.0.0.1(PORT) idle`.
            let title = fs::read(format!("/proc/{}/cmdline", child.as_raw_nonzero())).unwrap_or_default();
            if String::from_utf8_lossy(&title).contains(" 127.0.0.1(") {
                signal(child, Signal::STOP)?;
                frozen += 1;
            }
        }
        Ok(frozen)
    }

    /// It goes on where it was stopped.
    pub fn thaw(&self) -> Result<()> {
        let server = self.process()?;
        children(server)?.into_iter().try_for_each(|child| signal(child, Signal::CONT))?;
        signal(server, Signal::CONT)
    }

    fn process(&self) -> Result<Pid> {
        let file = self.directory.join("data/postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        let number = text.lines().next().and_then(|line| line.trim().parse().ok());
        number.and_then(Pid::from_raw).with_context(|| format!("{file} names no process"))
    }

    /// Where one of its databases is; it is made if it is not there. The server runs.
    pub fn database(&self, name: &str) -> Result<String> {
        create_database(&Programs::required()?, &self.directory, name)
    }

    /// The file that holds the password.
    #[must_use]
    pub fn password_file(&self) -> Utf8PathBuf {
        password_file(&self.directory)
    }
}

/// The processes that this one has started and that have not ended.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("listing processes")? {
        let entry = entry.context("listing processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // `PID (NAME) STATE PARENT …`; one that has ended meanwhile has no such file.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1).and_then(|word| word.parse().ok())
            == Some(parent.as_raw_nonzero())
        {
            children.push(pid);
        }
    }
    Ok(children)
}

/// One that has ended needs no signal.
fn signal(process: Pid, signal: Signal) -> Result<()> {
    match kill_process(process, signal) {
        Err(error) if error != Errno::SRCH => Err(error).context("sending a signal to PostgreSQL"),
        _ => Ok(()),
    }
}

fn launch(directory: &Utf8Path, keeping: &str, settings: &str) -> Result<(Child, Option<ChildStdin>)> {
    let programs = Programs::required()?;
    let account = Account::choose()?;
    prepare(directory, account)?;
    let mut tries = 1;
    loop {
        let port = match earlier_port(directory) {
            Some(port) if tries == 1 => port,
            _ => free_port()?,
        };
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", directory.as_str(), programs.program("").as_str()])
            .args([&port.to_string(), settings, keeping])
            .args(account.prefix())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the keeper of PostgreSQL")?;
        let pipe = keeper.stdin.take();
        let mut said = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).context("listening to PostgreSQL's keeper")?;
        }
        if said.trim() == "ready" {
            fs::write(directory.join("port"), port.to_string()).context("writing down PostgreSQL's port")?;
            return Ok((keeper, pipe));
        }
        keeper.wait().context("waiting for PostgreSQL's keeper")?;
        if tries == PORT_TRIES {
            bail!("PostgreSQL does not start in {directory}:\n{}", tail(&directory.join("log")));
        }
        tries += 1;
    }
}

/// The URL of a database of the server in `directory`; it is made if it is not there.
pub(crate) fn create_database(programs: &Programs, directory: &Utf8Path, name: &str) -> Result<String> {
    let port = fs::read_to_string(directory.join("port")).context("reading PostgreSQL's port")?;
    let output = Command::new(programs.program("createdb"))
        .args(["-h", directory.as_str(), "-p", &port, "-U", "postgres", name])
        .output()
        .context("running createdb")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !said.contains("already exists") {
        bail!("createdb {name}: {}", said.trim());
    }
    Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
}

/// The file that holds the password of the server in `directory`.
pub(crate) fn password_file(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("password")
}

fn prepare(directory: &Utf8Path, account: Account) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    account.must_reach(directory)?;
    let mode = |path: &Utf8Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| format!("chmod {path}"))
    };
    mode(directory, 0o700)?;
    let password = password_file(directory);
    if !password.exists() {
        let secret = uuid::Uuid::new_v4().simple().to_string();
        fs::write(&password, secret).with_context(|| format!("writing {password}"))?;
        mode(&password, 0o600)?;
    }
    let log = directory.join("log");
    fs::OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("creating {log}"))?;
    [directory, &password, &log].into_iter().try_for_each(|path| account.own(path))
}

/// The port that this directory's server had, if nobody else has it now: whoever was connected finds it where it was.
fn earlier_port(directory: &Utf8Path) -> Option<u16> {
    let port = fs::read_to_string(directory.join("port")).ok()?.trim().parse().ok()?;
    TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("asking for the port that was free")?.port())
}

/// The end of the log, for people.
fn tail(log: &Utf8Path) -> String {
    match fs::read_to_string(log) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
        }
        Err(error) => format!("(its log {log} cannot be read: {error})"),
    }
}
