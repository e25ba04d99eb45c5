//! Members, tokens, pairing and workspaces from the command line, against a real server; and the same over TLS.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use support::{Home, Run};

fn done(run: Run) -> Run {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    run
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[test]
fn a_member_is_added_reads_writes_is_demoted_and_removed() {
    let home = Home::new();
    let served = home.serve();
    let id = text(&done(served.run(&["session", "new", "--name", "Ours", "--json"])).json()["id"]);
    let made = done(served.run(&["member", "add", "Bob", "--json"])).json();
    let token = text(&made["token"]);
    let bob = |arguments: &[&str]| served.run_as(&token, "bob", arguments);
    assert_eq!(done(bob(&["session", "list", "--json"])).json()[0]["id"], id.as_str());
    done(bob(&["session", "send", &id, "hello from Bob"]));
    let members = done(bob(&["member", "list", "--json"])).json();
    assert_eq!((&members[1]["name"], &members[1]["role"]), (&"Bob".into(), &"member".into()));
    let refused = bob(&["member", "add", "Eve"]);
    assert_eq!((refused.code, refused.stderr.as_str()), (1, "only an owner may do this\n"));

    // Offline he writes once more, and is a viewer when he comes back.
    assert_eq!(bob(&["session", "send", &id, "--offline", "too late"]).code, 0);
    done(served.run(&["member", "role", "bob", "viewer"]));
    let shown = bob(&["session", "show", &id, "--json"]);
    assert!(shown.stdout.contains("too late"), "it is still here: {shown:?}");
    assert!(!done(served.run(&["session", "show", &id, "--json"])).stdout.contains("too late"));
    let refused = bob(&["session", "send", &id, "again"]);
    assert!(refused.code == 1 && refused.stderr.contains("may only read"), "{refused:?}");

    // Two ways out.
    let copied = bob(&["session", "copy", &id, "--json"]);
    assert!(copied.code == 0 && copied.stderr.contains("this device alone"), "{copied:?}");
    let copy = text(&copied.json()["id"]);
    assert!(bob(&["session", "show", &copy]).stdout.contains("too late"));
    assert_eq!(served.run(&["session", "show", &copy]).code, 1);
    let discarded = bob(&["session", "discard", &id]);
    assert_eq!((discarded.code, discarded.stderr.as_str()), (0, "1 changes are gone from this device\n"));
    assert!(!bob(&["session", "show", &id, "--json"]).stdout.contains("too late"));

    done(served.run(&["member", "remove", "Bob"]));
    let gone = bob(&["session", "list"]);
    assert!(gone.code == 1 && gone.stderr.starts_with("wrong token"), "{gone:?}");
    assert!(bob(&["session", "show", &copy, "--offline"]).stdout.contains("too late"));
    let last = served.run(&["member", "role", &text(&members[0]["name"]), "viewer"]);
    assert!(last.code == 1 && last.stderr.contains("needs an owner"), "{last:?}");
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let home = Home::new();
    let served = home.serve();
    let made = done(served.run(&["token", "add", "reports", "--read-only", "--json"])).json();
    let (id, token) = (text(&made["id"]), text(&made["token"]));
    let shown = done(served.run(&["token", "list"])).stdout;
    let row = shown.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{shown}"));
    assert!(row.starts_with("reports") && row.contains("tool, reads only"), "{shown}");
    assert_eq!(done(served.run_as(&token, "tool", &["session", "list", "--json"])).json(), Value::Array(vec![]));
    let refused = served.run_as(&token, "tool", &["session", "new", "--message", "no"]);
    assert!(refused.code == 1 && refused.stderr.contains("may only read"), "{refused:?}");
    let listed = done(served.run(&["token", "list", "--json"])).json();
    let row = listed.as_array().unwrap().iter().find(|row| row["id"] == id.as_str()).cloned().unwrap();
    assert!(row["lastUsed"].is_u64() && row["kind"] == "tool", "{row}");
    done(served.run(&["token", "revoke", &id]));
    let gone = served.run_as(&token, "tool", &["session", "list"]);
    assert!(gone.code == 1 && gone.stderr.starts_with("wrong token"), "{gone:?}");
    let again = served.run(&["token", "revoke", &id]);
    assert_eq!((again.code, again.stderr.as_str()), (1, "there is no such token\n"));
    let worker = done(served.run(&["token", "add", "elsewhere", "--worker"])).stdout;
    assert!(worker.starts_with("skein_") && worker.lines().count() == 1, "{worker}");
    assert_eq!(served.run(&["token", "add", "x", "--worker", "--read-only"]).code, 2);
}

#[test]
fn pairing_prints_an_address_and_its_picture() {
    let home = Home::new();
    let served = home.serve();
    let paired = served.run(&["pair"]);
    assert!(paired.code == 0 && paired.stderr.contains("only this machine"), "{paired:?}");
    let mut lines = paired.stdout.lines();
    let link = format!("http://{}/#/sign-in?code=", served.address);
    assert!(lines.next().is_some_and(|line| line.starts_with(&link)), "{paired:?}");
    assert!(lines.clone().count() > 15 && lines.all(|line| line.chars().all(|c| " █▀▄".contains(c))), "{paired:?}");
    assert!(text(&served.run(&["pair", "--json"]).json()["link"]).starts_with(&link));
}

#[test]
fn another_workspace_is_made_and_is_a_world_of_its_own() {
    let home = Home::new();
    let served = home.serve();
    let made = done(served.run(&["workspace", "create", "Family", "--json"])).json();
    let token = text(&made["token"]);
    let names = |run: Run| -> Vec<String> {
        done(run).json().as_array().unwrap().iter().map(|row| text(&row["name"])).collect()
    };
    assert_eq!(names(served.run(&["workspace", "list", "--json"])), ["Skein", "Family"]);
    assert_eq!(names(served.run_as(&token, "family", &["workspace", "list", "--json"])), ["Family"]);
    done(served.run(&["session", "new", "--name", "Ours"]));
    let theirs = text(&done(served.run_as(&token, "family", &["session", "new", "--json"])).json()["id"]);
    let listed = done(served.run_as(&token, "family", &["session", "list", "--json"])).json();
    assert!(listed.as_array().unwrap().len() == 1 && listed[0]["id"] == theirs.as_str(), "{listed}");
    assert_eq!(served.run(&["session", "show", &theirs]).code, 1);
}

#[test]
fn over_tls_commands_trust_the_authority_that_they_are_told_of() {
    let home = Home::new();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert_file, key_file) = (home.path("cert.pem"), home.path("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    std::fs::write(home.path("skein.toml"), "[relay]\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n").unwrap();
    let served = home.serve();
    let relay = format!("https://{}", served.address);
    let trusting = [("SKEIN_RELAY", relay.as_str()), ("SSL_CERT_FILE", cert_file.to_str().unwrap())];
    let made = served.run_with_env(&trusting, &["session", "new", "--message", "hello", "--json"]);
    let id = text(&done(made).json()["id"]);
    // `serve`'s own worker is there too.
    let waited = served.run_with_env(&trusting, &["session", "wait", &id, "--timeout", "60"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    assert_eq!(done(served.run_with_env(&trusting, &["member", "list", "--json"])).json()[0]["role"], "owner");
    let link = served.run_with_env(&trusting, &["pair", "--json"]).json();
    assert!(text(&link["link"]).starts_with(&relay), "{link}");

    let other = home.path("other.pem");
    std::fs::write(&other, generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem()).unwrap();
    let distrusting = [("SKEIN_RELAY", relay.as_str()), ("SSL_CERT_FILE", other.to_str().unwrap())];
    for arguments in [&["session", "list", "--data", "other"][..], &["member", "list"]] {
        let refused = served.run_with_env(&distrusting, arguments);
        assert!(refused.code == 1 && refused.stderr.contains("certificate"), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    // On this machine it may be called without.
    done(served.run(&["session", "list"]));
}

#[test]
fn a_certificate_that_is_of_no_use_is_one_clear_line() {
    let home = Home::new();
    let run =
        home.run(&["serve", "--data", "d", "--listen", "127.0.0.1:0", "--tls-cert", "no.pem", "--tls-key", "no.pem"]);
    assert!(run.code == 1 && run.stderr.contains("no.pem") && run.stderr.lines().count() == 1, "{run:?}");
    let run = home.run(&["serve", "--data", "d", "--tls-cert", "no.pem"]);
    assert_eq!(run.code, 2, "{run:?}");
}
