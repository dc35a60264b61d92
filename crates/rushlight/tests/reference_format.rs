//! The reference files hold what their readers expect: every case complete, every tensor as large as its shape says.

#[path = "common/reference.rs"]
mod reference;

use reference::{Case, RefTensor, close, files, load, parse};

const FILES: [&str; 16] = [
    "attention",
    "conv",
    "elementwise",
    "gates",
    "index",
    "init",
    "loss",
    "matmul",
    "norm",
    "optim",
    "recurrent",
    "reduce",
    "schedule",
    "softmax_pool",
    "transformer",
    "view",
];

fn check_tensor(t: &RefTensor, what: &str) {
    assert_eq!(t.data.len(), t.shape.iter().product::<usize>(), "{what}: elements of shape {:?}", t.shape);
    let fits = |x: f64| match t.dtype.as_str() {
        "f64" => true,
        "i64" => x.fract() == 0.0 && x.abs() < 2f64.powi(53),
        "bool" => x == 0.0 || x == 1.0,
        other => panic!("{what}: dtype {other}"),
    };
    assert!(t.data.iter().all(|&x| fits(x)), "{what}: not all {}", t.dtype);
}

/// A gradient for each of `tensors` or none, in its shape.
fn check_gradients(gradients: &[Option<RefTensor>], tensors: &[RefTensor], what: &str) {
    assert_eq!(gradients.len(), tensors.len(), "{what}");
    for (gradient, t) in gradients.iter().zip(tensors) {
        let Some(gradient) = gradient else { continue };
        assert_eq!((gradient.dtype.as_str(), t.dtype.as_str()), ("f64", "f64"), "{what}");
        assert_eq!(gradient.shape, t.shape, "{what}");
    }
}

/// An optimizer: from `start`, a parameter for each gradient.
fn check_steps(case: &Case, start: &RefTensor, what: &str) {
    assert!(!case.params.is_empty(), "{what}: no steps");
    check_gradients(&case.grads, &case.params, what);
    assert!(case.grads.iter().all(Option::is_some), "{what}: a step without a gradient");
    assert!(case.params.iter().all(|p| p.shape == start.shape), "{what}: shapes of the parameter");
    assert!(case.lrs.is_empty() || case.lrs.len() == case.params.len(), "{what}: rates");
}

fn check_operation(case: &Case, what: &str) {
    assert!(!case.outputs.is_empty(), "{what}: no output");
    // Starting values and clipping have no gradients.
    if case.grad_output.is_empty() && case.grads.is_empty() {
        return;
    }
    check_gradients(&case.grad_output, &case.outputs, &format!("{what}: grad_output"));
    check_gradients(&case.grads, &case.inputs, &format!("{what}: grads"));
    let (sent, arrived) = (case.grad_output.iter().flatten().count(), case.grads.iter().flatten().count());
    assert_eq!(sent > 0, arrived > 0, "{what}: {sent} gradients went in and {arrived} came out");
    assert!(!case.edge || sent == 0, "{what}: gradients at an edge");
}

#[test]
fn every_file_is_complete() {
    let names: Vec<String> = files().iter().map(|f| f.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, FILES);
    for name in FILES {
        let cases = load(name);
        assert!(!cases.is_empty(), "{name}.json holds no case");
        for case in &cases {
            let what = format!("{name}.json {}", case.name());
            let lists = case.inputs.iter().chain(&case.outputs).chain(&case.params).chain(&case.start);
            lists.chain(case.grad_output.iter().flatten()).chain(case.grads.iter().flatten()).for_each(|t| {
                check_tensor(t, &what);
            });
            match (name, &case.start) {
                ("optim", Some(start)) => check_steps(case, start, &what),
                ("schedule", _) => assert!(case.factors.iter().all(|f| *f >= 0.0) && case.factors.len() > 1, "{what}"),
                _ => check_operation(case, &what),
            }
        }
    }
}

#[test]
fn a_case_stands_on_its_line() {
    let text = std::fs::read_to_string(files().iter().find(|f| f.ends_with("view.json")).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for case in load("view") {
        assert!(lines[case.line - 1].contains(&format!("\"op\": \"{}\"", case.op)), "{}", case.name());
    }
}

fn one(case: &str) -> serde_json::Result<Vec<Case>> {
    parse(&format!(r#"{{"torch": "2", "cases": [{case}]}}"#))
}

#[test]
fn arguments_are_typed() {
    let case = r#"{"op": "pad", "args": {"dims": [0, -1], "kernel": [2, 3], "p": "inf", "low": "-inf", "scale": 2,
        "keepdim": true, "reduction": "none", "stride": null}}"#;
    let case = one(case).unwrap().remove(0);
    assert_eq!(case.arg::<Vec<i64>>("dims"), [0, -1]);
    assert_eq!(case.arg::<[usize; 2]>("kernel"), [2, 3]);
    assert_eq!((case.arg::<f64>("p"), case.arg::<f64>("low")), (f64::INFINITY, f64::NEG_INFINITY));
    assert_eq!((case.arg::<f64>("scale"), case.arg::<usize>("scale")), (2.0, 2));
    assert!(case.arg::<bool>("keepdim"));
    assert_eq!(case.arg::<String>("reduction"), "none");
    assert_eq!(case.optional::<Vec<usize>>("stride"), None);
    assert_eq!(case.optional::<f64>("eps"), None);
    assert_eq!(case.optional::<usize>("scale"), Some(2));
}

#[test]
#[should_panic(expected = "line 2: sum {\"dims\":[-1]}: dims is no")]
fn an_argument_of_another_type_is_named() {
    one(r#"{"op": "sum", "args": {"dims": [-1]}}"#).unwrap()[0].optional::<Vec<usize>>("dims");
}

#[test]
#[should_panic(expected = "line 2: sum {}: no argument dims")]
fn a_missing_argument_is_named() {
    one(r#"{"op": "sum", "args": {}}"#).unwrap()[0].arg::<Vec<usize>>("dims");
}

#[test]
fn numbers_are_read_to_the_last_bit() {
    let case = r#"{"op": "f", "args": {}, "inputs": [{"dtype": "f64", "shape": [6],
        "data": [0.1, -0.0, 5e-324, "nan", "inf", "-inf"]}]}"#;
    let data = &one(case).unwrap()[0].inputs[0].data;
    let bits: Vec<u64> = data.iter().map(|x| x.to_bits()).collect();
    let expected = [0.1f64, -0.0, f64::from_bits(1), f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    assert_eq!(bits, expected.map(f64::to_bits));
    assert!(one(r#"{"op": "f", "args": {}, "inputs": [{"dtype": "f64", "shape": [1], "data": ["1"]}]}"#).is_err());
    assert!(one(r#"{"op": "f", "args": {}, "ouputs": []}"#).is_err());
}

#[test]
fn closeness() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    assert_eq!(close(&[], &[], 0.0, 0.0), Ok(()));
    assert_eq!(close(&[nan, inf, -inf, -0.0, 1.5], &[nan, inf, -inf, 0.0, 1.5], 0.0, 0.0), Ok(()));
    assert_eq!(close(&[100.0, 1e-9], &[101.0, 0.0], 0.01, 1e-9), Ok(()));
    assert_eq!(close(&[1.0], &[1.0, 2.0], 1.0, 1.0).unwrap_err(), "1 elements, expected 2");
    assert_eq!(close(&[1.0, 2.0, 4.0], &[1.0, 3.0, 3.0], 0.1, 0.1).unwrap_err(), "element 1 is 2.0, expected 3.0");
    for (a, e) in [(nan, 0.0), (0.0, nan), (inf, -inf), (1.0, inf), (inf, 1.0), (nan, inf), (1.0, -inf)] {
        assert!(close(&[a], &[e], 1e-3, 1e-3).is_err(), "{a} is not {e}");
    }
}
