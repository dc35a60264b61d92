//! `rushlight explain TOPIC`: what an operation is, its formula and gradient, its relations, and numbers computed on the spot.

mod choices;
mod gates;
mod layers;
mod windows;
mod worked;

use crate::Outcome;
use worked::Worked;

/// What there is to say of an operation.
struct Topic {
    name: &'static str,
    aliases: &'static [&'static str],
    /// Half a line.
    short: &'static str,
    /// Two or three sentences.
    what: &'static str,
    formula: &'static [&'static str],
    gradient: &'static [&'static str],
    relation: &'static str,
    examples: &'static [Worked],
    /// Where the library has it.
    call: &'static str,
}

/// All of them, in the order in which one leads to the next.
fn topics() -> impl Iterator<Item = &'static Topic> {
    windows::TOPICS.iter().chain(choices::TOPICS).chain(gates::TOPICS).chain(layers::TOPICS)
}

#[derive(clap::Args)]
pub struct Args {
    /// An operation, such as softmax; without one, all are listed
    topic: Vec<String>,
}

pub fn main(args: &Args) -> Outcome {
    if args.topic.is_empty() {
        let width = topics().map(|t| t.name.len()).max().unwrap_or(0);
        for topic in topics() {
            say!("{:<width$}  {}", topic.name, topic.short);
        }
        say!("\nrushlight explain TOPIC says more of one.");
        return Ok(());
    }
    let asked = args.topic.join(" ");
    match topics().find(|t| names(t).any(|n| plain(n) == plain(&asked))) {
        Some(topic) => print(topic),
        None => Err(unknown(&asked).into()),
    }
}

fn print(topic: &Topic) -> Outcome {
    say!("{}: {}\n", topic.name, topic.short);
    for line in wrapped(topic.what, 96) {
        say!("{line}");
    }
    for (title, lines) in [("Formula", topic.formula), ("Gradient", topic.gradient)] {
        say!("\n{title}");
        for line in lines {
            say!("  {line}");
        }
    }
    say!("\nRelation");
    for line in wrapped(topic.relation, 94) {
        say!("  {line}");
    }
    for example in topic.examples {
        say!("\nExample");
        example.print()?;
    }
    say!("\nIn the library: {}", topic.call);
    Ok(())
}

/// All names a topic goes by.
fn names(topic: &Topic) -> impl Iterator<Item = &'static str> {
    std::iter::once(topic.name).chain(topic.aliases.iter().copied())
}

/// A name without case, spaces and hyphens.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Says that there is no such topic, and which are near it, the nearest first.
fn unknown(asked: &str) -> String {
    let word = plain(asked);
    let far = |topic: &Topic| {
        let to = |name: &str| if name.contains(&word) { 0 } else { distance(&word, name) };
        names(topic).map(|n| to(&plain(n))).min().unwrap_or(usize::MAX)
    };
    let mut near: Vec<(usize, &str)> = topics().map(|t| (far(t), t.name)).collect();
    near.retain(|(d, _)| !word.is_empty() && *d <= word.chars().count().div_ceil(3));
    near.sort_by_key(|(d, _)| *d);
    let near: Vec<&str> = near.iter().take(3).map(|(_, name)| *name).collect();
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    format!("explain: no topic '{asked}'{hint} (rushlight explain lists all)")
}

/// How many letters must be changed, added or taken out to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// Text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("", "ab", 2), ("max", "max", 0), ("sofmax", "softmax", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    #[test]
    fn no_two_topics_share_a_name() {
        let mut all: Vec<String> = topics().flat_map(names).map(plain).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    /// A gradient that is printed is the slope that is there.
    #[test]
    fn every_example_agrees_with_its_differences_and_relations() {
        for topic in topics() {
            assert!(!topic.examples.is_empty(), "{}", topic.name);
            for example in topic.examples {
                let numbers = example.compute().unwrap_or_else(|e| panic!("{}: {e}", topic.name));
                assert!(numbers.apart < 1e-6, "{}: {}", topic.name, numbers.apart);
                for (name, same) in &numbers.same {
                    let (y, same) = (numbers.y.to_f64_vec().unwrap(), same.to_f64_vec().unwrap());
                    let far = y.iter().zip(&same).any(|(a, b)| (a - b).abs() > 1e-9);
                    assert!(y.len() == same.len() && !far, "{}: {name}: {same:?}, not {y:?}", topic.name);
                }
            }
        }
    }

    #[test]
    fn lines_are_no_longer_than_asked() {
        assert_eq!(wrapped("a bc def g", 4), ["a bc", "def", "g"]);
        assert_eq!(wrapped("μμμμ ab", 4), ["μμμμ", "ab"]);
    }
}
