//! The version of the protocol, and what a version means.
//!
//! **A version is all that may be said without asking.** Who has agreed on one may send each request and each reply of it, at any time: the
//! other end knows it and does what it says. A message that the other end does not know ends the connection; whoever has sent it
//! connects again, comes to the same place, and sends it again, and so on for ever. So two programs that do not know the same messages
//! must find it out before the first of these, at Hello, where it is a refusal with a code and not a connection that breaks.
//!
//! **It is raised by whoever**
//! - adds a kind of request or reply, a field, or another form of one;
//! - lets one mean something else, also if its bytes stay as they are;
//! - changes a bound of what one may hold ([`message`](crate::message), [`frame`](crate::frame)).
//!
//! It is not raised by other words for people, nor by how soon something is done. A test keeps what all messages of this version look like
//! (`tests/version.rs`), so that nobody changes them and forgets this file.
//!
//! | version | what came with it |
//! |---|---|
//! | 1 | |
//! | 2 | [`Pass`](crate::Request::Pass); [`Hash`](crate::Request::Hash) and its answers; the refusal of who would write a clone |
//! | 3 | of which position a snapshot is that was taken, or was there: [`Snapshotted`](crate::Reply::Snapshotted) |
//! | 4 | whether others go first: [`Haste`](crate::Haste) of [`Read`](crate::Request::Read) and [`Install`](crate::Request::Install) |
//!
//! **What no version changes**, so that any two can tell each other that they do not fit: the header of a frame, the fields of Hello, and
//! the refusal of a version. What a later one has to say at the beginning it says behind Welcome, in a message of its own.
//!
//! **There is one.** Nothing is released, so no program has to speak with an older one, and each speaks [`VERSION`] alone. Hello has a range, for
//! the first release whose programs are replaced one after another: those will speak two, and take the highest that both know.

/// The version of the protocol that is spoken.
pub const VERSION: u16 = 4;
