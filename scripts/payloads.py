#!/usr/bin/env python3
"""Reads payloads of records as src/record/SPEC.md describes them, and nothing else: it shares no line with the program,
so that the document is known to be true. Needs Python alone.

    scripts/payloads.py KIND HEX...   prints each payload as a line of JSON
    scripts/payloads.py --self-test   reads the bytes of the tests and compares them with what the program says of them
"""
import json, os, struct, sys
from decimal import Decimal

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHANNELS = [None, "site", "app", "dooh"]
USERS = [None, "coppa", "lmt", "no_consent", "no_salt"]
STAGES = ["receive", "parse", "gate", "rewrite", "send", "wait", "collect", "decide"]
ANSWERS = {1: "0", 2: "a", 3: "p", 4: "f"}  # of the funds, as the program shows them
NOTICES = ["won", "billed", "lost"]
SAID = ["nothing", "same", "lower", "below_floor", "higher", "unfilled", "unreadable"]
TOLD = ["done", "refused", "gave_up", "no_room", "no_host"]
MEDIA = ["banner", "video", "audio", "native"]


class Bytes:
    """What is left of a payload."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError(f"cut short at {self.at}")
        self.at += n
        return self.data[self.at - n:self.at]

    def n(self, size):
        return int.from_bytes(self.take(size), "little")

    def flags(self, count):
        byte = self.n(1)
        if byte >> count:
            raise ValueError(f"unknown flags {byte:#x} at {self.at - 1}")
        return [bool(byte >> i & 1) for i in range(count)]

    def currency(self):
        return self.take(3).decode("ascii")

    def cpm(self):
        return self.n(5)

    def text(self):
        return self.take(self.n(1)).decode()

    def kept(self, length):
        if 128 < length < 251:
            raise ValueError(f"length {length}")
        return self.take(length if length <= 128 else length - 127).decode()

    def end(self):
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes left over")


def event(b):
    return f"{b.n(4):08x}{b.n(4):08x}{b.n(2):04x}{b.n(8):016x}"


def auction(b):
    if (version := b.n(1)) not in (2, 3, 4, 5):
        raise ValueError(f"version {version}")
    flags = ("test", "late", "other_seat", "has_rate", "some_no", "traced", "timed", "awaits")
    r = dict(zip(flags, b.flags({2: 4, 3: 7, 4: 8, 5: 8}[version])))
    r["bidid"] = event(b)
    for name in ("configuration_id", "configuration", "entropy", "arrival_boot_ns", "wall_ms"):
        r[name] = b.n(8)
    r["whole"], r["deadline"], r["decided"] = b.n(5), b.n(5), b.n(5)
    r["digest"], r["accounting"], r["cur"], r["rate"] = b.n(8), b.currency(), b.currency(), b.n(8)
    r["at"], r["increment"], r["channel"] = b.n(4), b.cpm(), CHANNELS[b.n(1)]
    r["country"], r["devicetype"], user = b.take(3), b.n(1), b.n(1)
    lengths = list(b.take(6))
    imps, deals, asked, others, bids, funds, wins = (b.n(n) for n in (1, 2, 1, 1, 2, 2, 1))
    nbr = b.n(2)
    r["nbr"] = None if nbr == 65535 else nbr
    r["asked"] = b.n(5) if version > 2 else 0
    house = b.n(1) if version > 4 else 0
    r["user"] = {"salt": b.n(4), "hash": f"{b.n(8):016x}"} if user == 5 else USERS[user]
    r["trace_id"] = b.take(16).hex() if r.get("traced") else None
    r["stages"] = {name: b.n(5) for name in STAGES} if r.get("timed") else None
    r["awaited_s"] = b.n(4) if r.get("awaits") else 0
    names = ("exchange", "region", "rates", "id", "tid", "publisher")
    r.update({name: b.kept(length) for name, length in zip(names, lengths)})

    def rest(amount):
        currency, due = b.currency(), b.n(5)
        return {"amount": amount, "currency": currency, "due": None if due == 2**40 - 1 else due}

    def floor(amount, plain):
        return {"amount": amount, "currency": r["accounting"], "due": amount} if plain else rest(amount)

    def imp():
        private, refused, plain, medium, one, no_deals = b.flags(6)
        lengths, amount = list(b.take(2)), b.cpm()
        i = {"private": private, "refused": refused, "floor": floor(amount, plain)}
        i["media_floor"] = (b.n(1), rest(b.cpm())) if medium else None
        i["qty"] = 1_000_000 if one else b.n(8)
        i["deals"] = (0, 0) if no_deals else (b.n(2), b.n(2))
        i["id"], i["tagid"] = (b.kept(length) for length in lengths)
        return i

    def deal():
        guar, plain = b.flags(2)
        at, length, amount = b.n(4), b.n(1), b.cpm()
        return {"guar": guar, "at": at, "floor": floor(amount, plain), "id": b.kept(length)}

    def dsp():
        closed, every, plain, has_nbr, few, by_chance = b.flags(6) if version > 4 else b.flags(5) + [False]
        d = {"closed": closed, "outcome": b.n(1)}
        length, seen = b.n(1), b.n(1)
        d["spans"] = [b.n(5) for _ in range(4)]
        d["imps"] = (1 << len(r["imp"])) - 1 if every else b.n(8)
        d["cur"], d["rate"] = (r["accounting"], 10**9) if plain else (b.currency(), b.n(8))
        d["nbr"] = b.n(4) if has_nbr else None
        d["bids"], d["unusable"], d["too_many"] = (seen, 0, 0) if few else (b.n(4), b.n(4), b.n(4))
        if length > 128:
            b.n(8)
        d["asked_probability"] = b.n(2) if by_chance else None
        return d | {"name": b.kept(length)}

    def other():
        outcome, length = b.n(1), b.n(1)
        by_chance = version > 4 and outcome > 127
        o = {"outcome": outcome % 128, "asked_probability": b.n(2) if by_chance else None}
        return o | {"name": b.kept(length)}

    def bid():
        group, took_part, no_deal = b.flags(3)
        x = {"group": group, "took_part": took_part, "dsp": b.n(1), "index": b.n(2), "imp": b.n(1), "seatbid": b.n(2)}
        x |= {"price": b.cpm(), "media": b.n(1), "content": b.n(8), "loss": b.n(2)}
        lengths = list(b.take(5))
        x["deal"] = None if no_deal else b.n(2)
        return x | {name: b.kept(n) for name, n in zip(("seat", "id", "cid", "crid", "adomain"), lengths)}

    def win():
        on_deal, group, budgeted = b.flags(3) if version > 2 else b.flags(2) + [False]
        w = {"on_deal": on_deal, "group": group, "bid": b.n(2), "price": b.cpm(), "bid_price": b.cpm()}
        w |= {"clearing": b.cpm(), "min_to_win": b.cpm(), "reserved": b.n(8), "charge": b.n(8)}
        return w | {"account": b.n(4) if budgeted else None, "period": b.n(4) if budgeted else None}

    def answers():
        """A character each, as the program shows them."""
        if version > 2 and not r["some_no"]:
            return "1" * funds
        bits = b.take((funds + 7) // 8)
        yes = [bits[i // 8] >> i % 8 & 1 for i in range(funds)]
        return "".join("1" if y else "0" if version == 2 else ANSWERS[b.n(1)] for y in yes)

    r["imp"] = [imp() for _ in range(imps)]
    r["deals"] = [deal() for _ in range(deals)]
    r["dsps"] = [dsp() for _ in range(asked)]
    r["not_asked"] = [other() for _ in range(others)]
    r["bids"] = [bid() for _ in range(bids)]
    r["funds"] = answers()
    r["wins"] = [win() for _ in range(wins)]
    r["house"] = [{"imp": b.n(1), "price": b.cpm(), "crid": b.kept(b.n(1))} for _ in range(house)]
    b.end()
    return r


def delivery(b):
    if (version := b.n(1)) not in (0x81, 0x82):
        raise ValueError("no delivery")
    bidid, what, when = event(b), b.n(1), b.n(8)
    charges = b.n(1) if version > 0x81 else 0
    freed = [{"account": b.n(4), "period": b.n(4), "amount": b.n(8)} for _ in range(charges)]
    b.end()
    return {"bidid": bidid, "delivery": ["written", "late", "failed", "client_left"][what], "boot_ns": when, "freed": freed}


def refusals(b):
    r = {"from_ms": b.n(8), "span_ms": b.n(4), "refusals": []}
    for _ in range(b.n(1)):
        exchange = b.text()
        r["refusals"] += [{"exchange": exchange, "reason": b.text(), "count": b.n(5)} for _ in range(b.n(1))]
    b.end()
    return r


def numbers(*fields):
    """A payload of numbers, then texts (size 0)."""
    def read(b):
        r = {name: b.text() if size == 0 else b.take(-size).hex() if size < 0 else b.n(size) for name, size in fields}
        b.end()
        return r
    return read


def clean(b):
    r = {"wall_ms": b.n(8), "writers": [(b.n(2), b.n(8)) for _ in range(b.n(2))]}
    b.end()
    return r


def terms(b):
    t = {"advertiser": b.n(4), "since": b.n(4), "state": ["active", "paused", "ended"][b.n(1)], "pacing": ["asap", "even"][b.n(1)]}
    hourly, lifetime, extra = b.flags(3)
    t["daily"] = b.n(8)
    t["hourly"], t["lifetime"] = (n if there else None for there, n in ((hourly, b.n(8)), (lifetime, b.n(8))))
    day, more = b.n(4), b.n(8)
    t["extra"] = (day, more) if extra else None
    return t | {name: b.text() for name in ("name", "dsp", "seat", "cid", "zone")}


def movement(b):
    m = {"wall_ms": b.n(8), "id": b.n(4), "did": [None, "add", "set", "top_up", "pause", "resume", "end"][b.n(1)]}
    m["by"] = [None, "admin", "file"][b.n(1)]
    before, converted = b.flags(2)
    m["who"] = b.text()
    m["converted"] = {"from": b.currency(), "rate": b.n(8), "table": b.text()} if converted else None
    m["before"] = terms(b) if before else None
    m["after"] = terms(b)
    b.end()
    return m


def lease(b):
    e = {"wall_ms": b.n(8), "did": [None, "settled", "ended", "stopped"][b.n(1)]}
    if e["did"] == "stopped":
        e |= {"account": b.n(4), "level": [None, "granter", "server"][b.n(1)], "invariant": b.text()}
    else:
        e |= {"node": f"{b.n(4):08x}", "epoch": b.n(4)}
    if e["did"] == "settled":
        e["complete"] = b.flags(1)[0]
        e |= {name: b.n(size) for name, size in (("lines", 4), ("returned", 8), ("spent", 8), ("held", 8), ("forfeit", 8))}
    if e["did"] == "ended":
        e["lines"] = [
            {"account": b.n(4), "period": b.n(4), "how": [None, "closed", "proven", "forfeit"][b.n(1)]}
            | {name: b.n(8) for name in ("granted", "returned", "charged", "freed")}
            for _ in range(b.n(1))
        ]
    b.end()
    return e


def notice(b):
    kind, (expired, awaited, less, bought) = NOTICES[b.n(1)], b.flags(4)
    n = {"notice": kind, "expired": expired, "said": SAID[b.n(1)], "imp": b.n(1), "bidid": event(b)}
    n |= {"price": b.cpm(), "charge": b.n(8), "account": b.n(4), "period": b.n(4), "expires_s": b.n(4)}
    length = b.n(2)
    n["held"] = b.n(8) if less else n["charge"] if awaited else None
    n["buyer"] = b.take(b.n(1)).decode() if bought else ""
    n["url"] = b.take(length).decode("ascii")
    b.end()
    return n


def told(b):
    t = {"notice": NOTICES[b.n(1)], "imp": b.n(1), "bidid": event(b)}
    t |= {"end": TOLD[b.n(1)], "status": b.n(2), "attempts": b.n(2)}
    b.end()
    return t


KINDS = {
    1: auction,
    2: delivery,
    3: refusals,
    4: numbers(("status", 2), ("at", 4), ("head_bytes", 4), ("body_bytes", 4), ("digest", 8), ("exchange", 0),
               ("reason", 0), ("field", 0), ("path", 0)),
    5: movement,
    6: lease,
    7: notice,
    8: numbers(("epoch", 4), ("account", 4), ("period", 4), ("minute", 4), ("amount", 8)),
    9: numbers(("wall_ms", 8), ("id", 8), ("old", 8), ("new", 8), ("by", 1)),
    10: numbers(("wall_ms", 8), ("node", 4), ("epoch", 4), ("boot_id", -16), ("cores", 2), ("configuration", 8),
                ("version", 0), ("region", 0)),
    11: numbers(("wall_ms", 8), ("why", 1), ("unfinished", 4)),
    12: clean,
    15: told,
}


def same_auction(read, shown):
    """Compares what was read here with the program's JSON of the same bytes."""
    micro, nano = (lambda n: Decimal(n) / 10**6), (lambda n: Decimal(n) / 10**9)
    for name in ("bidid", "id", "tid", "region", "exchange", "publisher", "cur", "accounting", "rates", "wall_ms", "at", "funds"):
        assert read[name] == shown.get(name, ""), name
    for name in ("digest", "configuration", "entropy"):
        assert f"{read[name]:016x}" == shown[name], name
    assert read["channel"] == shown.get("channel") and read["nbr"] == shown.get("nbr") and read["devicetype"] == shown.get("devicetype", 0)
    user = read["user"]
    assert (user if isinstance(user, dict) or user is None else {"withheld": user}) == shown.get("user")
    assert (read["country"].decode() if any(read["country"]) else None) == shown.get("country")
    for name in ("whole", "deadline", "asked", "decided"):
        assert ((read[name] - 1) // 1000 if read[name] else None) == shown["times"].get(name + "_us"), name
    assert read["trace_id"] == shown.get("trace_id")
    stages = {name: span - 1 for name, span in (read["stages"] or {}).items() if span}
    assert stages == shown.get("stages_ns", {})
    for a, b in zip(read["imp"], shown["imp"], strict=True):
        assert (a["id"], a["tagid"], a["floor"]["currency"]) == (b["id"], b.get("tagid", ""), b["bidfloorcur"])
        assert micro(a["floor"]["amount"]) == b["bidfloor"] and micro(a["qty"]) == b.get("qty", 1)
        due = a["floor"]["due"]
        assert (due is None) == b.get("no_rate", False) and (due is None or micro(due) == b["due"])
        at, n = a["deals"]
        assert [d["id"] for d in read["deals"][at:at + n]] == [d["id"] for d in b.get("deals", [])]
        medium = a["media_floor"]
        assert (medium is None) == ("media_floor" not in b)
        if medium:
            assert [m for i, m in enumerate(MEDIA) if medium[0] >> i & 1] == b["media_floor"]["media"]
            assert micro(medium[1]["amount"]) == b["media_floor"]["bidfloor"]
    for a, b in zip(read["dsps"], shown["dsps"], strict=True):
        assert (a["name"], a["cur"], a["bids"], a["nbr"]) == (b["name"], b["cur"], b["bids"], b.get("nbr"))
        assert nano(a["rate"]) == b["rate"]
        for span, name in zip(a["spans"], ("queued_us", "sent_us", "first_byte_us", "done_us")):
            assert ((span - 1) // 1000 if span else None) == b.get(name), name
    for a, b in zip(read["dsps"] + read["not_asked"], shown["dsps"] + shown["not_asked"], strict=True):
        assert (a["name"], a["asked_probability"]) == (b["name"], b.get("asked_probability"))
    for a, b in zip(read["house"], shown.get("house", []), strict=True):
        assert (read["imp"][a["imp"]]["id"], micro(a["price"]), a["crid"]) == (b["impid"], b["price"], b["crid"])
    for a, b in zip(read["bids"], shown["bids"], strict=True):
        assert read["dsps"][a["dsp"]]["name"] == b["dsp"] and micro(a["price"]) == b["price"] and a["loss"] == b["loss"]
        assert [a[n] for n in ("id", "seat", "cid", "crid")] == [b.get(n, "") for n in ("id", "seat", "cid", "crid")]
        assert (a["index"], a["seatbid"], a["group"]) == (b["index"], b["seatbid"], b.get("group", False))
        assert (read["deals"][a["deal"]]["id"] if a["deal"] is not None else None) == b.get("dealid")
        assert f"{a['content']:016x}" == b["content"]
    for a, b in zip(read["wins"], shown["wins"], strict=True):
        assert read["imp"][read["bids"][a["bid"]]["imp"]]["id"] == b["impid"]
        for name in ("price", "bid_price", "clearing", "min_to_win"):
            assert micro(a[name]) == b[name], name
        assert nano(a["charge"]) == b["charge"] and nano(a["reserved"]) == b["reserved"]
        assert (a["account"], a["period"]) == (b.get("account"), b.get("period"))


def self_test():
    folder = os.path.join(TOP, "src")
    golden = {}
    for version in (2, 3, 4, 5):
        with open(os.path.join(folder, f"auction/record/v{version}.golden.txt")) as f:
            golden[version] = [bytes.fromhex(line) for line in f.read().split()]
    with open(os.path.join(folder, "record/show/auctions.golden.json")) as f:
        shown = [json.loads(line, parse_float=Decimal) for line in f]
    shown = [s for s in shown if s["version"] in golden]
    written = [payload for version in sorted(golden) for payload in golden[version]]
    assert len(shown) == len(written) and all(golden.values())
    for payload, line in zip(written, shown):
        same_auction(auction(Bytes(payload)), line)
        for n in range(len(payload)):  # no shorter one is a record
            try:
                auction(Bytes(payload[:n]))
            except (ValueError, IndexError):
                continue
            raise AssertionError(f"{n} bytes of a record were read as one")
    with open(os.path.join(folder, "budget/movement_v1.golden.txt")) as f:
        moved = [movement(Bytes(bytes.fromhex(line))) for line in f.read().split()]
    assert [(m["did"], m["by"], m["who"], m["before"] is None) for m in moved] == [("set", "admin", "ops", False), ("add", "file", "", True)]
    assert moved[0]["converted"] == {"from": "EUR", "rate": 1_083_700_000, "table": "2026-11-21"}
    assert (moved[0]["before"]["hourly"], moved[0]["after"]["lifetime"], moved[0]["after"]["extra"]) == (5 * 10**9, 9, (29_920_000, 1_500_000_000))
    assert (moved[0]["after"]["cid"], moved[0]["after"]["zone"], moved[1]["after"]["dsp"]) == ("c\u00e4", "Europe/Berlin", "")
    with open(os.path.join(folder, "budget/event_v1.golden.txt")) as f:
        settled, ended, stopped = [lease(Bytes(bytes.fromhex(line))) for line in f.read().split()]
    assert (settled["node"], settled["epoch"], settled["complete"], settled["lines"], settled["forfeit"]) == ("000000ff", 3, True, 2, 1)
    assert [(n["account"], n["how"], n["granted"] - n["returned"]) for n in ended["lines"]] == [(7, "proven", 6 * 10**9), (8, "forfeit", 10**10)]
    assert (stopped["account"], stopped["level"], stopped["invariant"]) == (7, "server", "core_sums")
    assert refusals(Bytes(struct.pack("<QIB", 1, 1000, 1) + b"\x01x\x01\x08not_json\x02\0\0\0\0"))["refusals"] == \
        [{"exchange": "x", "reason": "not_json", "count": 2}]
    delivered = event(Bytes(bytes(18))), "late", 258
    for payload, freed in (
        (b"\x81" + bytes(18) + b"\1\2\1" + bytes(6), []),
        (b"\x82" + bytes(18) + b"\1\2\1" + bytes(6) + b"\0", []),
        (b"\x82" + bytes(18) + b"\1\2\1" + bytes(6) + b"\1" + struct.pack("<IIQ", 7, 29_000_000, 5), [(7, 29_000_000, 5)]),
    ):
        read = delivery(Bytes(payload))
        assert (read["bidid"], read["delivery"], read["boot_ns"]) == delivered
        assert [tuple(f.values()) for f in read["freed"]] == freed
    said = notice(Bytes(b"\1\1\2\3" + bytes(18) + b"\2\1\0\0\0" + struct.pack("<QIIIH", 5, 6, 7, 8, 1) + b"u"))
    assert list(said.values()) == ["billed", True, "lower", 3, "0" * 36, 258, 5, 6, 7, 8, None, "", "u"]
    named = notice(Bytes(b"\1\x09\2\3" + bytes(18) + b"\2\1\0\0\0" + struct.pack("<QIIIH", 5, 6, 7, 8, 1) + b"\3d/su"))
    assert (named["buyer"], named["url"]) == ("d/s", "u")
    assert list(told(Bytes(b"\2\3" + bytes(18) + b"\2\x02\x01\4\0")).values()) == ["lost", 3, "0" * 36, "gave_up", 258, 4]
    print(f"{len(shown)} auctions are what the program says of them")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) not in KINDS:
        sys.exit(__doc__.strip() if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help") else f"payloads: KIND is one of {', '.join(map(str, KINDS))}")
    for payload in sys.argv[2:]:
        try:
            print(json.dumps(KINDS[int(sys.argv[1])](Bytes(bytes.fromhex(payload))), default=bytes.hex))
        except ValueError as e:
            sys.exit(f"payloads: {e}")


if __name__ == "__main__":
    main()
