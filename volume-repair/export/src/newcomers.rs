//! A look at members that a newer request names for the first time, before anything of it is applied: one that says that it is another one than the
//! request means can never be filled, and the request would have to be taken back.
//!
//! ```text
//!   each of them, at the same time ──Hello──┬── Welcome of another size, block size, incarnation; of another set; read-only ──► refused
//!                                           └── Welcome; nobody there; nothing within LOOK_MAX; anything that may pass ──► it goes on, and waits
//! ```
//!
//! Nobody is promoted by a Hello, so nobody is fenced. It is done in the thread of whoever asks: the loop waits for nobody.

use crate::snapshot_peer::socket;
use region_wire::{
    Expected, Hello, Inbox, NotWelcome, Outbox, PeerError, Refusal, Reply, Request, Unfit, source_address,
};
use std::{
    io::{self, IoSlice},
    net::IpAddr,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use upstairs::Trouble;
use volume_repair::{ChangeError, Newcomer};

/// How long all of them may take. Who is there answers within milliseconds; whoever asked for the change gives up after 10 s.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Looks at them, from this address.
pub(crate) fn look(newcomers: Vec<Newcomer>, own: Option<IpAddr>) -> Result<(), ChangeError> {
    if newcomers.is_empty() {
        return Ok(());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // As if nobody of them was there.
            tracing::warn!(%error, "new members are not looked at");
            return Ok(());
        }
    };
    runtime.block_on(async {
        let mut looks = JoinSet::new();
        for newcomer in newcomers {
            looks.spawn(async move {
                let looked = timeout(LOOK_MAX, look_at(&newcomer, own)).await;
                let unfit = looked.ok().and_then(Result::ok).flatten();
                unfit.map(|unfit| newcomer.unfit(Trouble::Unfit(unfit)))
            });
        }
        while let Some(looked) = looks.join_next().await {
            if let Ok(Some(unfit)) = looked {
                return Err(unfit);
            }
        }
        Ok(())
    })
}

/// Why it can never be a member, if it says so. An error is that it says nothing.
async fn look_at(newcomer: &Newcomer, own: Option<IpAddr>) -> Result<Option<Unfit>, PeerError> {
    let Newcomer { set, snapshot, geometry, member, address } = newcomer;
    let mut socket = socket(source_address(own, *address), *address).await?;
    let mut out = Outbox::new();
    Request::Hello(Hello::new(member.region, *set, *snapshot)).encode(&mut out);
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 2];
        let count = out.slices(&mut slices);
        let sent = socket.write_vectored(&slices[..count]).await.map_err(PeerError::Broken)?;
        out.sent(sent);
    }
    let mut inbox = Inbox::new();
    let reply = loop {
        if let Some(frame) = inbox.next_frame()? {
            break Reply::parse(frame)?;
        }
        if socket.read_buf(inbox.fill()).await.map_err(PeerError::Broken)? == 0 {
            return Err(PeerError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let expected = Expected { geometry: *geometry, incarnation: Some(member.incarnation) };
    Ok(match reply {
        Reply::Welcome(welcome) => expected.check(&welcome).err(),
        Reply::SnapshotWelcome(welcome) => expected.check_snapshot(&welcome).err(),
        Reply::Refused(Refusal::Hello(why)) if is_for_good(&why) => Some(why.into()),
        _ => None,
    })
}

/// Whether a refusal says who it is. A region that is not there may be made, and one that does not open may open later.
fn is_for_good(why: &NotWelcome) -> bool {
    match why {
        NotWelcome::OtherSet(_) | NotWelcome::ReadOnly(_) | NotWelcome::Version(..) => true,
        NotWelcome::NoRegion(_) | NotWelcome::NotOpened(_) => false,
    }
}
