"""A real S3 server for tests: versitygw, built by Go, as a process that outlives whoever starts it. python3's own library only.
Used by: s3, tiers; what s3 says of servers holds here."""
import datetime, fcntl, hashlib, hmac, http.client, json, os, select, shutil, signal, socket, subprocess, sys, time

sys.dont_write_bytecode = True
import running
from running import Trouble

VERSION = "v1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
HOME = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(running.TOP, "target")), "s3")
BINARY = os.path.join(HOME, "bin", "versitygw")
STAMP = os.path.join(HOME, "version")
ACCESS, SECRET, REGION = "outcry-test", "outcry-test-secret", "us-east-1"
BUCKETS = {"outcry": {}, "outcry-locked": {"x-amz-bucket-object-lock-enabled": "true"}}


def say(what):
    print(f"s3: {what}", file=sys.stderr, flush=True)


def installed():
    try:
        with open(STAMP) as f:
            return f.read().strip() == VERSION and os.access(BINARY, os.X_OK)
    except OSError:
        return False


def install():
    """Builds the server, once; safe if several do it at the same time."""
    if installed():
        return
    os.makedirs(HOME, exist_ok=True)
    with open(os.path.join(HOME, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed():
            return
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if not go:
            raise Trouble(f"no Go is here to build {MODULE} with. Install Go (https://go.dev/dl, or Debian's golang-go), then try again")
        began = time.monotonic()
        say(f"builds versitygw {VERSION}: some minutes")
        env = dict(os.environ, GOBIN=os.path.join(HOME, "bin"))
        made = subprocess.run(["nice", go, "install", f"{MODULE}@{VERSION}"], env=env, capture_output=True, text=True)
        if made.returncode:
            raise Trouble("versitygw cannot be built: " + " | ".join(made.stderr.strip().splitlines()[-5:]))
        with open(STAMP, "w") as f:
            f.write(VERSION + "\n")
        say(f"built in {time.monotonic() - began:.0f} s")


def signed(method, host, path, now, headers, query=""):
    """The headers of a request without a body, signed as Amazon has it (Signature Version 4); path and query as they are sent,
    the query's parts in order."""
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = dict(headers, host=host, **{"x-amz-date": moment, "x-amz-content-sha256": empty})
    names = ";".join(sorted(headers))
    canonical = "\n".join([method, path, query, *(f"{k}:{headers[k]}" for k in sorted(headers)), "", names, empty])
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers


def request(port, method, path, headers={}, query=""):
    """Status, body and headers of an answer."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        client.request(method, f"{path}?{query}" if query else path, headers=signed(method, f"127.0.0.1:{port}", path, now, headers, query))
        answer = client.getresponse()
        return answer.status, answer.read().decode(errors="replace"), answer.headers
    finally:
        client.close()


def alive(pid):
    """Is it there, and no zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def keep(command, log, companion, folder, remove):
    """A process of its own that has the server as its child; both go when the companion goes. Returns the server's pid."""
    told, tells = os.pipe()
    if os.fork():
        os.close(tells)
        with os.fdopen(told) as f:
            return int(f.read() or 0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    os.write(tells, str(server.pid).encode())
    os.close(tells)
    watched = [os.pidfd_open(server.pid)]
    try:
        watched += [os.pidfd_open(companion)] if companion else []
    except ProcessLookupError:
        server.kill()
    select.select(watched, [], [])
    if server.poll() is None:
        server.kill()
    server.wait()
    if remove:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def up(folder, port=None, companion=None, remove=False, timeout=20):
    """Starts a server with what the folder has; what `s3 up` prints."""
    install()
    folder = os.path.abspath(folder)
    note = os.path.join(folder, "server.json")
    if os.path.exists(note):
        with open(note) as f:
            if alive(json.load(f)["pid"]):
                raise Trouble(f"{folder}: a server is up: scripts/s3 down {folder}")
    data, versions = os.path.join(folder, "data"), os.path.join(folder, "versions")
    for path in (data, versions):
        os.makedirs(path, exist_ok=True)
    port = port or free_port()
    command = ["nice", BINARY, "--access", ACCESS, "--secret", SECRET, "--region", REGION, "--port", f"127.0.0.1:{port}", "--quiet"]
    log = os.path.join(folder, "log")
    with open(log, "ab") as out:
        pid = keep([*command, "posix", "--versioning-dir", versions, data], out, companion, folder, remove)
    until = time.monotonic() + timeout
    while True:
        try:
            if request(port, "GET", "/")[0] == 200:
                break
        except OSError:
            pass
        if not alive(pid) or time.monotonic() > until:
            with open(log, errors="replace") as f:
                raise Trouble("the server does not serve: " + " | ".join(f.read().splitlines()[-5:]))
        time.sleep(0.05)
    for bucket, headers in BUCKETS.items():
        status, body, _ = request(port, "PUT", f"/{bucket}", headers)
        if status not in (200, 409):
            raise Trouble(f"bucket {bucket} cannot be made: {status} {body}")
    endpoint = f"http://127.0.0.1:{port}"
    env = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, "AWS_ENDPOINT": endpoint,
           "AWS_ALLOW_HTTP": "true"}
    said = {"endpoint": endpoint, "pid": pid, "dir": folder, "log": log, "buckets": list(BUCKETS), "env": env}
    with open(note, "w") as f:
        json.dump(said, f)
    return said


def down(folder, seconds=10, remove=False):
    """Stops it, however that takes."""
    folder = os.path.abspath(folder)
    try:
        with open(os.path.join(folder, "server.json")) as f:
            pid = json.load(f)["pid"]
    except OSError:
        raise Trouble(f"{folder}: no server was started here")
    until = time.monotonic() + seconds
    sent = signal.SIGTERM
    while alive(pid):
        os.kill(pid, sent)
        if time.monotonic() > until:
            sent = signal.SIGKILL
        time.sleep(0.05)
    if remove:
        shutil.rmtree(folder)
