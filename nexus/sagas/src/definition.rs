//! A plan made into steno's graph, with a digest of its shape. Whatever steno would stumble over later is refused here.
//!
//! The digest covers kind, version, nodes, actions and edges, but no values: two sagas of one kind and version whose
//! plans have the same shape have the same digest. A recovery makes the plan again, and refuses a row with another digest:
//! there the code has changed and its version has not.

use crate::plan::{Does, Plan, PlanRefused, PlannedNode, Stage};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};
use steno::{ActionName, ActionRegistry, Dag, DagBuilder, Node, SagaDag, SagaName, SagaType};
use thiserror::Error;

/// Nodes of a saga, with those of its sub-sagas, at most. steno's cost for them grows with the square: 400 nodes in a
/// row took 30 ms.
pub const NODES_MAX: usize = 400;

/// Ways through a saga, or through one sub-saga, at most: the product of the widths of its stages. steno walks each way
/// for each node, with the saga's lock held: 65,536 ways took 15 ms, 1,048,576 ways 220 ms. A node between two wide
/// stages does not make the product smaller; a sub-saga around each of them does, because it counts as one node.
pub const WAYS_MAX: u64 = 4_096;

/// A saga that can be executed.
#[derive(Clone, Debug)]
pub struct Definition {
    pub(crate) dag: Arc<SagaDag>,
    pub(crate) nodes: Arc<NodeTable>,
    shape: String,
}

/// What the engine knows of the nodes of a saga.
#[derive(Debug, Default)]
pub(crate) struct NodeTable {
    /// steno's number of each action node → its path.
    pub(crate) paths: BTreeMap<u32, String>,
    /// Path → names of the outputs that it can look up.
    visible: BTreeMap<String, Arc<BTreeSet<String>>>,
}

/// A plan that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DefinitionError {
    /// This build has no such kind.
    #[error("there is no saga kind {kind}")]
    UnknownKind {
        /// The name.
        kind: String,
    },
    /// The kind has refused the parameters.
    #[error("the saga kind {kind} makes no plan of these parameters")]
    Refused {
        /// Which kind.
        kind: String,
        /// Why.
        #[source]
        source: PlanRefused,
    },
    /// The parameters are not those of the kind.
    #[error("the parameters are not those of the saga kind {kind}: {error}")]
    Params {
        /// Which kind.
        kind: String,
        /// What serde says.
        error: String,
    },
    /// A node of an action that the kind has not named.
    #[error("node {node} is to do {action:?}, which is no action of its kind")]
    UnknownAction {
        /// Its path.
        node: String,
        /// The action's name.
        action: String,
    },
    /// Two nodes of one name.
    #[error("there are two nodes {node}")]
    DuplicateNode {
        /// Its path.
        node: String,
    },
    /// A name that is empty or has a slash or a line break, of which paths are made.
    #[error("{name:?} cannot be the name of a node")]
    NodeName {
        /// The name.
        name: String,
    },
    /// A saga, sub-saga or stage without nodes.
    #[error("{place} has no nodes")]
    Empty {
        /// Where.
        place: String,
    },
    /// A saga or sub-saga that ends in several nodes, so that it has no output.
    #[error("{place} ends in {nodes} nodes side by side: its output is that of one last node")]
    ManyLast {
        /// Where.
        place: String,
        /// How many.
        nodes: usize,
    },
    /// A sub-saga whose parameters come of no earlier node.
    #[error("the parameters of {node} are to come from {params_from:?}, which is no node before it")]
    ParamsNode {
        /// The sub-saga's path.
        node: String,
        /// The name.
        params_from: String,
    },
    /// See [`NODES_MAX`].
    #[error("{nodes} nodes are too many: {NODES_MAX} at most")]
    ManyNodes {
        /// How many.
        nodes: usize,
    },
    /// See [`WAYS_MAX`].
    #[error(
        "{place} has {ways} ways through its parallel stages, {WAYS_MAX} at most: make a sub-saga of each wide stage"
    )]
    ManyWays {
        /// Where.
        place: String,
        /// How many.
        ways: u64,
    },
    /// steno refuses it, for a reason that is not among those above.
    #[error("steno refuses the graph: {words}")]
    Steno {
        /// What it says.
        words: String,
    },
}

/// Who makes a definition.
pub(crate) struct Maker<'k, S: SagaType> {
    pub(crate) kind: &'k str,
    pub(crate) version: u32,
    pub(crate) actions: &'k ActionRegistry<S>,
}

struct Progress {
    table: NodeTable,
    shape: String,
    nodes: usize,
}

impl Definition {
    /// The digest, 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        Sha256::digest(self.shape.as_bytes()).iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The nodes that run actions, in the order of the plan: steno's number and path of each.
    pub fn nodes(&self) -> impl Iterator<Item = (u32, &str)> {
        self.nodes.paths.iter().map(|(number, path)| (*number, path.as_str()))
    }

    /// What the digest is of: a line per node, for golden files.
    #[must_use]
    pub fn shape(&self) -> &str {
        &self.shape
    }
}

/// The action nodes of a graph as it is stored, by steno's number: each is labelled with its path. Of a graph that this build
/// does not understand, none.
pub(crate) fn stored_paths(dag: &Value) -> BTreeMap<u32, String> {
    let nodes = dag.pointer("/graph/nodes").and_then(Value::as_array);
    let path = |node: &Value| node.pointer("/Action/label").and_then(Value::as_str).map(str::to_owned);
    let numbered = (0_u32..).zip(nodes.into_iter().flatten());
    numbered.filter_map(|(number, node)| Some((number, path(node)?))).collect()
}

impl NodeTable {
    pub(crate) fn can_see(&self, path: &str, name: &str) -> bool {
        self.visible.get(path).is_some_and(|names| names.contains(name))
    }
}

impl<S: SagaType> Maker<'_, S> {
    pub(crate) fn define(&self, plan: &Plan, params: Value) -> Result<Definition, DefinitionError> {
        let mut progress = Progress {
            table: NodeTable::default(),
            shape: format!("saga {} version {}\n", self.kind, self.version),
            nodes: 0,
        };
        let dag = SagaDag::new(self.graph(plan, "", &mut progress)?, params);
        // The label of an action node is its path; a constant's and a sub-saga's are steno's words in parentheses.
        for node in dag.get_nodes() {
            let number = u32::try_from(node.index().index()).unwrap_or(u32::MAX);
            if progress.table.visible.contains_key(&node.label()) {
                progress.table.paths.insert(number, node.label());
            }
        }
        Ok(Definition { dag: Arc::new(dag), nodes: Arc::new(progress.table), shape: progress.shape })
    }

    /// The graph of a saga (`within` is empty) or of the sub-saga at a path.
    fn graph(&self, plan: &Plan, within: &str, progress: &mut Progress) -> Result<Dag, DefinitionError> {
        check_extent(plan, within)?;
        let name = if within.is_empty() { self.kind } else { within };
        let mut builder = DagBuilder::new(SagaName::new(name));
        let mut seen = Arc::new(BTreeSet::new());
        for (number, stage) in plan.stages.iter().enumerate() {
            let mut named = (*seen).clone();
            let mut nodes = Vec::new();
            for planned in &stage.nodes {
                let path = path_of(within, &planned.name)?;
                if !named.insert(planned.name.clone()) {
                    return Err(DefinitionError::DuplicateNode { node: path });
                }
                progress.count()?;
                nodes.push(self.node(planned, path, number, &seen, progress)?);
            }
            builder.append_parallel(nodes);
            seen = Arc::new(named);
        }
        builder.build().map_err(|error| DefinitionError::Steno { words: error.to_string() })
    }

    fn node(
        &self,
        planned: &PlannedNode,
        path: String,
        stage: usize,
        seen: &Arc<BTreeSet<String>>,
        progress: &mut Progress,
    ) -> Result<Node, DefinitionError> {
        match &planned.does {
            Does::Action(action) => {
                let Ok(known) = self.actions.get(&ActionName::new(action)) else {
                    return Err(DefinitionError::UnknownAction { node: path, action: action.clone() });
                };
                progress.line(&format!("{path} stage {stage} action {action}"));
                let node = Node::action(&planned.name, &path, known.as_ref());
                progress.table.visible.insert(path, Arc::clone(seen));
                Ok(node)
            }
            Does::Constant(value) => {
                progress.line(&format!("{path} stage {stage} constant"));
                Ok(Node::constant(&planned.name, value.clone()))
            }
            Does::SubSaga { params_from, plan } => {
                if !seen.contains(params_from) {
                    return Err(DefinitionError::ParamsNode { node: path, params_from: params_from.clone() });
                }
                progress.line(&format!("{path} stage {stage} sub-saga of {params_from}"));
                let dag = self.graph(plan, &path, progress)?;
                Ok(Node::subsaga(&planned.name, dag, params_from))
            }
        }
    }
}

impl Progress {
    fn count(&mut self) -> Result<(), DefinitionError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(DefinitionError::ManyNodes { nodes: self.nodes });
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        self.shape.push_str(line);
        self.shape.push('\n');
    }
}

fn check_extent(plan: &Plan, within: &str) -> Result<(), DefinitionError> {
    let place = || if within.is_empty() { "the saga".to_owned() } else { format!("the sub-saga {within}") };
    if plan.stages.iter().any(|stage| stage.nodes.is_empty()) {
        return Err(DefinitionError::Empty { place: format!("a stage of {}", place()) });
    }
    match plan.stages.last().map(|stage| stage.nodes.len()) {
        None => return Err(DefinitionError::Empty { place: place() }),
        Some(1) => {}
        Some(nodes) => return Err(DefinitionError::ManyLast { place: place(), nodes }),
    }
    let width = |stage: &Stage| stage.nodes.len() as u64;
    let ways = plan.stages.iter().map(width).fold(1_u64, u64::saturating_mul);
    if ways > WAYS_MAX {
        return Err(DefinitionError::ManyWays { place: place(), ways });
    }
    Ok(())
}

fn path_of(within: &str, name: &str) -> Result<String, DefinitionError> {
    if name.is_empty() || name.contains(['/', '\n']) || name.starts_with('(') {
        return Err(DefinitionError::NodeName { name: name.to_owned() });
    }
    Ok(if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") })
}
