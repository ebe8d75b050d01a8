"""One run of one variant (floor, bare runtime, product) under one load: what one of its auctions took."""
import contextlib, json, os, re, shlex, shutil, signal, subprocess, sys, tempfile, threading, time
from benchlib.machine import (Quota, Void, counts_cycles, fresh_port, get, read, rss_bytes, stop, threads, ticks_ns,
                              wait_ready, wait_up)

PATH = "/openrtb2/auction"
REQUESTS = 1200         # different ones
LOAD_SHARE_MAX = 0.80   # of the other CPU, by load and DSPs together: above it their own queues are measured
WAIT_MAX = 0.05         # of the time that the server waited for its CPU: somebody else worked there, in its caches. Half
                        # of it is there in quiet: each of ten thousand wake-ups a second takes some microseconds
JITTER = 0.2            # of the DSPs' delay that it is spread over: without it the clients of a closed loop bunch up
GATHER_US = 100         # for which load and DSPs gather completions, as a network card does, to share one CPU
TRIES = 3               # of a run that is void, some seconds apart

# Currencies of the mix and who sends it.
MARKET = """\
[rates]
table = {{ USD = 1, EUR = 1.08, GBP = 1.27 }}

[[exchange]]
name = "default"
path = "{path}"
currencies = ["USD", "EUR", "GBP"]
"""
CONFIG = """\
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[cpus]
bidders = {bidders}
flush = {other}
control = [{other}]

[record]
durability = "{durability}"
# One is always made in advance: of this size a run has its share of that.
segment_bytes = 16777216

[auction]
tmax_max_ms = 900
dsp_ms = 800

""" + MARKET
CONFIG_DSP = """
[[dsp]]
name = "dsp-{i}"
url = "http://127.0.0.1:{up}/dsp"
timeout_ms = 800
warm = 64
connections = 4096
"""

CONFIG_BUDGET = """
[budget]
file = "{file}"
"""
# What they charge waits for notices; behind the keys of the exchange.
CONFIG_SETTLED = """settle = "notice"

[notices]
url = "http://notices.exchange.example"
"""
CONFIG_TOLD = """notice_hosts = ["127.0.0.1:9999"]
"""
# Nothing of how a DSP fares is learned, or held against it.
CONFIG_UNSHAPED = "".join(f"{key} = false\n" for key in ("breaker", "in_flight_limit", "trouble", "learned_time", "learned_deadline"))
CAMPAIGNS = 8           # of each DSP: what the meter's DSPs bid for


# The product and what its records survive. `budgeted` pays every bid from a budget, and `settled` when its notice comes, whose
# URLs it signs; the others have none. `shipped` sends its record to the Kafka that `Bench.more` names. `unshaped` is `unrecorded`
# without what is learned of DSPs.
PRODUCTS = {"product": "process", "unrecorded": "none", "power": "power", "budgeted": "process", "settled": "process", "shipped": "process",
            "unshaped": "none"}


def budgets(dsps):
    """A file of budgets that last, a campaign for each DSP and cid."""
    text = '[[advertiser]]\nname = "all"\ndaily = 100000000\n'
    for dsp in range(dsps):
        for k in range(CAMPAIGNS):
            text += (f'[[advertiser.campaign]]\nname = "dsp-{dsp + 1}.cid{k}"\ndsp = "dsp-{dsp + 1}"\nseat = "s1"\ncid = "cid{k}"\n'
                     "daily = 1000000\n")
    return text


class Bench:
    """Programs, where they lie, and what all runs have in common."""

    def __init__(self, opt, top):
        self.opt, self.top = opt, top
        self.bin = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(top, "target")), "release")
        self.server, self.load = opt.cpus
        self.counted = False
        self.matched = []  # switches that make the floor move the product's bytes
        self.rows, self.voids = [], 0
        self.more = ""  # of the configuration of `shipped`
        release = [int(n) for n in re.findall(r"\d+", os.uname().release)[:2]]
        self.gather = dict(want=64, minwait=GATHER_US) if release >= [6, 12] else {}  # older kernels cannot
        self.dir = tempfile.mkdtemp(prefix="outcry-bench-")
        self.requests = os.path.join(self.dir, "requests.jsonl")

    def close(self):
        log = os.path.join(self.dir, "server.log")
        if self.voids and os.path.exists(log) and os.path.getsize(log):
            print("the servers' last words:\n  " + "\n  ".join(read(log).splitlines()[-5:]))
        shutil.rmtree(self.dir, ignore_errors=True)

    def tool(self, name, **switches):
        return [os.path.join(self.bin, name)] + [f"{k}={v}" for k, v in switches.items()]

    def build(self):
        subprocess.run(["cargo", "build", "--release", "-p", "outcry-benches", "--bins"], cwd=self.top, check=True)
        if not self.opt.product_cmd:
            subprocess.run(["cargo", "build", "--release", "-p", "outcry-cores", "--bin", "outcry"], cwd=self.top, check=True)

    def prepare(self):
        self.counted = counts_cycles()
        with open(self.requests, "wb") as f:
            said = subprocess.run(self.tool("floor-requests", count=REQUESTS, tmax=900), stdout=f, stderr=subprocess.PIPE, text=True)
        if said.returncode:
            sys.exit("bench: " + said.stderr)
        return said.stderr.strip()

    def clock_ghz(self, cpu=None):
        cmd = self.tool("clock", cpu=self.server if cpu is None else cpu)
        return float(subprocess.run(cmd, capture_output=True, text=True, check=True).stdout)

    def start(self, variant, up, cpus=None, other=None, **switches):
        """Servers of one variant on `cpus`, one port: [process], port, admin port (the product's)."""
        port, admin = fresh_port(), fresh_port()
        cpus, other = cpus or [self.server], self.load if other is None else other
        with open(os.path.join(self.dir, "server.log"), "ab") as out:
            if variant in ("floor", "bare"):
                cmds = [self.tool(variant, port=port, up=up, n=self.opt.dsps, cpu=cpu, **switches) + self.matched for cpu in cpus]
            else:
                state = os.path.join(self.dir, f"state-{port}")
                os.makedirs(state)
                config = os.path.join(self.dir, f"{port}.toml")
                with open(config, "w") as f:
                    f.write(CONFIG.format(port=port, admin=admin, state=state, bidders=cpus, other=other, path=PATH,
                                          durability=PRODUCTS[variant]))
                    if variant == "settled":
                        f.write(CONFIG_SETTLED)
                    if variant in ("budgeted", "settled"):
                        file = os.path.join(state, "budgets.toml")
                        with open(file, "w") as b:
                            b.write(budgets(self.opt.dsps))
                        f.write(CONFIG_BUDGET.format(file=file))
                    if variant == "shipped":
                        f.write(self.more)
                    told = {"settled": CONFIG_TOLD, "unshaped": CONFIG_UNSHAPED}.get(variant, "")
                    f.write("".join(CONFIG_DSP.format(i=i + 1, up=up + i) + told for i in range(self.opt.dsps)))
                cmds = [[os.path.join(self.bin, "outcry"), "serve", "--config", config]]
                if self.opt.product_cmd:
                    fill = dict(port=port, up=up, admin=admin, config=config, bin=self.bin)
                    cmds = [[word.format(**fill) for word in shlex.split(self.opt.product_cmd)]]
            processes = [subprocess.Popen(cmd, stdout=out, stderr=out) for cmd in cmds]
        try:
            for process in processes:
                if variant in PRODUCTS and not self.opt.product_cmd:
                    wait_ready(admin, process)
                else:
                    wait_up(port, process)
        except BaseException:
            for process in processes:
                stop(process, signal.SIGKILL)
            raise
        return processes, port, admin

    def start_dsps(self, up, delay_us, cpus=None, each=False):
        """All DSPs in one process for each of `cpus`, or `each` in its own where one would run out of descriptors."""
        common = dict(self.gather, delay=delay_us, jitter=round(delay_us * JITTER), bid=1, bufs=1024)
        if each:
            cmds = [self.tool("floor-dsp", port=up + i, n=1, first=i, cpu=self.load, **common) for i in range(self.opt.dsps)]
        else:
            cmds = [self.tool("floor-dsp", port=up, n=self.opt.dsps, cpu=cpu, **common) for cpu in cpus or [self.load]]
        processes = [subprocess.Popen(cmd) for cmd in cmds]
        for i, process in enumerate(processes):
            wait_up(up + (i if each else 0), process)
        return processes

    def load_cmd(self, port, clients, ms, cpu=None, rate=0):
        return self.tool("floor-load", port=port, c=clients, ms=ms, cpu=self.load if cpu is None else cpu,
                         file=self.requests, path=PATH, dsps=self.opt.dsps, rate=round(rate), **self.gather)

    def drive(self, port, clients, ms, rate=0, perf_pid=None):
        cmd = self.load_cmd(port, clients, ms, rate=rate)
        if perf_pid:
            cmd = ["perf", "stat", "-x,", "--per-thread", "-p", str(perf_pid), "-e", "cycles,instructions", "--"] + cmd
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=ms / 1000 + 60)
        return load_result(p), p.stderr

    def cell(self, variant, clients, ms, warm_ms=700, quiet=True, quota=None, rate=0, during=None, switches={}):
        """One run. `quiet`: void if something else disturbed it. `quota`: the share of its CPU that the serving threads
        get. `during(process, bidder threads, admin, port, phase)`: called in a thread with phase "run" beside the
        measured load, and before ("before") and after ("after") it, while the server lives."""
        up = fresh_port(self.opt.dsps)
        dsps, servers, group = self.start_dsps(up, self.opt.delay_us), [], None
        call = during or (lambda *_: None)
        try:
            ghz = self.clock_ghz()
            servers, port, admin = self.start(variant, up, **switches)
            server = servers[0]
            bidders = {tid for tid, t in threads(server.pid).items() if t[2] == str(self.server)}
            if quota:
                group = Quota(quota)
                group.add(server.pid, bidders)
            self.drive(port, clients, warm_ms, rate)
            call(server, bidders, admin, port, "before")
            asked, ticks, before = self.dsp_stats(up), ticks_ns(server.pid), threads(server.pid)
            beside = threading.Thread(target=call, args=(server, bidders, admin, port, "run"))
            beside.start()
            got, perf = self.drive(port, clients, ms, rate, server.pid if self.counted and not during else None)
            beside.join()
            after = threads(server.pid)
            ticks, asked = ticks_ns(server.pid) - ticks, [b - a for a, b in zip(asked, self.dsp_stats(up))]
            call(server, bidders, admin, port, "after")
        finally:
            for server in servers:
                stop(server, signal.SIGTERM if variant in PRODUCTS else signal.SIGKILL)
            for dsp in dsps:
                stop(dsp, signal.SIGKILL)
            if group:
                group.close()
        row = self.account(variant, clients, ghz, got, perf, before, after, ticks, asked, quiet, bool(quota))
        row["how"] = f"{quota:.0%} CPU" if quota else f"{rate:.0f}/s" if rate else "profiled" if during else "closed"
        self.rows.append(row)
        return row

    def try_cell(self, *args, **kinds):
        """The same, tried anew when it is void; None when it always was."""
        for attempt in range(TRIES):
            try:
                time.sleep(3 * attempt)
                return self.cell(*args, **kinds)
            except (Void, subprocess.SubprocessError, OSError) as e:
                self.voids += 1
                print(f"void: {args[1]} clients, {args[0]}: {e}", flush=True)
        return None

    def say(self, name, **switches):
        """What a program of the benches prints, whatever it thinks of it."""
        return subprocess.run(self.tool(name, **switches), capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def serving(self, variant, delay_us):
        """A variant with its DSPs, for requests of the caller's own; its port."""
        up = fresh_port(self.opt.dsps)
        dsps, servers = self.start_dsps(up, delay_us), []
        try:
            servers, port, _ = self.start(variant, up)
            yield port
        finally:
            for process in servers + dsps:
                stop(process, signal.SIGTERM if process in servers else signal.SIGKILL)

    def dsp_stats(self, up):
        """Requests, their bytes, refused, CPU time in nanoseconds."""
        return [int(n) for n in get(up, "/stats").split()]

    def account(self, variant, clients, ghz, got, perf, before, after, ticks, asked, quiet, quota):
        done = got["done"]
        if done < 100:
            raise Void(f"only {done} answers")
        none = (0, 0, "", "")
        used = {tid: t[0] - before.get(tid, none)[0] for tid, t in after.items()}
        waited = {tid: t[1] - before.get(tid, none)[1] for tid, t in after.items()}
        bidders = {tid for tid, t in after.items() if t[2] == str(self.server)}
        whole = sum(used.values())
        if ticks > whole * 1.1 + 50e6:
            whole = ticks  # threads came and went: the coarse figure has them
        row = dict(variant=variant, clients=clients, ghz=ghz, rps=got["rps"], p50=got.get("p50_us", 0), p99=got.get("p99_us", 0),
                   load=got["cpu_share"] + asked[3] / 1e9 / got["secs"], asked=asked[0] / done,
                   dsp_bytes=asked[1] / max(asked[0], 1), answer_bytes=got["answer_bytes"],
                   bids=got["bids"] / max(got["due_bids"], 1), achieved=got["achieved"],
                   cpu_us=whole / done / 1e3, util=sum(used[t] for t in bidders) / 1e9 / got["secs"],
                   cycles=whole / done * ghz, cycles_bidder=sum(used[t] for t in bidders) / done * ghz, insn=0.0)
        if perf and self.counted:
            row["cycles"] = row["cycles_bidder"] = 0.0
            for f in (line.split(",") for line in perf.splitlines() if line.count(",") > 3):
                if not f[1].isdigit():
                    continue
                tid, n, event = int(f[0].rsplit("-", 1)[1]), int(f[1]) / done, f[3]
                if event.startswith("instructions"):
                    row["insn"] += n
                else:
                    row["cycles"] += n
                    row["cycles_bidder"] += n if tid in bidders else 0
        trouble = wrong_answers(got, variant in PRODUCTS and not self.opt.product_cmd)
        if quiet and row["load"] > LOAD_SHARE_MAX:
            trouble.append(f"load and DSPs took {row['load']:.0%} of their CPU")
        row["wait"] = sum(waited[t] for t in bidders) / 1e9 / got["secs"]
        # Under a quota a thread waits by design: what else runs on its CPU does not show here.
        if quiet and not quota and row["wait"] > self.opt.wait_max:
            trouble.append(f"the server waited {row['wait']:.0%} of the time for its CPU: something else runs there")
        if asked[2]:
            trouble.append(f"DSPs found no ids in {asked[2]} requests")
        if abs(row["asked"] - self.opt.dsps) > 0.02 * self.opt.dsps:
            trouble.append(f"{row['asked']:.2f} of {self.opt.dsps} DSPs asked")
        if trouble:
            raise Void(", ".join(trouble))
        return row

    def match_bytes(self):
        """Makes floor and bare send as many bytes as the product: to DSPs and back."""
        floor, product = (self.cell(v, 32, 1000, 200, quiet=False) for v in ("floor", "product"))
        self.rows.clear()
        add = round(product["dsp_bytes"] - floor["dsp_bytes"])
        answer = max(0, 700 + round(product["answer_bytes"] - floor["answer_bytes"]))
        self.matched = [f"add={add}", f"answer={answer}"]
        print(f"bytes, as the product moves them: {product['dsp_bytes']:.0f} to each DSP, {product['answer_bytes']:.0f} back; "
              f"floor and bare run with {' '.join(self.matched)}")

    def spread(self, variant, cpus, rate, clients, ms):
        """Servers on `cpus`, `rate` requests a second offered for each; generators and DSPs evenly on both CPUs. What an
        auction of all of them took."""
        up = fresh_port(self.opt.dsps)
        everywhere = self.opt.cpus
        each = rate * len(cpus) / len(everywhere)
        dsps, servers = self.start_dsps(up, self.opt.delay_us, everywhere), []
        try:
            ghz = sum(self.clock_ghz(cpu) for cpu in cpus) / len(cpus)
            servers, port, _ = self.start(variant, up, cpus, everywhere[-1])
            self.drive_all(port, everywhere, each, clients, 700)
            before = sum(t[0] for s in servers for t in threads(s.pid).values())
            got = self.drive_all(port, everywhere, each, clients, ms)
            used = sum(t[0] for s in servers for t in threads(s.pid).values()) - before
        finally:
            for server in servers:
                stop(server, signal.SIGTERM if variant in PRODUCTS else signal.SIGKILL)
            for dsp in dsps:
                stop(dsp, signal.SIGKILL)
        trouble = [t for g in got for t in wrong_answers(g, variant in PRODUCTS)]
        trouble += [f"{g['achieved']:.1%} of the rate reached" for g in got if g["achieved"] < 0.99]
        if trouble:
            raise Void(", ".join(trouble))
        done = sum(g["done"] for g in got)
        return dict(variant=variant, cpus=len(cpus), rps=sum(g["rps"] for g in got), cycles=used / done * ghz, ghz=ghz)

    def drive_all(self, port, cpus, rate, clients, ms):
        """A generator on each CPU at once."""
        loads = [subprocess.Popen(self.load_cmd(port, clients, ms, cpu, rate), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) for cpu in cpus]
        return [finished(p, ms) for p in loads]

    def in_flight(self, levels, delay_us, ms):
        """The product's memory at so many auctions in flight, one process for all: [(in flight, bytes)]."""
        up = fresh_port(self.opt.dsps)
        dsps, servers, found = self.start_dsps(up, delay_us, each=True), [], []
        try:
            servers, port, admin = self.start("product", up)
            for clients in levels:
                load = subprocess.Popen(self.load_cmd(port, clients, ms), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                time.sleep(ms / 1000 - 0.6)  # while it runs; the gauge is up to a second old
                flying = [int(l.split()[1]) for l in get(admin, "/metrics").splitlines() if l.startswith("outcry_auctions_in_flight ")]
                resident = rss_bytes(servers[0].pid)
                got = finished(load, ms)
                trouble = wrong_answers(got, True)
                if not flying or abs(flying[0] - clients) > 0.15 * clients:
                    trouble.append(f"{flying} auctions were in flight, not {clients}")
                if trouble:
                    raise Void(", ".join(trouble))
                found.append((flying[0], resident))
        finally:
            for process in servers + dsps:
                stop(process, signal.SIGTERM if process in servers else signal.SIGKILL)
        return found


def finished(load, ms):
    """The result of a generator that was started by itself."""
    out, err = load.communicate(timeout=ms / 1000 + 60)
    return load_result(subprocess.CompletedProcess(load.args, load.returncode, out, err))


def load_result(p):
    if not p.stdout.startswith("{"):
        raise Void("load: " + (p.stderr.strip().splitlines() or ["printed nothing"])[-1])
    return json.loads(p.stdout)


def wrong_answers(got, product):
    """What no run may have; `others` than bids and no-bids are the product's alone, the floor answers neither."""
    kinds = ["unanswered", "mismatched"] + (["others"] if product else [])
    return [f"{got[k]} {k}" for k in kinds if got[k]]
