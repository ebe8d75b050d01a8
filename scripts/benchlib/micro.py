"""Instructions of single stages, counted by callgrind, beside those of another commit.

Instructions do not depend on what else the machine does: the same binary gives the same count, to a thousandth."""
import json, os, re, shutil, subprocess, sys

CHANGE_MAX = 0.02       # of a case, against the other commit, without being flagged
RIVAL_MAX = 1.3         # parsing and validating / simd-json's fill_tape on the same bytes
COUNT = 96              # requests of a kind
ROUNDS = 2
KINDS = {"banner": ["media=banner", "lo=1900", "hi=2150"], "video": ["media=video"], "native": ["media=native"], "mix": []}
CASES = [  # name, case of benches/micro, kind of requests, what one operation is
    ("parse banner", "parse", "banner", "read and validated, 2 KB"),
    ("parse video", "parse", "video", "the same of video"),
    ("parse native", "parse", "native", "the same of native, with the JSON inside of it"),
    ("parse pretty", "parse", "pretty", "the 2 KB banner ones, indented"),
    ("fill_tape banner", "fill_tape", "banner", "simd-json's fill_tape on the same bytes"),
    ("fill_tape video", "fill_tape", "video", ""),
    ("fill_tape native", "fill_tape", "native", "(not the JSON inside)"),
    ("fill_tape pretty", "fill_tape", "pretty", ""),
    ("request head", "request_head", "mix", "HTTP head of a request"),
    ("splice x 5", "splice", "mix", "a request rewritten for five DSPs"),
    ("answers x 5", "response", "mix", "heads and bodies of five answers"),
    ("digest", "digest", "banner", "XXH3 of a request, 2 KB"),
    ("choose of 50", "choose", "mix", "ten of fifty DSPs that state much: who may be offered what, who is worth most"),
    ("choose of 5", "choose_few", "mix", "all of five DSPs that state nothing"),
    ("begin", "begin", "mix", "what the decision and its record need of a request taken over, digest and all"),
    ("judge", "judge", "mix", "the bids of five answers, one by one"),
    ("decide", "decide", "mix", "second price over the bids of five answers"),
    ("record", "record", "mix", "the decision's record encoded"),
    ("publish", "publish", "mix", "a frame of 1.5 KB published in the black box, checksum and reservation included"),
    ("answer", "answer", "mix", "our answer, head and body"),
    ("health x 5", "health", "mix", "health of five DSPs: asked, answered, told what came of it, demand"),
    ("health off x 5", "health_off", "mix", "the same with all of it switched off"),
    ("auction", "auction", "mix", "a whole core without sockets, eight auctions a turn"),
    ("- unshaped", "auction_unshaped", "mix", "the same without what is learned of DSPs"),
    ("- to the asking", "auction_ask", "mix", "request to end of the turn that asks"),
    ("- to the answer", "auction_hear", "mix", "five answers to end of the turn that answers"),
]


def make_inputs(top, tool):
    """File of each kind, made by the tree at hand for both sides."""
    folder = os.path.join(top, "target/bench-micro")
    os.makedirs(folder, exist_ok=True)
    files = {}
    for kind, switches in KINDS.items():
        files[kind] = os.path.join(folder, kind + ".jsonl")
        with open(files[kind], "wb") as f:
            subprocess.run([tool, f"count={COUNT}"] + switches, stdout=f, stderr=subprocess.DEVNULL, check=True)
    files["pretty"] = os.path.join(folder, "pretty.json")
    with open(files["banner"]) as f, open(files["pretty"], "w") as out:
        out.write("\x1e".join(json.dumps(json.loads(line), indent=2) for line in f))
    return files


def count(binary, case, file, folder):
    """Instructions of one operation; None if this side does not know the case."""
    out = os.path.join(folder, "callgrind.out")
    cmd = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=micro::measured",
           binary, f"case={case}", f"requests={file}", f"rounds={ROUNDS}"]
    p = subprocess.run(cmd, capture_output=True, text=True)
    if p.returncode or not p.stdout.strip().isdigit():
        return None
    with open(out) as f:
        totals = re.findall(r"^(?:totals|summary): (\d+)", f.read(), re.M)
    return int(totals[-1]) / int(p.stdout) if totals and int(totals[-1]) else None


def build_other(top, rev):
    """The binary of another commit's src/ and cores/, measured by the benches of the tree at hand."""
    base = os.path.join(top, "target/bench-against")
    tree, git = os.path.join(base, "tree"), ["git", "-C", top]
    if not os.path.exists(os.path.join(tree, ".git")):
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(git + ["worktree", "prune"], check=True)
        subprocess.run(git + ["worktree", "add", "--force", "--detach", "--quiet", tree, rev], check=True)
    subprocess.run(["git", "-C", tree, "checkout", "--force", "--detach", "--quiet", rev], check=True)
    subprocess.run(["git", "-C", tree, "clean", "-fdq", "benches"], check=True)
    env = dict(os.environ, CARGO_TARGET_DIR=os.path.join(base, "target"))
    cargo = ["cargo", "build", "--release", "--quiet", "-p", "outcry-benches", "--bin", "micro"]
    shutil.rmtree(os.path.join(tree, "benches"))
    shutil.copytree(os.path.join(top, "benches"), os.path.join(tree, "benches"))
    shutil.copy2(os.path.join(top, "Cargo.lock"), tree)
    built = subprocess.run(cargo, cwd=tree, env=env, capture_output=True, text=True)
    if built.returncode:  # its interfaces were others: then with its own benches, if it had any
        subprocess.run(["git", "-C", tree, "checkout", "--force", "--quiet", rev, "--", "benches", "Cargo.lock"], check=True)
        built = subprocess.run(cargo, cwd=tree, env=env, capture_output=True, text=True)
        if built.returncode:
            return None
    return os.path.join(base, "target/release/micro")


def measure(bench, against=None, alone=False):
    """Prints the table; gives {name: instructions}. `alone`: compares with nothing."""
    top = bench.top
    if not shutil.which("valgrind"):
        sys.exit("bench: needs valgrind for this (Debian: apt-get install valgrind)")
    files = make_inputs(top, os.path.join(bench.bin, "floor-requests"))
    folder = os.path.join(top, "target/bench-micro")
    other = rev = None
    if not alone:
        dirty = subprocess.run(["git", "-C", top, "status", "--porcelain", "src", "cores", "Cargo.toml"],
                               capture_output=True, text=True).stdout.strip()
        rev = against or ("HEAD" if dirty else "HEAD~1")
        print(f"building {rev} for comparison, in target/bench-against ...", flush=True)
        other = build_other(top, rev)
        if not other:
            print(f"note: {rev} cannot be built with these benches, nor has any of its own; nothing to compare with")
    found, flagged = {}, 0
    print(f"\n{'instructions of one':<18} {'now':>9} {rev if other else '':>12} {'change':>8}")
    for name, case, kind, what in CASES:
        now = count(os.path.join(bench.bin, "micro"), case, files[kind], folder)
        if now is None:
            sys.exit(f"bench: benches/micro case={case} failed; run {bench.bin}/micro case={case} requests={files[kind]}")
        found[name] = now
        line = f"{name:<18} {now:>9.0f} "
        before = count(other, case, files[kind], folder) if other else None
        if before:
            change = now / before - 1
            flagged += abs(change) > CHANGE_MAX
            line += f"{before:>12.0f} {change:>+8.1%} " + ("MORE" if change > CHANGE_MAX else "less" if change < -CHANGE_MAX else "    ")
        else:
            line += " " * 27
        print(f"{line} {what}", flush=True)
    for kind in ("banner", "video", "native", "pretty"):
        print(f"parse / fill_tape, {kind}: {found['parse ' + kind] / found['fill_tape ' + kind]:.3f}")
    if other:
        print(f"{flagged} of {len(CASES)} cases changed by more than {CHANGE_MAX:.0%}")
    return found
