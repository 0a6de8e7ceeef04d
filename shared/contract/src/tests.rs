//! Round trips of what is written, and the shape of errors.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;

#[test]
fn every_subject_reads_back() {
    let prefix = Prefix::parse("acme").unwrap();
    let run = RunId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e").unwrap();
    let session = SessionId::parse("0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3f").unwrap();
    let name = Token::parse("w-1").unwrap();
    let mut subjects = vec![
        Subject::Journal,
        Subject::Snapshot { object: SnapshotName { number: 4_711, nonce: 0x0f1e }, chunk: 12 },
        Subject::Leading,
        Subject::Intake,
        Subject::Rejects,
        Subject::Tokens(run),
        Subject::Control(run),
        Subject::Dispatch(name.clone()),
        Subject::Worker(name),
    ];
    subjects.extend(Endpoint::ALL.iter().map(|e| Subject::Endpoint(*e)));
    for kind in FlightKind::ALL {
        subjects.push(Subject::Flight { session: Some(session), kind: *kind });
        subjects.push(Subject::Flight { session: None, kind: *kind });
    }
    for subject in subjects {
        assert_eq!(prefix.parse_subject(&prefix.subject(&subject)), Ok(subject));
    }
}

#[test]
fn a_snapshot_has_one_name() {
    let name = SnapshotName { number: 4_711, nonce: 0x0f1e };
    assert_eq!((name.to_string().as_str(), SnapshotName::parse("4711-00000f1e")), ("4711-00000f1e", Ok(name)));
    for raw in ["", "4711", "4711-f1e", "04711-00000f1e", "4711-00000F1E", "-1-00000f1e", "4711-00000f1e.1"] {
        assert!(SnapshotName::parse(raw).is_err(), "{raw:?}");
    }
    for chunk in ["", "01", "x", "1.2"] {
        let subject = format!("laneway.snapshots.{name}.{chunk}");
        assert!(Prefix::default().parse_subject(&subject).is_err(), "{subject}");
    }
}

#[test]
fn hostile_tokens_are_refused() {
    for raw in ["", "a.b", "a b", "*", ">", "a*", "ä", "a\n"] {
        assert!(Token::parse(raw).is_err(), "{raw:?}");
    }
    for raw in ["0197c2f48f6c7cc19c1b2f8f0a6b1d3e", "{0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e}", "*", ""] {
        assert!(RunId::parse(raw).is_err(), "{raw:?}");
    }
}

#[test]
fn a_model_id_keeps_everything_after_the_first_slash() {
    let model = ModelId::parse("ollama/library/qwen3:0.6b").unwrap();
    assert_eq!((model.provider(), model.model()), ("ollama", "library/qwen3:0.6b"));
    assert!(ModelId::parse("echo/* > ä").is_ok());
    for raw in ["echo", "/x", "echo/", "Echo/x", "e*/x", "echo/a\nb"] {
        assert!(ModelId::parse(raw).is_err(), "{raw:?}");
    }
}

#[test]
fn errors_name_the_path_and_quote_no_content() {
    let unknown = Format::Json.decode::<SubmitRun>(br#"{"generation": {"temprature": 1}}"#).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownField);
    assert_eq!(unknown.details["path"], "generation.temprature");
    let wrong = Format::Json.decode::<SubmitRun>(br#"{"priority": "canary"}"#).unwrap_err();
    assert_eq!(wrong.code, ErrorCode::BadRequest);
    assert_eq!(wrong.details["path"], "priority");
    assert!(!wrong.message.contains("canary"), "{}", wrong.message);
    assert!(Format::Json.decode::<GetStatus>(b"{} {}").is_err());
    assert!(Format::Json.decode::<GetStatus>(&[0xff, 0xfe]).is_err());
}

/// The error of a request in both formats, neither of which may hold the canary.
fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(request: &serde_json::Value) -> ApiError {
    let [json, packed] = [Format::Json, Format::MessagePack].map(|format| {
        let error = format.decode::<T>(&format.encode(request).unwrap()).unwrap_err();
        let text = serde_json::to_string(&error).unwrap();
        assert!(!text.contains("canary"), "{format:?}: {text}");
        error
    });
    assert_eq!((json.code, &json.details), (packed.code, &packed.details), "{request}");
    json
}

#[test]
fn keys_and_values_of_the_caller_are_in_no_error() {
    let tricky = [
        "canary",
        "x, expected canary",
        "x: expected canary",
        "x\", expected canary",
        "x`, expected `canary",
        "x at line canary",
        "x\", expected canary at line 1",
    ];
    for text in tricky {
        for (request, path) in [
            (serde_json::json!({"priority": text}), "priority"),
            (serde_json::json!({"lane": text}), "lane"),
            (serde_json::json!({"session_id": text}), "session_id"),
            (serde_json::json!({"estimated_cost_usd": text}), "estimated_cost_usd"),
            (serde_json::json!({"wait": text}), "wait"),
            (serde_json::json!({"labels": text}), "labels"),
            (serde_json::json!({"labels": {text: {"a": 1}}}), "labels"),
            (serde_json::json!({"generation": {"stop": ["a", {text: text}]}}), "generation.stop[1]"),
            (serde_json::json!({"input": [{"content": {text: text}}]}), "input"),
        ] {
            assert_eq!(refused::<SubmitRun>(&request).details["path"], path, "{text}");
        }
    }
    let no_name = serde_json::json!({"generation": {"the canary": 1}});
    assert_eq!(refused::<SubmitRun>(&no_name).details["path"], "generation");
    let in_history = serde_json::json!({"model_id": "echo/a", "memory_policy": "EPHEMERAL",
        "history": [{"content": "a"}, {"content": "b", "attachments": ["canary"]}]});
    assert_eq!(refused::<CreateSession>(&in_history).details["path"], "history[1].attachments[0]");
}

#[test]
fn what_is_wrong_in_a_schema_is_not_told() {
    for schema in [
        // A key that is no text, below one that is.
        &b"\x81\xa6canary\x81\x2a\x01"[..],
        // A text that is not UTF-8.
        b"\x81\xa6canary\xa2\xff\xfe",
        // The same, cut off.
        b"\x81\xa6canary\x81\xa6canary",
    ] {
        let body = [&b"\x81\xaageneration\x81\xafresponse_schema"[..], schema].concat();
        let error = Format::MessagePack.decode::<SubmitRun>(&body).unwrap_err();
        let text = serde_json::to_string(&error).unwrap();
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(error.details["path"], "generation.response_schema", "{text}");
    }
    let body = br#"{"generation": {"response_schema": {"canary": {"canary": tru}}}}"#;
    let error = Format::Json.decode::<SubmitRun>(body).unwrap_err();
    assert!(!serde_json::to_string(&error).unwrap().contains("canary"), "{error}");
    assert_eq!(error.details["path"], "generation.response_schema");
}

#[test]
fn both_formats_are_nested_equally_deeply() {
    let submit = |levels: usize| {
        let schema = (0..levels).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
        serde_json::json!({"generation": {"response_schema": schema}})
    };
    for format in [Format::Json, Format::MessagePack] {
        let decode = |levels| format.decode::<SubmitRun>(&format.encode(&submit(levels)).unwrap());
        assert!(decode(100).is_ok(), "{format:?}");
        let error = decode(200).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{format:?}");
        assert!(error.message.contains("nested too deeply"), "{format:?}: {error}");
    }
}

#[test]
fn message_pack_has_the_same_keys_and_texts_as_json() {
    let request: CancelRuns = Format::Json
        .decode(br#"{"run_id":"0197c2f4-8f6c-7cc1-9c1b-2f8f0a6b1d3e","actor":{"id":"me","kind":"person"}}"#)
        .unwrap();
    let packed = Format::MessagePack.encode(&request).unwrap();
    assert_eq!(Format::MessagePack.decode::<CancelRuns>(&packed).unwrap(), request);
    let as_value: serde_json::Value = Format::MessagePack.decode(&packed).unwrap();
    assert_eq!(as_value, serde_json::to_value(&request).unwrap());
    for cut in 0..packed.len() {
        if cut > 0 {
            assert!(Format::MessagePack.decode::<CancelRuns>(&packed[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn times_and_amounts_read_back() {
    let time = Timestamp::from_millis(1_790_000_000_123);
    assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-09-21T14:13:20.123Z\"");
    assert_eq!(serde_json::from_str::<Timestamp>("\"2026-09-21T14:13:20.123Z\"").unwrap(), time);
    for (text, micros) in [("\"0.0015\"", 1_500), ("\"12\"", 12_000_000), ("\"0.000001\"", 1)] {
        assert_eq!(serde_json::from_str::<MicroUsd>(text).unwrap(), MicroUsd(micros));
    }
    for text in ["\"-1\"", "\"1.0000001\"", "\"1e3\"", "\"\"", "1"] {
        assert!(serde_json::from_str::<MicroUsd>(text).is_err(), "{text}");
    }
}

#[test]
fn the_built_in_catalog_loads() {
    let catalog = Catalog::built_in().unwrap();
    let model = ModelId::parse("echo/default").unwrap();
    assert!(catalog.model(&model).unwrap().capabilities.streaming);
    assert_eq!(catalog.cost(&model, &Usage::default()), Some(MicroUsd(0)));
    assert!(catalog.model(&ModelId::parse("nobody/x").unwrap()).is_none());
}
