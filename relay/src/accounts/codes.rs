//! What lets in once: tickets, each good for one socket within 30 seconds, and sign-in codes, each good for one device
//! within ten minutes. Both live in memory alone, and none outlives the relay.
//!
//! A ticket stands for a token and a code for a member, as they are when it is used: what was revoked meanwhile, or who
//! was removed, comes in by neither; nor does anyone by a code that was asked for with a token since revoked.

use std::collections::HashMap;

use skein_engine::ids::Timestamp;

use super::secret::{Hash, Secret, hash};

/// Milliseconds in which a ticket must be used.
const TICKET_MS: u64 = 30_000;
/// Milliseconds in which a sign-in code must be used.
pub const CODE_MS: u64 = 10 * 60_000;
/// Milliseconds for which a used or expired code is told from an unknown one.
const REMEMBERED_MS: u64 = 24 * 3_600_000;
/// Tickets, or codes, that may be open at a time; the oldest goes.
const MAX_OPEN: usize = 10_000;

/// Why a sign-in code is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Somebody signed in with it.
    #[error(
        "this sign-in code was already used; open the address that the relay prints at its start, or run `skein pair`, for another"
    )]
    Used,
    /// Its ten minutes are over.
    #[error(
        "this sign-in code has expired; open the address that the relay prints at its start, or run `skein pair`, for another"
    )]
    Expired,
    /// Never heard of, or from before a restart.
    #[error(
        "this sign-in code is not known here (a code is good until the relay restarts); `skein pair` gives another"
    )]
    Unknown,
}

/// See the module.
#[derive(Default)]
pub struct Codes {
    tickets: HashMap<Hash, Ticket>,
    codes: HashMap<Hash, Code>,
}

struct Ticket {
    /// The token's id.
    token: String,
    expires: Timestamp,
}

struct Code {
    member: String,
    /// The id of the token with which it was asked for; `None`: the relay's own.
    token: Option<String>,
    expires: Timestamp,
    used: bool,
}

impl Codes {
    /// A ticket for a token.
    pub fn ticket(&mut self, now: Timestamp, token: &str) -> Secret {
        let secret = Secret::random::<32>("");
        self.tickets.retain(|_, ticket| ticket.expires > now);
        make_room(&mut self.tickets, |ticket| ticket.expires);
        let ticket = Ticket { token: token.to_owned(), expires: now.plus_ms(TICKET_MS) };
        self.tickets.insert(hash(secret.reveal()), ticket);
        secret
    }

    /// Takes a ticket: the token's id. It opens nothing a second time.
    pub fn redeem(&mut self, now: Timestamp, ticket: &str) -> Option<String> {
        let ticket = self.tickets.remove(&hash(ticket))?;
        (ticket.expires > now).then_some(ticket.token)
    }

    /// A code for a member, asked for with this token, and until when it is good.
    pub fn code(&mut self, now: Timestamp, member: &str, token: Option<&str>) -> (Secret, Timestamp) {
        let secret = Secret::random::<16>("");
        self.codes.retain(|_, code| code.expires.plus_ms(REMEMBERED_MS) > now);
        make_room(&mut self.codes, |code| code.expires);
        let expires = now.plus_ms(CODE_MS);
        let (member, token) = (member.to_owned(), token.map(str::to_owned));
        self.codes.insert(hash(secret.reveal()), Code { member, token, expires, used: false });
        (secret, expires)
    }

    /// Uses a code: the member, and the token with which it was asked for.
    pub fn sign_in(&mut self, now: Timestamp, code: &str) -> Result<(String, Option<String>), CodeError> {
        let code = self.codes.get_mut(&hash(code)).ok_or(CodeError::Unknown)?;
        if code.used {
            return Err(CodeError::Used);
        }
        if code.expires <= now {
            return Err(CodeError::Expired);
        }
        code.used = true;
        Ok((code.member.clone(), code.token.clone()))
    }

    /// Signing in with a code came to nothing, by no fault of its bearer.
    pub fn give_back(&mut self, code: &str) {
        if let Some(code) = self.codes.get_mut(&hash(code)) {
            code.used = false;
        }
    }
}

fn make_room<T>(open: &mut HashMap<Hash, T>, expires: impl Fn(&T) -> Timestamp) {
    if open.len() >= MAX_OPEN
        && let Some(oldest) = open.iter().min_by_key(|(_, entry)| expires(entry)).map(|(hash, _)| *hash)
    {
        open.remove(&oldest);
    }
}
