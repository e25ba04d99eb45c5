//! The core tools: which of them are on, by the operator's word, and in which workspace.
//!
//! Reading in a session's own folder, planning and fetching (which asks) are on without a word; what writes or executes
//! is off unless `[tools] enabled` names it, and only in a workspace that `[tools] workspaces` names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use skein_engine::ids::DocumentId;
use skein_engine::workspace::Workspace;

use super::address::Reach;
use super::fetch::Fetch;
use super::files::OnFiles;
use super::folder::{Folder, Folders};
use super::plan::Plan;
use super::registry::For;
#[cfg(target_os = "linux")]
use super::sandbox::Sandbox;
use super::{Tool, Toolbox, list, read, search, write};
use crate::config::Settings;

/// Tools that are on without a word of the operator.
pub const ALWAYS: [&str; 5] = ["read_file", "list_files", "search_files", "plan", "fetch_url"];
/// Tools that write or execute: on where the operator says so.
pub const LISTED: [&str; 3] = ["write_file", "edit_file", "run"];

/// See the module.
#[derive(Debug, Default)]
pub struct Core {
    /// Names of those that are on.
    on: Vec<&'static str>,
    /// Names and ids of workspaces in which [`LISTED`] tools may be used.
    workspaces: Vec<String>,
    folders: Folders,
    fetch: Option<Arc<Fetch>>,
    #[cfg(target_os = "linux")]
    sandbox: Option<Sandbox>,
    /// Names that agents list and nobody knows: said once.
    unknown: Mutex<BTreeSet<String>>,
}

impl Core {
    /// What the operator allows.
    pub fn new(settings: &Settings) -> Self {
        let tools = &settings.tools;
        let listed = LISTED.into_iter().filter(|name| tools.enabled.iter().any(|enabled| enabled == name));
        let mut on: Vec<_> = ALWAYS.into_iter().chain(listed).collect();
        if tools.workspaces.is_empty() && on.len() > ALWAYS.len() {
            tracing::warn!("tools.workspaces names no workspace: the tools in tools.enabled are not used in any");
        }
        #[cfg(target_os = "linux")]
        let sandbox = on.contains(&"run").then(sandbox).flatten();
        #[cfg(target_os = "linux")]
        let confined = sandbox.is_some();
        #[cfg(not(target_os = "linux"))]
        let confined = false;
        if !confined {
            on.retain(|name| *name != "run");
        }
        let folders = Folders::new(settings.worker.folder());
        let reach = Reach { private: tools.private_addresses };
        let fetch = Some(Arc::new(Fetch::new(tools.fetch_hosts.clone(), reach)));
        Self {
            on,
            workspaces: tools.workspaces.clone(),
            folders,
            fetch,
            #[cfg(target_os = "linux")]
            sandbox,
            unknown: Mutex::default(),
        }
    }

    /// Names of those that are on in a workspace.
    pub fn on(&self, workspace: &Workspace, id: Option<DocumentId>) -> impl Iterator<Item = &'static str> {
        let id = id.map(|id| id.to_string());
        let here = self.workspaces.iter().any(|one| one == "*" || *one == workspace.name || Some(one) == id.as_ref());
        self.on.iter().copied().filter(move |name| here || !LISTED.contains(name))
    }

    /// The folders of sessions.
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Adds those that the agent lists and that are on in this workspace.
    pub fn add_to(&self, tools: &mut Toolbox, run: &For<'_>) {
        let listed = |name: &str| run.agent.tools.iter().any(|one| one == "*" || one == name);
        let folder = self.folders.of(run.session);
        for name in self.on(run.workspace, run.workspace_id).filter(|name| listed(name)) {
            if let Some(tool) = self.tool(name, &folder) {
                tools.add(tool, None);
            }
        }
        for name in run.agent.tools.iter().filter(|name| *name != "*" && self.on.iter().all(|known| known != name)) {
            if self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
                tracing::warn!(
                    tool = name,
                    agent = run.agent.name,
                    "an agent lists a tool that this worker doesn't have"
                );
            }
        }
    }

    fn tool(&self, name: &str, folder: &Folder) -> Option<Arc<dyn Tool>> {
        let on_files = |definition, work| -> Option<Arc<dyn Tool>> {
            Some(Arc::new(OnFiles { definition, work, reads: ALWAYS.contains(&name), folder: folder.clone() }))
        };
        match name {
            #[cfg(target_os = "linux")]
            "run" => self
                .sandbox
                .clone()
                .map(|sandbox| -> Arc<dyn Tool> { Arc::new(super::run::Run { sandbox, folder: folder.clone() }) }),
            "fetch_url" => self.fetch.clone().map(|fetch| -> Arc<dyn Tool> { fetch }),
            "plan" => Some(Arc::new(Plan)),
            "read_file" => on_files(read::definition, read::work),
            "list_files" => on_files(list::definition, list::work),
            "search_files" => on_files(search::definition, search::work),
            "write_file" => on_files(write::write_definition, write::write),
            "edit_file" => on_files(write::edit_definition, write::edit),
            _ => None,
        }
    }
}

/// Without one, commands aren't run at all.
#[cfg(target_os = "linux")]
fn sandbox() -> Option<Sandbox> {
    match Sandbox::find() {
        Ok(sandbox) => {
            tracing::info!(sandbox = sandbox.name(), "commands of agents run in a sandbox");
            Some(sandbox)
        }
        Err(why) => {
            tracing::warn!(why, "the tool \"run\" is not offered: this machine has no sandbox for it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::workspace::Agent;

    use super::*;

    #[test]
    fn an_agent_gets_what_it_lists_and_its_workspace_allows() {
        let settings = "[tools]\nenabled = [\"write_file\", \"edit_file\"]\nworkspaces = [\"Family\", \"WORKSPACE\"]";
        let id = DocumentId::from_bytes([3; 16]);
        let settings = Settings::from_toml(&settings.replace("WORKSPACE", &id.to_string())).unwrap();
        settings.check().unwrap();
        let (core, model) = (Core::new(&settings), settings.resolve("demo/demo").unwrap());
        let tools = |listed: &[&str], name: &str, workspace_id: Option<DocumentId>| {
            let agent = Agent { tools: listed.iter().map(|name| (*name).to_owned()).collect(), ..Agent::default() };
            let workspace = Workspace { name: name.to_owned(), ..Workspace::default() };
            let mut tools = Toolbox::default();
            core.add_to(
                &mut tools,
                &For { session: id, agent: &agent, workspace: &workspace, workspace_id, model: &model },
            );
            tools.definitions().into_iter().map(|tool| tool.name).collect::<Vec<_>>()
        };
        let reading: Vec<&str> = ALWAYS.to_vec();
        assert_eq!(tools(&["*"], "Work", None), reading);
        assert_eq!(tools(&["*"], "Family", None), [&reading[..], &["write_file", "edit_file"]].concat());
        assert_eq!(tools(&["*"], "Work", Some(id)).len(), 7, "named by its id");
        assert_eq!(tools(&["plan", "write_file", "run", "rm"], "Family", None), ["plan", "write_file"]);
        assert!(tools(&[], "Family", None).is_empty());
        assert!(core.unknown.lock().unwrap().iter().map(String::as_str).eq(["rm", "run"]), "said once each");
    }

    #[test]
    fn schemas_are_plain_objects_and_names_fit_every_provider() {
        let enabled = "[tools]\nenabled = [\"write_file\", \"edit_file\", \"run\"]\nworkspaces = [\"*\"]";
        let core = Core::new(&Settings::from_toml(enabled).unwrap());
        for name in &core.on {
            let definition = core.tool(name, &core.folders.of(DocumentId::from_bytes([3; 16]))).unwrap().definition();
            assert_eq!(definition.name, *name);
            assert!(crate::providers::json::is_object(&definition.schema) && !definition.schema.contains("$ref"));
            let schema: serde_json::Value = serde_json::from_str(&definition.schema).unwrap();
            assert_eq!(schema["additionalProperties"], false, "{name}");
            assert!(definition.description.len() < 400 && !definition.description.contains("  "), "{name}");
        }
    }
}
