//! Concurrency limits, counted at each dispatch.

use laneway_contract::*;

use super::facts::{Facts, Place, RunFact};

impl Facts {
    /// SCHED-6, with PRIMARY's reserve.
    pub(super) fn limits_hold(&self, id: RunId) {
        let (limits, fields) = (&self.ledger.model.limits, &self.runs[&id].fields);
        let holding: Vec<&RunFields> = self.holding().map(|run| &run.fields).collect();
        let provider = fields.model_id.provider();
        let mut counted: Vec<(&str, u32, Vec<&RunFields>)> = vec![
            ("global", limits.global, holding.clone()),
            ("provider", limits.provider(provider), filtered(&holding, |f| f.model_id.provider() == provider)),
            ("model", limits.model(&fields.model_id), filtered(&holding, |f| f.model_id == fields.model_id)),
        ];
        if let Some(group) = &fields.concurrency_group
            && let Some(limit) = limits.group(group)
        {
            counted.push(("group", limit, filtered(&holding, |f| f.concurrency_group.as_ref() == Some(group))));
        }
        for (name, limit, used) in counted {
            assert!(used.len() as u32 <= limit, "SCHED-6: {} of {limit} by {name}", used.len());
            let others = used.iter().filter(|fields| fields.lane != Lane::Primary).count() as u32;
            let kept = limit - limit / 4;
            assert!(
                fields.lane == Lane::Primary || others <= kept,
                "SCHED-6: {others} of {kept} not PRIMARY by {name}"
            );
        }
    }

    pub(super) fn holding(&self) -> impl Iterator<Item = &RunFact> {
        self.runs.values().filter(|run| matches!(run.place, Place::Dispatched | Place::Running))
    }
}

fn filtered<'a>(holding: &[&'a RunFields], same: impl Fn(&RunFields) -> bool) -> Vec<&'a RunFields> {
    holding.iter().copied().filter(|fields| same(fields)).collect()
}
