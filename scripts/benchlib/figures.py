"""The figures: each measures, prints what it saw, and gives lines of (name, value, must, met or None for information)."""
import http.client, os, re, resource, shutil, statistics, subprocess, time
from benchlib import cells, micro
from benchlib.kafka import kafka
from benchlib.notices import notices
from benchlib.tls import tls, warming
from benchlib.machine import Quota, Void, get, own_buckets, quantile

RATIO_MAX = 1.30        # whole process / floor, 256 clients
DEEP_RATIO_MAX = 1.40   # the same at 1,024 ...
DEEP_OVER_BARE = 0.15   # ... or this above the bare runtime of the same rounds, where that is more
BIDS_MIN = 0.999        # of the auctions that a DSP bids in
OWN_RATE = 0.70         # of the peak at which own times are measured
OWN_LIMITS = ((0.99, 1_000), (0.999, 3_000))  # share of auctions, microseconds of own time
MEMORY_MAX = 16 * 1024  # bytes an auction in flight
FLIGHT = (256, 3072)
FLIGHT_STEPS = 8        # some 350 new clients at a time, each with five new connections to DSPs
CORES_MAX = 1.05        # CPU an auction on two cores / on one, over the floor's same ratio
MONEY_INSTRUCTIONS = 250  # of a check and a reservation among 100,000 campaigns
MONEY_READS = 3         # random reads of a table of that size that they may take
MONEY_SHARE_MAX = 0.03  # of the floor: what budgets take of the bidder thread
MONEY_WHOLE_MAX = 1.50  # whole process / floor with records and budgets
LEASES_MAX = 0.05       # of a CPU: what 32 cores' leases take of the server and the ledger
SETTLED_MAX = 1.55      # whole process / floor with everything on, 256 clients ...
SETTLED_DEEP_MAX = 1.60  # ... and 1,024
SETTLED_QUOTA = 0.5     # of the serving CPU at 1,024: what flush and control then have to do fits beside the load
SHAPED_MAX = 0.03       # of the floor: what all that is learned of DSPs takes
RECORD_MAX = 0.05       # of the floor: what records take of the bidder thread
VARIANTS = ["floor", "bare", "product", "unrecorded", "power", "budgeted", "settled", "shipped", "unshaped"]
# Beside the floor stands the product without its records: what those take is a figure of its own (`record`).
OWN = "unrecorded"
SPLIT = ["floor", "bare", OWN]


def table(rows):
    print(f"\n{'clients':>7} {'load':<8} {'variant':<8} {'runs':>4} {'CPU us':>7} {'kcycles':>8} {'bidder':>7} {'spread':>13} "
          f"{'kinsn':>6} {'util':>5} {'req/s':>7} {'p50 us':>7} {'p99 us':>7} {'bids':>6} {'load':>5}")
    for clients, how in sorted({(r["clients"], r["how"]) for r in rows}):
        for variant in VARIANTS:
            rs = [r for r in rows if (r["clients"], r["how"], r["variant"]) == (clients, how, variant)]
            if not rs:
                continue
            m = lambda k: statistics.median(r[k] for r in rs)
            c = [r["cycles"] / 1e3 for r in rs]
            bids = f"{m('bids'):>6.1%}" if variant not in ("floor", "bare") else f"{'-':>6}"
            print(f"{clients:>7} {how:<8} {variant:<8} {len(rs):>4} {m('cpu_us'):>7.2f} {m('cycles') / 1e3:>8.1f} "
                  f"{m('cycles_bidder') / 1e3:>7.1f} {min(c):>6.1f}-{max(c):<6.1f} {m('insn') / 1e3:>6.1f} {m('util'):>5.2f} "
                  f"{m('rps'):>7.0f} {m('p50'):>7.0f} {m('p99'):>7.0f} {bids} {m('load'):>5.0%}")


def rounds_of(b, clients, rounds, ms, variants=SPLIT, **kinds):
    """[{variant: row}]; every other round the other way round."""
    found = []
    for k in range(rounds):
        done = {v: b.try_cell(v, clients, ms, **kinds) for v in (variants if k % 2 == 0 else variants[::-1])}
        print(f"{clients} clients, round {k + 1} of {rounds}, kcycles: "
              + ", ".join(f"{v} {r['cycles'] / 1e3:.1f}" for v, r in done.items() if r), flush=True)
        found.append({v: r for v, r in done.items() if r})
    return found


def ratio(rounds, top, bottom, key="cycles"):
    """Median over the rounds that have both; None if there is none."""
    found = [r[top][key] / r[bottom]["cycles"] for r in rounds if top in r and bottom in r]
    return statistics.median(found) if found else None


def bids(b, name, rounds):
    least = min((r[OWN]["bids"] for r in rounds if OWN in r), default=None)
    return [] if b.opt.product_cmd else [(f"{name}_bids_of_due", least, f">= {BIDS_MIN}", lambda v: v >= BIDS_MIN)]


def cpu(b, clients, name, rounds, ms, must):
    found = rounds_of(b, clients, rounds, ms)
    return [
        (name, ratio(found, OWN, "floor"), f"<= {must}" if must else "-", must and (lambda v: v <= must)),
        (f"{name}_bidder_thread", ratio(found, OWN, "floor", "cycles_bidder"), "-", None),
        (f"{name}_bare_runtime", ratio(found, "bare", "floor"), "-", None),
        (f"{name}_product_to_bare", ratio(found, OWN, "bare"), "-", None),
    ] + bids(b, name, found)


def cpu256(b):
    """CPU of the whole process an auction / the floor's, one bidder core, metrics on, records apart."""
    return cpu(b, 256, "cpu256", b.rounds, b.ms, RATIO_MAX)


def cpu64(b):
    """The same at 64 clients, for information."""
    return cpu(b, 64, "cpu64", max(1, b.rounds // 2), b.ms, None)


def cpu1024(b):
    """The same at 1,024. One CPU cannot make the load that another can serve then, so the serving threads get a share of
    theirs, all variants the same: per auction it costs what it costs, only fewer are served. Flush and control are
    outside of the quota: they run on the other CPU, and are counted."""
    try:
        Quota(b.opt.quota).close()
    except Void as e:
        print(e)
        return [("cpu1024", None, f"<= {DEEP_RATIO_MAX}", lambda v: False)]
    print(f"1,024 clients: the serving threads get {b.opt.quota:.0%} of their CPU, in periods of {Quota.PERIOD_US / 1000:g} ms")
    found = rounds_of(b, 1024, max(1, b.rounds - 1), b.ms, quota=b.opt.quota, warm_ms=1500)
    value, bare = ratio(found, OWN, "floor"), ratio(found, "bare", "floor")
    must = max(DEEP_RATIO_MAX, (bare or 0) + DEEP_OVER_BARE)
    return [
        ("cpu1024", value, f"<= {must:.2f}", lambda v: v <= must),
        ("cpu1024_bidder_thread", ratio(found, OWN, "floor", "cycles_bidder"), "-", None),
        ("cpu1024_bare_runtime", bare, "-", None),
        ("cpu1024_product_to_bare", ratio(found, OWN, "bare"), "-", None),
    ] + bids(b, "cpu1024", found)


def shaped(b):
    """What all that is learned of DSPs costs: breakers, limits in flight, trouble, answer times, on beside off."""
    found = rounds_of(b, 256, b.rounds, b.ms, ["floor", OWN, "unshaped"])
    shares = [(r[OWN]["cycles"] - r["unshaped"]["cycles"]) / r["floor"]["cycles"] for r in found if len(r) == 3]
    return [
        ("shaped_share", statistics.median(shares) if shares else None, f"<= {SHAPED_MAX}", lambda v: v <= SHAPED_MAX),
        ("shaped_cpu256", ratio(found, OWN, "floor"), "-", None),
        ("unshaped_cpu256", ratio(found, "unshaped", "floor"), "-", None),
    ]


def counts_of(text, name):
    """{upper bound in seconds: count} of a histogram, or the value of a plain metric."""
    found = re.findall(rf'^{name}(?:_bucket{{le="([^"]+)"}})? (\d+)$', text, re.M)
    return {float(le.replace("+Inf", "inf")) if le else None: int(n) for le, n in found}


def record(b):
    """What records cost: of the bidder thread, of the whole process; how long until they are on disk; their size."""
    seen = {}

    def look(server, bidders, admin, port, phase):
        if phase == "after" and server:
            time.sleep(1.2)  # counts leave a core once a second
            seen.setdefault("pages", []).append(get(admin, "/metrics"))

    found = rounds_of(b, 256, b.rounds, b.ms, ["floor", "product", "unrecorded"])
    share = [(r["product"][k] - r["unrecorded"][k]) / r["floor"]["cycles"] if len(r) == 3 else None
             for r in found for k in ("cycles_bidder", "cycles")]
    bidder, whole = ([s for s in share[i::2] if s is not None] for i in (0, 1))
    median = lambda values: statistics.median(values) if values else None
    row = b.try_cell("product", 256, b.ms, during=look)
    lines = [
        ("record_bidder_share", median(bidder), f"<= {RECORD_MAX}", lambda v: v <= RECORD_MAX),
        ("record_whole_share", median(whole), "-", None),
        ("cpu256_without_record", ratio(found, "unrecorded", "floor"), "-", None),
    ]
    if row and seen:
        page = seen["pages"][-1]
        commits = counts_of(page, "outcry_commit_seconds")
        records, size = (counts_of(page, f"outcry_record{n}_total")[None] for n in ("s", "_bytes"))
        print("from record to disk, share of commits: " + ", ".join(
            f"<= {le * 1e3:g} ms {n / commits[float('inf')]:.2%}" for le, n in sorted(commits.items()) if le < 10))
        lines += [("record_bytes", size / records, "-", None),
                  ("commit_p99_ms", quantile({le * 1e6: n for le, n in commits.items()}, 0.99), "-", None)]
    return lines


def money(b):
    """What budgets cost: instructions and reads of a check and a reservation, memory, leases, of the bidder thread."""
    lines, value = [], None
    if shutil.which("valgrind"):
        files = micro.make_inputs(b.top, os.path.join(b.bin, "floor-requests"))
        both, calls, whole = (micro.count(os.path.join(b.bin, "micro"), case, files["mix"], b.dir)
                              for case in ("reserve", "reserve_nothing", "charge"))
        value = both - calls
        print(f"instructions with 100,000 campaigns: check and reserve {value:.0f}, {calls:.0f} of calls and bench apart; "
              f"charged, noted and delivered as well {whole:.0f} with them")
    else:
        print("money: needs valgrind (Debian: apt-get install valgrind)")
    lines.append(("money_reserve_insn", value, f"<= {MONEY_INSTRUCTIONS}", lambda v: v <= MONEY_INSTRUCTIONS))
    said = b.say("micro", case="ledger")
    number = lambda what, text=said: float(re.search(what.replace("#", r"([\d.]+)"), text).group(1))
    lines += [
        ("money_reserve_reads", MONEY_READS * number("reserve # ns") / number("reads # ns"), f"<= {MONEY_READS}", lambda v: v <= MONEY_READS),
        ("money_bytes_a_campaign", number("# a campaign"), "-", None),
        ("money_bytes_besides", number("# besides"), "-", None),
        ("money_build_ms", number("built in # ms"), "-", None),
    ]
    leases = b.say("leases", seconds=60, dir=b.dir)
    share = {who: number(f"{who} # %", leases) / 100 for who in ("server", "ledger", "together")}
    lines += [("leases_cpu", share["together"], f"<= {LEASES_MAX}", lambda v: v <= LEASES_MAX),
              ("leases_cpu_server", share["server"], "-", None), ("leases_cpu_ledger", share["ledger"], "-", None),
              ("autonomy_mean_s", number(r"autonomy, mean: Some\(#\)", leases), "-", None)]
    print(said + leases, end="", flush=True)
    waits = [w for w in (first_touch(b) for _ in range(5)) if w is not None]
    print("first touch, ms: " + ", ".join(f"{w:.0f}" for w in waits), flush=True)
    lines.append(("first_touch_ms", statistics.median(waits) if waits else None, "-", None))
    found = rounds_of(b, 256, b.rounds, b.ms, ["floor", "product", "budgeted"])
    share = [(r["budgeted"]["cycles_bidder"] - r["product"]["cycles_bidder"]) / r["floor"]["cycles"] for r in found if len(r) == 3]
    return lines + [
        ("money_bidder_share", statistics.median(share) if share else None, f"<= {MONEY_SHARE_MAX}", lambda v: v <= MONEY_SHARE_MAX),
        ("cpu256_with_money", ratio(found, "budgeted", "floor"), f"<= {MONEY_WHOLE_MAX}", lambda v: v <= MONEY_WHOLE_MAX),
        ("cpu256_without_money", ratio(found, "product", "floor"), "-", None),
    ]


def settled(b):
    """What all of it costs together: records, budgets, and notice URLs of ours in every answer, whose charges wait for them."""
    found = rounds_of(b, 256, b.rounds, b.ms, ["floor", "budgeted", "settled"])
    quota = min(b.opt.quota, SETTLED_QUOTA)
    try:
        Quota(quota).close()
        print(f"1,024 clients: the serving threads get {quota:.0%} of their CPU, so that flush has enough of the other")
        deep = rounds_of(b, 1024, max(1, b.rounds - 1), b.ms, ["floor", "settled"], quota=quota, warm_ms=1500)
    except Void as e:
        print(e)
        deep = []
    return [("cpu256_settled", ratio(found, "settled", "floor"), f"<= {SETTLED_MAX}", lambda v: v <= SETTLED_MAX),
            ("cpu1024_settled", ratio(deep, "settled", "floor"), f"<= {SETTLED_DEEP_MAX}", lambda v: v <= SETTLED_DEEP_MAX),
            ("cpu256_budgeted", ratio(found, "budgeted", "floor"), "-", None)]


def first_touch(b):
    """Milliseconds from the answer to a bid that no core had money for to the first answer that was paid; None: it won at once."""
    with open(b.requests, "rb") as f:
        bodies = [line.strip() for line, _ in zip(f, range(40))]
    with b.serving("budgeted", 1_000) as port:
        conn = http.client.HTTPConnection("127.0.0.1", port)

        def bids(body):
            conn.request("POST", cells.PATH, body, {"Content-Type": "application/json"})
            answer = conn.getresponse()
            answer.read()
            return answer.status == 200

        # Requests that get no bid at all find no money either: those are left after a second.
        for body in bodies:
            begun, won = bids(body), False
            since = time.monotonic()
            while not begun and not won and time.monotonic() < since + 1:
                won = bids(body)
            if won:
                return (time.monotonic() - since) * 1e3
    return None


def durability(b):
    """What it costs that answers wait for the disk: answer times and throughput at 256 clients, both modes."""
    found = rounds_of(b, 256, max(1, b.rounds - 1), b.ms, ["product", "power"])
    lines = []
    for variant, name in (("product", "process"), ("power", "power")):
        for key, unit in (("p50", "us"), ("p99", "us"), ("rps", "per_s")):
            values = [r[variant][key] for r in found if variant in r]
            lines.append((f"{name}_{key}_{unit}", statistics.median(values) if values else None, "-", None))
    return lines


def allocs(b):
    """Heap allocations of a bidder thread after warm-up: the allocation test passes when three rounds of its traffic in a
    row make none."""
    p = subprocess.run(["cargo", "test", "-q", "-p", "outcry-cores", "--test", "allocations"], cwd=b.top, capture_output=True, text=True)
    ran = " 0 passed" not in p.stdout and "passed" in p.stdout + p.stderr
    said = re.search(r"there are still (\d+) allocations", p.stdout + p.stderr)
    value = 0.0 if p.returncode == 0 and ran else float(said.group(1)) if said else None
    return [("allocs_per_auction", value, "= 0", lambda v: v == 0)]


def parse(b):
    """Instructions of reading and validating a 2 KB banner request / of simd-json's fill_tape on the same bytes."""
    if not shutil.which("valgrind"):
        print("parse: needs valgrind (Debian: apt-get install valgrind)")
        return [("parse_to_fill_tape", None, f"<= {micro.RIVAL_MAX}", lambda v: False)]
    files = micro.make_inputs(b.top, os.path.join(b.bin, "floor-requests"))
    ours, rival = (micro.count(os.path.join(b.bin, "micro"), case, files["banner"], b.dir) for case in ("parse", "fill_tape"))
    print(f"instructions of a 2 KB banner request: read and validated {ours:.0f}, fill_tape {rival:.0f}")
    return [("parse_to_fill_tape", ours / rival, f"<= {micro.RIVAL_MAX}", lambda v: v <= micro.RIVAL_MAX)]


def own(b):
    """Own time of an auction (arrival to answer less the waiting for DSPs) at 70 % of the peak, from the server's own
    histogram; the floor's at the same rate beside it."""
    peak = b.try_cell("product", 1024, b.ms, quiet=False, warm_ms=1500)
    if not peak:
        return [("own_p99", None, "", lambda v: False)]
    # Where the other CPU is full before this one is, the peak is what this one would do.
    most = peak["rps"] / min(1.0, max(peak["util"], 0.05))
    rate = OWN_RATE * most
    print(f"peak: {peak['rps']:.0f}/s at {peak['util']:.0%} of the CPU (load and DSPs {peak['load']:.0%} of theirs), so {most:.0f}/s; "
          f"offered: {rate:.0f}/s, open loop")
    seen = {}

    def look(server, bidders, admin, port, phase):
        if phase != "run":
            time.sleep(1.5)  # counts leave a core once a second
            seen[phase] = own_buckets(admin)

    def look_at_floor(server, bidders, admin, port, phase):
        if phase != "run":
            seen["floor"] = [int(n) for n in get(port, "/own").split()]

    ms = max(4000, 3 * b.ms)
    row = b.try_cell("product", 1024, ms, rate=rate, during=look)
    # For information, so a disturbance is no reason to have nothing; the table says what else its run was like.
    floor = b.try_cell("floor", 1024, ms, rate=rate, during=look_at_floor, switches=dict(own=1), quiet=False)
    lines = []
    if row:
        counts = {bound: n - seen["before"].get(bound, 0) for bound, n in seen["after"].items()}
        total = counts[float("inf")]
        print("own time, share of " + f"{total} auctions: "
              + ", ".join(f"<= {bound / 1000:g} ms {n / total:.3%}" for bound, n in counts.items() if 100 <= bound <= 10_000))
        print(f"whole time at the client: p50 {row['p50']:.0f} us, p99 {row['p99']:.0f} us, DSPs {b.opt.delay_us} of it; "
              f"{row['achieved']:.1%} of the rate reached")
    for share, limit in OWN_LIMITS:
        name = f"own_p{share * 100:g}_ms"
        value = None
        if row and row["achieved"] >= 0.99:
            value = quantile(counts, share)
        lines.append((name, value, f"< {limit / 1000:g}", lambda v, limit=limit: v <= limit / 1000))
        if floor and "floor" in seen:
            lines.append((f"{name}_floor", seen["floor"][2 if share == 0.99 else 3] / 1000, "-", None))
    return lines


def memory(b):
    """Resident memory of the product an auction in flight: the slope between 256 and 3,072. Sockets' buffers are the
    kernel's and not in it. DSPs take half a second here, so that a modest rate keeps so many in flight."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sockets = 1 + b.opt.dsps
    most = min(FLIGHT[1], (files - 500) // sockets)
    if most < FLIGHT[1]:
        print(f"memory: {files} descriptors are enough for {most} auctions in flight, of {sockets} connections each")
    # The first is the warm-up: pools grow to what 256 need. In steps, so that it is auctions whose memory is seen and not calls
    # that wait for ten thousand new connections at once; in smaller ones beside it, to see how much of it is those calls.
    small = [FLIGHT[0] + (most - FLIGHT[0]) * n // FLIGHT_STEPS for n in range(1, FLIGHT_STEPS + 1)]
    value = slope(b, [most // 3, most * 2 // 3, most])
    return [
        ("memory_bytes_in_flight", value, f"<= {MEMORY_MAX}", lambda v: v <= MEMORY_MAX),
        ("memory_small_steps", slope(b, small), "-", None),
    ]


def slope(b, levels):
    """Bytes an auction in flight between the least and the last of these; None if it could not be measured."""
    for _ in range(2):
        try:
            found = b.in_flight([FLIGHT[0], FLIGHT[0], *levels], 500_000, 4_000)
            print("in flight, resident MB: " + ", ".join(f"{n} {m / 2**20:.1f}" for n, m in found))
            (n0, m0), (n1, m1) = found[1], found[-1]
            print(f"resident memory: {m0 / 2**20:.1f} MB at {n0} auctions in flight, {m1 / 2**20:.1f} MB at {n1}")
            return (m1 - m0) / (n1 - n0)
        except (Void, subprocess.SubprocessError, OSError) as e:
            b.voids += 1
            print(f"void: memory: {e}")
    return None


def cores(b):
    """CPU an auction on two bidder cores / on one, over the same ratio of the floor (a process a core, SO_REUSEPORT).
    The second core shares its CPU with others whatever it does on two CPUs, so generators and DSPs run on both in either
    case, and each core is offered the same rate: what differs is the second core alone."""
    rate, clients = b.opt.cores_rate, 256
    print(f"cores: {rate} requests/s offered for each core, open loop, {clients} connections each")
    ratios = {}
    for variant in ("floor", "product"):
        found = []
        for _ in range(max(1, b.rounds - 1)):
            try:
                one, two = (b.spread(variant, b.opt.cpus[:n], rate, clients, b.ms) for n in (1, 2))
                found.append(two["cycles"] / one["cycles"])
                print(f"{variant}: one core {one['cycles'] / 1e3:.1f} kcycles at {one['rps']:.0f}/s, two {two['cycles'] / 1e3:.1f} at "
                      f"{two['rps']:.0f}/s: {found[-1]:.3f}", flush=True)
            except (Void, subprocess.SubprocessError, OSError) as e:
                b.voids += 1
                print(f"void: cores, {variant}: {e}", flush=True)
        ratios[variant] = statistics.median(found) if found else None
    value = ratios["product"] / ratios["floor"] if all(ratios.values()) else None
    return [
        ("cores_two_to_one", value, f"<= {CORES_MAX}", lambda v: v <= CORES_MAX),
        ("cores_two_to_one_product", ratios["product"], "-", None),
        ("cores_two_to_one_floor", ratios["floor"], "-", None),
    ]


ALL = dict(cpu256=cpu256, cpu64=cpu64, cpu1024=cpu1024, record=record, durability=durability, money=money, allocs=allocs, parse=parse, own=own, memory=memory, cores=cores, shaped=shaped, notices=notices, settled=settled, tls=tls, warming=warming, kafka=kafka)
