//! Trainings that are killed at any moment, run out of disk or lose the right to write: what is gone on with ends as a
//! run left alone, to the last bit.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::helpers::*;

/// Short epochs, each with a checkpoint, so that many kills meet one that is being written.
const LINE: &str = "train points --set spiral --points 40 --batch 8 --hidden 24";
const EPOCHS: usize = if cfg!(debug_assertions) { 24 } else { 80 };

/// A new run, or the way on with the one that is there.
fn way_on(dir: &Path, run: &str) -> String {
    match dir.join(run).join("config.json").exists() {
        true => format!("train points --resume {run} --threads 1"),
        false => format!("{LINE} --epochs {EPOCHS} --out {run} --threads 1"),
    }
}

/// Random moments of a training's whole time.
struct Moments {
    time: Duration,
    noise: u64,
}

impl Moments {
    /// Of trainings as long as that of `whole`, which is made here.
    fn of(dir: &Path, whole: &str) -> Moments {
        let begin = Instant::now();
        good(dir, &way_on(dir, whole));
        Moments { time: begin.elapsed(), noise: SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 }
    }

    fn wait_for_next(&mut self) {
        self.noise = self.noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(self.time.mul_f64((self.noise >> 40) as f64 / (1 << 24) as f64));
    }
}

/// Kills trainings `kills` times, each at a random moment of its whole time, until each has come to its end.
fn killed(kills: usize) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut moments = Moments::of(dir, "whole");
    let whole = dir.join("whole");
    let (mut done, mut runs, mut unfinished, mut unmade, mut late) = (0, 0, 0, 0, 0);
    while done < kills {
        let run = format!("run-{runs}");
        loop {
            let mut child =
                command(dir, &way_on(dir, &run)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            if done < kills {
                moments.wait_for_next();
                let ended = child.try_wait().unwrap().is_some();
                child.kill().unwrap();
                done += usize::from(!ended);
                late += usize::from(ended);
            }
            let said = Said::from(child.wait_with_output().unwrap());
            if said.code == Some(0) {
                break;
            }
            assert_eq!(said.code, None, "{}", said.err);
            let left = if dir.join(&run).exists() { names(&dir.join(&run)) } else { vec![] };
            unfinished += usize::from(left.iter().any(|name| name.ends_with(".tmp")));
            unmade += usize::from(!left.contains(&"config.json".to_string()));
        }
        let run = dir.join(run);
        // A run that was killed at its very end has its network already; once more, for the pictures.
        good(dir, &format!("train points --resume {}", run.display()));
        assert_same_run(&whole, &run);
        assert_eq!(names(&whole), names(&run), "what was unfinished is gone");
        fs::remove_dir_all(run).unwrap();
        runs += 1;
    }
    println!(
        "{done} kills in {runs} runs of {:.2} s: {unfinished} left an unfinished file, {unmade} came before there was a \
         run, and {late} more came after the end; all {runs} ended with the same bits",
        moments.time.as_secs_f64()
    );
}

#[test]
fn killed_at_random_moments() {
    killed(8);
}

/// `scripts/kill_test.sh`.
#[test]
#[ignore = "takes minutes"]
fn killed_at_200_random_moments() {
    killed(200);
}

/// A file system of some KiB, gone when dropped. Mounting one takes root: `None` elsewhere.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Option<Small> {
        fs::create_dir(&at).unwrap();
        mount(&["-t", "tmpfs", "-o", size, "tmpfs"], &at).then_some(Small(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    Command::new("mount").args(options).arg(at).output().is_ok_and(|o| o.status.success())
}

/// Files in the way leave less and less room; each time the run says which file, and goes on when there is room again.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_full_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(small) = Small::mount(dir.join("small"), "size=2m") else {
        eprintln!("skipped: a file system of its own takes the right to mount one");
        return;
    };
    good(dir, &way_on(dir, "whole"));
    let filler = small.0.join("filler");
    let mut refusals = 0;
    for room in [4, 12, 20, 28, 36, 44, 60, 90] {
        fs::write(&filler, vec![1; (2048 - room) << 10]).ok();
        let said = run(dir, &way_on(dir, "small/run"));
        if said.code != Some(0) {
            assert_eq!(said.code, Some(1), "{}", said.err);
            assert!(said.err.starts_with("error: small/run/"), "{}", said.err);
            assert!(said.err.contains("No space left on device"), "{}", said.err);
            refusals += 1;
        }
        fs::remove_file(&filler).unwrap();
    }
    good(dir, &way_on(dir, "small/run"));
    assert_same_run(&dir.join("whole"), &small.0.join("run"));
    assert!(refusals > 3, "{refusals}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_becomes_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &way_on(dir, "whole"));
    let mut child = command(dir, &way_on(dir, "run")).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    while !dir.join("run/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    // Root may write to any folder, but not through a read-only mount.
    fs::create_dir(dir.join("locked")).unwrap();
    let locked = Small(dir.join("locked"));
    let source = dir.join("run").display().to_string();
    if !mount(&["--bind", &source], &locked.0) || !mount(&["-o", "remount,bind,ro"], &locked.0) {
        eprintln!("skipped: a read-only folder for root takes the right to mount one");
    } else {
        let before = snapshot(&dir.join("run"));
        let said = run(dir, "train points --resume locked");
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.starts_with("error: locked/metrics.jsonl: Read-only file system"), "{}", said.err);
        assert!(before == snapshot(&dir.join("run")));
    }
    drop(locked);
    good(dir, "train points --resume run");
    assert_same_run(&dir.join("whole"), &dir.join("run"));
}

/// Lets trainings in `at` meet a fault `times` times, each at a random moment of its whole time, and go on when it is over.
/// Each is to end with a sentence that says which file, and why (`says`). How many left an unfinished file behind.
fn refused(
    dir: &Path,
    at: &str,
    times: usize,
    says: &str,
    start: impl Fn(&str) -> Command,
    fault: impl Fn(&Path),
    end: impl Fn(&Path),
) -> usize {
    let mut moments = Moments::of(dir, "whole");
    let whole = dir.join("whole");
    let (mut done, mut runs, mut unmade, mut unfinished, mut late) = (0, 0, 0, 0, 0);
    while done < times {
        let run = format!("{at}/run-{runs}");
        loop {
            let child = start(&way_on(dir, &run)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let more = done < times;
            if more {
                moments.wait_for_next();
                fault(&dir.join(&run));
            }
            let said = Said::from(child.wait_with_output().unwrap());
            let left = if dir.join(&run).exists() { names(&dir.join(&run)) } else { vec![] };
            if more {
                end(&dir.join(&run));
            }
            if said.code == Some(0) {
                late += usize::from(more);
                break;
            }
            assert!(more && said.code == Some(1), "{:?}: {}", said.code, said.err);
            // A warning may stand before it: that of two names only one was changed, and the checkpoint before is used.
            let error = said.err.lines().find(|line| line.starts_with(&format!("error: {run}")));
            assert!(error.is_some_and(|line| line.contains(says)), "{}", said.err);
            done += 1;
            unfinished += usize::from(left.iter().any(|name| name.ends_with(".tmp")));
            unmade += usize::from(!left.contains(&"config.json".to_string()));
        }
        let run = dir.join(run);
        assert_same_run(&whole, &run);
        assert_eq!(names(&whole), names(&run));
        fs::remove_dir_all(run).unwrap();
        runs += 1;
    }
    println!(
        "{done} times \"{says}\" in {runs} runs of {:.2} s: {unmade} came before there was a run, {unfinished} left an \
         unfinished file, and {late} more came after the last write; all {runs} ended with the same bits",
        moments.time.as_secs_f64()
    );
    unfinished
}

/// Files fill the disk to its last page.
fn full_disks(times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(small) = Small::mount(dir.join("small"), "size=4m") else {
        eprintln!("skipped: a file system of its own takes the right to mount one");
        return;
    };
    let filler = small.0.join("filler");
    let fill = |_: &Path| {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    let empty = |_: &Path| fs::remove_file(&filler).unwrap();
    let unfinished = refused(dir, "small", times, "No space left on device", |line| command(dir, line), fill, empty);
    assert_eq!(unfinished, 0, "what is refused removes what it wrote");
}

/// The run's folder and the one around it lose the right to write.
fn locked_folders(times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let allow = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let ours = dir.join("ours");
    fs::create_dir(&ours).unwrap();
    // Root may write anywhere, so the trainings are another user's.
    let nobody = (fs::metadata(dir).unwrap().uid() == 0).then_some(65534);
    let program = dir.join("rushlight");
    if nobody.is_some() {
        fs::copy(env!("CARGO_BIN_EXE_rushlight"), &program).unwrap();
        allow(dir, 0o755);
        std::os::unix::fs::chown(&ours, nobody, nobody).unwrap();
    }
    let start = |line: &str| match nobody {
        Some(user) => {
            let mut command = Command::new(&program);
            command.args(line.split_whitespace()).current_dir(dir).uid(user);
            command
        }
        None => command(dir, line),
    };
    let lock = |run: &Path| {
        allow(&ours, 0o555);
        run.exists().then(|| allow(run, 0o555));
    };
    let open = |run: &Path| {
        allow(&ours, 0o755);
        run.exists().then(|| allow(run, 0o755));
    };
    // What is being written can then be neither finished nor removed.
    refused(dir, "ours", times, "Permission denied", start, lock, open);
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_full_at_random_moments() {
    full_disks(4);
}

#[test]
fn a_folder_locked_at_random_moments() {
    locked_folders(4);
}

/// `scripts/kill_test.sh`.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "takes minutes"]
fn a_disk_full_at_50_random_moments() {
    full_disks(50);
}

/// `scripts/kill_test.sh`.
#[test]
#[ignore = "takes minutes"]
fn a_folder_locked_at_50_random_moments() {
    locked_folders(50);
}
