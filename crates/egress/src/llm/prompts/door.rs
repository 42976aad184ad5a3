//! A request to a door that asks for a prompt: it is made, put before what the request says, and read again as what it is now.

use bytes::Bytes;
use skep_dialects::Dialect;

use super::{apply, parts, usage};
use crate::EgressError;
use crate::llm::plan::Plan;
use crate::llm::provider::{Door, Wish};
use crate::llm::service::{Models, Who};

impl Models {
    /// Makes the prompt that a request asks for (`prompt:NAME@LABEL` as its model, and `prompt_variables`), and reads the
    /// request that it becomes. Requests of one thread get the same version of a label that leads to several.
    ///
    /// # Errors
    /// [`EgressError::NoPrompt`], [`EgressError::Invalid`], and those of [`Models::plan`].
    pub async fn with_prompt(
        &self,
        who: &Who,
        plan: Plan,
        (thread, body): (Option<&[u8]>, &[u8]),
    ) -> Result<Plan, EgressError> {
        let invalid = |why: &str| EgressError::Invalid(why.to_owned());
        let asked = plan.asked.clone().unwrap_or_default();
        let (name, which) = parts(apply::named(&asked).unwrap_or_default())?;
        let answers = match &plan.wish {
            Wish::Work { dialect, .. } => *dialect != Dialect::Embeddings,
            Wish::Count { .. } => plan.door == Door::Anthropic,
            Wish::Embed { .. } | Wish::Models | Wish::Model(_) => false,
        };
        if !answers {
            return Err(invalid("a prompt is asked to answer, and nothing else"));
        }
        let variables = apply::variables(body)?;
        let made = self.make_prompt(&who.workspace, (&name, which), (thread, &variables));
        let made = made.await?;
        let known = self.known(&who.workspace).await?;
        let preferences = known.preferences_of(who);
        let usual = || preferences.model.clone();
        let model = made.model.or_else(usual).ok_or_else(|| {
            invalid("the prompt names no model, and no model is set for `default`: `skep models set --model`")
        })?;
        let body = apply::applied(plan.dialect, body, (&made.messages, &model))?;
        let body = Bytes::from(body);
        let path = plan.path_for(&model);
        let here = (&plan.method, path.as_str(), plan.query.as_deref());
        let has = (
            &*known.providers,
            &*known.routes,
            preferences.model.as_deref(),
        );
        let mut new = Plan::read(has, plan.door, here, &body)?;
        new = new.held(preferences, &body).await?;
        new.prompt = usage::named(&name, made.version);
        new.body.get_or_insert(body);
        Ok(new)
    }
}
