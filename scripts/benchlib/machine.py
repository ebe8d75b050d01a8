"""The machine: CPU time of threads, quotas, ports, clocks."""
import os, re, shutil, signal, socket, subprocess, sys, time, urllib.request


class Void(Exception):
    """A run that measured something else than it should."""


def read(path):
    with open(path) as f:
        return f.read()


ports = iter(range(11_000 + os.getpid() % 64 * 300, 32_000))


def fresh_port(count=1):
    """The first of `count` ports in a row that nobody listens on. Never one twice: a killed io_uring process lets go of
    its listener late."""
    row = []
    for port in ports:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                row.append(port)
            except OSError:
                row = []
        if len(row) == count:
            return row[0]
    sys.exit("bench: no free port")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as r:
        return r.read().decode()


def own_buckets(admin):
    """{upper bound in microseconds: auctions} of outcry_own_seconds so far."""
    found = re.findall(r'^outcry_own_seconds_bucket\{le="([^"]+)"\} (\d+)', get(admin, "/metrics"), re.M)
    return {float(le) * 1e6 if le != "+Inf" else float("inf"): int(n) for le, n in found}


def quantile(counts, share):
    """Milliseconds below which this share lies: between two bounds of buckets as if evenly spread."""
    want, low, below = share * counts[float("inf")], 0.0, 0
    for bound, n in sorted(counts.items()):
        if n >= want:
            return (low + (bound - low) * (want - below) / max(n - below, 1)) / 1000
        low, below = bound, n
    return low / 1000


def wait_up(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise Void(f"a program ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Void(f"nobody listens on {port}")


def wait_ready(admin, process):
    for _ in range(200):
        if process.poll() is not None:
            raise Void(f"the product ended with {process.returncode}")
        try:
            if "1" in get(admin, "/readyz"):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise Void("never ready")


def stop(process, sig):
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def threads(pid):
    """Thread id -> (nanoseconds on a CPU, nanoseconds waiting for one, CPUs it may run on, name)."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            ran, waited = (int(n) for n in read(f"/proc/{pid}/task/{tid}/schedstat").split()[:2])
            status = read(f"/proc/{pid}/task/{tid}/status")
            cpus = re.search(r"Cpus_allowed_list:\s*(\S+)", status).group(1)
            found[int(tid)] = (ran, waited, cpus, re.search(r"Name:\s*(.*)", status).group(1))
        except (OSError, AttributeError, ValueError):
            pass  # a thread that ended in between
    return found


def ticks_ns(pid):
    """CPU time of all threads, ended ones too, but only to 10 ms: what the threads' sum is checked against."""
    f = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    return int(re.search(r"VmRSS:\s*(\d+) kB", read(f"/proc/{pid}/status")).group(1)) * 1024


def counts_cycles():
    """Whether perf counts cycles here, in the kernel too: without the right to that it counts `cycles:u`, a tenth."""
    if not shutil.which("perf"):
        return False
    p = subprocess.run(["perf", "stat", "-x,", "-e", "cycles,instructions", "true"], capture_output=True, text=True)
    rows = [line.split(",") for line in p.stderr.splitlines() if "," in line]
    return len(rows) >= 2 and all(r[0].isdigit() and ":u" not in r[2] for r in rows)


class Quota:
    """A group of threads that gets a share of one CPU, in periods of 2 ms: cgroup v1 by thread, v2 by process."""
    PERIOD_US = 2_000

    def __init__(self, share):
        self.v1 = self.path = None
        for line in read("/proc/mounts").splitlines():
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup" and "cpu" in options.split(","):
                self.v1, root = True, where
                break
            if kind == "cgroup2" and "cpu" in read(os.path.join(where, "cgroup.controllers")).split():
                self.v1, root = False, where
        if self.v1 is None:
            raise Void("no quota: neither cgroup v1 nor v2 has a cpu controller here")
        self.path = os.path.join(root, f"outcry-bench-{os.getpid()}")
        quota = round(share * self.PERIOD_US)
        try:
            if not self.v1:
                self.write(os.path.join(root, "cgroup.subtree_control"), "+cpu")
            os.makedirs(self.path, exist_ok=True)
            if self.v1:
                self.write("cpu.cfs_period_us", self.PERIOD_US)
                self.write("cpu.cfs_quota_us", quota)
            else:
                self.write("cpu.max", f"{quota} {self.PERIOD_US}")
        except OSError as e:
            raise Void(f"no quota: {e}") from None

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def add(self, pid, tids):
        """Only the serving threads where threads can be told apart; v2 takes the whole process, flush and control too."""
        for tid in tids if self.v1 else [pid]:
            self.write("tasks" if self.v1 else "cgroup.procs", tid)

    def close(self):
        for _ in range(100):  # the last thread leaves a little after its process
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.05)
