"""Where the bidder thread's cycles go: samples of its stacks, told apart by the source file each of them is in.

Link-time optimisation inlines most of our functions into a few, so the innermost inlined frame's *file* says what a
sample is; what belongs to nobody (std, memcpy, memchr) belongs to its caller."""
import os, re, shutil, struct, subprocess, sys, time
from benchlib.machine import get

HZ = 1999
STACK_BYTES = 4096      # of each sample, for the unwinder; our stacks are shallow
KERNEL = [("send", ("io_send", "io_sendmsg")), ("receive", ("io_recv", "io_recvmsg")), ("poll", ("io_poll_task_func", "io_poll_add"))]

# A frame is "file:function"; the first rule that matches the innermost frame that any rule matches names the stage.
# Frames of no rule (json.rs, text.rs, units.rs, slab.rs: used everywhere) belong to whoever called them. `io` is our side
# of the runtime.
STAGES = [
    ("receive", r"cores/bidder/(ingress\.rs:.*(step|arrived|read|open|key|tick)|framing|reading)|src/http1/(request|chunked|gzip)\.rs"),
    ("parse", r"src/openrtb/(parse_request|parse_imp|parse_native|validate|request)\.rs|flight\.rs:.*(parse|begin)"),
    ("gate", r"src/gate/|src/dsp/deadline\.rs|src/auction/(mod|input)\.rs:.*(begin|keep|reset)"),
    ("rewrite", r"src/openrtb/splice\.rs|asking\.rs:.*fan_out|src/auction/mod\.rs:.*(offer|ask)|encode\.rs:.*request|flight\.rs:.*ask"),
    ("send", r"cores/bidder/egress\.rs:.*(ask|flush|send|request_buffer|begin)|src/dsp/pool\.rs|(ring|sockets)\.rs:.*send"),
    ("collect", r"src/openrtb/(parse_response|response)\.rs|src/http1/response\.rs|src/auction/(eligibility|secure|textset|delivery)\.rs"
                r"|src/auction/mod\.rs:.*(hear|leg_)|cores/bidder/egress\.rs|flight\.rs:.*(answered|warm)|asking\.rs:.*(on_done|failed)"),
    ("decide", r"src/auction/(clearing|funds|input)\.rs|src/auction/mod\.rs"),
    ("answer", r"answering\.rs|src/auction/(answer|macros|record)\.rs|src/http1/encode\.rs|flight\.rs|cores/bidder/ingress\.rs"
               r"|src/record/"),
    ("turns", r"cores/bidder/(mod|turn|thread|asking|snapshot)\.rs|src/time/|cores/flush/"),
    ("io", r"cores/bidder/(ring|sockets|epoll|transport)\.rs"),
]
PRODUCT_STAGES = ["receive", "parse", "gate", "rewrite", "send", "wait", "collect", "decide", "answer"]


def record(tid, seconds, cpu, out):
    subprocess.run(["taskset", "-c", str(cpu), "perf", "record", "-q", "-e", "cpu-clock", "-F", str(HZ), "-t", str(tid),
                    "--call-graph", f"dwarf,{STACK_BYTES}", "-o", out, "--", "sleep", f"{seconds:.1f}"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def samples(data):
    """Stacks, innermost frame first: [(address, symbol, object)]."""
    p = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym,dso", "--no-inline"], capture_output=True, text=True)
    stacks, stack = [], []
    for line in p.stdout.splitlines() + [""]:
        if not line.strip():
            if stack:
                stacks.append(stack)
            stack = []
        elif m := re.match(r"\s*([0-9a-f]+) (.*) \((.*)\)$", line):
            stack.append((int(m.group(1), 16), m.group(2), m.group(3)))
    return stacks


def bias(binary):
    """What is added to an offset into the file, which is what perf prints, to get the address that debug info speaks of."""
    with open(binary, "rb") as f:
        elf = f.read(64)
        at, size, count = *struct.unpack_from("<Q", elf, 32), *struct.unpack_from("<HH", elf, 54)
        f.seek(at)
        for _ in range(count):
            kind, flags, offset, address = struct.unpack_from("<IIQQ", f.read(size))
            if kind == 1 and flags & 1:  # loaded and executable
                return address - offset
    return 0


def inlined(binary, addresses):
    """{offset: [file:function, innermost first]}."""
    tool = next((t for t in ("llvm-addr2line", "llvm-addr2line-14", "addr2line") if shutil.which(t)), None)
    if not tool:
        sys.exit("bench: needs addr2line (Debian: apt-get install binutils)")
    more = bias(binary)
    p = subprocess.run([tool, "-a", "-i", "-f", "-C", "-e", binary], capture_output=True, text=True,
                       input="".join(f"0x{a + more:x}\n" for a in addresses))
    found, current, function = {}, None, None
    for line in p.stdout.splitlines():
        if re.fullmatch(r"0x[0-9a-f]+", line):
            current, function = found.setdefault(int(line, 16) - more, []), None
        elif function is None:
            function = line
        else:
            current.append(f"{line.rsplit(':', 1)[0]}:{function}")
            function = None
    return found


def unfold(stacks, binary):
    """Every stack as its kind of kernel work or None, and its frames as file:function, innermost first."""
    # All but the innermost are addresses to return to: the call is just before.
    at = lambda depth, ip: ip - (depth > 0)
    own = {at(d, ip) for s in stacks for d, (ip, _, dso) in enumerate(s) if dso == binary}
    lines = inlined(binary, sorted(own))
    for stack in stacks:
        if "kernel" in stack[0][2] or stack[0][0] >> 63:
            names = [symbol.split("+")[0] for _, symbol, _ in stack]
            yield next((kind for kind, of in KERNEL if any(n in of for n in names)), "other"), []
        else:
            yield None, [f for d, (ip, symbol, dso) in enumerate(stack)
                         for f in (lines.get(at(d, ip), []) if dso == binary else [f"?:{symbol}"])]


def group(frames):
    """Who owns a sample that is not the kernel's."""
    for frame in frames:
        if re.search(r"/(monoio|io-uring)[^/]*/", frame.split(":")[0]):
            return "runtime"
        if "/rustc/" in frame or "/.cargo/" in frame or "/registry/" in frame:
            continue
        if re.search(r"(^|/)(src|cores|benches)/", frame.split(":")[0]):
            return "ours"
    return "unknown"


def stage(frames):
    for frame in frames:
        path = frame.split(":")[0]
        if re.search(r"/(monoio|io-uring)[^/]*/", path):
            return "runtime"
        if "/rustc/" in path or "/.cargo/" in path or "/registry/" in path:
            continue
        for name, rule in STAGES:
            if re.search(rule, frame):
                return name
    return "unknown"


def profiled(b, variant, clients):
    """(row, unfolded stacks, stage times of the product in microseconds) of one run."""
    data, seen = os.path.join(b.dir, "perf.data"), {}
    seconds = max(3.0, b.ms / 1000)

    def during(server, bidders, admin, port, phase):
        if phase == "run":
            time.sleep(0.3)
            record(min(bidders), seconds, b.load, data)
        elif variant == "product":
            time.sleep(1.3)
            seen[phase] = {(s, k): float(v) for k, s, v in
                           re.findall(r'^outcry_stage_seconds_(sum|count)\{stage="([a-z]+)"\} (\S+)', get(admin, "/metrics"), re.M)}

    row = b.try_cell(variant, clients, round(seconds * 1000) + 900, during=during, warm_ms=1500,
                     quota=b.opt.quota if clients > 512 else None)
    if not row or not os.path.exists(data):
        return None
    binary = os.path.join(b.bin, "outcry" if variant == "product" else variant)
    stacks = list(unfold(samples(data), os.path.realpath(binary)))
    os.remove(data)
    times = {}
    for (s, k), v in seen.get("after", {}).items():
        times.setdefault(s, {})[k] = v - seen["before"].get((s, k), 0)
    auctions = times.get("decide", {}).get("count", 0)  # others may be counted several times in one: collect once an answer
    return row, stacks, {s: t["sum"] / auctions * 1e6 for s, t in times.items() if auctions and t.get("count")}


def shares(names):
    """[(name, share)] of a list of names, the most first."""
    return sorted(((n, names.count(n) / len(names)) for n in set(names)), key=lambda x: -x[1])


def split(b, clients):
    print(f"\nkcycles of the serving thread an auction, by {HZ} samples a second of CPU\n"
          f"{'clients':>7} {'variant':<8} {'all':>6} {'kernel':>7} {'send':>6} {'receive':>8} {'poll':>6} {'other':>6} {'runtime':>8} "
          f"{'ours':>6} {'unknown':>8} {'samples':>8}")
    for n in clients:
        for variant in ("floor", "bare", "product"):
            found = profiled(b, variant, n)
            if not found or not found[1]:
                print(f"{n:>7} {variant:<8} pending")
                continue
            row, stacks, _ = found
            part = dict(shares([kernel or group(frames) for kernel, frames in stacks]))
            k = lambda name: part.get(name, 0.0) * row["cycles_bidder"] / 1e3
            kernel = sum(k(name) for name in ("send", "receive", "poll", "other"))
            print(f"{n:>7} {variant:<8} {row['cycles_bidder'] / 1e3:>6.1f} {kernel:>7.1f} {k('send'):>6.1f} {k('receive'):>8.1f} "
                  f"{k('poll'):>6.1f} {k('other'):>6.1f} {k('runtime'):>8.1f} {k('ours'):>6.1f} {k('unknown'):>8.1f} {len(stacks):>8}", flush=True)
    print("kernel is the sum of the four columns after it; for floor and bare, ours is their own code")


def stages(b, clients):
    for n in clients:
        found = profiled(b, "product", n)
        if not found or not found[1]:
            print(f"{n} clients: pending")
            continue
        row, stacks, times = found
        part = dict(shares(["kernel " + kernel if kernel else stage(frames) for kernel, frames in stacks]))
        print(f"\n{n} clients, {row['rps']:.0f} auctions/s, {row['cycles_bidder'] / 1e3:.1f} kcycles of the bidder thread an auction, "
              f"{len(stacks)} samples\n{'stage':<16} {'kcycles':>8} {'us':>7} {'own clock, us':>14}")
        rest = sorted(set(part) - set(PRODUCT_STAGES), key=lambda name: -part[name])
        for name in PRODUCT_STAGES + rest:
            cycles = part.get(name, 0.0) * row["cycles_bidder"]
            clock = f"{times[name]:>14.1f}" if name in times else f"{'-':>14}"
            print(f"{name:<16} {cycles / 1e3:>8.1f} {cycles / row['ghz'] / 1e3:>7.2f} {clock}")
        print("own clock: outcry_stage_seconds, one auction in 64, from the first byte; `send` there holds the whole turn it ends in")
        files = shares([next((os.path.relpath(f.split(':')[0], b.top) for f in frames
                              if f.startswith(b.top) and "/target/" not in f), "?") for kernel, frames in stacks if not kernel])
        print("most of ours by file: " + ", ".join(f"{f} {s:.0%}" for f, s in files[:14] if f != "?"))


def run(b):
    if not shutil.which("perf"):
        sys.exit("bench: needs perf for this (Debian: apt-get install linux-perf)")
    if b.opt.split:
        split(b, [int(c) for c in (b.opt.clients or "64,256,1024").split(",")])
    if b.opt.stages:
        stages(b, [int(c) for c in (b.opt.clients or "256").split(",")])
