//! The table of a budget.

use laneway_contract::BudgetLine;

use super::*;

#[test]
fn what_is_left_is_shown_where_there_is_a_bound() {
    let reply = BudgetReply {
        owner: "wp:nightly".to_owned(),
        tokens: BudgetLine { limit: Some(1_000), used: 900, reserved: 200 },
        usd: BudgetLine { limit: None, used: MicroUsd(1_500_000), reserved: MicroUsd(0) },
        journal_seq: 1,
    };
    let text = people(&reply);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["wp:nightly"]);
    assert_eq!(lines[3], ["tokens", "1000", "900", "200", "0"]);
    assert_eq!(lines[4], ["US", "dollars", "not", "bounded", "1.500000", "0.000000", "-"]);
}
