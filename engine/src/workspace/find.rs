//! What a person means by an id or a name.

use std::collections::BTreeMap;

use super::command::WorkspaceError;
use super::{Action, Agent, Task, Workspace};

/// What can be called by its name.
trait Named {
    fn name(&self) -> &str;
}

impl Named for Agent {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Action {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Task {
    fn name(&self) -> &str {
        &self.name
    }
}

/// By id; else by name, letter by letter; else by name in whatever case.
fn find<'a, T: Named>(
    what: &'static str,
    all: &'a BTreeMap<String, T>,
    given: &str,
) -> Result<(&'a str, &'a T), WorkspaceError> {
    if let Some((id, found)) = all.get_key_value(given) {
        return Ok((id, found));
    }
    let given = given.trim();
    let lower = given.to_lowercase();
    let exact = |one: &T| one.name() == given;
    let loose = |one: &T| one.name().to_lowercase() == lower;
    for fits in [&exact as &dyn Fn(&T) -> bool, &loose] {
        let mut found = all.iter().filter(|(_, one)| fits(one));
        match (found.next(), found.next()) {
            (None, _) => {}
            (Some((id, found)), None) => return Ok((id, found)),
            (Some(_), Some(_)) => {
                let ids = all.iter().filter(|(_, one)| fits(one)).map(|(id, _)| id.clone()).collect();
                return Err(WorkspaceError::Ambiguous { what, given: shortened(given), ids });
            }
        }
    }
    let known = all.values().map(|one| one.name().to_owned()).collect();
    Err(WorkspaceError::Unknown { what, given: shortened(given), known })
}

/// As much of it as an error needs.
fn shortened(given: &str) -> String {
    given.chars().take(200).collect()
}

impl Workspace {
    /// The agent of an id or a name.
    pub fn agent(&self, given: &str) -> Result<(&str, &Agent), WorkspaceError> {
        find("agent", &self.agents, given)
    }

    /// The action of an id or a name.
    pub fn action(&self, given: &str) -> Result<(&str, &Action), WorkspaceError> {
        find("action", &self.actions, given)
    }

    /// The task of an id or a name.
    pub fn task(&self, given: &str) -> Result<(&str, &Task), WorkspaceError> {
        find("task", &self.tasks, given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(agents: &[(&str, &str)]) -> Workspace {
        let agent = |name: &str| Agent { name: name.into(), ..Agent::default() };
        let agents = agents.iter().map(|(id, name)| ((*id).to_owned(), agent(name))).collect();
        Workspace { agents, ..Workspace::default() }
    }

    #[test]
    fn an_id_goes_before_a_name_and_an_exact_name_before_a_loose_one() {
        let workspace = workspace(&[("1", "Writer"), ("2", "writer"), ("3", "1")]);
        let id = |given: &str| workspace.agent(given).map(|(id, _)| id.to_owned());
        assert_eq!(id("1").as_deref(), Ok("1"));
        assert_eq!(id("writer").as_deref(), Ok("2"));
        assert_eq!(id("Writer").as_deref(), Ok("1"));
        let both =
            WorkspaceError::Ambiguous { what: "agent", given: "WRITER".into(), ids: vec!["1".into(), "2".into()] };
        assert_eq!(id("WRITER"), Err(both));
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_known() {
        let error = workspace(&[("1", "Writer")]).agent("nobody").unwrap_err().to_string();
        assert_eq!(error, "there is no agent \"nobody\" (known: Writer)");
        let error = workspace(&[]).agent("x").unwrap_err().to_string();
        assert_eq!(error, "there is no agent \"x\" (known: none)");
    }
}
