//! The data of options, taken apart. Owns their layout; what an option means is `handshake.rs`. Pure.
//!
//! Every layout has to fill the data exactly: what is cut short, or followed by something, is not parsed.

use crate::wire::{BASE_ALLOCATION, BASE_NAMESPACE, STRING_BYTES_MAX, info};
use bytes::Buf;
use std::str;

/// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`: length and bytes of a name, number and list of the wanted information.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InfoRequest<'a> {
    /// The export.
    pub(crate) name: &'a str,
    /// `NBD_INFO_NAME` is wanted.
    pub(crate) name_wanted: bool,
    /// `NBD_INFO_DESCRIPTION` is wanted.
    pub(crate) description_wanted: bool,
    /// `NBD_INFO_BLOCK_SIZE` is wanted, so the client will keep to the sizes.
    pub(crate) block_size_wanted: bool,
}

/// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`: length and bytes of a name, number of queries,
/// for each its length and bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MetaContextRequest<'a> {
    /// The export.
    pub(crate) name: &'a str,
    /// There are no queries.
    pub(crate) no_queries: bool,
    /// One query is `base:allocation`.
    pub(crate) base_allocation: bool,
    /// One query is `base:`.
    pub(crate) base_namespace: bool,
}

/// The data of `NBD_OPT_EXPORT_NAME`, or a part of another option's: text of a length that the protocol allows.
pub(crate) fn parse_text(data: &[u8]) -> Option<&str> {
    if data.len() > STRING_BYTES_MAX || data.contains(&0) {
        return None;
    }
    str::from_utf8(data).ok()
}

pub(crate) fn parse_info(mut data: &[u8]) -> Option<InfoRequest<'_>> {
    let name = parse_text(take_counted(&mut data)?)?;
    let count = data.try_get_u16().ok()?;
    let mut request =
        InfoRequest { name, name_wanted: false, description_wanted: false, block_size_wanted: false };
    for _ in 0..count {
        match data.try_get_u16().ok()? {
            info::NAME => request.name_wanted = true,
            info::DESCRIPTION => request.description_wanted = true,
            info::BLOCK_SIZE => request.block_size_wanted = true,
            // `NBD_INFO_EXPORT` is always sent; what is not known is ignored.
            _ => {}
        }
    }
    data.is_empty().then_some(request)
}

/// Queries of namespaces that are not served match nothing, whatever they look like, as the protocol demands.
pub(crate) fn parse_meta_context(mut data: &[u8]) -> Option<MetaContextRequest<'_>> {
    let name = parse_text(take_counted(&mut data)?)?;
    let count = data.try_get_u32().ok()?;
    let mut request =
        MetaContextRequest { name, no_queries: count == 0, base_allocation: false, base_namespace: false };
    for _ in 0..count {
        let query = take_counted(&mut data)?;
        if query.len() > STRING_BYTES_MAX {
            return None;
        }
        request.base_allocation |= query == BASE_ALLOCATION.as_bytes();
        request.base_namespace |= query == BASE_NAMESPACE.as_bytes();
    }
    data.is_empty().then_some(request)
}

/// A 32-bit length and that many bytes.
fn take_counted<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(data.try_get_u32().ok()?).ok()?;
    let (taken, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(taken)
}
