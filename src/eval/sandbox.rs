//! Runs Python programs that nobody has read, where they can do no harm.
//!
//! A program gets a process of its own in bubblewrap (`bwrap`): the system's programs to read and
//! nothing to write, no network, no other process, no file and no variable of the user's, and no
//! privileges. It may not start processes or threads, and has limits of time, memory and output.
//! Knows no data set; what a program is for is its caller's.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

/// What one program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds of the processor. What a slow or busy machine needs does not count here, so that
    /// the outcome depends on it as little as may be.
    pub seconds: u64,
    /// How long it may take on the clock.
    pub wall: Duration,
    /// Bytes of address space.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seconds: 5, wall: Duration::from_secs(30), memory: 1 << 30 }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its last line.
    Passed,
    /// It did not; the end of what it wrote to the standard error.
    Failed(String),
    /// It was stopped at a limit of time.
    TimedOut,
}

/// Why programs cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no bubblewrap.
    #[error(
        "programs that a model wrote are run in bubblewrap only, and `{program}` does not start: \
         {source}; install the package `bubblewrap` (it is for Linux), or leave this task out"
    )]
    NoBubblewrap {
        /// The command tried.
        program: String,
        /// What happened.
        source: io::Error,
    },
    /// It is there, but the first program, which tries the walls, did not pass.
    #[error(
        "the sandbox for programs that a model wrote does not hold or does not start here: {said}; \
         it needs user namespaces (kernel.unprivileged_userns_clone, user.max_user_namespaces, \
         or a container that allows them) and Python 3 in /usr; or leave this task out"
    )]
    Unsound {
        /// What the program, or bubblewrap itself, said.
        said: String,
    },
    /// A run broke off for a reason that has nothing to do with its program.
    #[error("a program's sandbox broke: {0}")]
    Io(#[from] io::Error),
}

/// A way to run programs that has been tried.
#[derive(Clone, Debug)]
pub struct Sandbox {
    bwrap: String,
}

/// Nobody's number, as on every Linux: root is exempt from the limit on processes.
#[cfg(unix)]
const NOBODY: u32 = 65534;

/// A system's programs and libraries, where it keeps them. Nothing here is a user's.
const SYSTEM: [&str; 6] =
    ["/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/nix/store"];

/// How much of what a program writes is kept.
const KEPT: usize = 4096;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What runs first: it passes only where all walls stand.
const PROBE: &str = r#"
import os, socket
def refused(what, *args):
    try:
        what(*args)
    except OSError:
        return
    raise AssertionError(f"{what.__name__}{args} is allowed")
refused(os.fork)
refused(open, "/written", "w")
refused(os.listdir, "/home")
assert [name for _, name in socket.if_nameindex()] == ["lo"], "a network is there"
assert not set(os.environ) & {"HOME", "USER"}, "variables of the user are there"
"#;

impl Sandbox {
    /// Finds bubblewrap and tries the walls with a program.
    ///
    /// # Errors
    /// If there is none or a wall is missing, with what to do about it.
    pub fn find() -> Result<Self, SandboxError> {
        Self::at("bwrap")
    }

    fn at(bwrap: &str) -> Result<Self, SandboxError> {
        let sandbox = Self { bwrap: bwrap.to_owned() };
        match sandbox.run(PROBE, &Limits::default()) {
            Ok(Outcome::Passed) => Ok(sandbox),
            Ok(Outcome::Failed(said)) => Err(SandboxError::Unsound { said }),
            Ok(Outcome::TimedOut) => {
                Err(SandboxError::Unsound { said: "the first program took too long".to_owned() })
            }
            Err(SandboxError::Io(source)) => {
                Err(SandboxError::NoBubblewrap { program: bwrap.to_owned(), source })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a program to its end or its limits.
    ///
    /// # Errors
    /// If it could not be started or watched; never because of what it does.
    pub fn run(&self, program: &str, limits: &Limits) -> Result<Outcome, SandboxError> {
        // The program's own exit status proves nothing: it can leave before its tests.
        let done = format!("done {}", uuid::Uuid::new_v4());
        let job = json!({
            "program": program,
            "done": done,
            "limits": {
                "RLIMIT_CPU": limits.seconds,
                "RLIMIT_AS": limits.memory,
                "RLIMIT_NPROC": 1,
                "RLIMIT_FSIZE": 0,
                "RLIMIT_NOFILE": 64,
                "RLIMIT_CORE": 0,
            },
        });
        let deadline = Instant::now() + limits.wall;
        let mut running = Running(self.command().spawn()?);
        let mut input = running.0.stdin.take().expect("it is piped");
        let output = running.0.stdout.take().expect("it is piped");
        let errors = running.0.stderr.take().expect("it is piped");
        thread::scope(move |scope| {
            // One that ends early does not read it all.
            scope.spawn(move || input.write_all(job.to_string().as_bytes()));
            let said = scope.spawn(move || tail(output));
            let complained = scope.spawn(move || tail(errors));
            let ended = wait(&mut running.0, deadline);
            // With the sandbox its processes end, and with them the pipes.
            drop(running);
            let said = said.join().expect("reading does not panic");
            let complained = complained.join().expect("reading does not panic");
            Ok(match ended? {
                Some(_) if said.ends_with(done.as_bytes()) => Outcome::Passed,
                Some(status) if !out_of_time(status) => {
                    let text = String::from_utf8_lossy(&complained).trim().to_owned();
                    Outcome::Failed(if text.is_empty() { status.to_string() } else { text })
                }
                _ => Outcome::TimedOut,
            })
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.bwrap);
        command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        command.args(["--ro-bind", "/usr", "/usr"]);
        for path in SYSTEM {
            command.args(["--ro-bind-try", path, path]);
        }
        command.args(["--remount-ro", "/", "--chdir", "/"]);
        // Without what a user may have installed, and without leaving compiled files.
        command.args(["python3", "-s", "-B", "-X", "utf8", "-c", include_str!("sandbox.py")]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        // The order of sets is the same in every run.
        command.env("PYTHONHASHSEED", "0");
        command.current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        if is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// Who owns a process is who owns its entry in `/proc`.
#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// A sandbox that ends when it is no longer wanted, and with it all that runs in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the end; `None` if it did not come in time.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    Ok(None)
}

/// Whether the kernel stopped it for the processor's time; bubblewrap says which signal ended its
/// child as a shell does. The hard limit is as low as the soft one, so it is SIGKILL as well.
fn out_of_time(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    status.code().is_some_and(|code| code == 128 + SIGXCPU || code == 128 + SIGKILL)
}

/// Reads all there is and keeps the end of it.
fn tail(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; KEPT]);
    // A pipe that breaks has ended.
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Where there is no sandbox, its refusal must say what to install. `.ci/run` sets the variable
    /// where there is one, so that these tests do not pass without it by mistake.
    fn sandbox() -> Option<Sandbox> {
        match Sandbox::find() {
            Ok(sandbox) => Some(sandbox),
            Err(error) => {
                let text = error.to_string();
                assert!(std::env::var_os("TUTTI_TEST_SANDBOX").is_none(), "{text}");
                assert!(text.contains("bubblewrap") || text.contains("user namespaces"), "{text}");
                None
            }
        }
    }

    const SHORT: Limits = Limits { seconds: 1, wall: Duration::from_secs(20), memory: 256 << 20 };

    #[track_caller]
    fn run(program: &str) -> Option<Outcome> {
        sandbox().map(|sandbox| sandbox.run(program, &SHORT).unwrap())
    }

    /// Checks that the program fails with these words.
    #[track_caller]
    fn fails(program: &str, words: &str) {
        match run(program) {
            None => {}
            Some(Outcome::Failed(said)) => assert!(said.contains(words), "{said}"),
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_passes_only_if_it_runs_to_its_end() {
        let Some(sandbox) = sandbox() else { return };
        let run = |program| sandbox.run(program, &SHORT).unwrap();
        assert_eq!(run("assert 1 + 1 == 2\nprint('\\u00e9', end='')"), Outcome::Passed);
        for (program, words) in [
            ("assert 1 + 1 == 3", "AssertionError"),
            ("def f(:", "SyntaxError"),
            ("raise SystemExit(0)", "exit status: 0"),
            ("import os; os._exit(0)", "exit status: 0"),
            ("import sys; sys.exit('done')", "done"),
        ] {
            let Outcome::Failed(said) = run(program) else { panic!("{program}") };
            assert!(said.contains(words), "{program}: {said}");
        }
        let main = "if __name__ == '__main__': raise ValueError";
        assert_eq!(run(main), Outcome::Passed);
        // More than a pipe holds.
        let long = format!("x = '{}'\nassert len(x) == 300_000", "y".repeat(300_000));
        assert_eq!(run(&long), Outcome::Passed);
    }

    #[test]
    fn a_loop_and_a_sleeper_are_stopped() {
        let Some(sandbox) = sandbox() else { return };
        let begun = Instant::now();
        assert_eq!(sandbox.run("while True: pass", &SHORT).unwrap(), Outcome::TimedOut);
        let brief = Limits { wall: Duration::from_secs(1), ..SHORT };
        let sleeper = "import time\nwhile True: time.sleep(1)";
        assert_eq!(sandbox.run(sleeper, &brief).unwrap(), Outcome::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn memory_is_limited() {
        fails("x = bytearray(1 << 30)", "MemoryError");
        fails("x = []\nwhile True: x.append(bytes(1 << 20))", "MemoryError");
    }

    #[test]
    fn no_process_and_no_thread_is_started() {
        let bomb = "import os\nwhile True: os.fork()";
        fails(bomb, "Resource temporarily unavailable");
        fails("import subprocess; subprocess.run(['/bin/true'])", "Error");
        fails("import threading; threading.Thread(target=print).start()", "can't start new thread");
        let raise = "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9, 9))";
        fails(raise, "not allowed to raise maximum limit");
    }

    #[test]
    fn nothing_is_written_and_no_file_of_the_users_is_read() {
        let home = std::env::var("HOME").unwrap_or("/root".to_owned());
        for path in [&home, "/tmp", "/usr", "/", env!("CARGO_MANIFEST_DIR")] {
            fails(&format!("open('{path}/written', 'w')"), "Error");
        }
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for path in [manifest, "/etc/passwd", "/proc/self/environ"] {
            assert!(path.starts_with("/proc") || std::path::Path::new(path).exists());
            fails(&format!("open('{path}')"), "No such file");
        }
    }

    #[test]
    fn no_socket_reaches_this_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)");
        fails(&connect, "Connection refused");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_environment_is_empty() {
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let show = "import os, sys; sys.exit(str(sorted(os.environ)))";
        let Some(Outcome::Failed(said)) = run(show) else { return };
        assert!(!said.contains("CARGO") && said.contains("PYTHONHASHSEED"), "{said}");
    }

    #[test]
    fn what_is_written_is_bounded_and_chance_is_the_same_in_every_run() {
        fails(
            "import sys\nfor i in range(10**5): print(i, file=sys.stderr)\nassert False",
            "Error",
        );
        let Some(sandbox) = sandbox() else { return };
        let draw = "import random\nraise SystemExit(str((random.random(), {'a', 'b', 'c'})))";
        let first = sandbox.run(draw, &SHORT).unwrap();
        assert_eq!(sandbox.run(draw, &SHORT).unwrap(), first);
        let Outcome::Failed(long) = sandbox.run("raise SystemExit('x' * 10**6)", &SHORT).unwrap()
        else {
            panic!("it exits");
        };
        assert!((KEPT - 9..=KEPT).contains(&long.len()), "{}", long.len());
    }

    #[test]
    fn a_machine_without_a_sandbox_is_told_what_to_install() {
        let error = Sandbox::at("no-such-bubblewrap").unwrap_err();
        assert!(matches!(error, SandboxError::NoBubblewrap { .. }), "{error}");
        assert!(error.to_string().contains("install the package `bubblewrap`"), "{error}");
        // A program that starts but walls nothing in.
        let error = Sandbox::at("true").unwrap_err();
        assert!(matches!(error, SandboxError::Unsound { .. }), "{error}");
        assert!(error.to_string().contains("user namespaces"), "{error}");
    }
}
