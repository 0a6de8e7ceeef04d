//! Pictures of frames.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::*;
use crate::top::frame_of;
use crate::top::model::Model;
use crate::top::model::tests::look;

#[test]
fn texts_are_escaped_and_blocks_are_boxes() {
    let mut frame = Buffer::empty(Rect::new(0, 0, 12, 1));
    frame.set_string(0, 0, "a<&>", Style::new().bold());
    frame.set_string(5, 0, "██░", Style::new().green());
    let svg = picture(&frame);
    assert!(svg.contains("font-weight=\"bold\" xml:space=\"preserve\">a&lt;&amp;&gt;</text>"), "{svg}");
    assert!(svg.contains("width=\"16.8\" height=\"12.6\" fill=\"#4ec986\"/>"), "{svg}");
    assert!(svg.contains("width=\"8.4\" height=\"12.6\" fill=\"#4ec986\" fill-opacity=\"0.3\"/>"), "{svg}");
}

#[test]
fn a_whole_frame_is_one_picture() {
    let mut model = Model::default();
    for second in 0..20 {
        model.take(look(second * 1_000, second * second * 10, second * 3));
    }
    let svg = picture(&frame_of(&model, (100, 30)));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("provider:openai") && svg.contains("longest waits"));
    assert_eq!(svg.matches('<').count(), svg.matches('>').count());
}
