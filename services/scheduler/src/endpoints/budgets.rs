//! `budgets.get` and `budgets.set`.

use laneway_bus::{Incoming, Refusal};
use laneway_contract::{ApiError, BudgetOwner, BudgetReply, ErrorCode, GetBudget, SetBudget};
use laneway_engine::Command;

use super::Context;
use crate::desk::{Answered, Scene};
use crate::edge;

pub(super) async fn get(context: Context, incoming: Incoming<GetBudget>) -> Result<BudgetReply, Refusal> {
    let GetBudget { session_id, wp_id } = incoming.body;
    let owner = edge::budget_owner(session_id, wp_id)?;
    let look = {
        let owner = owner.clone();
        move |scene: &mut Scene<'_>| budget(scene, &owner)
    };
    Ok(at(match owner {
        BudgetOwner::Session(id) => context.desk.look_at(id, look).await?,
        BudgetOwner::WorkPacket(_) => context.desk.look(look).await?,
    }))
}

pub(super) async fn set(context: Context, incoming: Incoming<SetBudget>) -> Result<BudgetReply, Refusal> {
    let command = edge::set_budget(incoming.body)?;
    let owner = command.owner.clone();
    Ok(at(context.desk.decide(Command::SetBudget(command), move |scene| budget(scene, &owner)).await?))
}

fn at(answered: Answered<BudgetReply>) -> BudgetReply {
    let Answered { body, journal_seq } = answered;
    BudgetReply { journal_seq, ..body }
}

fn budget(scene: &Scene<'_>, owner: &BudgetOwner) -> Result<BudgetReply, ApiError> {
    let account = match owner {
        BudgetOwner::Session(id) => {
            let missing = || ApiError::new(ErrorCode::NotFound, format!("no session {id}"));
            *scene.state.session_budget(*id).ok_or_else(missing)?
        }
        BudgetOwner::WorkPacket(id) => scene.state.work_packet_budget(id),
    };
    let (tokens, usd) = account.lines();
    Ok(BudgetReply { owner: owner.to_string(), tokens, usd, journal_seq: 0 })
}
