//! What a run of a task begins with: the session that a worker, or a person's device, makes for it. A pure function of
//! the workspace document and the run.

use std::collections::BTreeMap;

use super::action::RenderError;
use super::task::Opening;
use super::{Task, Workspace};
use crate::session::command::NewSession;
use crate::session::model::Origin;

/// Characters of a session's name.
const MAX_NAME: usize = 200;

/// One run of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskRun<'a> {
    /// The task's id.
    pub task: &'a str,
    /// The run's.
    pub run: &'a str,
    /// When it was due, as its session's name says it: `2026-11-25 09:00`.
    pub when: &'a str,
    /// For placeholders of the task's action, before the task's own values.
    pub values: &'a BTreeMap<String, String>,
}

/// Why a run has no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It has neither message nor action.
    #[error("The task says nothing: give it a message or an action.")]
    Nothing,
    /// It names an action that isn't there any more.
    #[error("The task's action was removed.")]
    NoAction,
    /// The action can't be filled in.
    #[error("The task's action can't be filled in: {0}.")]
    Render(#[from] RenderError),
    /// Values came for a task that has its own words.
    #[error("Values were given, but the task has no action with placeholders.")]
    NoPlaceholders,
}

impl Task {
    /// The session of one run. An agent that was removed leaves it to the workspace's default one.
    pub fn session(&self, workspace: &Workspace, run: TaskRun<'_>) -> Result<NewSession, OpeningError> {
        let (message, action) = match &self.opening {
            None => return Err(OpeningError::Nothing),
            Some(Opening::Message { .. }) if !run.values.is_empty() => return Err(OpeningError::NoPlaceholders),
            Some(Opening::Message { message }) => (message.clone(), None),
            Some(Opening::Action { action, values }) => {
                let found = workspace.actions.get(action).ok_or(OpeningError::NoAction)?;
                let mut values = values.clone();
                values.extend(run.values.clone());
                (found.render(&values)?, Some(action.clone()))
            }
        };
        let agent = self.agent.clone().filter(|agent| workspace.agents.contains_key(agent));
        let default = Some(workspace.default_agent.clone()).filter(|agent| !agent.is_empty());
        Ok(NewSession {
            name: Some(format!("{}, {}", self.name, run.when).chars().take(MAX_NAME).collect()),
            agent: agent.or(default),
            message: Some(message),
            action,
            origin: Some(Origin::Task { task: run.task.to_owned(), run: run.run.to_owned() }),
            ..NewSession::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Action, Agent};

    fn run(values: &BTreeMap<String, String>) -> TaskRun<'_> {
        TaskRun { task: "t", run: "r", when: "2026-11-25 09:00", values }
    }

    #[test]
    fn a_run_is_named_by_its_task_and_its_time_and_begins_with_the_tasks_agent() {
        let message = Opening::Message { message: "Say hello.".into() };
        let agent = Some("gone".to_owned());
        let mut task = Task { name: "Hello".into(), opening: Some(message), agent, ..Task::default() };
        let mut workspace = Workspace { default_agent: "default".into(), ..Workspace::default() };
        let none = BTreeMap::new();
        let new = task.session(&workspace, run(&none)).unwrap();
        assert_eq!(new.name.as_deref(), Some("Hello, 2026-11-25 09:00"));
        assert_eq!(new.agent.as_deref(), Some("default"), "its agent was removed");
        assert_eq!(new.origin, Some(Origin::Task { task: "t".into(), run: "r".into() }));
        workspace.agents.insert("gone".into(), Agent::default());
        assert_eq!(task.session(&workspace, run(&none)).unwrap().agent.as_deref(), Some("gone"));
        task.name = "long ".repeat(60);
        assert_eq!(task.session(&workspace, run(&none)).unwrap().name.map(|name| name.chars().count()), Some(MAX_NAME));
    }

    #[test]
    fn an_action_takes_a_runs_values_and_says_what_is_missing() {
        let mut workspace = Workspace::default();
        let action =
            Action { name: "Sum".into(), template: "Sum up {{text}} in {{words}}".into(), ..Action::default() };
        workspace.actions.insert("a".into(), action);
        let own = BTreeMap::from([("text".to_owned(), "nothing".to_owned()), ("words".to_owned(), "9".to_owned())]);
        let opening = Opening::Action { action: "a".into(), values: own };
        let mut task = Task { name: "News".into(), opening: Some(opening), ..Task::default() };
        let given = BTreeMap::from([("text".to_owned(), "this".to_owned())]);
        assert_eq!(task.session(&workspace, run(&given)).unwrap().message.as_deref(), Some("Sum up this in 9"));
        workspace.actions.get_mut("a").unwrap().template = "Sum up {{text}} for {{whom}}".into();
        let error = task.session(&workspace, run(&given)).unwrap_err();
        assert!(error.to_string().contains("\"words\""), "a value without a placeholder: {error}");
        workspace.actions.clear();
        assert_eq!(task.session(&workspace, run(&given)).unwrap_err(), OpeningError::NoAction);
        task.opening = Some(Opening::Message { message: "Hello".into() });
        assert_eq!(task.session(&workspace, run(&given)).unwrap_err(), OpeningError::NoPlaceholders);
    }
}
