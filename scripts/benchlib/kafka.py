"""What the way to Kafka costs beside auctions: CPU of its threads, bytes of a message, delay, and how fast a backlog drains. The
broker is a real one, on the CPU of the load; its own work is nobody's figure."""
import os, re, shutil, statistics, subprocess, sys, tempfile, time
from benchlib.machine import Void, get, threads

RATE = 1_500            # requests a second: load, DSPs, broker and our threads share a CPU
CLIENTS = 256
AWAY_S = 20             # without a broker
SHARE_MAX = 0.15        # of the floor: what flush and the threads of Kafka take an auction
PARTITIONS = 64
OURS = re.compile(r"outcry-(ship|flush)|rdk:")


def figures_of(admin):
    lines = get(admin, "/metrics").splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("outcry_kafka_"))}


def ours(pid):
    """Nanoseconds of the threads that the record's way takes: name -> CPU."""
    found = {}
    for ran, _, _, name in threads(pid).values():
        if m := OURS.match(name):
            found[m.group(0)] = found.get(m.group(0), 0) + ran
    return found


def stored(cluster):
    """Bytes of what the broker keeps of our topics: batches as they came over the wire."""
    total = 0
    for folder, _, files in os.walk(cluster.dir):
        if "/bench." in folder:
            total += sum(os.path.getsize(os.path.join(folder, f)) for f in files if f.endswith(".log"))
    return total


def kafka(b):
    """What the record's way to Kafka takes: CPU of flush and its threads, bytes of a message, delay, how fast a backlog drains."""
    sys.path.insert(0, os.path.join(b.top, "scripts"))
    import kafkalib
    folder = tempfile.mkdtemp(prefix="outcry-bench-kafka-")
    cluster = kafkalib.Cluster(os.path.join(folder, "cluster"))
    seen, shares, floors, lines = [], [], [], []
    try:
        said = cluster.up(companion=os.getpid(), remove=True, nice=0)
        broker = said["bootstrap"]
        b.more = f'\n[kafka]\nbrokers = ["{broker}"]\nprefix = "bench."\n'
        config = os.path.join(b.dir, "topics.toml")
        with open(config, "w") as f:
            f.write(b.more)
        made = subprocess.run([os.path.join(b.bin, "outcry"), "audit", "topics", "--config", config, "--apply", "--partitions", str(PARTITIONS),
                               "--replication", "1", "--min-insync", "1"], capture_output=True, text=True)
        if made.returncode:
            raise Void(f"topics: {made.stderr}{made.stdout}")

        def watch(server, _, admin, port, phase):
            if phase == "before":
                seen.append((ours(server.pid), figures_of(admin)))
            elif phase == "after":
                # What was recorded last is on its way.
                time.sleep(1.5)
                seen.append((ours(server.pid), figures_of(admin)))

        for _ in range(b.rounds):
            floor = b.try_cell("floor", CLIENTS, b.ms, quiet=False, rate=RATE)
            seen.clear()
            bytes_before = stored(cluster)
            row = b.try_cell("shipped", CLIENTS, b.ms, quiet=False, rate=RATE, during=watch)
            if not (floor and row and len(seen) == 2):
                continue
            (cpu0, at0), (cpu1, at1) = seen
            auctions = row["rps"] * b.ms / 1e3
            per = {name: (ns - cpu0.get(name, 0)) / auctions for name, ns in cpu1.items()}
            acked = 'outcry_kafka_messages_total{end="acknowledged"}'
            messages = at1[acked]
            whole = sum(per.values()) * row["ghz"]
            shares.append(whole / floor["cycles"])
            floors.append(dict(
                row=whole, floor=floor["cycles"], messages=(at1[acked] - at0[acked]) / auctions,
                plain=(at1["outcry_kafka_bytes_total"] - at0["outcry_kafka_bytes_total"]) / max(at1[acked] - at0[acked], 1),
                wire=(stored(cluster) - bytes_before) / max(messages, 1),
                p50=at1.get('outcry_kafka_delay_seconds{quantile="0.5"}', 0), p99=at1.get('outcry_kafka_delay_seconds{quantile="0.99"}', 0)))
            print("kafka: CPU ns an auction: " + ", ".join(f"{name} {ns:.0f}" for name, ns in sorted(per.items()))
                  + f"; {shares[-1]:.3f} of the floor's; {floors[-1]['messages']:.2f} messages an auction, {floors[-1]['plain']:.0f} bytes each, "
                  f"{floors[-1]['wire']:.0f} in the broker's log; delay p50 {floors[-1]['p50'] * 1e3:.0f} ms, p99 {floors[-1]['p99'] * 1e3:.0f} ms", flush=True)
        lines = drained(b, cluster)
    finally:
        b.more = ""
        cluster.down(remove=True)
        shutil.rmtree(folder, ignore_errors=True)
    m = lambda key: statistics.median(f[key] for f in floors) if floors else None
    return [("kafka_cpu_share", statistics.median(shares) if shares else None, f"<= {SHARE_MAX}", lambda v: v <= SHARE_MAX),
            ("kafka_messages_an_auction", m("messages"), "-", None), ("kafka_bytes_a_message", m("plain"), "-", None),
            ("kafka_bytes_on_the_wire", m("wire"), "-", None), ("kafka_delay_p50_s", m("p50"), "-", None),
            ("kafka_delay_p99_s", m("p99"), "-", None)] + lines


def drained(b, cluster):
    """A backlog of AWAY_S seconds: how fast it goes, and the auctions' own p99 before, without a broker, and while it drains."""
    from benchlib.figures import own_buckets, quantile
    found = {}

    def p99(before, after):
        """Milliseconds, of the auctions between two readings."""
        counts = {bound: n - before.get(bound, 0) for bound, n in after.items()}
        return quantile(counts, 0.99) if counts.get(float("inf")) else None

    def watch(server, _, admin, port, phase):
        page = lambda: own_buckets(admin)
        if phase != "run":
            return
        before = page()
        time.sleep(AWAY_S / 2)
        found["calm"] = p99(before, page())
        cluster.kill()
        before = page()
        time.sleep(AWAY_S)
        found["away"] = p99(before, page())
        backlog, sent = figures_of(admin)["outcry_kafka_backlog_bytes"], figures_of(admin)["outcry_kafka_bytes_total"]
        cluster.again()
        before, began = page(), time.monotonic()
        while time.monotonic() < began + 2 * AWAY_S:
            time.sleep(0.1)
            now = figures_of(admin)
            if now["outcry_kafka_oldest_seconds"] < 2:
                break
        found["took"] = time.monotonic() - began
        found["rate"] = (now["outcry_kafka_bytes_total"] - sent) / found["took"]
        found["backlog"] = backlog
        found["drain"] = p99(before, page())

    b.try_cell("shipped", CLIENTS, (AWAY_S * 3 + 15) * 1000, quiet=False, rate=RATE, during=watch)
    if "took" not in found:
        return [("kafka_drain_mb_s", None, "-", None)]
    ms = lambda key: "-" if found[key] is None else f"{found[key]:.2f} ms"
    print(f"kafka: {AWAY_S} s without a broker: {found['backlog'] / 1e6:.1f} MB of journal waited, there {found['took']:.1f} s after the broker was back; "
          f"own p99 before {ms('calm')}, without {ms('away')}, while it drains {ms('drain')}", flush=True)
    return [("kafka_drain_mb_s", found["rate"] / 1e6, "-", None), ("kafka_own_p99_ms_before", found["calm"], "-", None),
            ("kafka_own_p99_ms_away", found["away"], "-", None),
            ("kafka_own_p99_ms_draining", found["drain"], "-", None)]
