//! The workspace document: what members do to it at once, what foreign clients leave in it, and that every replica
//! reads the same.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use proptest::prelude::*;
use skein_engine::device::{Device, DeviceConfig, DeviceError, Keeps};
use skein_engine::ids::{Micros, PeerId, Timestamp, random_actor};
use skein_engine::session::command::{Done, Given};
use skein_engine::session::conversation::MemberRole;
use skein_engine::wire::catalog::Welcome;
use skein_engine::workspace::action::ActionField;
use skein_engine::workspace::agent::AgentField;
use skein_engine::workspace::command::apply;
use skein_engine::workspace::integration::Policy;
use skein_engine::workspace::task::{Opening, TaskField};
use skein_engine::workspace::{Workspace, WorkspaceCommand as Do, WorkspaceError, create_workspace, workspace};

const NOW: Timestamp = Timestamp(1_795_577_554_999);

/// One member's device.
struct Replica(Automerge);

impl Replica {
    fn new() -> Self {
        Self(create_workspace("Home").unwrap())
    }

    /// Another device with the same document.
    fn fork(&self) -> Self {
        Self(self.0.fork().with_actor(random_actor()))
    }

    fn act(&mut self, command: &Do) -> Result<Done, WorkspaceError> {
        self.act_at(NOW, command)
    }

    fn act_at(&mut self, at: Timestamp, command: &Do) -> Result<Done, WorkspaceError> {
        let seen = workspace(&self.0);
        let mut tx = self.0.transaction();
        let done = apply(&mut tx, &seen, command, &Given { by: "m", at, id: None });
        if done.is_ok() {
            tx.commit();
        } else {
            tx.rollback();
        }
        done
    }

    /// Does it; the id of what was added.
    fn add(&mut self, command: &Do) -> String {
        self.act(command).unwrap().id.unwrap()
    }

    fn set(&mut self, agent: &str, fields: Vec<AgentField>) {
        self.act(&Do::SetAgent { agent: agent.into(), fields }).unwrap();
    }

    fn merge(&mut self, other: &mut Self) -> Workspace {
        self.0.merge(&mut other.0).unwrap();
        other.0.merge(&mut self.0).unwrap();
        let read = self.read();
        assert_eq!(read, other.read());
        read
    }

    fn read(&self) -> Workspace {
        workspace(&self.0)
    }

    fn write(&mut self, write: impl FnOnce(&mut automerge::transaction::Transaction<'_>)) {
        let mut tx = self.0.transaction();
        write(&mut tx);
        tx.commit();
    }

    fn object(&self, path: &[&str]) -> ObjId {
        path.iter().fold(ROOT, |object, key| self.0.get(&object, *key).unwrap().unwrap().1)
    }
}

fn agent(name: &str) -> Do {
    Do::AddAgent { name: name.into(), fields: vec![] }
}

fn task(name: &str, fields: Vec<TaskField>) -> Do {
    Do::AddTask { name: name.into(), fields }
}

fn action(name: &str, template: &str) -> Do {
    Do::AddAction { name: name.into(), template: template.into(), fields: vec![] }
}

#[test]
fn every_field_of_an_agent_is_read_as_it_was_set() {
    let mut one = Replica::new();
    let fields = vec![
        AgentField::Model(Some("anthropic/claude".into())),
        AgentField::Instructions("Be brief.".into()),
        AgentField::Tools(vec!["read_file".into(), "fetch".into(), "read_file".into()]),
        AgentField::Integrations(vec!["files".into()]),
        AgentField::Thinking(Some(4_000)),
        AgentField::Temperature(Some(0.7)),
        AgentField::StepLimit(Some(20)),
        AgentField::SpendLimit(Some(Micros(2_500_000))),
    ];
    let id = one.add(&Do::AddAgent { name: " Writer ".into(), fields });
    assert_eq!(id.len(), 22);
    let agent = one.read().agents[&id].clone();
    assert_eq!((agent.name.as_str(), agent.model.as_deref()), ("Writer", Some("anthropic/claude")));
    assert_eq!((agent.instructions.as_str(), agent.tools), ("Be brief.", vec!["read_file".into(), "fetch".into()]));
    assert_eq!((agent.integrations, agent.thinking), (vec!["files".into()], Some(4_000)));
    assert_eq!((agent.temperature, agent.step_limit), (Some(0.7), Some(20)));
    assert_eq!((agent.spend_limit, agent.thread), (Some(Micros(2_500_000)), 2), "the first colour that is free");

    one.set("writer", vec![AgentField::Model(None), AgentField::Temperature(Some(1.0)), AgentField::Tools(vec![])]);
    let agent = one.read().agents[&id].clone();
    assert_eq!((agent.model, agent.temperature, agent.tools), (None, Some(1.0), vec![]));
    assert_eq!(one.read().faults, Vec::<String>::new());
}

#[test]
fn two_members_who_edit_different_fields_of_one_agent_both_keep_theirs() {
    let mut one = Replica::new();
    one.add(&Do::AddAgent { name: "Writer".into(), fields: vec![AgentField::Tools(vec!["a".into(), "b".into()])] });
    let mut two = one.fork();
    one.set("Writer", vec![AgentField::Model(Some("p/one".into())), AgentField::Tools(vec!["a".into(), "c".into()])]);
    two.set(
        "Writer",
        vec![AgentField::Name("Author".into()), AgentField::Tools(vec!["a".into(), "b".into(), "d".into()])],
    );
    let merged = one.merge(&mut two);
    let (_, agent) = merged.agent("Author").unwrap();
    assert_eq!(agent.model.as_deref(), Some("p/one"));
    let mut tools = agent.tools.clone();
    tools.sort();
    assert_eq!(tools, ["a", "c", "d"], "b was taken away by the one, d added by the other");
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let mut one = Replica::new();
    let id = one.read().default_agent;
    one.act(&Do::SetPolicy { integration: "files".into(), tool: "read".into(), policy: Some(Policy::Ask) }).unwrap();
    let heads = one.0.get_heads();
    one.set(&id, vec![AgentField::Name("Assistant".into()), AgentField::Tools(vec![]), AgentField::Thread(1)]);
    for command in [
        Do::Rename { name: "Home".into() },
        Do::SetDefaultAgent { agent: "assistant".into() },
        Do::SetDayLimit { limit: None },
        Do::SetIntegration { integration: "files".into(), enabled: true },
        Do::SetPolicy { integration: "files".into(), tool: "read".into(), policy: Some(Policy::Ask) },
        Do::SetPolicy { integration: "files".into(), tool: "write".into(), policy: None },
    ] {
        one.act(&command).unwrap();
    }
    assert_eq!(one.0.get_heads(), heads);
}

#[test]
fn a_removed_agent_goes_and_its_name_stays_whatever_was_set_meanwhile() {
    let mut one = Replica::new();
    let id = one.add(&agent("Writer"));
    let mut two = one.fork();
    one.act(&Do::RemoveAgent { agent: "Writer".into() }).unwrap();
    two.set("Writer", vec![AgentField::Name("Author".into())]);
    let merged = one.merge(&mut two);
    assert!(!merged.agents.contains_key(&id));
    assert_eq!(merged.name_of(&id), Some("Author"));
    assert!(matches!(one.act(&Do::RemoveAgent { agent: id }), Err(WorkspaceError::Unknown { .. })));
}

#[test]
fn there_is_a_default_agent_also_when_it_is_removed_while_it_is_made_the_default() {
    let mut one = Replica::new();
    let first = one.read().default_agent;
    let writer = one.add(&agent("Writer"));
    let refused = one.act(&Do::RemoveAgent { agent: first.clone() });
    assert_eq!(refused, Err(WorkspaceError::IsDefault("Assistant".into())));

    let mut two = one.fork();
    one.act(&Do::RemoveAgent { agent: writer.clone() }).unwrap();
    two.act(&Do::SetDefaultAgent { agent: writer }).unwrap();
    assert_eq!(one.merge(&mut two).default_agent, first);
}

#[test]
fn integrations_that_two_members_set_up_while_apart_are_joined_and_the_stricter_counts() {
    let set = |tool: &str, policy| Do::SetPolicy { integration: "files".into(), tool: tool.into(), policy };
    let enable = |enabled| Do::SetIntegration { integration: "files".into(), enabled };
    let mut one = Replica::new();
    let mut two = one.fork();
    one.act(&set("read", Some(Policy::Allow))).unwrap();
    assert!(one.read().integrations["files"].enabled, "nobody has switched it off");
    one.act(&set("write", Some(Policy::Allow))).unwrap();
    two.act(&enable(true)).unwrap();
    two.act(&set("write", Some(Policy::Deny))).unwrap();
    two.act(&set("*", Some(Policy::Once))).unwrap();
    let merged = one.merge(&mut two);
    let files = &merged.integrations["files"];
    assert!(files.enabled);
    assert_eq!(files.policy_of("read"), Some(Policy::Allow));
    assert_eq!(files.policy_of("write"), Some(Policy::Deny));
    assert_eq!(files.policy_of("other"), Some(Policy::Once));

    // What is changed from now on counts, wherever the two maps have kept the old value.
    one.act(&set("write", Some(Policy::Ask))).unwrap();
    two.act(&set("read", None)).unwrap();
    two.act(&set("*", None)).unwrap();
    let files = one.merge(&mut two).integrations["files"].clone();
    assert_eq!(files.policy, BTreeMap::from([("write".to_owned(), Policy::Ask)]));

    // Off beats on.
    two.act(&enable(false)).unwrap();
    assert!(!one.merge(&mut two).integrations["files"].enabled);
    one.act(&enable(true)).unwrap();
    assert!(one.merge(&mut two).integrations["files"].enabled);
}

#[test]
fn a_task_keeps_what_it_is_told_and_by_whom() {
    let mut one = Replica::new();
    let report = one.add(&action("Report", "Report on {{topic}} in {{words}} words"));
    let default = ActionField::Default("words".into(), Some("100".into()));
    one.act(&Do::SetAction { action: "Report".into(), fields: vec![default] }).unwrap();
    let values = BTreeMap::from([("topic".to_owned(), "rain".to_owned())]);
    let fields = vec![
        TaskField::Action("report".into(), values.clone()),
        TaskField::Agent(Some("Assistant".into())),
        TaskField::Cron(Some("0 9 * * 1-5".into())),
        TaskField::Tz(Some("Europe/Berlin".into())),
        TaskField::Retries(2),
        TaskField::Timeout(Some(600_000)),
        TaskField::SpendLimit(Some(Micros(500_000))),
    ];
    let id = one.add(&task("Morning", fields));
    let read = one.read();
    let morning = &read.tasks[&id];
    assert_eq!(morning.opening, Some(Opening::Action { action: report.clone(), values: values.clone() }));
    assert_eq!(morning.agent.as_ref(), Some(&read.default_agent));
    assert_eq!((morning.cron.as_deref(), morning.tz.as_deref()), (Some("0 9 * * 1-5"), Some("Europe/Berlin")));
    assert_eq!((morning.retries, morning.timeout, morning.paused), (2, Some(600_000), false));
    assert_eq!(read.actions[&report].render(&values).unwrap(), "Report on rain in 100 words");
    assert_eq!(one.act(&Do::RemoveAction { action: report }), Err(WorkspaceError::InUse("Morning".into())));

    one.act(&Do::SetTask { task: id.clone(), fields: vec![TaskField::Message("Just say hello".into())] }).unwrap();
    assert_eq!(one.read().tasks[&id].opening, Some(Opening::Message { message: "Just say hello".into() }));
    one.act(&Do::RemoveAction { action: "Report".into() }).unwrap();
    one.act(&Do::RemoveTask { task: "Morning".into() }).unwrap();
    assert_eq!((one.read().tasks.len(), one.read().name_of(&id)), (0, Some("Morning")));
    assert_eq!(one.read().faults, Vec::<String>::new());
}

#[test]
fn a_task_that_one_pauses_while_another_resumes_it_rests() {
    let mut one = Replica::new();
    one.add(&task("T", vec![TaskField::Message("x".into())]));
    let mut two = one.fork();
    let pause = |paused| Do::SetTask { task: "T".into(), fields: vec![TaskField::Paused(paused)] };
    one.act(&pause(true)).unwrap();
    two.act(&pause(true)).unwrap();
    two.act(&pause(false)).unwrap();
    assert!(one.merge(&mut two).task("T").unwrap().1.paused);
    two.act(&pause(false)).unwrap();
    assert!(!one.merge(&mut two).task("T").unwrap().1.paused);
}

#[test]
fn a_schedule_holds_since_it_was_set_or_resumed() {
    let mut one = Replica::new();
    let id = one.add(&task("T", vec![TaskField::Message("x".into())]));
    let mut at = NOW;
    let mut set = |one: &mut Replica, field| {
        at = at.plus_ms(1_000);
        one.act_at(at, &Do::SetTask { task: "T".into(), fields: vec![field] }).unwrap();
        one.read().tasks[&id].since
    };
    assert_eq!(set(&mut one, TaskField::Retries(1)), None, "it runs by hand");
    let first = set(&mut one, TaskField::Cron(Some("0 9 * * *".into())));
    assert_eq!(first, Some(NOW.plus_ms(2_000)));
    assert_eq!(set(&mut one, TaskField::Retries(3)), first, "what changes nothing about the schedule leaves it");
    assert_eq!(set(&mut one, TaskField::Paused(true)), first);
    assert_eq!(set(&mut one, TaskField::Paused(false)), Some(NOW.plus_ms(5_000)));
    assert_eq!(set(&mut one, TaskField::Tz(Some("Europe/Berlin".into()))), Some(NOW.plus_ms(6_000)));
    assert_eq!(set(&mut one, TaskField::Cron(None)), None);
}

#[test]
fn of_conflicting_limits_the_lower_counts() {
    let mut one = Replica::new();
    let mut two = one.fork();
    one.act(&Do::SetDayLimit { limit: Some(Micros(1_000_000)) }).unwrap();
    two.act(&Do::SetDayLimit { limit: Some(Micros(9_000_000)) }).unwrap();
    assert_eq!(one.merge(&mut two).day_limit, Some(Micros(1_000_000)));
    two.act(&Do::SetDayLimit { limit: None }).unwrap();
    assert_eq!(one.merge(&mut two).day_limit, None);
}

#[test]
fn what_cannot_be_done_says_why_and_writes_nothing() {
    let mut one = Replica::new();
    one.add(&agent("Writer"));
    one.add(&action("Ask", "About {{topic}}"));
    one.add(&task("T", vec![TaskField::Message("x".into())]));
    let set = |field| Do::SetAgent { agent: "Writer".into(), fields: vec![field] };
    let set_task = |field| Do::SetTask { task: "T".into(), fields: vec![field] };
    let long = "x".repeat((1 << 20) + 1);
    let heads = one.0.get_heads();
    for (command, why) in [
        (agent(""), "nothing in it"),
        (agent("a\nb"), "control characters"),
        (agent(&long), "1 to 200 characters"),
        (agent("Writer"), "already another agent"),
        (set(AgentField::Name("Assistant".into())), "already another agent"),
        (set(AgentField::Model(Some("claude".into()))), "PROVIDER/MODEL"),
        (set(AgentField::Model(Some("a b/c".into()))), "PROVIDER/MODEL"),
        (set(AgentField::Temperature(Some(2.1))), "the temperature is 0 to 2, not 2.1"),
        (set(AgentField::Temperature(Some(f64::NAN))), "the temperature is 0 to 2, not NaN"),
        (set(AgentField::StepLimit(Some(0))), "the step limit is 1 to 10000, not 0"),
        (set(AgentField::Thinking(Some(u64::MAX))), "the thinking budget is 0 to 1000000"),
        (set(AgentField::SpendLimit(Some(Micros(u64::MAX)))), "a spend limit is $0 to $1000000"),
        (set(AgentField::Thread(8)), "1 to 7"),
        (set(AgentField::Instructions(long.clone())), "too long"),
        (set(AgentField::Tools(vec!["a".into(), String::new()])), "nothing in it"),
        (Do::SetAgent { agent: "nobody".into(), fields: vec![] }, "there is no agent \"nobody\""),
        (Do::SetDefaultAgent { agent: String::new() }, "there is no agent"),
        (action("Ask", "x"), "already another action"),
        (action("Empty", " \n"), "the template is empty"),
        (
            Do::SetAction { action: "Ask".into(), fields: vec![ActionField::Default("x".into(), Some("1".into()))] },
            "{{x}}",
        ),
        (Do::SetAction { action: "Ask".into(), fields: vec![ActionField::Default("a b".into(), None)] }, "placeholder"),
        (task("None", vec![]), "a task needs a message or an action"),
        (task("T", vec![TaskField::Message("x".into())]), "already another task"),
        (set_task(TaskField::Action("Ask".into(), BTreeMap::new())), "nothing is given for \"topic\""),
        (set_task(TaskField::Action("Tell".into(), BTreeMap::new())), "there is no action"),
        (set_task(TaskField::Agent(Some("nobody".into()))), "there is no agent"),
        (set_task(TaskField::Cron(Some("every day".into()))), "no schedule"),
        (set_task(TaskField::Cron(Some("0 0 31 2 *".into()))), "never comes"),
        (set_task(TaskField::Tz(Some("Mars/Olympus".into()))), "no time zone"),
        (set_task(TaskField::Retries(11)), "0 to 10"),
        (set_task(TaskField::Timeout(Some(1))), "1000 to"),
        (Do::SetIntegration { integration: String::new(), enabled: true }, "nothing in it"),
        (Do::SetPolicy { integration: "files".into(), tool: "a\tb".into(), policy: None }, "control characters"),
        (Do::Rename { name: " ".into() }, "nothing in it"),
    ] {
        let error = one.act(&command).unwrap_err().to_string();
        assert!(error.contains(why), "{command:?}: {error}");
        assert!(error.len() < 600, "one sentence: {error}");
    }
    assert_eq!(one.0.get_heads(), heads);
}

#[test]
fn what_foreign_clients_write_is_read_and_what_is_unknown_survives() {
    let mut one = Replica::new();
    one.write(|tx| {
        tx.put(ROOT, "schema", 9_i64).unwrap();
        tx.put(ROOT, "newer", "kept").unwrap();
    });
    let agents = one.object(&["agents"]);
    one.write(|tx| {
        let agent = tx.put_object(&agents, "foreign", ObjType::Map).unwrap();
        // As a plain JavaScript assignment leaves it: text objects, numbers without a kind.
        let name = tx.put_object(&agent, "name", ObjType::Text).unwrap();
        tx.splice_text(&name, 0, 0, "Foreign").unwrap();
        tx.put(&agent, "temperature", 1_i64).unwrap();
        tx.put(&agent, "stepLimit", ScalarValue::F64(5.0)).unwrap();
        let tools = tx.put_object(&agent, "tools", ObjType::List).unwrap();
        let tool = tx.insert_object(&tools, 0, ObjType::Text).unwrap();
        tx.splice_text(&tool, 0, 0, "fetch").unwrap();
        tx.put(&agent, "model", 7_i64).unwrap();
        tx.put(&agent, "mood", "sunny").unwrap();
        tx.put(&agents, "broken", true).unwrap();
    });
    one.write(|tx| {
        let integrations = tx.get(ROOT, "integrations").unwrap().unwrap().1;
        let files = tx.put_object(&integrations, "files", ObjType::Map).unwrap();
        tx.put(&files, "enabled", "yes").unwrap();
        let policy = tx.put_object(&files, "policy", ObjType::Map).unwrap();
        tx.put(&policy, "read", "sometimes").unwrap();
        let tasks = tx.get(ROOT, "tasks").unwrap().unwrap().1;
        let task = tx.put_object(&tasks, "t", ObjType::Map).unwrap();
        tx.put(&task, "paused", "maybe").unwrap();
        tx.put(&task, "overlap", "explode").unwrap();
    });
    let read = one.read();
    let agent = &read.agents["foreign"];
    assert_eq!((agent.name.as_str(), agent.temperature, agent.step_limit), ("Foreign", Some(1.0), Some(5)));
    assert_eq!((agent.tools.as_slice(), agent.model.as_deref()), (&["fetch".to_owned()][..], None));
    assert_eq!(read.integrations["files"].policy_of("read"), Some(Policy::Ask), "what can't be understood asks");
    assert!(!read.integrations["files"].enabled);
    assert!(read.tasks["t"].paused, "what can't be understood starts nothing");
    assert_eq!(
        read.faults,
        [
            "agents[\"broken\"] is not a map",
            "agents[\"foreign\"].model is not a string",
            "tasks[\"t\"].overlap is not understood",
            "tasks[\"t\"].paused is not true or false",
            "integrations[\"files\"].enabled is not true or false",
            "integrations[\"files\"].policy[\"read\"] is not understood",
        ]
    );

    one.set("foreign", vec![AgentField::Tools(vec!["fetch".into(), "run".into()]), AgentField::Name("Ours".into())]);
    let foreign = one.object(&["agents", "foreign"]);
    let text = |object: &ObjId, key: &str| one.0.get(object, key).unwrap().unwrap().0.as_str().map(str::to_owned);
    assert_eq!(text(&foreign, "mood").as_deref(), Some("sunny"));
    assert_eq!(text(&ROOT, "newer").as_deref(), Some("kept"));
    assert_eq!(one.read().agents["foreign"].tools, ["fetch", "run"]);
}

#[test]
fn a_document_without_its_containers_can_still_be_written_to() {
    let mut one = Replica(Automerge::new());
    one.write(|tx| tx.put(ROOT, "kind", "workspace").unwrap());
    let mut two = one.fork();
    one.add(&agent("A"));
    two.add(&agent("B"));
    let merged = one.merge(&mut two);
    assert_eq!(merged.agents.len(), 2, "both containers are read: {merged:?}");
    let (a, b) = (merged.agent("A").unwrap().0, merged.agent("B").unwrap().0);
    for id in [a, b] {
        one.set(id, vec![AgentField::Thinking(Some(7))]);
    }
    assert!(one.read().agents.values().all(|agent| agent.thinking == Some(7)));

    let mut none = Replica(Automerge::new());
    assert_eq!(none.act(&agent("A")), Err(WorkspaceError::NotAWorkspace));
}

#[test]
fn a_viewer_is_refused_at_once_and_a_device_without_the_document_says_so() {
    let device = |role| {
        let identity = Welcome { workspace: "w".into(), role, ..Welcome::unbound("m") };
        Device::new(DeviceConfig { peer: PeerId::from("p"), identity: Some(identity), keeps: Keeps::Opened })
    };
    let refused = device(MemberRole::Viewer).workspace_command(NOW, &agent("A")).unwrap_err();
    assert_eq!(refused, DeviceError::ReadOnly);
    let absent = device(MemberRole::Member).workspace_command(NOW, &agent("A")).unwrap_err();
    assert_eq!(absent, DeviceError::Workspace(WorkspaceError::NotHere));
}

// --- Random histories ---------------------------------------------------------------------------------------------

/// A step of one of the devices: a command on whatever stands there, or a merge with another.
#[derive(Clone, Debug)]
enum Step {
    Act(usize, u8, u8, u8),
    Merge(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(who, a, b, c)| Step::Act(who, a, b, c)),
        1 => (0..3_usize, 0..3_usize).prop_map(|(one, two)| Step::Merge(one, two)),
    ]
}

/// A command chosen by three bytes.
fn command(seen: &Workspace, kind: u8, which: u8, value: u8) -> Do {
    let pick = |ids: Vec<String>| ids.get(usize::from(which) % ids.len().max(1)).cloned().unwrap_or_default();
    let agent = pick(seen.agents.keys().cloned().collect());
    let action = pick(seen.actions.keys().cloned().collect());
    let task = pick(seen.tasks.keys().cloned().collect());
    let integration = ["files", "mail"][usize::from(which) % 2].to_owned();
    let word = format!("n{}", value % 8);
    let policy = [None, Some(Policy::Allow), Some(Policy::Once), Some(Policy::Ask), Some(Policy::Deny)];
    let (number, on) = (u64::from(value), value.is_multiple_of(2));
    match kind % 16 {
        0 => self::agent(&word),
        1 => Do::SetAgent { agent, fields: vec![AgentField::Name(word)] },
        2 => Do::SetAgent { agent, fields: vec![AgentField::Tools(vec![word, format!("n{}", which % 8)])] },
        3 => Do::SetAgent { agent, fields: vec![AgentField::Temperature(Some(f64::from(value % 21) / 10.0))] },
        4 => Do::SetAgent { agent, fields: vec![AgentField::SpendLimit(on.then_some(Micros(number)))] },
        5 => Do::SetDefaultAgent { agent },
        6 => Do::RemoveAgent { agent },
        7 => self::action(&word, "{{a}} {{b}}"),
        8 => {
            let text = on.then(|| word.clone());
            let field = if which.is_multiple_of(2) {
                ActionField::Default("a".into(), text)
            } else {
                ActionField::Description("a".into(), text)
            };
            Do::SetAction { action, fields: vec![field] }
        }
        9 => Do::RemoveAction { action },
        10 => Do::SetIntegration { integration, enabled: on },
        11 => Do::SetPolicy { integration, tool: word, policy: policy[usize::from(value) % 5] },
        12 => self::task(&word, vec![TaskField::Message(word.clone())]),
        13 => Do::SetTask { task, fields: vec![TaskField::Paused(on)] },
        14 => {
            let values = BTreeMap::from([("a".to_owned(), word.clone()), ("b".to_owned(), word)]);
            Do::SetTask { task, fields: vec![TaskField::Action(action, values)] }
        }
        _ => Do::RemoveTask { task },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn replicas_that_have_met_read_the_same_and_can_be_read(steps in prop::collection::vec(step(), 1..40)) {
        let first = Replica::new();
        let mut replicas = [first.fork(), first.fork(), first.fork()];
        for step in steps {
            match step {
                Step::Act(who, kind, which, value) => {
                    let before = replicas[who].read();
                    let command = command(&before, kind, which, value);
                    if replicas[who].act(&command).is_ok()
                        && let Do::SetPolicy { integration, tool, policy } = &command
                    {
                        // Whatever conflicts, what is said last, having seen it all, counts.
                        let after = replicas[who].read();
                        let standing = after.integrations.get(integration).and_then(|one| one.policy.get(tool));
                        prop_assert_eq!(standing, policy.as_ref());
                    }
                }
                Step::Merge(one, two) if one != two => {
                    let mut other = replicas[two].0.fork();
                    replicas[one].0.merge(&mut other).unwrap();
                }
                Step::Merge(..) => {}
            }
        }
        let [one, two, three] = &mut replicas;
        one.merge(two);
        one.merge(three);
        let read = one.merge(two);
        prop_assert_eq!(&read, &three.read());
        prop_assert_eq!(&read.faults, &Vec::<String>::new());
        prop_assert!(read.agents.contains_key(&read.default_agent) || read.agents.is_empty());
        // Stored and loaded it is the same.
        let loaded = Automerge::load(&one.0.save()).unwrap();
        prop_assert_eq!(&read, &workspace(&loaded));
    }

    #[test]
    fn templates_of_any_text_are_filled_in_or_say_what_is_missing(template in "[a-c{}\\\\ ]{0,40}", value in "[{}a\\\\]{0,6}") {
        let action = skein_engine::workspace::Action { template: template.clone(), ..Default::default() };
        let names: Vec<String> = action.placeholders().iter().map(|name| (*name).to_owned()).collect();
        let values: BTreeMap<String, String> = names.iter().map(|name| (name.clone(), value.clone())).collect();
        let text = action.render(&values).unwrap();
        if names.is_empty() && !template.contains('\\') {
            prop_assert_eq!(text, template);
        } else if !names.is_empty() {
            prop_assert!(action.render(&BTreeMap::new()).is_err());
        }
    }
}
