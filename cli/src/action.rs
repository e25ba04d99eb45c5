//! `skein action …`: messages that are used again and again.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use skein_engine::session::command::{Draft, NewSession};
use skein_engine::workspace::action::{ActionField, Kind};
use skein_engine::workspace::{Action, Workspace, WorkspaceCommand};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, json, line, out, plain, table};
use crate::replica::on_replica;
use crate::session::transcript::one_line;
use crate::session::{begin, send};
use crate::value::pair;

#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    action: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List actions.
    List {
        /// Print a list of actions as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an action and its placeholders.
    Show {
        /// Its id or name.
        action: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add an action; prints its id.
    Add {
        /// 1 to 200 characters, no other action's.
        name: String,
        /// The message, with placeholders such as {{topic}}.
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        template: String,
        #[command(flatten)]
        params: Params,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Change an action.
    Set {
        /// Its id or name.
        action: String,
        /// Another name.
        #[arg(long, value_name = "N")]
        name: Option<String>,
        /// Another message.
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        template: Option<String>,
        #[command(flatten)]
        params: Params,
    },
    /// Send the filled-in message: in a new session, whose id it prints, or in one that stands.
    Run {
        /// The action, by id or name.
        action: String,
        /// In this session; prints the message's id.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// What a placeholder is filled with.
        #[arg(long, value_name = "K=V", value_parser = pair)]
        set: Vec<(String, String)>,
        /// Print {"session": …, "message": …}; `message` is null for a new session.
        #[arg(long)]
        json: bool,
    },
    /// Remove an action that no task uses.
    Remove {
        /// Its id or name.
        action: String,
    },
}

#[derive(Debug, Args)]
struct Params {
    /// What stands for a placeholder when nothing is given; "" takes the default away.
    #[arg(long, value_name = "K=V", value_parser = pair)]
    default: Vec<(String, String)>,
    /// What a placeholder means; "" takes the description away.
    #[arg(long, value_name = "K=TEXT", value_parser = pair)]
    describe: Vec<(String, String)>,
    /// What a placeholder may be filled with: text, number, or a choice such as dry|warm.
    #[arg(long = "type", value_name = "K=TYPE", value_parser = pair)]
    types: Vec<(String, String)>,
}

impl Params {
    fn changes(self) -> impl Iterator<Item = ActionField> {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let defaults = self.default.into_iter().map(move |(key, value)| ActionField::Default(key, text(value)));
        let types = self.types.into_iter().map(|(key, word)| match &*word {
            "text" => ActionField::Type(key, Kind::Text, Vec::new()),
            "number" => ActionField::Type(key, Kind::Number, Vec::new()),
            choices => ActionField::Type(key, Kind::Choice, choices.split('|').map(|one| one.trim().into()).collect()),
        });
        let described = self.describe.into_iter().map(move |(key, value)| ActionField::Description(key, text(value)));
        defaults.chain(described).chain(types)
    }
}

/// A message that an action gave.
pub(crate) struct Filled {
    pub(crate) action: String,
    pub(crate) text: String,
}

impl Filled {
    pub(crate) fn of(workspace: &Workspace, action: &str, set: Vec<(String, String)>) -> Result<Self, Failure> {
        let (id, action) = workspace.action(action)?;
        let text = action.render(&once(set)?).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { action: id.to_owned(), text })
    }
}

/// Values by name, each given once.
pub(crate) fn once(set: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for (key, value) in set {
        if values.contains_key(&key) {
            return Err(Failure::usage(format!("\"{key}\" is set twice")));
        }
        values.insert(key, value);
    }
    Ok(values)
}

/// An action as JSON.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(flatten)]
    action: &'a Action,
    placeholders: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn of(id: &'a str, action: &'a Action) -> Self {
        Self { id, action, placeholders: action.placeholders() }
    }
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: ActionArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, arguments.action).await).await
}

async fn command(opened: &Opened, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { json } => list(&opened.workspace().await, json),
        Command::Show { action, json } => show(&opened.workspace().await, &action, json),
        Command::Add { name, template, params, json } => {
            let fields = params.changes().collect();
            Made::of(opened.change(WorkspaceCommand::AddAction { name, template, fields }).await?).print(json)
        }
        Command::Set { action, name, template, params } => {
            let fields = name.map(ActionField::Name).into_iter().chain(template.map(ActionField::Template));
            let fields = fields.chain(params.changes()).collect();
            opened.change(WorkspaceCommand::SetAction { action, fields }).await.map(drop)
        }
        Command::Run { action, session, set, json } => execute(opened, &action, session, set, json).await,
        Command::Remove { action } => opened.change(WorkspaceCommand::RemoveAction { action }).await.map(drop),
    }
}

async fn execute(
    opened: &Opened,
    action: &str,
    session: Option<String>,
    set: Vec<(String, String)>,
    as_json: bool,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Ran {
        session: String,
        message: Option<String>,
    }
    let filled = Filled::of(&opened.workspace().await, action, set)?;
    let (text, action) = (filled.text, Some(filled.action));
    let ran = match session {
        Some(session) => {
            let message = send(opened, &session, Draft { text, action, ..Draft::default() }).await?;
            Ran { session, message }
        }
        None => {
            let new = NewSession { message: Some(text), action, ..NewSession::default() };
            Ran { session: begin(opened, new).await?.to_string(), message: None }
        }
    };
    if as_json { json(&ran) } else { line(ran.message.as_ref().unwrap_or(&ran.session)) }
}

fn list(workspace: &Workspace, as_json: bool) -> Result<(), Failure> {
    let rows = workspace.actions.iter().map(|(id, action)| Row::of(id, action));
    if as_json {
        return json(&rows.collect::<Vec<_>>());
    }
    let cells = rows.map(|row| vec![one_line(&row.action.name), row.placeholders.join(","), row.id.to_owned()]);
    out(&table(&cells.collect::<Vec<_>>()))
}

fn show(workspace: &Workspace, given: &str, as_json: bool) -> Result<(), Failure> {
    let (id, action) = workspace.action(given)?;
    let row = Row::of(id, action);
    if as_json {
        return json(&row);
    }
    let mut cells = vec![vec!["name".to_owned(), one_line(&action.name)], vec!["id".to_owned(), id.to_owned()]];
    for name in row.placeholders {
        let param = action.params.get(name).cloned().unwrap_or_default();
        let default = param.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        let kind = match param.kind {
            Kind::Text => String::new(),
            Kind::Number => " (a number)".into(),
            Kind::Choice => format!(" ({})", param.choices.join(" | ")),
        };
        let about = format!("{}{kind}{default}", param.description.unwrap_or_default());
        cells.push(vec![format!("{{{{{name}}}}}"), one_line(&about)]);
    }
    out(&format!("{}\n{}\n", table(&cells), plain(action.template.trim_end())))
}
