//! How cost grows, as a picture of what `--growth` has measured: time against context and batch, attention's memory.

use std::path::Path;

use serde_json::Value;

use crate::Outcome;
use crate::lines::{Axis, BLUE, Curve, GREEN, ORANGE, Panel};
use crate::rows::growth::BATCH;

/// Adds the rows of an earlier run in the file `path`, if it is there, to those of `json`, so that all can be measured
/// in pieces.
pub fn keep_others(json: &mut Value, path: &Path) -> Outcome {
    let Ok(old) = std::fs::read_to_string(path) else { return Ok(()) };
    let old: Value = serde_json::from_str(&old).map_err(|e| format!("{}: {e}", path.display()))?;
    let Some(rows) = json["rows"].as_array_mut() else { return Ok(()) };
    let names: Vec<Value> = rows.iter().map(|r| r["name"].clone()).collect();
    rows.extend(old["rows"].as_array().into_iter().flatten().filter(|r| !names.contains(&r["name"])).cloned());
    Ok(())
}

/// A row's name taken apart: what it is, its batch and its places.
fn parts(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, places) = name.strip_prefix("growth_")?.rsplit_once("_T")?;
    let (kind, batch) = rest.split_once("_B").unwrap_or((rest, "1"));
    Some((kind, batch.parse().ok()?, places.parse().ok()?))
}

/// What `value` gives for each row that `place` gives a place to, in their order: the least over `who`, keys of its times.
fn points(
    json: &Value,
    who: &[&str],
    place: impl Fn(&str, usize, usize) -> Option<usize>,
    value: impl Fn(&Value) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let one = |row: &Value| {
        let (kind, batch, places) = parts(row["name"].as_str()?)?;
        Some((place(kind, batch, places)? as f64, who.iter().filter_map(|w| value(&row["times"][w])).reduce(f64::min)?))
    };
    let mut points: Vec<(f64, f64)> = json["rows"].as_array().into_iter().flatten().filter_map(one).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn seconds(times: &Value) -> Option<f64> {
    times["best"].as_f64()
}

/// MiB that came to what the process held before.
fn memory(times: &Value) -> Option<f64> {
    Some((times["peak_rss"].as_f64()? - times["base_rss"].as_f64()?) / f64::from(1 << 20))
}

/// The picture, of `report.json()`.
pub fn svg(json: &Value) -> String {
    let context = |kind: &str, batch, places| (kind == "gpt" && batch == BATCH).then_some(places);
    let batch = |kind: &str, batch, places| (kind == "gpt" && places == 128).then_some(batch);
    let attention = |wanted: &'static str| move |kind: &str, _, places| (kind == wanted).then_some(places);
    let curve = |label: &str, colour, points| Curve { label: label.to_string(), colour, dots: true, points };
    let both = |f: &dyn Fn(&[&str]) -> Vec<(f64, f64)>| {
        vec![curve("Rushlight", BLUE, f(&["rushlight"])), curve("PyTorch", ORANGE, f(&["torch", "torch_tuned"]))]
    };
    let time = |v: f64| if v < 1.0 { format!("{:.0} ms", 1e3 * v) } else { format!("{v:.0} s") };
    let size = |v: f64| if v < 1024.0 { format!("{v:.0} MiB") } else { format!("{:.0} GiB", v / 1024.0) };
    let panel = |title: &str, x: &str, base, written: &dyn Fn(f64) -> String, curves: Vec<Curve>| {
        let all: Vec<(f64, f64)> = curves.iter().flat_map(|c| c.points.clone()).collect();
        let x = Axis::log(x, 2.0, all.iter().map(|p| p.0), |v| format!("{v}"));
        let y = Axis::log("", base, all.iter().map(|p| p.1), written);
        Panel { title: title.to_string(), x, y, curves }
    };
    let mut held = both(&|who| points(json, who, attention("attention"), memory));
    held.push(curve("weights kept", GREEN, points(json, &["rushlight"], attention("kept"), memory)));
    let panels = [
        panel(
            &format!("Time of a step, batch {BATCH}"),
            "places of a context",
            2.0,
            &time,
            both(&|who| points(json, who, context, seconds)),
        ),
        panel("Time of a step, contexts of 128", "batch", 2.0, &time, both(&|who| points(json, who, batch, seconds))),
        panel("Attention's memory, forward and back", "places", 4.0, &size, held),
    ];
    let machine = &json["machine"];
    let place = format!(
        "GPT of 6 layers, 6 heads, width 384; attention of 6 heads of 64. {}, threads: {}, {}. PyTorch {}, the better of as \
         installed and with a tuned malloc.",
        machine["cpu"].as_str().unwrap_or_default(),
        machine["threads"],
        machine["date"].as_str().unwrap_or_default(),
        json["peers"]["torch"]["version"].as_str().unwrap_or("not measured"),
    );
    crate::lines::svg("How cost grows", &place, &panels, 1.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_two_runs_make_one_picture() {
        assert_eq!(parts("growth_gpt_B4_T256"), Some(("gpt", 4, 256)));
        assert_eq!(parts("growth_kept_T512"), Some(("kept", 1, 512)));
        assert_eq!(parts("gpt_char"), None);
        let row = |name: &str, best: f64| {
            let times = json!({ "best": best, "peak_rss": 3 << 20, "base_rss": 1 << 20 });
            json!({ "name": name, "times": { "rushlight": times, "torch_tuned": { "error": "no" } } })
        };
        let dir = std::env::temp_dir().join(format!("rushlight-growth-{}.json", std::process::id()));
        let old = json!({ "rows": [row("growth_gpt_B4_T256", 2.0), row("growth_gpt_B4_T128", 9.0)] });
        std::fs::write(&dir, old.to_string()).unwrap();
        let mut json = json!({ "rows": [row("growth_gpt_B4_T128", 1.0), row("growth_attention_T512", 1.0)] });
        keep_others(&mut json, &dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let context = |kind: &str, batch, places| (kind == "gpt" && batch == 4).then_some(places);
        assert_eq!(points(&json, &["rushlight"], context, seconds), [(128.0, 1.0), (256.0, 2.0)]);
        assert!(points(&json, &["torch_tuned"], context, seconds).is_empty());
        let held = |kind: &str, _, places| (kind == "attention").then_some(places);
        assert_eq!(points(&json, &["rushlight"], held, memory), [(512.0, 2.0)]);
        // Two places against T, one against the batch, one of attention.
        assert_eq!(svg(&json).matches("<circle").count(), 4);
    }
}
