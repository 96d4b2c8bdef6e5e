//! One server: started from nothing or from what it had, ended with its owner.

use crate::{account::Account, programs::Programs};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Tries with other ports: between the choice of a free port and its use, somebody else may take it.
const PORT_TRIES: usize = 3;

/// What the keeper does. Its arguments: directory, programs, port, settings, "keep" or "remove", and the words that run
/// a command as the server's user. Keeps to one directory, whose name is the first argument.
const KEEPER: &str = r#"
dir=$1; bin=$2; port=$3; settings=$4; keeping=$5; shift 5
stop() { "$@" "$bin/pg_ctl" -D "$dir/data" -m "$mode" -w stop >>"$dir/log" 2>&1; }
init() { "$@" "$bin/initdb" -D "$dir/data" -U postgres --pwfile="$dir/password" --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --no-sync "$locale" ${icu:+"$icu"} ${icu_locale:+"$icu_locale"} \
    >>"$dir/log" 2>&1; }
if [ ! -f "$dir/data/PG_VERSION" ]; then
    # A collation that is not by bytes, where there is one: what relies on bytes must say so.
    locale=--locale=C icu=--locale-provider=icu icu_locale=--icu-locale=en-US
    init "$@" || { rm -rf "$dir/data"; icu= icu_locale=; init "$@"; } || exit 1
fi
"$@" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -o "-p $port -k $dir $settings" start >>"$dir/log" 2>&1 || exit 1
echo ready
read -r _
mode=immediate; [ "$keeping" = keep ] && mode=fast
stop "$@"
[ "$keeping" = remove ] && rm -rf "$dir"
"#;

/// What becomes of the server's directory when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is removed, and nothing in it is made durable: for tests.
    Nothing,
    /// It stays, and the next start goes on with it.
    State,
}

/// A server that runs. It ends when this is dropped, and when this process ends.
#[derive(Debug)]
pub struct Server {
    directory: Utf8PathBuf,
    programs: Programs,
    port: u16,
    keeper: Child,
    /// Its end is the server's.
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Starts a server in a directory, which is made if it is not there. When this returns it takes connections.
    pub fn start(directory: &Utf8Path, keeping: Keeping) -> Result<Server> {
        let programs = Programs::required()?;
        let account = Account::choose()?;
        prepare(directory, account)?;
        let mut tries = 1;
        loop {
            match Server::launch(directory, keeping, &programs, account) {
                Err(_) if tries < PORT_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    fn launch(
        directory: &Utf8Path,
        keeping: Keeping,
        programs: &Programs,
        account: Account,
    ) -> Result<Server> {
        let port = free_port()?;
        let settings = match keeping {
            Keeping::Nothing => "-c listen_addresses=127.0.0.1 -c max_connections=300 -c fsync=off",
            Keeping::State => "-c listen_addresses=127.0.0.1 -c max_connections=300",
        };
        let keep = if keeping == Keeping::State { "keep" } else { "remove" };
        let bin = programs.program("");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", directory.as_str(), bin.as_str()])
            .args([&port.to_string(), settings, keep])
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
        let server =
            Server { directory: directory.to_owned(), programs: programs.clone(), port, keeper, pipe };
        if said.trim() != "ready" {
            bail!("PostgreSQL does not start in {directory}:\n{}", tail(&directory.join("log")));
        }
        fs::write(directory.join("port"), port.to_string()).context("writing down PostgreSQL's port")?;
        Ok(server)
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Makes a database, and says where it is.
    pub fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.programs, &self.directory, self.port, name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // A keeper that can not be waited for ends all the same.
        let _ = self.keeper.wait();
    }
}

/// The URL of a database of the server in `directory`; it is made if it is not there.
pub(crate) fn create_database(
    programs: &Programs,
    directory: &Utf8Path,
    port: u16,
    name: &str,
) -> Result<String> {
    let output = Command::new(programs.program("createdb"))
        .args(["-h", directory.as_str(), "-p", &port.to_string(), "-U", "postgres", name])
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

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("asking for the port that was free")?.port())
}

/// The end of the log, for people.
fn tail(log: &Utf8Path) -> String {
    let mut text = String::new();
    let read = fs::File::open(log).and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) => {
            text.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("(its log {log} cannot be read: {error})"),
    }
}
