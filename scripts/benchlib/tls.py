"""What TLS to DSPs costs: CPU of the bidder thread for an auction whose five DSPs are behind it, beside the same with plain ones."""
import os, signal, statistics, subprocess
from benchlib.cells import MARKET, PATH
from benchlib.machine import Void, fresh_port, get, stop, wait_ready, wait_up
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
