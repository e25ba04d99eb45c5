//! `skein compare ID ID`: two sessions side by side, from this device's documents: what each cost, and where they part.

use clap::Args;
use serde::Serialize;
use skein_engine::device::DeviceError;
use skein_engine::ids::{DocumentId, Micros};
use skein_engine::session::conversation::{Content, Conversation, ShownMessage};
use skein_engine::session::model::{Role, Usage};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{cost, duration, json, out, plain, table};
use crate::replica::on_replica;
use crate::session::transcript::one_line;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    place: Place,
    /// A session.
    one: String,
    /// The other one.
    other: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// One side.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Side {
    id: DocumentId,
    name: String,
    models: Vec<String>,
    messages: usize,
    turns: usize,
    tool_calls: usize,
    usage: Usage,
    cost_micros: Micros,
    incomplete: bool,
    duration_ms: u64,
    /// What follows the common beginning.
    after: Vec<Said>,
}

#[derive(Debug, Serialize)]
struct Said {
    role: Role,
    text: String,
}

#[derive(Debug, Serialize)]
struct Compared {
    /// Messages that both begin with.
    common: usize,
    sides: [Side; 2],
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: CompareArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, &arguments).await).await
}

async fn command(opened: &Opened, arguments: &CompareArgs) -> Result<(), Failure> {
    let one = read(opened, &arguments.one).await?;
    let other = read(opened, &arguments.other).await?;
    let compared = compare(one, other);
    if arguments.json {
        return json(&compared);
    }
    let [one, other] = &compared.sides;
    let mut rows = vec![vec![String::new(), one_line(&one.name), one_line(&other.name)]];
    let mut row = |what: &str, of: &dyn Fn(&Side) -> String| rows.push(vec![what.into(), of(one), of(other)]);
    row("models", &|side| side.models.join(", "));
    row("messages", &|side| side.messages.to_string());
    row("turns", &|side| side.turns.to_string());
    row("tool calls", &|side| side.tool_calls.to_string());
    row("tokens in", &|side| {
        let usage = side.usage;
        (usage.input + usage.cache_read + usage.cache_write + usage.cache_write_long).to_string()
    });
    row("tokens out", &|side| (side.usage.output + side.usage.reasoning).to_string());
    row("cost", &|side| {
        let unknown = if side.incomplete { " + unknown" } else { "" };
        format!("{}{unknown}", cost(Some(side.cost_micros), false))
    });
    row("time", &|side| duration(side.duration_ms));
    let mut text = table(&rows);
    text.push_str(&format!("\nBoth begin with {} messages.\n", compared.common));
    for side in &compared.sides {
        text.push_str(&format!("\n{}:\n", plain(&one_line(&side.name))));
        for said in &side.after {
            let who = if said.role == Role::User { "person" } else { "agent" };
            text.push_str(&format!("  {who}: {}\n", plain(&one_line(&said.text))));
        }
    }
    out(&text)
}

async fn read(opened: &Opened, given: &str) -> Result<(DocumentId, String, Conversation), Failure> {
    let id = opened.session(given).await?;
    opened.client.read(|device, now| {
        let conversation = device.conversation(now, id)?;
        let name = device.summary(now, id).ok_or(DeviceError::NotHere(id))?.name;
        Ok((id, name, conversation))
    })
}

fn compare(one: (DocumentId, String, Conversation), other: (DocumentId, String, Conversation)) -> Compared {
    let texts =
        |seen: &Conversation| seen.messages.iter().map(|message| (message.role, words(message))).collect::<Vec<_>>();
    let (first, second) = (texts(&one.2), texts(&other.2));
    let common = std::iter::zip(&first, &second).take_while(|(one, other)| one == other).count();
    let side = |(id, name, seen): (DocumentId, String, Conversation), texts: Vec<(Role, String)>| {
        let mut models: Vec<String> = seen.turns.iter().filter_map(|turn| turn.model.clone()).collect();
        models.sort();
        models.dedup();
        let calls = seen.messages.iter().flat_map(|message| &message.parts);
        let after = texts.into_iter().skip(common).map(|(role, text)| Said { role, text });
        // What a copy shows of its parent is part of the comparison, though it is not counted again.
        let usage = seen.turns.iter().fold(Usage::default(), |mut sum, turn| {
            sum += turn.usage;
            sum
        });
        let micros =
            seen.turns.iter().filter_map(|turn| turn.cost_micros).fold(0_u64, |sum, cost| sum.saturating_add(cost.0));
        Side {
            id,
            name,
            models,
            messages: seen.messages.len(),
            turns: seen.turns.len(),
            tool_calls: calls.filter(|part| matches!(part.content, Content::ToolCall { .. })).count(),
            usage,
            cost_micros: Micros(micros),
            incomplete: seen.turns.iter().any(|turn| turn.cost_micros.is_none() && turn.usage.total() > 0),
            duration_ms: seen.turns.iter().filter_map(|turn| Some(turn.ended_at?.ms_since(turn.started_at?))).sum(),
            after: after.collect(),
        }
    };
    Compared { common, sides: [side(one, first), side(other, second)] }
}

fn words(message: &ShownMessage) -> String {
    let texts = message.parts.iter().filter_map(|part| match &part.content {
        Content::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}
