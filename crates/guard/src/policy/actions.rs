//! The schema, the policies that Skep ships, and the actions that there are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

/// The schema that policies are checked against.
pub const SCHEMA: &str = include_str!("skep.cedarschema");
/// What holds in every workspace.
pub const DEFAULT: &str = include_str!("default.cedar");

/// An action as questions need it.
pub(super) struct Action {
    /// Its place among all.
    pub(super) index: usize,
    pub(super) uid: EntityUid,
    pub(super) entity: Entity,
    /// Itself and its groups.
    pub(super) family: HashSet<EntityUid>,
    /// What a scope may call it.
    pub(super) names: BTreeSet<String>,
}

/// All that the schema says.
pub(super) struct Catalog {
    pub(super) schema: Schema,
    pub(super) actions: HashMap<String, Action>,
    pub(super) types: Types,
}

/// The names of the entities' types.
pub(super) struct Types {
    pub(super) user: EntityTypeName,
    pub(super) key: EntityTypeName,
    pub(super) agent: EntityTypeName,
    pub(super) role: EntityTypeName,
    pub(super) workspace: EntityTypeName,
    pub(super) call: EntityTypeName,
    pub(super) secret: EntityTypeName,
    pub(super) model: EntityTypeName,
    pub(super) tool: EntityTypeName,
    pub(super) host: EntityTypeName,
    pub(super) server: EntityTypeName,
    pub(super) values: EntityTypeName,
}

/// An entity's id. Any text is one.
pub(super) fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

#[expect(
    clippy::expect_used,
    reason = "the schema is a part of the program; every test of this crate reads it"
)]
fn catalog() -> Catalog {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("Skep's schema is valid");
    let entities = schema.action_entities().expect("Skep's actions are valid");
    let groups: HashSet<&EntityUid> = schema.action_groups().collect();
    let mut singles: Vec<&EntityUid> = schema.actions().filter(|it| !groups.contains(it)).collect();
    singles.sort_by_key(|it| it.id().unescaped().to_owned());
    let action = |(index, one): (usize, &&EntityUid)| {
        let above = entities.ancestors(one).into_iter().flatten().cloned();
        let above: HashSet<EntityUid> = above.collect();
        let names = above.iter().map(|it| it.id().unescaped().to_owned());
        let name = one.id().unescaped().to_owned();
        let names = names.chain([name.clone(), "*".to_owned()]).collect();
        let entity = Entity::new_no_attrs((*one).clone(), above.clone());
        let family = above.into_iter().chain([(*one).clone()]).collect();
        let uid = (*one).clone();
        let action = Action {
            index,
            uid,
            entity,
            family,
            names,
        };
        (name, action)
    };
    let actions = singles.iter().enumerate().map(action).collect();
    let named = |name: &str| -> EntityTypeName {
        format!("Skep::{name}").parse().expect("a name of a type")
    };
    let types = Types {
        user: named("User"),
        key: named("ApiKey"),
        agent: named("Agent"),
        role: named("Role"),
        workspace: named("Workspace"),
        call: named("Call"),
        secret: named("Secret"),
        model: named("Model"),
        tool: named("Tool"),
        host: named("Host"),
        server: named("Server"),
        values: named("Values"),
    };
    Catalog {
        schema,
        actions,
        types,
    }
}

pub(super) static CATALOG: LazyLock<Catalog> = LazyLock::new(catalog);

impl Action {
    /// `context.names`.
    pub(super) fn named(&self) -> (String, RestrictedExpression) {
        let names = self.names.iter().cloned();
        let names = names.map(RestrictedExpression::new_string);
        ("names".to_owned(), RestrictedExpression::new_set(names))
    }
}

/// Every action, with the kinds of things that it is done to.
#[must_use]
pub fn actions() -> BTreeMap<String, BTreeSet<String>> {
    let catalog = &*CATALOG;
    let kinds = |action: &Action| -> BTreeSet<String> {
        let kinds = catalog.schema.resources_for_action(&action.uid);
        let kinds = kinds.into_iter().flatten();
        kinds.map(|kind| kind.basename().to_owned()).collect()
    };
    let all = catalog.actions.iter();
    all.map(|(name, action)| (name.clone(), kinds(action)))
        .collect()
}

/// What a scope may call an action: itself, its groups and `*`. Nothing when there is no such action.
#[must_use]
pub fn groups_of(action: &str) -> BTreeSet<String> {
    let found = CATALOG.actions.get(action);
    found.map(|action| action.names.clone()).unwrap_or_default()
}
