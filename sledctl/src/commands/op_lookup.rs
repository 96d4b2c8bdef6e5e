//! Which sagas: pages of them, those that an operator looks for, and the one that the beginning of an id stands for.
//!
//! There may be millions of ended sagas, so nothing here but `--all` reads them all.

use crate::{
    failure::Failure,
    resolve::{self, ID_PREFIX_MIN},
};
use futures::future;
use ids::SagaId;
use nexus_client::{
    ClientError, OperatorClient,
    sagas::{Saga, SagaQuery, SagaState},
};
use std::{cmp::Reverse, collections::BTreeMap};

/// Items of a page where all pages are walked: as many as the API gives.
const PAGE_ITEMS: u32 = 1000;

/// Unfinished sagas of each state that a list shows unless told otherwise.
pub(super) const UNFINISHED_SHOWN: u32 = 100;

/// Ended sagas that a list shows unless told otherwise.
const ENDED_SHOWN: u32 = 10;

/// Among so many of the newest sagas, the beginning of an id is looked for; besides among those that have not ended.
/// There may be millions of others.
const NEWEST_LOOKED_THROUGH: usize = 10_000;

/// What an operator looks for: what has not ended, and what ended last. Each state is asked for by itself, all at the same
/// time, because between millions of ended sagas the unfinished ones cannot be found otherwise.
pub(super) async fn unfinished_and_newest_ended(
    client: &OperatorClient,
    query: &SagaQuery,
) -> Result<(Vec<Saga>, String), ClientError> {
    let asked = SagaState::ALL.map(|state| {
        let query = SagaQuery { state: Some(state), ..query.clone() };
        let limit = if state.is_ended() { ENDED_SHOWN } else { UNFINISHED_SHOWN };
        newest(client, query, limit as usize)
    });
    let (mut found, mut more, mut more_unfinished) = (BTreeMap::new(), false, false);
    for (state, (sagas, others)) in SagaState::ALL.into_iter().zip(future::try_join_all(asked).await?) {
        more |= others;
        more_unfinished |= others && !state.is_ended();
        // A saga that went on between two answers is in both; the later state is the one that stays.
        found.extend(sagas.into_iter().map(|saga| (saga.id, saga)));
    }
    let (mut ended, mut sagas): (Vec<Saga>, Vec<Saga>) =
        found.into_values().partition(|saga| saga.state.is_ended());
    newest_first(&mut ended);
    more |= ended.len() > ENDED_SHOWN as usize;
    ended.truncate(ENDED_SHOWN as usize);
    let shown = (sagas.len(), ended.len());
    sagas.append(&mut ended);
    newest_first(&mut sagas);
    Ok((sagas, footer(shown, more, more_unfinished)))
}

/// What the rows are, and how to see the others.
fn footer((unfinished, ended): (usize, usize), more: bool, more_unfinished: bool) -> String {
    let newest = if more_unfinished { "the newest " } else { "" };
    let others = if more { "; there are more: --state S, --limit N, --all" } else { "" };
    let ended = if more { format!("the newest {ended} that have") } else { format!("{ended} that have") };
    format!("{newest}{unfinished} that have not ended, {ended}{others}")
}

fn newest_first(sagas: &mut [Saga]) {
    sagas.sort_by_key(|saga| Reverse((saga.created_at, saga.id)));
}

/// The newest that match, and whether there are more.
pub(super) async fn newest(
    client: &OperatorClient,
    mut query: SagaQuery,
    limit: usize,
) -> Result<(Vec<Saga>, bool), ClientError> {
    let mut sagas = Vec::new();
    loop {
        let room = u32::try_from(limit - sagas.len()).unwrap_or(u32::MAX);
        query.limit = Some(room.min(PAGE_ITEMS));
        let page = client.sagas(&query).await?;
        sagas.extend(page.items);
        let more = page.next_page.is_some() || sagas.len() > limit;
        sagas.truncate(limit);
        if sagas.len() >= limit || page.next_page.is_none() {
            return Ok((sagas, more));
        }
        query.page_token = page.next_page;
    }
}

/// The saga that an id, or the beginning of one, stands for.
pub(super) async fn find(client: &OperatorClient, name: &str) -> Result<SagaId, Failure> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let (newest, more) = newest(client, SagaQuery::default(), NEWEST_LOOKED_THROUGH).await?;
    let mut fitting = Vec::new();
    if more && name.len() >= ID_PREFIX_MIN {
        for state in SagaState::ALL.into_iter().filter(|state| !state.is_ended()) {
            older(client, state, name, &mut fitting).await?;
        }
    }
    fitting.retain(|saga| !newest.iter().any(|known| known.id == saga.id));
    fitting.extend(newest);
    Ok(resolve::saga(name, &fitting)?.id)
}

/// Unfinished sagas in this state whose ids begin like this, however old.
async fn older(
    client: &OperatorClient,
    state: SagaState,
    name: &str,
    fitting: &mut Vec<Saga>,
) -> Result<(), ClientError> {
    let mut query = SagaQuery { state: Some(state), limit: Some(PAGE_ITEMS), ..SagaQuery::default() };
    loop {
        let page = client.sagas(&query).await?;
        for saga in page.items {
            let is_new = fitting.iter().all(|known| known.id != saga.id);
            if is_new && resolve::saga_id_begins_with(&saga, name) {
                fitting.push(saga);
            }
        }
        match page.next_page {
            Some(token) => query.page_token = Some(token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footer_says_what_is_shown_and_how_to_see_the_rest() {
        assert_eq!(footer((2, 1), false, false), "2 that have not ended, 1 that have");
        assert_eq!(
            footer((2, 10), true, false),
            "2 that have not ended, the newest 10 that have; there are more: --state S, --limit N, --all"
        );
        assert!(footer((100, 10), true, true).starts_with("the newest 100 that have not ended, "));
    }
}
