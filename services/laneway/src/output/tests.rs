//! What people see.

use super::*;

#[test]
fn a_table_lines_up_its_columns_without_trailing_blanks() {
    let text = table(["NAME", "N"], [["long name".to_owned(), "1".to_owned()], ["x".to_owned(), "22".to_owned()]]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    let column = lines[0].find('N').map(|_| lines[0].rfind('N'));
    assert_eq!(column, Some(lines[1].find('1')));
    assert_eq!(lines[1].find('1'), lines[2].find('2'));
    assert!(lines.iter().all(|line| !line.ends_with(' ')), "{text:?}");
}

#[test]
fn an_empty_table_shows_its_headings() {
    assert_eq!(table(["A", "B"], []).split_whitespace().collect::<Vec<_>>(), ["A", "B"]);
}

#[test]
fn spans_read_well() {
    let cases = [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.0 s"),
        (1_250, "1.2 s"),
        (59_999, "59.9 s"),
        (120_400, "2 min"),
        (185_000, "3 min 05 s"),
    ];
    for (millis, text) in cases {
        assert_eq!(span(millis), text);
    }
}

#[test]
fn fields_show_nothing_as_a_dash() {
    let text = fields(&serde_json::json!({"a": null, "bcd": "x", "list": [], "n": 3}));
    assert_eq!(text, "a     -\nbcd   x\nlist  -\nn     3");
}
