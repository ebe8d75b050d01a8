"""A real Apache Kafka for tests: jars by Maven, brokers (KRaft) as processes that outlive whoever starts them. python3's own
library only. Used by: kafka; what it says of clusters holds here."""
import base64, contextlib, fcntl, glob, hashlib, json, os, re, secrets, select, shutil, signal, socket, struct, subprocess, sys, time

sys.dont_write_bytecode = True
import running
from running import Trouble

VERSION = "4.3.1"
HOME = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(running.TOP, "target")), "kafka")
LIBS, STAMP = os.path.join(HOME, "libs"), os.path.join(HOME, "installed.json")
JAVA = 17               # what brokers of Kafka 4 need at least
CONTROLLERS = 3         # at most; of fewer brokers than that only the first is one, as two are no safer than one
USERS = ("admin", "guest")
MECHANISMS = {"SCRAM-SHA-256": "scram.Scram", "SCRAM-SHA-512": "scram.Scram", "PLAIN": "plain.Plain"}
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# Without a binding for slf4j a broker runs and logs nothing. The tools bring Connect along, which nobody here needs.
POM = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>outcry</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-json</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
"""
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = STDOUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.stdout.ref = STDOUT
"""
# A broker that was killed is not let in again before its session is over: 9 s if nothing is said.
PROPERTIES = """\
process.roles={roles}
node.id={number}
controller.quorum.voters={voters}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{protocol}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions={partitions}
default.replication.factor={copies}
min.insync.replicas={in_sync}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=8388608
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
# Kafka checks the name in the certificate, so it names what clients connect to.
OPENSSL = """\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1,DNS:localhost
"""


def say(what):
    print(f"kafka: {what}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(file, what):
    with open(file, "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that {what}")
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def write(file, text, mode=0o644):
    """As a whole or not at all."""
    with open(os.open(file + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
        f.write(text)
    os.rename(file + ".new", file)


# Installation.

def installed():
    """The java that runs brokers, if all is there; else None."""
    try:
        with open(STAMP) as f:
            stamp = json.load(f)
    except (OSError, ValueError):
        return None
    whole = stamp.get("pom") == hashlib.sha256(POM.encode()).hexdigest() and os.path.isdir(LIBS)
    return stamp["java"] if whole and os.access(stamp["java"], os.X_OK) else None


def install():
    """Brings what is missing, once; safe if several do it at the same time. Returns java's path."""
    if java := installed():
        return java
    os.makedirs(HOME, exist_ok=True)
    with locked(os.path.join(HOME, "lock"), "installs Kafka"):
        if java := installed():
            return java
        jars = not (os.path.isdir(LIBS) and written_pom() == POM)
        java = find_java()
        packages(([] if java else ["openjdk-17-jre-headless"]) + ([] if not jars or shutil.which("mvn") else ["maven"])
                 + ([] if shutil.which("openssl") else ["openssl"]))
        java = java or find_java()
        if not java:
            raise Trouble(f"no Java of version {JAVA} or later in JAVA_HOME, PATH or /usr/lib/jvm, though its package is installed")
        if jars:
            fetch_jars(java)
        write(STAMP, json.dumps({"pom": hashlib.sha256(POM.encode()).hexdigest(), "java": java}) + "\n")
        say(f"Kafka {VERSION} is installed, {len(os.listdir(LIBS)) - 1} jars; {java}")
        return java


def written_pom():
    try:
        with open(os.path.join(LIBS, "pom.xml")) as f:
            return f.read()
    except OSError:
        return None


def find_java():
    """A java that is new enough; what is called `java` may be older."""
    home = os.environ.get("JAVA_HOME")
    for java in [*([os.path.join(home, "bin", "java")] if home else []), shutil.which("java"), *sorted(glob.glob("/usr/lib/jvm/*/bin/java"))]:
        if java and os.access(java, os.X_OK):
            said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
            version = re.search(r'version "(\d+)', said)
            if version and int(version.group(1)) >= JAVA:
                return os.path.realpath(java)
    return None


def packages(missing):
    if not missing:
        return
    say(f"missing: {', '.join(missing)}")
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    may = shutil.which("apt-get") and (not root or shutil.which("sudo") and not subprocess.run([*root, "true"], capture_output=True).returncode)
    if not may:
        raise Trouble(f"install these, then try again (names of Debian's packages): {' '.join(missing)}")
    say("installing them with apt-get")
    script = 'apt-get update -q && apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"'
    p = subprocess.run([*root, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", script, "sh", *missing], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace")
    if p.returncode:
        raise Trouble(f"apt-get failed; its last words:\n{last(p.stdout)}\ninstall these by hand, then try again: {' '.join(missing)}")


def fetch_jars(java):
    """By Maven, with what it downloads kept here until all is there, so that a second try goes on where the first one failed."""
    pom, new, cache = (os.path.join(HOME, name) for name in ("pom.xml", "libs.new", "maven"))
    write(pom, POM)
    shutil.rmtree(new, ignore_errors=True)
    say("fetching the jars with Maven; some 45 MB")
    # Maven's own java: its start script goes by JAVA_HOME.
    environment = dict(os.environ, JAVA_HOME=os.path.dirname(os.path.dirname(java)))
    p = subprocess.run(["nice", "mvn", "-q", "-B", "-C", "-f", pom, f"-Dmaven.repo.local={cache}", COPY, f"-DoutputDirectory={new}",
                        "-DincludeScope=runtime"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                       text=True, errors="replace", env=environment)
    found = glob.glob(os.path.join(new, "kafka_2.13-*.jar"))
    if p.returncode or not found:
        raise Trouble(f"Maven could not fetch the jars; its last words:\n{last(p.stdout)}\n"
                      f"see whether Maven reaches its repository (network, proxy, ~/.m2/settings.xml), then try again")
    write(os.path.join(new, "pom.xml"), POM)
    shutil.rmtree(LIBS, ignore_errors=True)
    os.rename(new, LIBS)
    shutil.rmtree(cache, ignore_errors=True)


def last(text, lines=12):
    """The end of it, without the stacks of Java."""
    return "\n".join([line for line in text.rstrip().splitlines() if not line.startswith("\tat ")][-lines:])


# Processes and ports.

def born(pid):
    """When it started, in ticks: with its number what names a process for good. None: it is gone. The leader of a process that was
    killed can be a zombie while its threads still close files; a zombie alone is gone, whoever may be late to wait for it."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        if fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) < 2:
            return None
        return int(fields[19])
    except (OSError, ProcessLookupError):
        return None


def note_self(file):
    """For a child before it executes: who kills its parent right then finds it all the same."""
    with open(file, "w") as f:
        f.write(f"{os.getpid()} {born(os.getpid())}\n")


def noted(file):
    """The process that a file names, if it runs."""
    try:
        with open(file) as f:
            pid, since = map(int, f.read().split())
    except (OSError, ValueError):
        return None
    if born(pid) == since:
        return pid
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return None


def end(files, seconds):
    """Stops the processes that these files name, all at once: asks them for so long, then kills. They are gone when it returns."""
    for kind, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, 20)):
        until, asked = time.monotonic() + wait, set()
        while wait and (pids := {pid for file in files if (pid := noted(file))}):
            for pid in pids - asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
            asked |= pids
            if time.monotonic() > until:
                break
            time.sleep(0.01)
    if pids := [pid for file in files if (pid := noted(file))]:
        raise Trouble(f"process {pids[0]} does not go")


def hold(port=0):
    """A socket that keeps a port ours without listening, see `running.fresh_port`."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        raise Trouble(f"port {port} is somebody else's") from None
    if port:
        running.let_go(port)
    return s


def listens(pid, port):
    """Whether this process listens there, and not another one."""
    with open("/proc/net/tcp") as f:
        # Address, then the state (0A: listening), then the socket's inode.
        rows = [line.split() for line in f.readlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd") if sockets else ():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                    return True
    except OSError:
        pass
    return False


def metadata(port):
    """What the broker there says when asked for Metadata (version 5): the cluster's id, and the ports of all that serve by number."""
    with socket.create_connection(("127.0.0.1", port), 2) as s:
        ask = struct.pack(">hhihi?", 3, 5, 1, -1, 0, False)
        s.sendall(struct.pack(">i", len(ask)) + ask)
        with s.makefile("rb") as f:
            size, = struct.unpack(">i", f.read(4))
            return read_metadata(f.read(size))


def read_metadata(answer):
    at = 8  # after the request's number and how long we are throttled

    def number(kind):
        nonlocal at
        value, = struct.unpack_from(kind, answer, at)
        at += struct.calcsize(kind)
        return value

    def text():
        nonlocal at
        length = number(">h")
        value = answer[at:at + length].decode() if length >= 0 else None
        at += max(length, 0)
        return value

    brokers = {}
    for _ in range(number(">i")):
        who, _, port, _ = number(">i"), text(), number(">i"), text()
        brokers[who] = port
    return text(), brokers


# A cluster.

class Cluster:
    """Brokers of one directory, numbered from 1, on 127.0.0.1; everything about them is in its files."""

    def __init__(self, folder):
        self.dir = os.path.abspath(folder)
        self.state, self.java = {}, None
        self.read()

    def read(self):
        with contextlib.suppress(FileNotFoundError), open(self.file("cluster.json")) as f:
            self.state = json.load(f)

    def file(self, *names):
        return os.path.join(self.dir, *map(str, names))

    def known(self):
        if not self.state:
            raise Trouble(f"{self.dir} is none of ours: make it with `up`")
        return self

    @property
    def numbers(self):
        return range(1, self.state["brokers"] + 1)

    def pid(self, number):
        return noted(self.file(number, "pid"))

    def alive(self):
        return [n for n in self.numbers if self.pid(n)]

    def lock(self):
        return locked(self.file("lock"), f"works on {self.dir}")

    def ports(self, kind):
        return self.state["ports"][kind]

    def bootstrap(self, kind="plain"):
        return ",".join(f"127.0.0.1:{p}" for p in self.ports(kind))

    def said(self):
        """What `up` prints."""
        self.known()
        s, secure = self.state, {}
        if s["protocol"] != "PLAINTEXT":
            secure = {"secure_bootstrap": self.bootstrap("secure"), "security_protocol": s["protocol"],
                      "clients": {name: self.file(f"client-{name}.properties") for name in self.clients()}}
        if s["tls"]:
            secure |= {"ca": self.file("tls", "ca.pem")}
        if s["sasl"]:
            secure |= {"mechanisms": list(MECHANISMS), "user": "admin", "password": s["users"]["admin"], "users": s["users"]}
        return {"bootstrap": self.bootstrap(), "pids": [self.pid(n) for n in self.numbers], "cluster_id": s["id"], "dir": self.dir,
                "logs": [self.file(n, "broker.log") for n in self.numbers], "keeper": noted(self.file("keeper"))} | secure

    # How it is made.

    def make(self, port, opt):
        """Ports, passwords, certificates, configuration; the sockets that hold the ports."""
        if re.search(r"[,\\\s]", self.dir):
            raise Trouble(f"{self.dir}: a comma, a backslash or a space in it is more than Kafka's configuration bears")
        if opt["acl"] and not opt["sasl"]:
            raise Trouble("--acl needs --sasl: who has no name has no rights that could differ")
        n, tls, sasl = opt["brokers"], opt["tls"], opt["sasl"]
        sockets = [hold(port + i if port else 0) for i in range(n)] + [hold() for _ in range(2 * n)]
        taken = [s.getsockname()[1] for s in sockets]
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")
        self.state = opt | {
            "id": cluster, "ports": {"plain": taken[:n], "controller": taken[n:2 * n], "secure": taken[2 * n:]}, "version": VERSION,
            "protocol": {(0, 0): "PLAINTEXT", (1, 0): "SSL", (0, 1): "SASL_PLAINTEXT", (1, 1): "SASL_SSL"}[bool(tls), bool(sasl)],
            "users": {name: secrets.token_hex(12) for name in USERS} if sasl else {}}
        if tls:
            self.certificates()
        write(self.file("log4j2.properties"), LOGGING)
        for number in self.numbers:
            os.makedirs(self.file(number, "tmp"), exist_ok=True)
            write(self.file(number, "server.properties"), self.properties(number), 0o600)
        for name, text in self.clients().items():
            write(self.file(f"client-{name}.properties"), text, 0o600)
        self.format()
        write(self.file("cluster.json"), json.dumps(self.state, indent=1) + "\n", 0o600)
        return sockets

    def certificates(self):
        os.makedirs(self.file("tls"), exist_ok=True)
        write(self.file("tls", "openssl.cnf"), OPENSSL)
        for name, subject, signer in (("ca", "/CN=CA of an Outcry test", []), ("server", "/CN=localhost", ["-CA", "ca.pem", "-CAkey", "ca.key"])):
            p = subprocess.run(["openssl", "req", "-x509", "-config", "openssl.cnf", "-extensions", name, "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:P-256", "-nodes", "-subj", subject, "-days", "3650", "-keyout", f"{name}.key", "-out", f"{name}.pem",
                                *signer], cwd=self.file("tls"), capture_output=True, text=True)
            if p.returncode:
                raise Trouble(f"openssl made no certificate (3.0 or later is needed):\n{last(p.stderr)}")
        both = "".join(open(self.file("tls", name)).read() for name in ("server.key", "server.pem"))
        write(self.file("tls", "keystore.pem"), both, 0o600)

    def properties(self, number):
        s = self.state
        n, voters = s["brokers"], CONTROLLERS if s["brokers"] >= CONTROLLERS else 1
        controls = number <= voters
        port = lambda kind: f"127.0.0.1:{self.ports(kind)[number - 1]}"
        offered = [f"PLAINTEXT://{port('plain')}"] + ([] if s["protocol"] == "PLAINTEXT" else [f"SECURE://{port('secure')}"])
        text = PROPERTIES.format(
            roles="broker,controller" if controls else "broker", number=number, data=self.file(number, "data"), protocol=s["protocol"],
            voters=",".join(f"{i + 1}@127.0.0.1:{self.ports('controller')[i]}" for i in range(voters)),
            listeners=",".join(offered + ([f"CONTROLLER://{port('controller')}"] if controls else [])), advertised=",".join(offered),
            partitions=s["partitions"], copies=min(n, 3), in_sync=2 if n >= 3 else 1)
        if s["tls"]:
            text += f"ssl.keystore.type=PEM\nssl.keystore.location={self.file('tls', 'keystore.pem')}\n"
        if s["sasl"]:
            text += f"sasl.enabled.mechanisms={','.join(MECHANISMS)}\n"
            for name, module in MECHANISMS.items():
                users = "".join(f' user_{u}="{p}"' for u, p in s["users"].items()) if name == "PLAIN" else ""
                text += f"listener.name.secure.{name.lower()}.sasl.jaas.config=org.apache.kafka.common.security.{module}LoginModule required{users};\n"
        if s["acl"]:
            # The plain listener, where brokers and controllers meet, is the operator's: nobody has a name there.
            text += ("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
                     "super.users=User:admin;User:ANONYMOUS\nallow.everyone.if.no.acl.found=false\n")
        return text + "".join(f"{line}\n" for line in s["set"])

    def clients(self):
        """Properties of Kafka's own clients on the second listener, for each who may come there."""
        s = self.state
        text = f"security.protocol={s['protocol']}\n"
        if s["tls"]:
            text += f"ssl.truststore.type=PEM\nssl.truststore.location={self.file('tls', 'ca.pem')}\n"
        if not s["sasl"]:
            return {"tls": text} if s["tls"] else {}
        login = lambda name, user: (
            f"sasl.mechanism={name}\nsasl.jaas.config=org.apache.kafka.common.security.{MECHANISMS[name]}LoginModule required "
            f'username="{user}" password="{s["users"][user]}";\n')
        return {user: text + login("SCRAM-SHA-256", user) for user in USERS} | {f"{user}-plain": text + login("PLAIN", user) for user in USERS}

    def format(self):
        scram = [word for name in MECHANISMS if name != "PLAIN" for user, password in self.state["users"].items()
                 for word in ("--add-scram", f"{name}=[name={user},password={password}]")]
        at_work = []
        for number in self.numbers:
            cmd = [*self.command(128, number), "-Dlog4j2.level=ERROR", "-cp", f"{LIBS}/*", "kafka.tools.StorageTool", "format",
                   "-t", self.state["id"], "-c", self.file(number, "server.properties"), *scram]
            at_work.append(subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True))
        said = [p.communicate()[0] for p in at_work]
        for p, words in zip(at_work, said):
            if p.returncode:
                raise Trouble(f"formatting failed:\n{last(words)}")

    # How it runs.

    def mark(self):
        """What the command lines of its brokers have, and no other's."""
        return f"-Doutcry.kafka={self.state['id']}"

    def command(self, heap, number):
        self.java = self.java or install()
        quick = [] if self.state["fast"] else ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=64m"]
        return ["nice", "-n", str(self.state["nice"]), self.java, f"-Xmx{heap}m", "-Xms64m", "-Xss512k", "-XX:+UseSerialGC", "-XX:-UsePerfData",
                *quick, "-Djava.net.preferIPv4Stack=true", f"-Djava.io.tmpdir={self.file(number, 'tmp')}"]

    def up(self, port=None, companion=None, remove=False, timeout=60, **opt):
        """Makes it if it is new, and starts all brokers. `companion`: a process with which they go. `opt`: brokers, tls, sasl, acl,
        partitions, set, and fast, heap, nice, which alone may differ from time to time."""
        opt = {"brokers": 1, "tls": False, "sasl": False, "acl": False, "partitions": 1, "set": [], "fast": False, "heap": 256, "nice": 10} | opt
        self.java = install()
        if companion and not born(companion):
            raise Trouble(f"process {companion} is gone already")
        os.makedirs(self.dir, exist_ok=True)
        with self.lock():
            self.read()
            if not self.state:
                if set(os.listdir(self.dir)) - {"lock"}:
                    raise Trouble(f"{self.dir} holds other things: name one that is empty or new")
                try:
                    sockets = self.make(port, opt)
                except BaseException:
                    shutil.rmtree(self.dir, ignore_errors=True)
                    raise
            else:
                if alive := self.alive():
                    raise Trouble(f"{self.dir} is up: broker {alive[0]} is process {self.pid(alive[0])}")
                other = [key for key in opt if key not in ("fast", "heap", "nice") and opt[key] != self.state[key]]
                if other or port not in (None, self.ports("plain")[0]):
                    raise Trouble(f"{self.dir} was made with another --{other[0] if other else 'port'}: take a new directory, or say what was said then")
                self.state |= {key: opt[key] for key in ("fast", "heap", "nice")}
                write(self.file("cluster.json"), json.dumps(self.state, indent=1) + "\n", 0o600)
                end([self.file("keeper")], 5)
                sockets = self.hold()
            try:
                self.keep(sockets, companion, remove)
                self.start(self.numbers, timeout)
            except BaseException:
                self.stop(0)
                raise
        return self.said()

    def hold(self):
        return [hold(port) for kind in ("plain", "controller", "secure") for port in self.ports(kind)]

    def keep(self, sockets, companion=None, remove=False):
        """Starts the process that holds the ports while brokers are dead, and ends them with their companion."""
        cmd = [sys.executable, os.path.abspath(__file__), "keep", self.dir, str(companion or 0), "remove" if remove else ""]
        with open(self.file("keeper.log"), "ab") as log:
            subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[s.fileno() for s in sockets], cwd="/",
                             start_new_session=True, preexec_fn=lambda: note_self(self.file("keeper")))
        for s in sockets:
            s.close()

    def start(self, numbers, timeout=60):
        begun = {}
        for number in numbers:
            for kind in ("plain", "secure"):
                running.let_go(self.ports(kind)[number - 1])
            cmd = [*self.command(self.state["heap"], number), f"-Dlog4j2.configurationFile={self.file('log4j2.properties')}", "-cp", f"{LIBS}/*",
                   self.mark(), "kafka.Kafka", self.file(number, "server.properties")]
            with open(self.file(number, "broker.log"), "ab") as log:
                begun[number] = log.tell()
                subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.file(number), start_new_session=True,
                                 preexec_fn=lambda: note_self(self.file(number, "pid")))
        until, waiting = time.monotonic() + timeout, set(numbers)
        while waiting:
            for number in sorted(waiting):
                if not self.pid(number):
                    raise Trouble(f"broker {number} ended; its last words:\n{self.words(number)}")
                if self.serves(number, begun[number]):
                    waiting.remove(number)
            if time.monotonic() > until:
                number = min(waiting)
                raise Trouble(f"broker {number} does not serve after {timeout} s; its last words:\n{self.words(number)}")
            time.sleep(0.05 if waiting else 0)

    def serves(self, number, since):
        """It is up by its own word, its process has the port, and it is one of this cluster and knows all others that run."""
        with open(self.file(number, "broker.log"), "rb") as f:
            f.seek(since)
            if b"Kafka Server started" not in f.read():
                return False
        pid, kinds = self.pid(number), ["plain"] + ["secure"] * (self.state["protocol"] != "PLAINTEXT")
        if not all(listens(pid, self.ports(kind)[number - 1]) for kind in kinds):
            return False
        try:
            cluster, brokers = metadata(self.ports("plain")[number - 1])
        except (OSError, struct.error, ValueError):
            return False
        return cluster == self.state["id"] and all(brokers.get(n) == self.ports("plain")[n - 1] for n in self.alive())

    def words(self, number):
        with open(self.file(number, "broker.log"), errors="replace") as f:
            return last(f.read())

    def kill(self, number=None):
        """SIGKILL: one broker, or all. They are gone when it returns."""
        with self.lock():
            numbers = self.alive() if number is None else [self.checked(number)]
            if not numbers or not self.pid(numbers[0]):
                raise Trouble(f"{f'broker {number}' if number else 'no broker'} of {self.dir} {'does not run' if number else 'runs'}")
            end([self.file(n, "pid") for n in numbers], 0)

    def down(self, number=None, seconds=20, remove=False):
        """SIGTERM, and SIGKILL after so many seconds: one broker, or all and the keeper with them."""
        with self.lock():
            if number is not None:
                return end([self.file(self.checked(number), "pid")], seconds)
            self.stop(seconds)
            if remove:
                shutil.rmtree(self.dir, ignore_errors=True)

    def stop(self, seconds):
        # At once: a broker asks the controllers before it goes, and one that is alone would wait for them.
        end([self.file(n, "pid") for n in self.numbers], seconds)
        if noted(self.file("keeper")) != os.getpid():
            end([self.file("keeper")], 5)

    def again(self, number=None, timeout=60):
        """Starts one that is dead, or all that are, with the ports and the data they had."""
        with self.lock():
            numbers = [n for n in self.numbers if not self.pid(n)] if number is None else [self.checked(number)]
            if not numbers or self.pid(numbers[0]):
                raise Trouble(f"{f'broker {number}' if number else 'every broker'} of {self.dir} runs")
            if not noted(self.file("keeper")) and not self.alive():
                self.keep(self.hold())
            self.start(numbers, timeout)
        return self.said()

    def checked(self, number):
        if number not in self.numbers:
            raise Trouble(f"{self.dir} has the brokers 1 to {self.state['brokers']}")
        return number

    def tool(self, name, args, client=None):
        """The command of one of Kafka's own tools, with what it needs to find the cluster."""
        name = "kafka.admin.ConfigCommand" if name == "ConfigCommand" else name
        name = name if name.startswith(("org.", "kafka.")) else f"org.apache.kafka.tools.{name}"
        known = name.rpartition(".")[2] not in ("ClusterTool", "DumpLogSegments", "StorageTool") and "--help" not in args
        more = []
        if known and not {"--bootstrap-server", "--bootstrap-controller"} & {arg.partition("=")[0] for arg in args}:
            more += ["--bootstrap-server", self.bootstrap("secure" if client else "plain")]
        if known and client:
            if client not in self.clients():
                raise Trouble(f"{self.dir} has no client {client}; there are: {', '.join(self.clients()) or 'none, for want of --tls and --sasl'}")
            more += ["--command-config", self.file(f"client-{client}.properties")]
        os.makedirs(self.file(1, "tmp"), exist_ok=True)
        return [*self.command(256, 1), "-Dlog4j2.level=ERROR", "-cp", f"{LIBS}/*", name, *more, *args]

    def run(self, name, *args, client=None, **more):
        """Runs a tool to its end; its standard output. For importers."""
        more = {"timeout": 120, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        p = subprocess.run(self.tool(name, list(map(str, args)), client), **more)
        if p.returncode:
            raise Trouble(f"{name} ended with {p.returncode}:\n{last((p.stdout or '') + (p.stderr or ''))}")
        return p.stdout


def keeper(folder, companion, remove):
    """Holds the sockets it was given, and ends the brokers when their companion is gone, or their directory."""
    cluster = Cluster(folder)
    poll = select.poll()
    if companion:
        with contextlib.suppress(ProcessLookupError):
            poll.register(os.pidfd_open(companion), select.POLLIN)
            companion = None
    ours = lambda: noted(cluster.file("keeper")) == os.getpid()
    while not companion and not poll.poll(2000) and ours():
        pass
    if ours():
        with cluster.lock():
            cluster.stop(0)
            if remove:
                shutil.rmtree(folder, ignore_errors=True)
        return
    # Somebody has removed the directory, and the notes of who runs with it.
    mark = cluster.mark().encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
            if mark in f.read().split(b"\0"):
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        keeper(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "remove")
