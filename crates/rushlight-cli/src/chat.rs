//! `rushlight chat MODEL`: a talk with a model, line by line.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use rushlight_models::text::{ChatTemplate, Message};

use crate::Outcome;
use crate::language::Opened;
use crate::writer::{Kv, SamplingArgs, Writer};

#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file of a Llama, or a folder with config.json, safetensors, tokenizer.json and tokenizer_config.json
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What the model is told before the talk begins
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tokens of an answer at most
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    num: usize,
    /// Tokens of the talk that the model keeps in mind; of a longer one the oldest part is forgotten
    #[arg(long, value_name = "N", default_value_t = 2048)]
    context: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What keys and values of the text so far are kept as
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Threads to use [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Where the talk is, for Ctrl-C: it stops an answer, and ends the program while it waits for a line.
static STATE: AtomicU8 = AtomicU8::new(WAITING);
const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

fn catch_interrupt() {
    let _ = ctrlc::set_handler(|| {
        if STATE.compare_exchange(ANSWERING, STOPPING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            eprintln!();
            std::process::exit(130);
        }
    });
}

/// A talk so far.
struct Talk<'a> {
    opened: &'a Opened,
    template: &'a ChatTemplate,
    messages: Vec<Message>,
    /// Tokens in all, and those of them that an answer may need.
    context: usize,
    num: usize,
    kv: Kv,
    writer: Option<Writer<'a>>,
}

impl Talk<'_> {
    fn tokens(&self) -> Outcome<Vec<i64>> {
        Ok(self.opened.tokenizer.encode_marked(&self.template.render(&self.messages)?)?)
    }

    /// Reads the talk to its end. One that leaves no room for an answer forgets its oldest question with the answer; the
    /// number of messages forgotten is returned.
    ///
    /// Errors: no room for the last message even so.
    fn read(&mut self) -> Outcome<usize> {
        let first = self.messages.iter().take_while(|m| m.role == "system").count();
        let mut forgotten = 0;
        let tokens = loop {
            let tokens = self.tokens()?;
            if tokens.len() + self.num <= self.context {
                break tokens;
            }
            if self.messages.len() <= first + 1 {
                let (n, room) = (tokens.len(), self.context.saturating_sub(self.num));
                let message =
                    format!("{n} tokens, where {room} of --context {} leave room for an answer", self.context);
                return Err(format!("the message is too long: {message} (-n {})", self.num).into());
            }
            let pair = self.messages[first + 1..].iter().take_while(|m| m.role == "assistant").count() + 1;
            self.messages.drain(first..first + pair);
            forgotten += pair;
        };
        match &mut self.writer {
            Some(writer) => writer.turn_to(tokens)?,
            None => {
                let room = self.context - tokens.len();
                self.writer = Some(Writer::new(&*self.opened.model, tokens, room, self.kv)?)
            }
        }
        Ok(forgotten)
    }
}

pub fn main(args: &Args) -> Outcome {
    let sampling = args.sampling.check()?;
    if let Some(threads) = args.threads {
        rushlight::set_num_threads(threads).map_err(|e| format!("--threads {threads}: {e}"))?;
    }
    let opened = Opened::open(&args.model)?;
    let Some(template) = &opened.chat else {
        let path = args.model.display();
        return Err(format!("{path} has no chat template: it continues texts (rushlight generate {path})").into());
    };
    let context = args.context.min(opened.model.context());
    if args.num == 0 || args.num >= context {
        let message = format!("-n {}: expected 1 to {}, for a talk of {context} tokens", args.num, context - 1);
        return Err(message.into());
    }
    let messages: Vec<Message> = args.system.iter().map(|text| Message::new("system", text)).collect();
    let mut talk = Talk { opened: &opened, template, messages, context, num: args.num, kv: args.kv, writer: None };
    let mut generator = args.sampling.generator();
    catch_interrupt();
    let (mut lines, asks) = (std::io::stdin().lock(), std::io::stdin().is_terminal());
    let mut out = std::io::stdout().lock();
    if asks {
        eprintln!("a line is a message; Ctrl-C stops an answer, Ctrl-D ends the talk");
    }
    loop {
        STATE.store(WAITING, Ordering::SeqCst);
        if asks {
            eprint!("> ");
        }
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        STATE.store(ANSWERING, Ordering::SeqCst);
        talk.messages.push(Message::new("user", line.trim()));
        let forgotten = match talk.read() {
            Ok(forgotten) => forgotten,
            // One may say it in fewer words; a script is told that it failed.
            Err(e) if asks => {
                eprintln!("error: {e}");
                talk.messages.pop();
                continue;
            }
            Err(e) => return Err(e),
        };
        if forgotten > 0 {
            eprintln!("(the talk is long: its oldest {forgotten} messages are forgotten)");
        }
        let writer = talk.writer.as_mut().ok_or("nothing was read")?;
        let (mut stream, mut answer) = (opened.tokenizer.stream(), String::new());
        let (begin, mut written) = (Instant::now(), 0);
        while written < args.num && STATE.load(Ordering::SeqCst) == ANSWERING {
            let id = writer.next(&sampling, &mut generator)?;
            if opened.eos.contains(&id) {
                break;
            }
            written += 1;
            let piece = stream.push(id)?;
            write!(out, "{piece}")?;
            out.flush()?;
            answer += &piece;
        }
        let rest = stream.finish()?;
        writeln!(out, "{rest}")?;
        answer += &rest;
        if asks {
            let seconds = begin.elapsed().as_secs_f64();
            eprintln!("({written} tokens, {:.0} a second)", written as f64 / seconds.max(1e-9));
        }
        talk.messages.push(Message::new("assistant", answer));
    }
}
