//! Changes of limits from the command line, and the table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn the_last_equals_sign_parts_name_and_value() {
    let named = |raw: &str| change(raw).map(|(name, value)| (name.to_string(), value));
    assert_eq!(named("provider:openai=5"), Ok(("provider:openai".to_owned(), Some(5))));
    assert_eq!(named("global=0"), Ok(("global".to_owned(), Some(0))));
    assert_eq!(named("weight:PRIMARY="), Ok(("weight:PRIMARY".to_owned(), None)));
    assert_eq!(
        named("tokens_per_minute:model:echo/delay=40,tokens=70=90000"),
        Ok(("tokens_per_minute:model:echo/delay=40,tokens=70".to_owned(), Some(90_000)))
    );
    for wrong in ["global", "speed=3", "global=-1", "global=many", "weight:PRIMARY=0", "weight:FAST=1", "=5"] {
        assert!(change(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_name_is_given_once() {
    let changes = ["global=5", "per_model="].map(|raw| change(raw).unwrap()).to_vec();
    let expected = [("global".to_owned(), Some(5)), ("per_model".to_owned(), None)];
    assert_eq!(by_name(changes).unwrap(), BTreeMap::from(expected));
    let twice = ["global=5", "global="].map(|raw| change(raw).unwrap()).to_vec();
    assert!(matches!(by_name(twice), Err(CliError::Usage(what)) if what.contains("global")));
}

#[test]
fn the_table_shows_what_is_taken_and_what_is_left() {
    let row =
        |name: &str, used, reserve, level| LimitRow { name: name.to_owned(), value: Some(8), used, reserve, level };
    let text =
        table(&[row("global", Some(3), Some(2), None), row("tokens_per_minute:provider:a", None, None, Some(-5))]);
    let words = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(1), ["global", "8", "3", "2", "-"]);
    assert_eq!(words(2), ["tokens_per_minute:provider:a", "8", "-", "-", "-5"]);
}
