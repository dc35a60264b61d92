//! The playground's server: its numbers, whom it refuses, and that nobody can hold it up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::helpers::{command, good, image_folder};

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Server {
        Server::at(Path::new("."), "")
    }

    fn at(folder: &Path, more: &str) -> Server {
        let mut child = command(folder, &format!("play --port 0 {more}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(':').nth(2).and_then(|p| p.split('/').next()).unwrap().parse().unwrap();
        Server { child, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// The status and the body of an answer to raw bytes.
    fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |p| p.1.to_string()))
    }

    fn get(&self, path: &str, more: &str) -> (u16, String) {
        let port = self.port;
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{more}\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        let (port, n) = (self.port, body.len());
        let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
        self.raw(&format!("{head}Content-Type: application/json\r\nContent-Length: {n}\r\n\r\n{body}"))
    }

    fn ask(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.post(path, &body.to_string());
        assert!((200..300).contains(&status), "{status}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }
}

fn xor() -> Value {
    json!({"set": "xor", "count": 200, "hidden": [16, 16], "activation": "relu", "kind": "plain", "experts": 3,
           "optimizer": "adamw", "lr": 0.02, "seed": 0})
}

#[test]
fn exhibits_say_what_the_library_computes() {
    let server = Server::start();
    let rows = json!([[1, 5, 2], [4, 4, 1], [0, 3, 8]]);
    let fold = |output| json!({"rows": rows, "kernel": 2, "stride": 1, "padding": 0, "dilation": 1, "output": output});
    let answer = server.ask("/api/fold", fold(3));
    assert_eq!(answer["shape"], json!([2, 2, 2, 2]));
    assert_eq!(answer["strides"], json!([3, 1, 3, 1]));
    assert_eq!(answer["windows"][3], json!([4, 5, 7, 8]));
    assert_eq!(answer["pools"][0]["values"], json!([5.0, 5.0, 4.0, 8.0]));
    assert_eq!(answer["pools"][0]["gradient"], json!([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
    assert_eq!(answer["pools"][1]["values"], json!([3.5, 3.0, 2.75, 4.0]));
    assert_eq!(server.post("/api/fold", &fold(4).to_string()).0, 422);

    let answer = server.ask("/api/choose", json!({"values": [1.0, 3.0, 3.0], "temperature": 1.0}));
    assert_eq!(answer["max_gradient"], json!([0.0, 1.0, 0.0]));
    assert_eq!(answer["ties"], json!([1, 2]));
    assert!((answer["softmax"][0].as_f64().unwrap() - 1.0 / (1.0 + 2.0 * 2f64.exp())).abs() < 1e-12);
}

#[test]
fn gates_views_and_graphs_say_what_the_library_computes() {
    let server = Server::start();
    let near = |v: &Value, wanted: f64| assert!((v.as_f64().unwrap() - wanted).abs() < 1e-12, "{v} for {wanted}");
    let ask = json!({"x": 3.0, "y": -1.0, "r": 0.0, "values": [1.0, 5.0], "scores": [2.0, 2.0]});
    let answer = server.ask("/api/gates", ask);
    near(&answer["gate"], 1.0);
    for (i, wanted) in [0.5, 0.5, 1.0].into_iter().enumerate() {
        near(&answer["gradients"][i], wanted);
    }
    near(&answer["mixed"], 3.0);
    near(&answer["score_gradients"][0], -1.0);
    let uneven = json!({"x": 0.0, "y": 0.0, "r": 0.0, "values": [1.0, 5.0], "scores": [2.0]});
    assert_eq!(server.post("/api/gates", &uneven.to_string()).0, 422);

    let steps = json!([{"op": "transpose", "a": 0, "b": 1}, {"op": "narrow", "dim": 0, "start": 1, "length": 2},
                       {"op": "reshape", "shape": [-1]}, {"op": "select", "dim": 4, "index": 0}]);
    let answer = server.ask("/api/views", json!({"shape": [2, 3], "steps": steps}));
    let stages = &answer["stages"];
    assert_eq!(stages[1]["strides"], json!([1, 3]));
    assert_eq!(stages[2]["places"], json!([1, 4, 2, 5]));
    assert_eq!((&stages[2]["view"], &stages[3]["view"]), (&json!(true), &json!(false)));
    assert_eq!((&stages[3]["storage"], &stages[3]["places"]), (&json!([1.0, 4.0, 2.0, 5.0]), &json!([0, 1, 2, 3])));
    assert_eq!(stages.as_array().unwrap().len(), 4);
    assert!(answer["error"].as_str().unwrap().contains("select"), "{answer}");
    let huge = json!({"shape": [1u64 << 40, 1u64 << 40], "steps": []});
    assert_eq!(server.post("/api/views", &huge.to_string()).0, 422);
    let huge = json!({"shape": [1], "steps": [{"op": "expand", "shape": [1u64 << 40]}]});
    assert!(server.ask("/api/views", huge)["error"].as_str().unwrap().contains("64 elements"));

    let graph = |text: &str| json!({"expression": text, "variables": {"x": 2.0, "y": 3.0}});
    let answer = server.ask("/api/graph", graph("x*y + x^2 - max(x, -y)/4"));
    let nodes = answer["nodes"].as_array().unwrap();
    near(&nodes[nodes.len() - 1]["value"], 9.5);
    let of = |name: &str| nodes.iter().find(|n| n["label"] == name).unwrap();
    near(&of("x")["gradient"], 3.0 + 4.0 - 0.25);
    near(&of("y")["gradient"], 2.0);
    assert_eq!(of("4")["gradient"], Value::Null);
    let answer = server.ask("/api/graph", graph("log(x - 2) + 1.5e-3 + 2E1"));
    let nodes = answer["nodes"].as_array().unwrap();
    assert_eq!(nodes.last().unwrap()["value"], json!("-Infinity"));
    assert_eq!(nodes.iter().find(|n| n["label"] == "x").unwrap()["gradient"], json!("Infinity"));
    assert!(nodes.iter().any(|n| n["value"] == json!(0.0015)) && nodes.iter().any(|n| n["value"] == json!(20.0)));
    for (text, said) in [
        ("x +", "at character 4: the expression ends too early"),
        ("x + w", "at character 5: w has no value"),
        ("(x", "at character 3: expected ')'"),
        ("x y", "at character 3: unexpected 'y'"),
        ("1.2.3", "at character 1: \"1.2.3\" is no number"),
        ("max(x)", "at character 1: no function max of 1 numbers"),
        ("é", "at character 1: unexpected 'é'"),
        ("", "at character 1: the expression ends too early"),
        (&"-".repeat(150), "more than 24 deep"),
        (&"(".repeat(150), "more than 24 deep"),
        (&"x^".repeat(90), "more than 24 deep"),
        (&"x+".repeat(99), "more than 64 nodes"),
        (&"x".repeat(999), "at most 200 bytes"),
    ] {
        let (status, answer) = server.post("/api/graph", &graph(text).to_string());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(status == 422 && answer["error"].as_str().unwrap().contains(said), "{text}: {status} {answer}");
    }
}

#[test]
fn a_run_is_shown_and_nothing_outside_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image_folder(&dir.join("in/data"), 24, 12, "");
    image_folder(&dir.join("out/data"), 24, 12, "");
    good(dir, "train images --data in/data --epochs 2 --batch 8 --out in");
    good(dir, "train images --data out/data --epochs 1 --batch 8 --out elsewhere");
    good(dir, "train points --set xor --points 20 --epochs 1 --out points");
    let server = Server::at(dir, "--run in --run elsewhere --run points");
    let about: Value = serde_json::from_str(&server.get("/api/about", "").1).unwrap();
    assert_eq!(about["runs"], json!(["in", "elsewhere", "points"]));

    let look = |run: usize, picture: u64| server.ask("/api/run", json!({"run": run, "picture": picture}));
    let answer = look(0, 2);
    let images = &answer["images"];
    assert_eq!((&answer["task"], &answer["finished"], &images["label"]), (&json!("images"), &json!(true), &json!(2)));
    assert_eq!(answer["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(images["picture"]["pixels"][4 * 8].as_f64().unwrap() as f32, (200.0 + 2.0) / 255.0);
    assert_eq!((&images["filters"][0]["width"], &images["pooled"][7]["height"]), (&json!(3), &json!(4)));
    let total: f64 = images["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-5);
    let rows = images["confusion"].as_array().unwrap().iter().flat_map(|r| r.as_array().unwrap());
    assert_eq!(rows.map(|v| v.as_u64().unwrap()).sum::<u64>(), 12);
    assert!(look(0, u64::MAX)["without"].as_str().unwrap().contains("there are 12"));

    // A run that names pictures elsewhere shows none of them, and no message tells where a folder lies.
    let answer = look(1, 0);
    assert!(answer["images"].is_null() && answer["without"].as_str().unwrap().contains("outside"), "{answer}");
    assert!(look(2, 0)["without"].as_str().unwrap().contains("train points"));
    // Nor does one whose pictures lead elsewhere by a link.
    #[cfg(unix)]
    {
        std::fs::remove_file(dir.join("in/data/classes.txt")).unwrap();
        std::os::unix::fs::symlink(dir.join("out/data/classes.txt"), dir.join("in/data/classes.txt")).unwrap();
        let server = Server::at(dir, "--run in");
        let answer = server.ask("/api/run", json!({"run": 0, "picture": 0}));
        assert!(answer["without"].as_str().unwrap().contains("outside"), "{answer}");
    }
    let (status, text) = server.post("/api/run", &json!({"run": 3, "picture": 0}).to_string());
    assert!(status == 404 && text.contains("no run 3"), "{status} {text}");
    assert_eq!(server.post("/api/run", &json!({"run": "../in", "picture": 0}).to_string()).0, 422);
    std::fs::write(dir.join("points/config.json"), "{").unwrap();
    let (status, text) = server.post("/api/run", &json!({"run": 2, "picture": 0}).to_string());
    assert!(status == 422 && !text.contains(&*dir.to_string_lossy()), "{status} {text}");
}

#[test]
fn attention_is_shown_of_the_shipped_model_and_of_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("text.txt"), "abcdefgh ".repeat(60)).unwrap();
    good(dir, "train gpt --data text.txt --steps 3 --batch 2 --layers 1 --heads 2 --width 8 --block 8 --out gpt");
    let pair = "in the beginning\ten el principio\n";
    std::fs::write(dir.join("pairs.tsv"), pair.repeat(20)).unwrap();
    good(dir, "train translate --data pairs.tsv --valid pairs.tsv --width 8 --epochs 1 --out translate");
    let server = Server::at(dir, "--run gpt --run translate");
    let question = |run: Value, text: &str, written: Value, layer: usize| json!({"run": run, "text": text, "written": written, "layer": layer, "head": 1, "temperature": 0.0, "seed": 0});
    let rows_of_one = |answer: &Value| {
        let map: Vec<f64> = answer["map"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        let columns = answer["columns"].as_array().unwrap().len();
        assert_eq!(map.len(), columns * answer["rows"].as_array().unwrap().len());
        assert!(map.chunks(columns).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-5), "{answer}");
        map
    };
    let answer = server.ask("/api/attention", question(Value::Null, "KING", json!([]), 1));
    let map = rows_of_one(&answer);
    assert_eq!(
        (&answer["layers"], &answer["heads"], &answer["rows"]),
        (&json!(2), &json!(4), &json!(["K", "I", "N", "G"]))
    );
    assert!(map[0] == 1.0 && map[1..4] == [0.0; 3], "the first token sees itself alone");
    let last: Vec<f64> = answer["last"][1][1].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
    assert_eq!(last, map[12..]);
    // Without a temperature the likeliest is taken, and taking it changes what is asked next.
    assert_eq!(answer["next"]["id"], answer["weighed"][0]["id"]);
    let next = answer["next"]["id"].clone();
    let answer = server.ask("/api/attention", question(Value::Null, "KING", json!([next]), 0));
    assert_eq!(answer["rows"].as_array().unwrap().len(), 5);

    let answer = server.ask("/api/attention", question(json!(0), "abc", json!([]), 0));
    assert_eq!((&answer["task"], answer["columns"].as_array().unwrap().len()), (&json!("gpt"), 3));
    rows_of_one(&answer);
    let answer = server.ask("/api/attention", question(json!(1), "the beginning", json!([]), 0));
    rows_of_one(&answer);
    assert_eq!((&answer["task"], &answer["rows"]), (&json!("translate"), &json!(["…"])));

    let refused = |ask: Value, status: u16, said: &str| {
        let (found, text) = server.post("/api/attention", &ask.to_string());
        assert!(found == status && text.contains(said), "{found} {text}");
        assert!(!text.contains(&*dir.to_string_lossy()), "{text}");
    };
    refused(question(json!(7), "a", json!([]), 0), 404, "no run 7");
    refused(question(Value::Null, "", json!([]), 0), 422, "empty");
    refused(question(Value::Null, "é", json!([]), 0), 422, "no character");
    refused(question(Value::Null, "a", json!([99999]), 0), 422, "99999");
    refused(question(Value::Null, "a", json!([-1]), 0), 422, "-1");
    refused(question(Value::Null, "a", json!([]), 9), 422, "there are 2 layers of 4 heads");
    refused(question(Value::Null, &"a".repeat(3000), json!([]), 0), 422, "at most 2000 bytes");
    let mut hot = question(Value::Null, "a", json!([]), 0);
    hot["temperature"] = json!(-1.0);
    refused(hot, 422, "temperature");
    std::fs::remove_file(dir.join("gpt/model.safetensors")).unwrap();
    std::fs::write(dir.join("gpt/checkpoint.safetensors"), "x").unwrap();
    std::fs::write(dir.join("gpt/checkpoint.previous.safetensors"), "x").unwrap();
    refused(question(json!(0), "abc", json!([]), 0), 422, "checkpoint");
}

#[test]
fn training_reaches_its_goal_among_200_clients() {
    let server = Server::start();
    let id = server.ask("/api/train", xor())["id"].as_u64().unwrap();
    let path = format!("/api/train/{id}");
    // One that says nothing, one that stops in the middle of a body, and one that watches and never reads.
    let silent = server.connect();
    let mut half = server.connect();
    write!(half, "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 99\r\n\r\n{{", server.port).unwrap();
    let mut watcher = server.connect();
    write!(watcher, "GET {path}/events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port).unwrap();
    server.ask(&path, json!({"do": "start"}));
    std::thread::scope(|scope| {
        let ask = || server.ask("/api/choose", json!({"values": [1.0, 3.0], "temperature": 1.0}));
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().for_each(|c| assert_eq!(c.join().unwrap()["max"], 3.0));
    });
    let begin = Instant::now();
    loop {
        let state: Value = serde_json::from_str(&server.get(&path, "").1).unwrap();
        if state["accuracy"].as_f64().unwrap() >= 0.95 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{state}");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop((silent, half, watcher));
}

#[test]
fn what_is_not_ours_or_no_request_is_refused_with_a_status() {
    let server = Server::start();
    let port = server.port;
    assert_eq!(server.get("/", "").0, 200);
    assert_eq!(server.get("/", &format!("Origin: http://127.0.0.1:{port}\r\n")).0, 200);
    assert_eq!(server.get("/", "Origin: http://example.org\r\n").0, 403);
    assert_eq!(server.get("/", "Origin: null\r\n").0, 403);
    assert_eq!(server.raw("GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n").0, 403);
    assert_eq!(server.raw("GET / HTTP/1.0\r\n\r\n").0, 403);
    for path in ["/../Cargo.toml", "/assets/..%2f..%2fCargo.toml", "/source/../../Cargo.toml", "/guide/%2e%2e/x", "/x"]
    {
        assert_eq!(server.get(path, "").0, 404, "{path}");
    }
    for (body, status) in [("{", 400), ("{}", 422), ("[1e999]", 400)] {
        assert_eq!(server.post("/api/choose", body).0, status, "{body}");
    }
    assert_eq!(server.post("/api/choose", &" ".repeat(70_000)).0, 413);
    let mut huge = xor();
    huge["hidden"] = json!([1_000_000_000]);
    let (status, text) = server.post("/api/train", &huge.to_string());
    assert!(status == 422 && text.contains("width 1000000000: expected 1 to 64"), "{status} {text}");
    let (status, text) = server.get("/api/train/999", "");
    assert!(status == 404 && text.contains("no training 999"), "{status} {text}");
    assert_eq!(server.post("/api/train/999", r#"{"do":"start"}"#).0, 404);
}
