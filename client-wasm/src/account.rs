//! Which relay this device belongs to, and with which token: signing in, and the one-use tickets with which sockets are
//! opened (a browser can't set headers on them, and a token has no place in an address).

use serde::{Deserialize, Serialize};
use skein_engine::blob::BlobId;
use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::{MemberRole, WriterKind};
use skein_engine::wire::catalog::{Member, VERSION, Welcome};
use skein_engine::wire::cbor;

use crate::browser::{Answer, Bytes, fetch, fetch_bytes, json, now};
use crate::database::{Database, DatabaseError, Durability, Write};
use crate::patch::{Fault, SignIn};

const DATABASE: &str = "skein";
const STORE: &str = "device";
const ACCOUNT: &str = "account";
/// Before the document's id; written by `web/src/engine/worker.ts`.
const ASIDE: &str = "aside/";
/// What every token begins with; a pairing code has letters of base64 alone.
const TOKEN_PREFIX: &str = "skein_";

/// Kept on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The relay's address, without a last slash.
    pub relay: String,
    /// This device's token.
    pub token: String,
    /// Which database is its replica.
    pub workspace: DocumentId,
}

impl Account {
    /// The same address for WebSockets.
    pub fn websocket_address(&self) -> String {
        // "http" becomes "ws", "https" "wss".
        match self.relay.strip_prefix("http") {
            Some(rest) => ["ws", rest].concat(),
            None => self.relay.clone(),
        }
    }
}

/// The small database that every workspace's is found by.
pub struct Accounts(Database);

impl Accounts {
    /// Opens it.
    pub async fn open() -> Result<Self, DatabaseError> {
        Ok(Self(Database::open(DATABASE, 1, &[STORE]).await?))
    }

    /// Who is signed in.
    pub async fn read(&self) -> Result<Option<Account>, DatabaseError> {
        Ok(self.0.get(STORE, &ACCOUNT.into()).await?.and_then(|value| cbor::decode(&value).ok()))
    }

    /// Signs in or out. What was set aside has another chance.
    pub async fn write(&self, account: Option<&Account>) -> Result<(), DatabaseError> {
        let (store, key) = (STORE, ACCOUNT.into());
        let mut writes = vec![match account {
            Some(account) => Write::Put { store, key, value: cbor::encode(account) },
            None => Write::Delete { store, key },
        }];
        for document in self.aside().await? {
            writes.push(Write::Delete { store, key: [ASIDE, &document.to_string()].concat().into() });
        }
        self.0.write(writes, Durability::Strict).await
    }

    /// Documents that an engine has died of: the worker has noted them, and they are left alone.
    pub async fn aside(&self) -> Result<Vec<DocumentId>, DatabaseError> {
        let keys = self.0.keys(STORE).await?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(ASIDE)?.parse().ok()).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WhoAmI {
    workspace: String,
    workspace_document: DocumentId,
    member: String,
    member_name: String,
    role: MemberRole,
    kind: WriterKind,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Ticket {
    ticket: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    code: String,
    message: String,
}

/// Exchanges a pairing code, or takes a token that the relay knows.
pub async fn sign_in(SignIn { relay, secret, device }: SignIn) -> Result<(Account, Welcome), Fault> {
    let relay = relay.trim().trim_end_matches('/').to_owned();
    let secret = secret.trim();
    let token = if secret.starts_with(TOKEN_PREFIX) {
        secret.to_owned()
    } else {
        let answer = ask(&relay, "POST", "/pair", None, Some(&json(&[("code", secret), ("name", &device)]))).await?;
        if answer.status != 200 {
            return Err(refusal(&answer));
        }
        body::<Token>(&answer)?.token
    };
    let answer = ask(&relay, "GET", "/whoami", Some(&token), None).await?;
    if answer.status != 200 {
        return Err(refusal(&answer));
    }
    let who: WhoAmI = body(&answer)?;
    let welcome = Welcome {
        version: VERSION,
        workspace: who.workspace,
        workspace_document: who.workspace_document,
        profile: None,
        members: vec![Member { id: who.member.clone(), name: who.member_name.clone() }],
        member: who.member,
        member_name: who.member_name,
        role: who.role,
        kind: who.kind,
        now: now(),
    };
    Ok((Account { relay, token, workspace: welcome.workspace_document }, welcome))
}

/// A ticket for one socket.
pub async fn ticket(account: &Account) -> Result<String, Fault> {
    let answer = ask(&account.relay, "POST", "/tickets", Some(&account.token), None).await?;
    match answer.status {
        200 => Ok(body::<Ticket>(&answer)?.ticket),
        _ => Err(refusal(&answer)),
    }
}

/// Stores a blob on the relay, unless it has it; durable there on return.
pub async fn put_blob(account: &Account, id: BlobId, bytes: &[u8]) -> Result<(), Fault> {
    let answer = ask_blob(account, "HEAD", id, None).await?;
    if answer.status == 200 {
        return Ok(());
    }
    let answer = ask_blob(account, "PUT", id, Some(bytes)).await?;
    match answer.status {
        200 | 201 => Ok(()),
        status => Err(of_status(status)),
    }
}

/// A blob, if the relay has it.
pub async fn get_blob(account: &Account, id: BlobId) -> Result<Option<Vec<u8>>, Fault> {
    let answer = ask_blob(account, "GET", id, None).await?;
    match answer.status {
        200 => Ok(Some(answer.body)),
        404 => Ok(None),
        status => Err(of_status(status)),
    }
}

async fn ask_blob(account: &Account, method: &str, id: BlobId, body: Option<&[u8]>) -> Result<Bytes, Fault> {
    let url = [&account.relay, "/blobs/", &id.to_string()].concat();
    fetch_bytes(method, &url, &account.token, body).await.map_err(|error| Fault::new("unreachable", error))
}

fn of_status(status: u16) -> Fault {
    let code = match status {
        401 => "wrong-token",
        408 | 429 | 500.. => "unreachable",
        _ => "refused",
    };
    Fault::new(code, ["the relay answered with status ", &status.to_string()].concat())
}

async fn ask(relay: &str, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Result<Answer, Fault> {
    let answer = fetch(method, &[relay, path].concat(), token, body).await;
    answer.map_err(|error| Fault::new("unreachable", error))
}

fn body<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    serde_wasm_bindgen::from_value(answer.body.clone())
        .map_err(|error| Fault::new("unreachable", ["this is no Skein relay: ", &error.to_string()].concat()))
}

fn refusal(answer: &Answer) -> Fault {
    let Ok(Refusal { error }) = serde_wasm_bindgen::from_value::<Refusal>(answer.body.clone()) else {
        return Fault::new("unreachable", ["the relay answered with status ", &answer.status.to_string()].concat());
    };
    let code = match error.code.as_str() {
        "used" => "code-used",
        "expired" => "code-expired",
        "unknown" => "code-unknown",
        _ if answer.status == 401 => "wrong-token",
        _ => "refused",
    };
    Fault::new(code, error.message)
}
