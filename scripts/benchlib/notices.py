"""What a notice costs: the CPU of the bidder thread for one that comes in, and for the call to its DSP that follows."""
import json, os, selectors, signal, socket, statistics, subprocess, time, urllib.request
from benchlib.cells import MARKET, PATH
from benchlib.machine import Void, fresh_port, stop, threads, wait_ready, wait_up

CONNECTIONS = 64
NOTICES = 15_000        # in a run, each once
AT_ONCE = 1_500         # so many may wait for one host
ROUNDS = 3
LIFE_S = 10             # of those that no call follows, as they come too late

CONFIG = """\
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[cpus]
bidders = [{server}]
flush = {load}
control = [{load}]

[notices]
url = "http://127.0.0.1:{port}"
life_s = {life_s}

""" + MARKET + """\
settle = "notice"

[[dsp]]
name = "sim"
url = "http://127.0.0.1:{dsp}/dsp"
timeout_ms = 70
warm = 16
connections = 64
"""


def exchange(port, messages, answers=None):
    """Sends each message, as soon as the one before it on its connection is answered. Calls `answers` with each body."""
    waiting, total = iter(messages), 0
    with selectors.DefaultSelector() as all_of:
        def send(s, state):
            message = next(waiting, None)
            if message is None:
                all_of.unregister(s)
                s.close()
                return
            state[0] = b""
            s.sendall(message)

        for _ in range(CONNECTIONS):
            s = socket.create_connection(("127.0.0.1", port), 5)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            state = [b""]
            all_of.register(s, selectors.EVENT_READ, state)
            send(s, state)
        while all_of.get_map():
            ready = all_of.select(10)
            if not ready:
                raise Void(f"no answer for ten seconds, after {total}")
            for key, _ in ready:
                s, state = key.fileobj, key.data
                state[0] += s.recv(65536) or b"\0"
                head = state[0].find(b"\r\n\r\n")
                if head < 0:
                    if state[0].endswith(b"\0"):
                        raise Void("a connection was closed")
                    continue
                at = state[0].lower().find(b"content-length:", 0, head)
                length = int(state[0][at + 15 : state[0].find(b"\r\n", at)]) if at >= 0 else 0
                if len(state[0]) < head + 4 + length:
                    continue
                total += 1
                if answers:
                    answers(state[0][head + 4 :])
                send(s, state)
    return total


def served(b, process):
    return sum(t[0] for t in threads(process.pid).values() if t[2] == str(b.server))


def floor(b, n, requests):
    """Cycles of the floor for each of these, with `n` DSPs that answer at once."""
    up, dsp = fresh_port(n + 1), None
    port = up + n
    try:
        if n:
            dsp = subprocess.Popen(b.tool("floor-dsp", port=up, n=n, cpu=b.load, delay=1000, jitter=200, bid=1, bufs=1024))
            wait_up(up, dsp)
        process = subprocess.Popen(b.tool("floor", port=port, up=up, n=n, cpu=b.server) + b.matched)
        try:
            wait_up(port, process)
            exchange(port, requests[:2000])
            before = served(b, process)
            done = exchange(port, requests)
            return (served(b, process) - before) / done * b.clock_ghz()
        finally:
            stop(process, signal.SIGKILL)
    finally:
        if dsp:
            stop(dsp, signal.SIGKILL)


def product(b, told, requests):
    """Cycles of the bidder thread for each notice, which its DSP is told of, or which comes too late for that; all threads'; bytes."""
    port = fresh_port(3)
    admin, dsp_port = port + 1, port + 2
    state = os.path.join(b.dir, f"notices-{port}")
    os.makedirs(state)
    config = os.path.join(b.dir, f"notices-{port}.toml")
    with open(config, "w") as f:
        f.write(CONFIG.format(port=port, admin=admin, state=state, server=b.server, load=b.load, path=PATH, dsp=dsp_port,
                              life_s=3600 if told else LIFE_S))
    outcry, log = os.path.join(b.bin, "outcry"), open(os.path.join(b.dir, "server.log"), "ab")
    dsp = subprocess.Popen([outcry, "dsp-sim", "--listen", f"127.0.0.1:{dsp_port}", "--character", "rich", "--delay-us", "200",
                            "--cpu", str(b.load), "--quiet", "--notices"], stdout=log, stderr=log)
    process = None
    try:
        wait_up(dsp_port, dsp)
        process = subprocess.Popen([outcry, "serve", "--config", config], stdout=log, stderr=log)
        wait_ready(admin, process)
        urls = []

        def answer(body):
            for seat in json.loads(body)["seatbid"] if body else ():
                urls.extend(bid["burl"] for bid in seat["bid"] if "burl" in bid)

        while len(urls) < NOTICES + 1000:
            before = len(urls)
            exchange(port, requests[:4000], answer)
            if len(urls) == before:
                raise Void("no answer carries a notice URL")
        paths = [f"GET {url[url.index('/notice/'):]} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for url in urls]
        if not told:
            time.sleep(LIFE_S + 1)
        told_of(admin, told, exchange(port, paths[:1000]))
        before, all_before = served(b, process), sum(t[0] for t in threads(process.pid).values())
        done = 0
        while done < NOTICES:
            done += exchange(port, paths[1000 + done :][:AT_ONCE])
            told_of(admin, told, 1000 + done)
        ghz = b.clock_ghz()
        whole = sum(t[0] for t in threads(process.pid).values()) - all_before
        return (served(b, process) - before) / done * ghz, whole / done * ghz, statistics.mean(map(len, paths))
    finally:
        for p in (process, dsp):
            if p:
                stop(p, signal.SIGTERM)
        log.close()


def told_of(admin, told, count):
    """Waits until all of these are on record and their DSP was told, or was not to be."""
    for _ in range(600):
        page = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read().decode()
        value = {k: float(v) for k, v in (line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")}
        if value['outcry_notices_told_total{end="dead"}']:
            raise Void("a DSP could not be told")
        done = value['outcry_notices_told_total{end="done"}' if told else 'outcry_notices_total{end="expired"}']
        if done >= count:
            return
        time.sleep(0.1)
    raise Void(f"{done:.0f} of {count} notices have come to what they should")


def notices(b):
    """CPU of the bidder thread for a notice that comes in / the floor's for a request without DSPs; for the call to the DSP
    that follows / the floor's for a call of a DSP. The same client beside each: 64 connections, one request after the other."""
    with open(b.requests, "rb") as f:
        bodies = f.read().splitlines()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    posts = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies] * 20
    found = []
    for k in range(b.opt.rounds or ROUNDS):
        try:
            none, five = floor(b, 0, posts), floor(b, 5, posts)
            quiet, whole, length = product(b, False, posts)
            telling, whole_telling, _ = product(b, True, posts)
        except (Void, OSError, subprocess.SubprocessError) as e:
            b.voids += 1
            print(f"void: {e}")
            continue
        call = (five - none) / 5
        print(f"round {k + 1}, kcycles: floor without DSPs {none / 1e3:.1f}, a DSP's call {call / 1e3:.1f}; a notice in {quiet / 1e3:.1f} "
              f"(all threads {whole / 1e3:.1f}), with its call out {telling / 1e3:.1f} (all threads {whole_telling / 1e3:.1f}); "
              f"a notice's request has {length:.0f} bytes", flush=True)
        found.append((quiet / none, (telling - quiet) / call, whole / none))
    if not found:
        return [("notice_in", None, "-", None), ("notice_out", None, "-", None)]
    median = lambda at: statistics.median(f[at] for f in found)
    return [("notice_in", median(0), "-", None), ("notice_out", median(1), "-", None), ("notice_in_all_threads", median(2), "-", None)]
