//! Questions about a model of sentences, for `scripts/compare_minilm.py`: a line of JSON in, a line of JSON out.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use rushlight_models::SentenceEncoder;
use serde::Deserialize;
use serde_json::json;

use crate::Outcome;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Question {
    /// The vectors of texts.
    Vectors { texts: Vec<String> },
    /// The seconds that the vectors of texts take, with their tokens or without.
    Speed { texts: Vec<String>, tokenize: bool },
}

/// Answers until the input ends.
pub fn serve(model: &Path, threads: usize) -> Outcome {
    rushlight::set_num_threads(threads)?;
    let encoder = SentenceEncoder::from_pretrained(model)?;
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Question::Vectors { texts } => {
                let vectors = encoder.embed(&texts)?.to_vec::<f32>()?;
                json!(vectors.chunks(encoder.width()).collect::<Vec<_>>())
            }
            Question::Speed { texts, tokenize } => {
                let ids = encoder.tokens(&texts)?;
                let begin = Instant::now();
                let vectors = if tokenize { encoder.embed(&texts)? } else { encoder.embed_tokens(&ids)? };
                vectors.select(0, 0)?.to_vec::<f32>()?;
                json!(begin.elapsed().as_secs_f64())
            }
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
