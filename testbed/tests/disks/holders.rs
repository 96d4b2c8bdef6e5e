//! One contract of all who may hold a volume ([`Holder`]): the same requests, one after the other, have the same answers and the same refusals,
//! whoever it is, and the coordinator is told the same. On regions of a sled, with a real coordinator.
//!
//! | holder | reached |
//! |---|---|
//! | an export in one's own process | by its handle, as a VM's will be |
//! | an export in another process | by its control socket |
//! | a sled's Pantry | by the sled's API |
//! | nobody | in each of these ways, and as [`Nobody`] |

use crate::{LIMIT, cluster};
use camino::Utf8Path;
use camino_tempfile::Utf8TempDir;
use ids::{RegionId, RegionSetId, VolumeId};
use nexus_client::repairs::RepairState;
use sled_client::{
    ClientError,
    pantry::{Activate, AttachQuery, PantryVolumeState, RequestResult},
    regions::RegionRequest,
};
use std::thread;
use testbed::{Cluster, DiskName, OwnedProcess, wait_for};
use upstairs::PhaseName;
use uuid::Uuid;
use volume_export::{Address, Export, ExportAt, Handle, NoticesOrder, Offer, Request, ask};
use volume_repair::{
    Applied, ConstructionRequest, FilePart, Holder, Member, Nobody, NotApplied, RegionSet, SubVolume,
};

const SIZE: u64 = 4 << 20;

/// What a holder answers: what has become of the request, or the name of its refusal.
type Answer = Result<Applied, String>;

fn asked(holder: &impl Holder, request: &ConstructionRequest) -> Answer {
    // It may block.
    tokio::task::block_in_place(|| holder.apply(request)).map_err(|error| {
        error.code().unwrap_or_else(|| panic!("it is not known whether it was applied: {error}"))
    })
}

/// The Pantry of the first sled.
struct PantryOf<'a>(&'a Cluster);

/// What it says in place of an answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct PantrySays(ClientError);

impl NotApplied for PantrySays {
    fn code(&self) -> Option<String> {
        let problem = self.0.problem()?;
        Some(problem.problems.first().map_or(&problem.code, |finding| &finding.code).clone())
    }
}

impl Holder for PantryOf<'_> {
    type Error = PantrySays;

    fn apply(&self, request: &ConstructionRequest) -> Result<Applied, PantrySays> {
        let client = self.0.sled_as_coordinator("sled-a").unwrap();
        // Only if it is there.
        let query = AttachQuery { executor_epoch: 1, activate: Activate::Never };
        let put = client.put_pantry_volume(VolumeId(request.id), query, request);
        let answer = tokio::runtime::Handle::current().block_on(put).map_err(PantrySays)?;
        Ok(match answer.result {
            RequestResult::Started => Applied::Started,
            RequestResult::StartedAlready => Applied::StartedAlready,
            RequestResult::CompletedAlready => Applied::CompletedAlready,
            RequestResult::VcrMatches => Applied::VcrMatches,
            RequestResult::Missing => Applied::Missing,
        })
    }
}

/// The same request with the next version, changed.
fn next(request: &ConstructionRequest, change: impl FnOnce(&mut RegionSet)) -> ConstructionRequest {
    let mut next = ConstructionRequest { config_version: request.config_version + 1, ..request.clone() };
    change(set_of(&mut next));
    next
}

fn set_of(request: &mut ConstructionRequest) -> &mut RegionSet {
    let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
    set
}

/// A volume on the sled's first three disks.
async fn volume(cluster: &Cluster) -> ConstructionRequest {
    let disk = |disk| DiskName { sled: "sled-a".to_owned(), disk: format!("disk-{disk}") };
    cluster.make_volume(SIZE, &(0..3).map(disk).collect::<Vec<_>>()).await.unwrap()
}

/// A region on the fourth disk, which is to be filled.
async fn new_member(cluster: &Cluster, request: &mut ConstructionRequest) -> Member {
    let disks = cluster.sled("sled-a").unwrap().disks().await.unwrap().disks;
    let (volume_id, block_size, set) = (VolumeId(request.id), request.block_size, set_of(request));
    let region = RegionId::generate();
    let order = RegionRequest {
        executor_epoch: 1,
        disk_id: disks.iter().find(|disk| disk.name == "disk-3").unwrap().id,
        volume_id,
        region_set_id: Some(set.id),
        block_size,
        blocks_per_extent: set.blocks_per_extent,
        extent_count: set.extent_count,
        encrypted: false,
        read_only: false,
        source: None,
        incarnation: Some(7),
        members: Vec::new(),
    };
    let made = cluster.sled_as_coordinator("sled-a").unwrap().put_region(region, &order).await.unwrap();
    Member { region_id: region, incarnation: 7, address: made.address.unwrap() }
}

/// Puts one in the place of the last member, which leaves.
fn replace(set: &mut RegionSet, new: Member) -> Member {
    let old = std::mem::replace(&mut set.members[2], new);
    set.leaving.push(old);
    old
}

/// What is refused of a volume that runs by this request, each with the name of its refusal.
fn refusals(ours: &ConstructionRequest, new: Member) -> Vec<(&'static str, ConstructionRequest)> {
    let same_version = |change: fn(&mut RegionSet)| ConstructionRequest {
        config_version: ours.config_version,
        ..next(ours, change)
    };
    let file = || SubVolume::File(FilePart { path: "/etc/hosts".into() });
    let mut parts = next(ours, |_| {});
    parts.sub_volumes.push(file());
    let stranger = Member { incarnation: new.incarnation + 1, ..new };
    vec![
        ("request_older", ConstructionRequest { config_version: ours.config_version - 1, ..ours.clone() }),
        ("request_version_taken", same_version(|set| set.members.swap(0, 1))),
        ("request_differs", ConstructionRequest { block_size: 512, ..next(ours, |_| {}) }),
        ("request_differs", next(ours, |set| set.extent_count += 1)),
        ("request_differs", next(ours, |set| set.id = RegionSetId::generate())),
        ("request_differs", parts),
        ("volume_members", next(ours, |set| set.leaving = set.members.split_off(1))),
        ("volume_region_twice", next(ours, |set| set.members[1] = set.members[0])),
        ("volume_member_not_gone", next(ours, |set| set.members[2] = new)),
        ("volume_member_is_here", {
            next(ours, |set| {
                let old = std::mem::replace(&mut set.members[2], new);
                set.gone.push(old.region_id);
            })
        }),
        (
            "volume_member_unfit",
            next(ours, |set| {
                replace(set, stranger);
            }),
        ),
    ]
}

/// The contract, of a volume that was built by this request and is active.
async fn is_kept(cluster: &Cluster, holder: &impl Holder, first: ConstructionRequest) {
    let applied = |request: &ConstructionRequest| asked(holder, request);
    for _ in 0..2 {
        assert_eq!(applied(&first), Ok(Applied::VcrMatches));
    }
    // Newer in nothing but its version, and with a right that is not the volume's.
    let mut ours = ConstructionRequest { epoch: 9, ..next(&first, |_| {}) };
    for _ in 0..2 {
        assert_eq!(applied(&ours), Ok(Applied::VcrMatches));
    }
    let new = new_member(cluster, &mut ours).await;
    for (code, request) in refusals(&ours, new) {
        for _ in 0..2 {
            assert_eq!(applied(&request), Err(code.to_owned()), "{request:?}");
        }
        assert_eq!(applied(&ours), Ok(Applied::VcrMatches), "after {code}");
    }
    let mut old = new;
    let newer = next(&ours, |set| old = replace(set, new));
    assert_eq!(applied(&newer), Ok(Applied::Started));
    let is_already = |answer: Answer| match answer {
        Ok(Applied::CompletedAlready) => Ok(()),
        Ok(Applied::StartedAlready) => Err("it is being replaced"),
        other => panic!("{other:?}"),
    };
    let _ = is_already(applied(&newer));
    assert_eq!(applied(&ours), Err("request_older".to_owned()));
    wait_for("the replacement", LIMIT, async || is_already(applied(&newer))).await.unwrap();
    // Whoever has left need not be named any more, and that is no other membership.
    let newest = next(&newer, |set| set.leaving.clear());
    for request in [&newer, &newest, &newest] {
        assert_eq!(applied(request), Ok(Applied::CompletedAlready));
    }
    is_told(cluster, VolumeId(first.id), (new, old)).await;
}

/// The coordinator has one row of it, with all that there is to tell.
async fn is_told(cluster: &Cluster, volume: VolumeId, (new, old): (Member, Member)) {
    let operator = cluster.operator().unwrap();
    let rows = wait_for("the row", LIMIT, async || match operator.volume_repairs(volume).await {
        Ok(rows) if rows.iter().all(|row| row.finished_at.is_some()) && !rows.is_empty() => Ok(rows),
        other => Err(format!("{other:?}")),
    });
    let rows = rows.await.unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let replaces = row.replaces.as_ref().map(|old| (old.region_id, old.incarnation));
    assert_eq!((row.region.region_id, row.region.incarnation), (new.region_id, new.incarnation));
    assert_eq!(replaces, Some((old.region_id, old.incarnation)));
    assert_eq!((row.state, row.bytes, row.bytes_done), (RepairState::Completed, SIZE, SIZE));
    assert!(row.started_at.is_some() && row.interrupted_by.is_none(), "{row:?}");
}

/// An export in a thread of this process, which ends when this does.
struct Here {
    handle: Handle,
    runs: Option<thread::JoinHandle<()>>,
}

impl Here {
    fn start(
        dir: &Utf8Path,
        built: &ConstructionRequest,
        request: Option<ConstructionRequest>,
        notices: Option<NoticesOrder>,
    ) -> Here {
        let composition = built.build(Uuid::new_v4(), None).unwrap();
        let offer = Offer { composition, request, name: String::new(), source_address: None };
        let mut export = Export::new(offer, Address::Unix(dir.join("here.nbd"))).unwrap();
        if let Some(notices) = notices {
            export.tell_of_repairs(notices).unwrap();
        }
        let handle = export.handle();
        handle.activate();
        Here { handle, runs: Some(thread::spawn(|| export.run().unwrap())) }
    }

    async fn active(dir: &Utf8Path, request: &ConstructionRequest, notices: NoticesOrder) -> Here {
        let here = Here::start(dir, request, Some(request.clone()), Some(notices));
        wait_for("the volume", LIMIT, async || match here.handle.status() {
            Ok(status) if status.volume.phase() == PhaseName::Active => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
        .unwrap();
        here
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.handle.stop();
        // One that has panicked has said so.
        let _ = self.runs.take().map(thread::JoinHandle::join);
    }
}

/// Where notices are kept, and to whom they go: to the cluster's coordinator.
fn notices(cluster: &Cluster, directory: &Utf8Path) -> NoticesOrder {
    let url = cluster.environment().unwrap().nexus[0].internal_url.clone();
    let token = Some(cluster.record().unwrap().tokens.sled);
    NoticesOrder { directory: directory.to_owned(), url, others: Vec::new(), token, source_address: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_the_same_process_keeps_the_contract() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "here", 1, 4).await;
    let first = volume(&cluster).await;
    let here = Here::active(temp.path(), &first, notices(&cluster, &temp.path().join("notices"))).await;
    is_kept(&cluster, &here.handle, first.clone()).await;
    let other = ConstructionRequest { id: Uuid::now_v7(), ..next(&first, |_| {}) };
    assert_eq!(asked(&here.handle, &other), Err("request_other_volume".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_another_process_keeps_the_contract() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "there", 1, 4).await;
    let (first, dir) = (volume(&cluster).await, temp.path());
    let NoticesOrder { url, token, .. } = notices(&cluster, dir);
    std::fs::write(dir.join("volume.json"), serde_json::to_vec(&first).unwrap()).unwrap();
    std::fs::write(dir.join("token"), token.unwrap()).unwrap();
    std::fs::set_permissions(dir.join("token"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let arguments = [
        "volume".to_owned(),
        "export".to_owned(),
        format!("--volume={dir}/volume.json"),
        "--epoch=1".to_owned(),
        format!("--listen=unix:{dir}/there.nbd"),
        format!("--notices={dir}/notices"),
        format!("--notify={url}"),
        format!("--notify-token-file={dir}/token"),
    ];
    let program = cluster.record().unwrap().bin_dir.join("sled-agent");
    let _export = OwnedProcess::start(dir, "export", &program, &arguments).unwrap();
    let socket = dir.join("volume.control");
    wait_for("the export", LIMIT, async || match ask(&socket, &Request::Status) {
        Ok(volume_export::Answer::Status(status)) if status.volume.phase() == PhaseName::Active => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
    let there = ExportAt::new(&socket);
    is_kept(&cluster, &there, first.clone()).await;
    let other = ConstructionRequest { id: Uuid::now_v7(), ..next(&first, |_| {}) };
    assert_eq!(asked(&there, &other), Err("request_other_volume".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pantry_keeps_the_contract() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "pantry", 1, 4).await;
    let first = volume(&cluster).await;
    cluster.attach_volume("sled-a", &first).await.unwrap();
    let pantry = PantryOf(&cluster);
    is_kept(&cluster, &pantry, first.clone()).await;
    // It is asked for a volume by its id, and does not have that one.
    let other = ConstructionRequest { id: Uuid::now_v7(), ..next(&first, |_| {}) };
    assert_eq!(asked(&pantry, &other), Ok(Applied::Missing));
    let shown = cluster.sled("sled-a").unwrap().pantry_volume(VolumeId(first.id)).await.unwrap();
    assert_eq!((shown.state, shown.epoch), (PantryVolumeState::Active, 1), "its right is its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_any_volume_whatever_is_asked_for() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "nobody", 1, 4).await;
    let mut first = volume(&cluster).await;
    let new = new_member(&cluster, &mut first).await;
    // What was not built by a request goes on by none.
    let here = Here::start(temp.path(), &first, None, None);
    let ours = next(&first, |_| {});
    let mut all: Vec<_> = refusals(&ours, new).into_iter().map(|(_, request)| request).collect();
    all.extend([
        first.clone(),
        ours.clone(),
        next(&ours, |set| {
            replace(set, new);
        }),
    ]);
    for request in all {
        assert_eq!(asked(&Nobody, &request), Ok(Applied::Missing));
        assert_eq!(
            asked(&ExportAt::new(&temp.path().join("nobody.control")), &request),
            Ok(Applied::Missing)
        );
        assert_eq!(asked(&here.handle, &request), Ok(Applied::Missing));
        assert_eq!(asked(&PantryOf(&cluster), &request), Ok(Applied::Missing), "{request:?}");
    }
    assert!(cluster.operator().unwrap().volume_repairs(VolumeId(first.id)).await.unwrap().is_empty());
}
