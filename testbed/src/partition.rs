//! Cutting processes off from each other: groups of nodes whose packets to and from everybody else are dropped. Owns the rules and their
//! end; which groups there are is the record's.
//!
//! Every process has an address of its own and calls from it, so a packet's two addresses tell who sends it to whom. One table of the
//! kernel's packet filter has the cluster's rules. It is made and replaced as a whole (`nft` commits a file in one step), and the record says
//! that there may be one before there is:
//!
//! ```text
//!   record: these groups ──► table with their rules ──► record: none ──► table deleted
//!        └── a crash anywhere: whoever ends the cluster finds groups in the record, and deletes the table, if there is one
//! ```
//!
//! Nothing else of the machine's filter is read or changed. Dropped where they arrive and not where they leave, packets are lost as on a
//! wire that is cut: who sends them is told nothing.

use crate::{
    addresses::ClusterNumber,
    record::{ClusterRecord, Role},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
};

/// What speaks to the kernel's packet filter. It is where only administrators' PATHs lead.
const PROGRAMS: [&str; 2] = ["nft", "/usr/sbin/nft"];

/// Refuses where nobody can be cut off: not root, or a machine without the program.
pub fn check() -> Result<()> {
    program(rustix::process::geteuid().is_root(), &PROGRAMS).map(drop)
}

/// The first of these programs that is there.
fn program<'a>(is_root: bool, programs: &[&'a str]) -> Result<&'a str> {
    if !is_root {
        bail!("only root can cut processes off: it takes rules of the kernel's packet filter");
    }
    let is_there = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
    let found = programs.iter().find(is_there).copied();
    found.context("there is no nft, which cuts processes off; on Debian: apt-get install --no-install-recommends nftables")
}

/// Takes these out of the groups in which they are, and makes one of them.
pub(crate) fn cut_off(groups: &mut Vec<BTreeSet<String>>, who: BTreeSet<String>) {
    for group in groups.iter_mut() {
        group.retain(|member| !who.contains(member));
    }
    groups.retain(|group| !group.is_empty());
    groups.push(who);
}

/// Makes the record's groups real, and nothing else.
pub(crate) fn apply(record: &ClusterRecord) -> Result<()> {
    run(&rules(record)?)
}

/// Ends them; done if there are none.
pub(crate) fn heal(number: ClusterNumber) -> Result<()> {
    run(&removal(number))
}

/// The name of the cluster's table.
pub(crate) fn table(number: ClusterNumber) -> String {
    format!("bobsled_testbed_{number}")
}

/// Made first: a table that is not there cannot be deleted.
fn removal(number: ClusterNumber) -> String {
    let table = table(number);
    format!("table ip {table}\ndelete table ip {table}\n")
}

fn rules(record: &ClusterRecord) -> Result<String> {
    let mut text = removal(record.number);
    if record.partitions.is_empty() {
        return Ok(text);
    }
    let all: BTreeSet<Ipv4Addr> = record.nodes.iter().map(|node| v4(node.address)).collect::<Result<_>>()?;
    let mut lines = String::new();
    for group in &record.partitions {
        let mut own = BTreeSet::new();
        let mut shared = BTreeSet::new();
        for who in group {
            let node = record.node(who)?;
            let address = v4(node.address)?;
            // The coordinator of the first cluster has an address that all of the machine uses.
            let is_shared = node.role == Role::Coordinator && address.octets()[..3] == [127, 0, 0];
            if is_shared {
                shared.insert(address)
            } else {
                own.insert(address)
            };
        }
        let inside: BTreeSet<Ipv4Addr> = own.union(&shared).copied().collect();
        let outside: BTreeSet<Ipv4Addr> = all.difference(&inside).copied().collect();
        if !own.is_empty() {
            let (own, inside) = (set(&own), set(&inside));
            writeln!(lines, "    ip saddr {own} ip daddr != {inside} drop")?;
            writeln!(lines, "    ip saddr != {inside} ip daddr {own} drop")?;
        }
        if !shared.is_empty() && !outside.is_empty() {
            let (shared, outside) = (set(&shared), set(&outside));
            writeln!(lines, "    ip saddr {shared} ip daddr {outside} drop")?;
            writeln!(lines, "    ip saddr {outside} ip daddr {shared} drop")?;
        }
    }
    let table = table(record.number);
    write!(
        text,
        "table ip {table} {{\n  chain cut {{\n    type filter hook input priority filter; policy accept;\n    iifname != \"lo\" accept\n{lines}  }}\n}}\n"
    )?;
    Ok(text)
}

fn v4(address: IpAddr) -> Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) if address.is_loopback() => Ok(address),
        other => bail!("{other} is no address of a cluster"),
    }
}

fn set(addresses: &BTreeSet<Ipv4Addr>) -> String {
    let all: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    format!("{{ {} }}", all.join(", "))
}

fn run(text: &str) -> Result<()> {
    let program = program(rustix::process::geteuid().is_root(), &PROGRAMS)?;
    let mut command = Command::new(program);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    let mut input = child.stdin.take().context("it is piped")?;
    match input.write_all(text.as_bytes()) {
        // It has ended, and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.with_context(|| format!("writing to {program}"))?,
    }
    drop(input);
    let output = child.wait_with_output().with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the kernel's packet filter refuses: {}", said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Node, Tokens};

    fn record(number: u8) -> ClusterRecord {
        let tokens = Tokens { operator: "o".into(), sled: "s".into(), coordinator: "c".into() };
        let number = ClusterNumber::new(number).unwrap();
        let mut record = ClusterRecord::new("default", number, tokens, "bin".into());
        let coordinator = number.coordinator_address(0).unwrap();
        record.nodes.push(Node::new("nexus-1".into(), Role::Coordinator, coordinator));
        for (index, name) in ["sled-a", "sled-b", "sled-c"].into_iter().enumerate() {
            record.nodes.push(Node::new(name.into(), Role::Sled, number.sled_address(index).unwrap()));
        }
        record
    }

    fn group(who: &[&str]) -> BTreeSet<String> {
        who.iter().map(|who| (*who).to_owned()).collect()
    }

    fn drops(record: &ClusterRecord) -> Vec<String> {
        let rules = rules(record).unwrap();
        let drops = rules.lines().filter(|line| line.ends_with("drop"));
        drops.map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_group_is_cut_off_from_everybody_else_both_ways() {
        let mut record = record(3);
        record.partitions = vec![group(&["sled-a", "sled-c"])];
        assert_eq!(
            drops(&record),
            [
                "ip saddr { 127.0.3.1, 127.0.3.3 } ip daddr != { 127.0.3.1, 127.0.3.3 } drop",
                "ip saddr != { 127.0.3.1, 127.0.3.3 } ip daddr { 127.0.3.1, 127.0.3.3 } drop",
            ]
        );
        let rules = rules(&record).unwrap();
        assert!(
            rules.starts_with("table ip bobsled_testbed_3\ndelete table ip bobsled_testbed_3\n"),
            "{rules}"
        );
        record.partitions.clear();
        assert_eq!(super::rules(&record).unwrap(), removal(record.number));
    }

    #[test]
    fn an_address_that_the_machine_uses_is_cut_off_from_the_cluster_alone() {
        let mut record = record(1);
        record.partitions = vec![group(&["nexus-1", "sled-a"])];
        assert_eq!(
            drops(&record),
            [
                "ip saddr { 127.0.1.1 } ip daddr != { 127.0.0.1, 127.0.1.1 } drop",
                "ip saddr != { 127.0.0.1, 127.0.1.1 } ip daddr { 127.0.1.1 } drop",
                "ip saddr { 127.0.0.1 } ip daddr { 127.0.1.2, 127.0.1.3 } drop",
                "ip saddr { 127.0.1.2, 127.0.1.3 } ip daddr { 127.0.0.1 } drop",
            ]
        );
        record.partitions = vec![group(&["nexus-1", "sled-a", "sled-b", "sled-c"])];
        assert_eq!(
            drops(&record).len(),
            2,
            "there is nobody of the cluster from whom the address could be cut off"
        );
    }

    #[test]
    fn who_cannot_cut_anybody_off_is_told_what_is_missing() {
        let refusal = |is_root, programs: &[&str]| program(is_root, programs).unwrap_err().to_string();
        assert!(refusal(false, &["cat"]).contains("only root"));
        assert!(refusal(true, &["no-such-program"]).contains("nftables"));
        assert_eq!(program(true, &["no-such-program", "cat"]).unwrap(), "cat");
    }

    #[test]
    fn who_is_cut_off_anew_leaves_the_group_that_it_was_in() {
        let mut groups = Vec::new();
        cut_off(&mut groups, group(&["sled-a", "sled-b"]));
        cut_off(&mut groups, group(&["sled-b", "sled-c"]));
        assert_eq!(groups, [group(&["sled-a"]), group(&["sled-b", "sled-c"])]);
        cut_off(&mut groups, group(&["sled-a"]));
        assert_eq!(groups, [group(&["sled-b", "sled-c"]), group(&["sled-a"])]);
    }
}
