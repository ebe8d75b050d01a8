"""What scripts that measure a running exchange have in common: the exchange, simulated DSPs and a load as processes, and
their figures. python3's own library only. Used by: attack, soak, kills."""
import json, os, re, resource, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUTCRY = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target")), "release", "outcry")
PATH = "/openrtb2/auction"
OWN_P99_MAX = 5e-3  # at the peak, seconds: the end of usefulness

CONFIG = """\
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[cpus]
bidders = {bidders}
flush = {load}
control = [{load}]

[[exchange]]
name = "default"
path = "{path}"
{exchange}"""
CONFIG_DSP = """
[[dsp]]
name = "{name}"
url = "http://127.0.0.1:{port}/dsp"
timeout_ms = {timeout_ms}
warm = 16
gzip = true
"""


class Trouble(Exception):
    """Something did not start, or ended too early."""


def arguments(parser):
    """Those that every script has."""
    parser.add_argument("--cpus", default="0,1", help="the CPU that serves, and the one for everything else")
    parser.add_argument("--no-build", action="store_true")


def prepare(opt, who):
    """Builds, and makes room for thousands of sockets."""
    opt.server, opt.load = cpus = [int(c) for c in opt.cpus.split(",")]
    if not set(cpus) <= os.sched_getaffinity(0):
        sys.exit(f"{who}: may use the CPUs {sorted(os.sched_getaffinity(0))}, --cpus says {cpus}")
    if not opt.no_build:
        subprocess.run(["cargo", "build", "--release", "-p", "outcry-cores", "--bin", "outcry"], cwd=TOP, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 16_384:
        print(f"{who}: only {hard} open files are allowed (ulimit -Hn); floods will be smaller than they should be")


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if "model name" in line), "?")
    return f"{os.uname().release}, {model}, {os.cpu_count()} CPUs"


held = []  # sockets, see `fresh_port`


def fresh_port():
    """A port that is this process's until it ends. To look for one that is free and let go of it is not enough: exchanges of
    the same user share a port without a word (SO_REUSEPORT), and one that was just killed leaves its own free for others to
    find. So a socket stays bound to it that never listens: connections pass it by, and those who bind the port by name,
    as we do, may."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 0))
    held.append(s)
    return s.getsockname()[1]


def let_go(port):
    """Waits until nobody listens there: a process on io_uring that has ended keeps its listener some milliseconds longer."""
    for _ in range(200):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return s.listen()
            except OSError:
                time.sleep(0.02)
    raise Trouble(f"somebody still listens on port {port}")


class Running:
    """An exchange on one CPU, everything else on another; ends what it started."""

    def __init__(self, opt, dsps):
        """`dsps`: name -> timeout in milliseconds; their simulators are started with `simulate`."""
        self.opt, self.processes, self.environment = opt, [], dict(os.environ)
        self.dir = tempfile.mkdtemp(prefix="outcry-running-")
        self.port, self.admin = fresh_port(), fresh_port()
        self.dsps = {name: fresh_port() for name in dsps}
        self.config = os.path.join(self.dir, "outcry.toml")
        self.timeouts = dsps
        self.of_exchange = ""  # more of its section
        self.configure([opt.server])

    def configure(self, bidders, more=""):
        """Writes the configuration: which CPUs bid, and more of its text."""
        with open(self.config, "w") as f:
            f.write(CONFIG.format(port=self.port, admin=self.admin, state=self.dir, path=PATH, bidders=bidders, load=self.opt.load,
                                  exchange=self.of_exchange))
            f.write("".join(CONFIG_DSP.format(name=n, port=self.dsps[n], timeout_ms=ms) for n, ms in self.timeouts.items()))
            f.write(more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            self.stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, *args, nice=0, keep=True, **more):
        with open(os.path.join(self.dir, "log"), "ab") as log:
            process = subprocess.Popen([OUTCRY, *map(str, args)], stdout=log, stderr=log, env=self.environment,
                                       preexec_fn=(lambda: os.nice(nice)) if nice else None, **more)
        if keep:
            self.processes.append(process)
        return process

    def stop(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def simulate(self, name, *args, **more):
        """The DSP of this name."""
        let_go(self.dsps[name])
        process = self.start("dsp-sim", "--listen", f"127.0.0.1:{self.dsps[name]}", "--cpu", self.opt.load, "--quiet", *args, **more)
        self.wait(lambda: socket.create_connection(("127.0.0.1", self.dsps[name]), 0.5).close() or True, process, f"DSP {name}")
        return process

    def serve(self):
        self.exchange = self.start("serve", "--config", self.config)
        ready = lambda: b"1" in self.get("/readyz")
        self.wait(ready, self.exchange, "the exchange")

    def wait(self, done, process, what):
        for _ in range(200):
            if process.poll() is not None:
                raise Trouble(f"{what} ended with {process.returncode}; its last words:\n{self.words()}")
            try:
                if done():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Trouble(f"{what} is not ready after ten seconds; its last words:\n{self.words()}")

    def words(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return "".join(f.readlines()[-8:])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as r:
            return r.read()

    def post(self, path, what):
        """Sends an object to the admin port; the answer's."""
        url, head = f"http://127.0.0.1:{self.admin}{path}", {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(what).encode(), head), timeout=15) as r:
            return json.load(r)

    def metrics(self):
        """Every sample of the exposition: name with labels -> number."""
        lines = self.get("/metrics").decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def load(self, rate, seconds, connections=256, notices=False, more=()):
        """Drives the exchange; the generator's report. `notices`: it calls those of its answers too. `more`: its switches."""
        cmd = [OUTCRY, "load", f"http://127.0.0.1:{self.port}{PATH}", "--json", "--rate", rate, "--seconds", seconds,
               "--connections", connections, "--cpu", self.opt.load,
               *(["--notices", os.path.join(self.dir, "notices")] if notices else []), *more]
        p = subprocess.run([str(c) for c in cmd], capture_output=True, text=True, timeout=seconds + 60)
        if not p.stdout.startswith("{"):
            raise Trouble(f"load: {p.stderr.strip() or 'printed nothing'}")
        return json.loads(p.stdout)

    def rss(self):
        """Resident memory of the exchange now, bytes."""
        with open(f"/proc/{self.exchange.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def files(self):
        """Open files of the exchange."""
        return len(os.listdir(f"/proc/{self.exchange.pid}/fd"))

    def memory_bound(self):
        """What `outcry check` says the limits allow in all, bytes."""
        p = subprocess.run([OUTCRY, "check", "--config", self.config], capture_output=True, text=True)
        last = re.findall(r"all bidder cores .*= +([0-9.]+) (\w+)", p.stdout)[-1]
        return float(last[0]) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[last[1]]


def quantile(name, q, before, after):
    """Of a histogram between two readings of the metrics, seconds; linear within a bucket. None: no sample."""
    edges = []
    for key, n in after.items():
        m = re.fullmatch(re.escape(name) + r'_bucket\{le="([^"]+)"\}', key)
        if m:
            edges.append((float(m.group(1).replace("+Inf", "inf")), n - before.get(key, 0)))
    edges.sort()
    total = edges[-1][1] if edges else 0
    if total <= 0:
        return None
    low, below = 0.0, 0
    for edge, n in edges:
        if n >= q * total:
            return low if edge == float("inf") else low + (edge - low) * (q * total - below) / max(n - below, 1)
        low, below = edge, n
    return low


def peak(lab):
    """The highest rate that is carried, to a tenth."""
    carried = lambda rate: step(lab, rate)
    low, high = 0, 500
    while carried(high):
        low, high = high, high * 2
        if high > 1_000_000:
            break
    for _ in range(3):
        middle = (low + high) / 2
        low, high = (middle, high) if carried(middle) else (low, middle)
    if not low:
        raise Trouble("not even 500 requests/s are carried: the load's CPU is busy otherwise, or --cpus names one CPU twice")
    return low


def step(lab, rate):
    time.sleep(1.2)
    before = lab.metrics()
    got = lab.load(rate, 3, connections=2048)
    time.sleep(1.2)
    own = quantile("outcry_own_seconds", 0.99, before, lab.metrics())
    good = "latency_ns" in got and got["cpu_share"] < 0.8 and not got["unanswered"] and own is not None and own < OWN_P99_MAX
    print(f"  {rate:.0f} requests/s: {'carried' if good else 'not carried'}, own p99 {(own or 0) * 1e6:.0f} us, load's CPU {got['cpu_share']:.0%}", flush=True)
    return good


def self_test():
    """A port that was given out is nobody else's to find, and those it was given to can listen on it."""
    port = fresh_port()
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            pass
        else:
            raise AssertionError(f"port {port} is given out, and still free")
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", port))
        ours.listen()
        socket.create_connection(("127.0.0.1", port), 5).close()
        ours.accept()[0].close()
    print("ports are kept")


if __name__ == "__main__":
    self_test()
