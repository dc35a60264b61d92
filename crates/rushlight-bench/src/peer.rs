//! Who is measured: one process each, asked one row at a time.
//!
//! We are one of them, so that our memory is counted as theirs is, and a row that fails takes nothing with it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Outcome;
use crate::serve::{Answer, Hello};

/// A running server of the line protocol.
pub struct Peer {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its name in the table.
    pub title: String,
    /// What it said about itself.
    pub hello: Hello,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Keeps memory that was freed in the process instead of giving it back to the system after each step, as glibc does
/// with large blocks: every step would pay for its pages anew.
const TUNED: [(&str, &str); 3] =
    [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "17179869184"), ("MALLOC_TOP_PAD_", "268435456")];

/// The peers that are wanted, as the command line says it.
pub struct Wanted<'a> {
    pub torch: Option<&'a Path>,
    pub candle: bool,
    pub burn: bool,
    pub threads: usize,
    pub seconds: f64,
}

impl Wanted<'_> {
    /// Builds what must be built, then starts all of them, ourselves first.
    pub fn start(&self) -> Outcome<Vec<Peer>> {
        let (threads, seconds) = (self.threads.to_string(), self.seconds.to_string());
        let exe = std::env::current_exe()?;
        let mut ours = Command::new(&exe);
        ours.args(["--serve", "--threads", &threads, "--seconds", &seconds]);
        let mut commands = vec![("rushlight", "Rushlight", ours)];
        if let Some(python) = self.torch {
            let torch = || {
                let mut command = Command::new(python);
                command.arg(here().join("torch_rows.py")).args([&threads, &seconds]);
                command
            };
            let mut tuned = torch();
            tuned.envs(TUNED);
            commands.extend([("torch", "PyTorch", torch()), ("torch_tuned", "tuned", tuned)]);
        }
        for (wanted, name) in [(self.candle, "candle"), (self.burn, "burn")] {
            if wanted {
                let mut command = Command::new(build(name, &exe)?);
                // What their thread pools ask.
                command.args([&threads, &seconds]).env("RAYON_NUM_THREADS", &threads);
                command.env("MATMUL_NUM_THREADS", &threads);
                commands.push((name, name, command));
            }
        }
        commands.into_iter().map(|(key, title, command)| Peer::start(key, title, command)).collect()
    }
}

/// The folder of this crate, with the scripts and peers in it.
fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Builds `peers/NAME`, which is no part of the workspace, and gives its program. `RUSTFLAGS` count, as always.
fn build(name: &str, exe: &Path) -> Outcome<PathBuf> {
    let manifest = here().join("peers").join(name).join("Cargo.toml");
    // Beside ours: target/release/rushlight-bench, target/peers/release/NAME-rows.
    let target = exe.ancestors().nth(2).ok_or("this program lies in no target folder")?.join("peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(&manifest).arg("--target-dir").arg(&target);
    if !command.status()?.success() {
        return Err(format!("cannot build {}", manifest.display()).into());
    }
    Ok(target.join("release").join(format!("{name}-rows{}", std::env::consts::EXE_SUFFIX)))
}

impl Peer {
    fn start(key: &'static str, title: &str, mut command: Command) -> Outcome<Peer> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", command.get_program().display()))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let mut answers = BufReader::new(answers);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let hello = serde_json::from_str(&line).map_err(|e| {
            let _ = (child.kill(), child.wait());
            let said = if line.is_empty() { "it has ended".to_string() } else { format!("{:?}: {e}", line.trim_end()) };
            format!("{} does not say who it is: {said}", command.get_program().display())
        })?;
        Ok(Peer { key, title: title.to_string(), hello, child, questions, answers })
    }

    /// Whether it has the row.
    pub fn has(&self, row: &str) -> bool {
        self.hello.rows.iter().any(|r| r == row)
    }

    /// Has it run a row, and waits.
    pub fn ask(&mut self, row: &str) -> Answer {
        self.try_ask(row).unwrap_or_else(|error| Answer::Failed { row: row.to_string(), error })
    }

    fn try_ask(&mut self, row: &str) -> Result<Answer, String> {
        let mut ended = || match self.child.try_wait() {
            Ok(Some(status)) => format!("the process has ended: {status}"),
            _ => "the process does not answer".to_string(),
        };
        let mut line = String::new();
        let asked = writeln!(self.questions, "{row}").and_then(|()| self.answers.read_line(&mut line));
        if !matches!(asked, Ok(n) if n > 0) {
            // It closes its pipes a little before it is gone.
            std::thread::sleep(std::time::Duration::from_millis(100));
            return Err(ended());
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Measured { row: other, .. } | Answer::Failed { row: other, .. }) if other != row => {
                Err(format!("it answered for {other}"))
            }
            Ok(answer) => Ok(answer),
            Err(e) => Err(format!("it answered {:?}: {e}", line.trim_end())),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
