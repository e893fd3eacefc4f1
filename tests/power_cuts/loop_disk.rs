//! A file system of the kernel's own on a loop device, shut down in the middle of work: what it had not sent to the
//! device by then is gone, its journal included.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use windlass::torture::dice::Dice;
use windlass::torture::history::Death;
use windlass::torture::server::Server;
use windlass::torture::wreck::Reaper;

/// XFS takes no less than 300 MiB; the file is sparse.
const IMAGE_BYTES: u64 = 320 << 20;
/// Somebody may look into a file system in the moment that it is to be unmounted.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);

/// Holds the mount point open and calls the shutdown of the file system, without a flush of its log, when a line
/// comes; says when it was about to. Started beforehand, because a cut is to take no time; in Python, because the call
/// is no safe one.
const CUTTER: &str = "import fcntl, os, sys, time
place = os.open(sys.argv[1], os.O_RDONLY)
how = (2).to_bytes(4, sys.byteorder)
print('ready', flush=True)
sys.stdin.readline()
at = time.monotonic_ns()
fcntl.ioctl(place, 0x8004587D, how)
print(at, flush=True)";

/// What mounts where, and who cuts.
pub struct LoopDisk {
    dir: TempDir,
    cutter: Option<Child>,
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output().map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

impl LoopDisk {
    /// A new file system; `Err` says why this machine does not allow one.
    pub fn make(kind: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file system takes root".to_owned());
        }
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = Self { dir, cutter: None };
        let made = || -> io::Result<()> {
            File::create(disk.image())?.set_len(IMAGE_BYTES)?;
            std::fs::create_dir(disk.mounted())?;
            let quiet = if kind == "ext4" { ["-q", "-F"] } else { ["-q", "-f"] };
            run(Command::new(format!("mkfs.{kind}")).args(quiet).arg(disk.image()))
        };
        made().and_then(|()| disk.mount()).map_err(|error| error.to_string())?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub fn mounted(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&mut self) -> io::Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.mounted()))?;
        let mut command = Command::new("python3");
        command.args(["-c", CUTTER]).arg(self.mounted()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cutter = command.spawn()?;
        let said = hear(&mut cutter)?;
        self.cutter = Some(cutter);
        if said == "ready" { Ok(()) } else { Err(io::Error::other("nobody could cut the power")) }
    }

    fn unmount(&self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            match run(Command::new("umount").arg(self.mounted())) {
                Err(error) if begun.elapsed() > UNMOUNT_PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// The next line that it says.
fn hear(cutter: &mut Child) -> io::Result<String> {
    let out = cutter.stdout.as_mut().ok_or_else(|| io::Error::other("a cutter without output"))?;
    let mut line = String::new();
    BufReader::with_capacity(1, out).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

impl Reaper for LoopDisk {
    fn death(&self) -> Death {
        Death::PowerCut
    }

    fn strike(&mut self, server: &mut Server) -> io::Result<Instant> {
        let mut cutter = self.cutter.take().ok_or_else(|| io::Error::other("the power is gone already"))?;
        cutter.stdin.take().ok_or_else(|| io::Error::other("a cutter without input"))?.write_all(b"\n")?;
        let said = hear(&mut cutter);
        let (now, clock) = (Instant::now(), clock_gettime(ClockId::Monotonic));
        server.kill()?;
        cutter.wait()?;
        let said: u64 = said?.parse().map_err(|_| io::Error::other("the power was not cut"))?;
        // Both clocks are the same one; only one of them tells its number.
        let clock = Duration::try_from(clock).map_err(io::Error::other)?;
        Ok(now - clock.saturating_sub(Duration::from_nanos(said)))
    }

    fn meanwhile(&mut self, _: &Path, _: &mut Dice) -> io::Result<bool> {
        self.unmount()?;
        self.mount().map(|()| false)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Some(mut cutter) = self.cutter.take() {
            let _ = cutter.kill();
            let _ = cutter.wait();
        }
        // If it was never mounted, there is nothing to unmount.
        let _ = run(Command::new("umount").arg(self.mounted()));
    }
}
