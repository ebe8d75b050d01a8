"""What TLS to DSPs costs: CPU of the bidder thread for an auction whose five DSPs are behind it, beside the same with plain ones."""
import json, os, re, signal, statistics, subprocess, threading
from benchlib.cells import MARKET, PATH
from benchlib.machine import Void, fresh_port, get, own_buckets, quantile, stop, wait_ready, wait_up
from benchlib.notices import exchange, served

DSPS = 5
ROUNDS = 3
AUCTIONS = 20_000       # of a run, after a tenth of them

CONFIG = """\
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[cpus]
bidders = [{server}]
flush = {load}
control = [{load}]

[auction]
tmax_max_ms = 900
dsp_ms = 800

""" + MARKET
CONFIG_DSP = """
[[dsp]]
name = "dsp-{i}"
url = "{scheme}://127.0.0.1:{dsp}/dsp"
timeout_ms = 800
warm = 64
connections = 256
{ca}
"""


def certificate(b):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    cert, key = os.path.join(b.dir, "dsp.pem"), os.path.join(b.dir, "dsp.key")
    if not os.path.exists(cert):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=dsp", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
                        "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def product(b, secure, posts):
    """Cycles of the bidder thread for each auction; connections and handshakes that auctions had made."""
    port = fresh_port(3)
    admin, dsp_port = port + 1, port + 2
    state = os.path.join(b.dir, f"tls-{port}")
    os.makedirs(state)
    cert, key = certificate(b)
    config = os.path.join(b.dir, f"tls-{port}.toml")
    with open(config, "w") as f:
        f.write(CONFIG.format(port=port, admin=admin, state=state, server=b.server, load=b.load, path=PATH))
        for i in range(DSPS):
            f.write(CONFIG_DSP.format(i=i, scheme="https" if secure else "http", dsp=dsp_port, ca=f'ca_file = "{cert}"' if secure else ""))
    outcry, log = os.path.join(b.bin, "outcry"), open(os.path.join(b.dir, "server.log"), "ab")
    tls = ["--tls-cert", cert, "--tls-key", key] if secure else []
    dsp = subprocess.Popen([outcry, "dsp-sim", "--listen", f"127.0.0.1:{dsp_port}", "--character", "fixed", "--delay-us", "1000",
                            "--cpu", str(b.load), "--quiet"] + tls, stdout=log, stderr=log)
    process = None
    try:
        wait_up(dsp_port, dsp)
        process = subprocess.Popen([outcry, "serve", "--config", config], stdout=log, stderr=log)
        wait_ready(admin, process)
        bids = [0]

        def answer(body):
            bids[0] += bool(body)

        exchange(port, posts[: AUCTIONS // 10])
        before = served(b, process)
        done = exchange(port, posts[:AUCTIONS], answer)
        cycles = (served(b, process) - before) / done * b.clock_ghz()
        # The character bids for banners and videos of one size alone: seven of eight requests of the mix.
        if bids[0] < done * 0.85:
            raise Void(f"{bids[0]} bids in {done} answers")
        page = get(admin, "/metrics")
        value = {k: float(v) for k, v in (line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")}
        made = sum(v for k, v in value.items() if k.startswith("outcry_dsp_auction_path_total"))
        return cycles, made
    finally:
        for p in (process, dsp):
            if p:
                stop(p, signal.SIGTERM)
        log.close()


def tls(b):
    """CPU of the bidder thread for an auction with five DSPs behind TLS / the same with plain DSPs: 64 connections, one request
    after the other, DSPs of `outcry dsp-sim` that answer after a millisecond with 700 bytes; records on."""
    with open(b.requests, "rb") as f:
        bodies = f.read().splitlines()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    posts = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    posts = posts * (AUCTIONS // len(posts) + 1)
    found = []
    for k in range(b.opt.rounds or ROUNDS):
        try:
            plain, made_plain = product(b, False, posts)
            secure, made = product(b, True, posts)
        except (Void, OSError, subprocess.SubprocessError) as e:
            b.voids += 1
            print(f"void: {e}")
            continue
        print(f"round {k + 1}, kcycles of the bidder thread an auction: plain {plain / 1e3:.1f}, TLS {secure / 1e3:.1f} "
              f"({secure / plain:.2f}); connections and handshakes on the path of auctions: {made_plain:.0f}, {made:.0f}", flush=True)
        found.append(secure / plain)
    return [("tls", statistics.median(found) if found else None, "-", None)]


WARM = 100              # connections that are made at once
RATE, SECONDS = 1_500, 8
APART_S = 0.8           # from one time to the next

# Nobody asks it: its handshakes are all that it costs.
CONFIG_WARMED = """
[[dsp]]
name = "warmed"
url = "https://127.0.0.1:{dsp}/dsp"
countries = ["ATA"]
warm = {warm}
connections = 256
ca_file = "{ca}"
"""


class Warming:
    """An exchange with plain DSPs under load, beside whose auctions a DSP's connections are all made anew."""

    def __init__(self, b):
        self.b, self.processes = b, []
        self.port = fresh_port(4)
        self.admin, self.plain, self.secure = self.port + 1, self.port + 2, self.port + 3
        self.config = os.path.join(b.dir, f"warming-{self.port}.toml")
        cert, self.key = certificate(b)
        # Two files with the same authority, the second with another one beside it: to go from one to the other is to begin anew.
        other = os.path.join(b.dir, "other.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=other", "-keyout", other + ".key", "-out", other], check=True, capture_output=True)
        both = os.path.join(b.dir, "both.pem")
        with open(both, "w") as f:
            for name in (cert, other):
                with open(name) as part:
                    f.write(part.read())
        self.files = [cert, both]

    def write(self, ca):
        b = self.b
        state = os.path.join(b.dir, f"warming-{self.port}")
        os.makedirs(state, exist_ok=True)
        with open(self.config + ".new", "w") as f:
            f.write(CONFIG.format(port=self.port, admin=self.admin, state=state, server=b.server, load=b.load, path=PATH))
            for i in range(DSPS):
                f.write(CONFIG_DSP.format(i=i, scheme="http", dsp=self.plain, ca=""))
            f.write(CONFIG_WARMED.format(dsp=self.secure, warm=WARM, ca=ca))
        os.replace(self.config + ".new", self.config)

    def run(self, *words):
        outcry = os.path.join(self.b.bin, "outcry")
        with open(os.path.join(self.b.dir, "server.log"), "ab") as log:
            self.processes.append(subprocess.Popen([outcry, *words], stdout=log, stderr=log))
        return self.processes[-1]

    def __enter__(self):
        self.write(self.files[0])
        common = ["--character", "fixed", "--delay-us", "1000", "--cpu", str(self.b.load), "--quiet"]
        wait_up(self.plain, self.run("dsp-sim", "--listen", f"127.0.0.1:{self.plain}", *common))
        tls = ["--tls-cert", self.files[0], "--tls-key", self.key]
        wait_up(self.secure, self.run("dsp-sim", "--listen", f"127.0.0.1:{self.secure}", *common, *tls))
        self.exchange = self.run("serve", "--config", self.config)
        wait_ready(self.admin, self.exchange)
        while self.handshakes() < WARM:     # totals come once a second
            threading.Event().wait(0.1)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            stop(process, signal.SIGTERM)

    def handshakes(self):
        found = re.findall(r"^outcry_dsp_tls_handshakes_total\{.*\} (\S+)$", get(self.admin, "/metrics"), re.M)
        return sum(float(n) for n in found)

    def load(self, reloads, anew):
        """Of one load the clients' answer times, ns, and auctions by their own time; while it lasts reloads, each of which has all
        connections made anew, or none."""
        before, own, at = self.handshakes(), own_buckets(self.admin), 0
        words = ["load", "--rate", str(RATE), "--seconds", str(SECONDS), "--cpu", str(self.b.load), "--json", f"http://127.0.0.1:{self.port}{PATH}"]
        over = threading.Event()

        def reload():
            nonlocal at
            while not over.wait(APART_S):
                at += 1
                if anew:
                    self.write(self.files[at % 2])
                self.exchange.send_signal(signal.SIGHUP)

        beside = threading.Thread(target=reload)
        if reloads:
            beside.start()
        said = subprocess.run([os.path.join(self.b.bin, "outcry"), *words], capture_output=True, text=True)
        over.set()
        if reloads:
            beside.join()
        if not said.stdout.strip():
            raise Void(said.stderr.strip() or "the load said nothing")
        report = json.loads(said.stdout)
        if report["answered"] < report["sent"]:
            raise Void(f"{report['sent'] - report['answered']} answers are missing")
        # Totals come once a second.
        threading.Event().wait(1.5)
        own = {bound: n - own.get(bound, 0) for bound, n in own_buckets(self.admin).items()}
        return report["latency_ns"], own, self.handshakes() - before, at


def warming(b):
    """What 100 TLS connections made at once do to auctions beside them: p99 of their own time while that happens, again and again, / with
    reloads alone; five plain DSPs, 1,500 requests/s, one bidder core."""
    found = []
    for k in range(b.opt.rounds or ROUNDS):
        try:
            with Warming(b) as w:
                w.load(False, False)
                rows = [(name, *w.load(*how)) for name, *how in (("still", False, False), ("reloads", True, False), ("anew", True, True))]
        except (Void, OSError, subprocess.SubprocessError) as e:
            b.voids += 1
            print(f"void: {e}")
            continue
        p99 = []
        for name, times, own, shaken, reloads in rows:
            p99.append(quantile(own, 0.99))
            over = [1 - own[bound] / own[float("inf")] for bound in (1_000.0, 3_000.0)]
            print(f"round {k + 1}, {name:<8} own time p99 {p99[-1]:.2f} p99.9 {quantile(own, 0.999):.2f} ms, {over[0]:.2%} above 1 ms, {over[1]:.2%} above 3; "
                  f"clients p50 {times['p50'] / 1e6:.2f} p99 {times['p99'] / 1e6:.2f} ms; {reloads} reloads, {shaken:.0f} handshakes", flush=True)
        found.append(p99[2] / p99[1])
    return [("warming", statistics.median(found) if found else None, "-", None)]
