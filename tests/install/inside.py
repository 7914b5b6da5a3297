"""What `make test-install` does inside the machine: the package's whole life, step by step, as an operator would.

Runs as root under the machine's own Python, with nothing but its standard library, in the folder that the host shares: it reads the
packages, the bundle, the repository, the guide and the telemetry there, and leaves `results.json` there. Each step prints a line; the
first that fails is the last.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import guides
from install.gateway import (
    CONFIG,
    edit,
    fail,
    freeze_thread,
    journal,
    last,
    memory_limit,
    ok,
    paths,
    process_status,
    resident,
    run,
    seconds,
    show,
    size,
    status,
    until,
    usec,
)
from install.telemetry import CA, PASSWORDS, SHARED, day, detects, feed, publish_one, watching

ACL = """
user vedette
topic read plant/#
topic readwrite vedette/#
user devices
topic write plant/#
user watcher
topic read vedette/#
"""
BROKER = """
listener 8883 127.0.0.1
cafile /etc/mosquitto/certs/ca.pem
certfile /etc/mosquitto/certs/server.pem
keyfile /etc/mosquitto/certs/server.key
allow_anonymous false
password_file /etc/mosquitto/passwords
acl_file /etc/mosquitto/acl
max_queued_messages 0
"""

results: dict[str, float] = {}


def main() -> int:
    """Take the steps in their order."""
    before = paths()
    install()
    refuse_to_run_unconfigured()
    start_broker()
    configure()
    start_hardened()
    detect()
    reload()
    update()
    restart_what_was_killed()
    restart_what_hangs()
    upgrade()
    purge(before)
    follow_the_guide()
    return 0


def install() -> None:
    """The package goes in without the network, and starts nothing."""
    (package,) = (SHARED / "first").glob("*.deb")
    began = time.monotonic()
    said = run("apt-get", "install", "--yes", "--quiet", package)
    results["install"] = time.monotonic() - began
    told = [line.strip() for line in said.splitlines()]
    commands = [line.partition("   ")[0] for line in told if line.startswith(("nano ", "vedette model install ", "vedette check && "))]
    ok("the package installs and says the next three commands", len(commands) == 3, "; ".join(commands) or said)
    ok("install starts and enables nothing", status("is-active") == "inactive" and status("is-enabled") == "disabled")
    ok("vedette is on the PATH", run("vedette", "--version").startswith("vedette "), run("vedette", "--version"))
    facts = {
        path: run("stat", "-c", "%a %U:%G", path).strip()
        for path in ("/etc/vedette", CONFIG, "/etc/vedette/credentials", "/var/lib/vedette")
    }
    wanted = ["750 root:vedette", "640 root:vedette", "700 root:root", "750 vedette:vedette"]
    ok("configuration and state belong to whom they should", list(facts.values()) == wanted, str(list(facts.values())))
    writable = run("find", "/opt/vedette", "!", "-type", "l", "(", "-perm", "/022", "-o", "!", "-user", "root", ")")
    ok("the environment is root's alone", not writable, writable)
    loads = "import ai_edge_litert.interpreter, onnxruntime, tuf.ngclient, yaml, sys; print(sys.flags.isolated, *sys.path)"
    ok("both runtimes load", True, run("/opt/vedette/bin/python3", "-I", "-c", loads))
    results["environment"] = size("/opt/vedette")
    results["installed"] = 1024.0 * float(run("dpkg-query", "-W", "-f", "${Installed-Size}", "vedette"))
    results["package"] = float(package.stat().st_size)
    results["start of vedette --version"] = min(seconds(lambda: run("vedette", "--version")) for _ in range(3))


def refuse_to_run_unconfigured() -> None:
    """A start before there is a model fails once, with a line that says what to do."""
    run("systemctl", "start", "vedette", fails=True)
    until("the start has failed", lambda: show("ActiveState") == "failed")
    said = journal()
    ok("without a model the service stops, and says what to do", "vedette model install" in said and show("NRestarts") == "0", last(said))
    run("systemctl", "reset-failed", "vedette")


def start_broker() -> None:
    """A mosquitto with TLS, passwords and an access list."""
    certificates = Path("/etc/mosquitto/certs")
    made: dict[str, list[str]] = {
        "ca": ["-x509", "-subj", "/CN=test CA", "-days", "60", "-addext", "keyUsage=critical,keyCertSign"],
        "server": ["-subj", "/CN=localhost"],
    }
    for name, arguments in made.items():
        out = certificates / (f"{name}.pem" if name == "ca" else f"{name}.csr")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", certificates / f"{name}.key", "-out", out, *arguments)
    # As strict as Python 3.13 wants them.
    extensions = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    (certificates / "names").write_text(extensions)
    signer: list[str | Path] = [
        "-CA",
        certificates / "ca.pem",
        "-CAkey",
        certificates / "ca.key",
        "-CAcreateserial",
        "-extfile",
        certificates / "names",
    ]
    run("openssl", "x509", "-req", "-in", certificates / "server.csr", "-out", certificates / "server.pem", "-days", "60", *signer)
    passwords, acl = Path("/etc/mosquitto/passwords"), Path("/etc/mosquitto/acl")
    passwords.touch()
    for user, password in PASSWORDS.items():
        run("mosquitto_passwd", "-b", passwords, user, password)
    acl.write_text(ACL)
    Path("/etc/mosquitto/conf.d/test.conf").write_text(BROKER)
    run("chown", "-R", "mosquitto:", certificates, passwords, acl)
    run("systemctl", "restart", "mosquitto")
    CA.write_bytes((certificates / "ca.pem").read_bytes())
    until("mosquitto listens", lambda: not publish_one("devices"))
    ok("mosquitto speaks TLS only, to whom it knows", publish_one(None) != 0)


def configure() -> None:
    """The one file that came with the package, with a few lines changed; the password for root's eyes only."""
    edit(r"url: .*", "url: mqtts://localhost:8883")
    edit(r"# username: .*", "username: vedette")
    edit(r"# password_file: .*", "password_file: ${CREDENTIALS_DIRECTORY}/credentials_password")
    edit(r"# ca_file: /etc/vedette/ca.pem.*", "ca_file: /etc/vedette/ca.pem", count=1)
    edit(r"^# stats_every: .*", "stats_every: 1s")
    edit(r"^# trial: .*", "trial: off")
    secret = Path("/etc/vedette/credentials/password")
    secret.touch(0o600)
    secret.write_text(PASSWORDS["vedette"] + "\n")
    (bundle,) = SHARED.glob("cold-chain-*.vedette")
    ok("root installs a model", True, run("vedette", "model", "install", bundle).strip())
    foreign = run("find", "/var/lib/vedette", "!", "-user", "vedette")
    ok("what root installed is the agent's", not foreign, foreign)
    asked = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "-p",
        "User=vedette",
        "-p",
        "LoadCredential=credentials:/etc/vedette/credentials",
    ]
    said = run(*asked, "vedette", "check")
    ok("vedette check finds no fault", "FAULT" not in said and "ok     broker" in said, said)


def start_hardened() -> None:
    """systemd starts it, in its sandbox."""
    run("systemctl", "enable", "--now", "vedette")
    results["start"] = (usec("ActiveEnterTimestampMonotonic") - usec("ExecMainStartTimestampMonotonic")) / 1e6
    facts = process_status()
    user = run("id", "-u", "vedette").strip()
    held = {
        "uid": facts["Uid"].split()[0] == user,
        "no new privileges": facts["NoNewPrivs"] == "1",
        "system calls": facts["Seccomp"] == "2",
    }
    held["capabilities"] = not any(int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    ok("the service runs, as its own user, with no capability and few system calls", all(held.values()), str(held))
    root = Path(f"/proc/{show('MainPID')}")
    mounts = (root / "mounts").read_text()
    if not re.search(r" / \S+ ro[, ]", mounts) or " /var/lib/vedette " not in mounts:
        fail("it can write its state and nothing else", mounts)
    ok("it can write its state and nothing else")
    exposure = re.search(r"exposure level for vedette.service: ([\d.]+)", run("systemd-analyze", "security", "--no-pager", "vedette"))
    results["exposure"] = float(exposure[1]) if exposure else 10.0
    ok("exposure by systemd-analyze security is at most 1.1", results["exposure"] <= 1.1, f"{results['exposure']}")
    memory = {name: show(name) for name in ("MemoryHigh", "MemoryMax", "TasksMax", "WatchdogUSec")}
    ok("its limits are known to systemd", memory["MemoryMax"] == str(1024**3), f"{memory}; kept by the kernel here: {memory_limit()}")
    said = journal()
    ok("no secret is in the journal", PASSWORDS["vedette"] not in said, last(said))


def detect() -> None:
    """Telemetry goes in, alerts come out."""
    with watching() as watcher:
        watcher.wait_online()
        time.sleep(3)  # idle is after the start
        results["idle"] = resident()
        telemetry = day(1)
        began = time.monotonic()
        feeding = threading.Thread(target=feed, args=(telemetry,))
        feeding.start()
        most = results["idle"]
        while feeding.is_alive() or watcher.scored() < len(telemetry):
            most = max(most, resident())
            time.sleep(0.1)
            if time.monotonic() - began > 120:
                fail("all readings are scored", f"{watcher.scored()} of {len(telemetry)} after 2 min: {watcher.last('/stats')}")
        feeding.join()
        results["loaded"] = most
        results["readings"] = len(telemetry) / (time.monotonic() - began)
        found = until("an alert of the fridge whose door is open", lambda: watcher.alerts("fridge-01"))
        ok("telemetry goes in and alerts come out", bool(found), f"{len(telemetry)} readings; {found[0]['type']} {found[0]['explanation']}")
    ok("vedette status says how it does", True, run("vedette", "status"))


def reload() -> None:
    """A second stream, whose model is for the other runtime, is scored after `systemctl reload`."""
    run("vedette", "model", "install", SHARED / "fridge-1.0.0.vedette")
    stream = "  - {name: temperatures, topic: 'plant/+/fridge/{device}/telemetry', model: fridge, payload: {time: {field: ts, unit: s}}}"
    edit(r"^# alerts:", f"{stream}\n# alerts:", count=1)
    pid = show("MainPID")
    run("systemctl", "reload", "vedette")
    with watching() as watcher:
        until("the new stream is in the statistics", lambda: "temperatures" in watcher.last("/stats"))
        feed(day(2))
        told = until("both runtimes score", lambda: watcher.scored("temperatures") and watcher.last("/stats"))
    results["reloaded"] = resident()
    ok("systemctl reload takes a new stream, and ONNX Runtime scores it in the same process", show("MainPID") == pid, told[:200])


def update() -> None:
    """A signed model, fetched by vedette-update.service in its own sandbox, goes live in the running agent."""
    run("install", "-m", "644", SHARED / "root.json", "/etc/vedette/root.json")
    CONFIG.write_text(CONFIG.read_text() + f"\nupdates: {{repository: {SHARED / 'repo'}, root: /etc/vedette/root.json}}\n")
    pid = show("MainPID")
    with watching() as watcher:
        run("systemctl", "start", "vedette-update")
        told = until(
            "the new version is live", lambda: '"1.1.0"' in watcher.last("/models/cold-chain") and watcher.last("/models/cold-chain")
        )
    ok("a signed update goes live in the running agent", show("MainPID") == pid, told)
    run("systemctl", "enable", "--now", "vedette-update.timer")
    ok("the timer waits for its next time", "vedette-update" in run("systemctl", "list-timers", "--no-pager"))
    run("systemctl", "restart", "vedette")  # signing is on from now on
    until("it is up again", lambda: status("is-active") == "active")


def restart_what_was_killed() -> None:
    """SIGKILL, and systemd begins it anew."""
    killed, began = show("MainPID"), time.monotonic()
    os.kill(int(killed), signal.SIGKILL)
    until("it runs again", lambda: status("is-active") == "active" and show("MainPID") not in {killed, "0"})
    results["restart after kill -9"] = time.monotonic() - began
    ok("kill -9: systemd starts it again, and it detects", detects(3), f"after {results['restart after kill -9']:.1f} s")


def restart_what_hangs() -> None:
    """One thread, the worker, stands still, while the network goes on: the watchdog sees it."""
    hung, began = show("MainPID"), time.monotonic()
    freeze_thread(int(hung))
    until(
        "the watchdog has ended it and it runs again", lambda: status("is-active") == "active" and show("MainPID") not in {hung, "0"}, 120
    )
    results["restart after a hang"] = time.monotonic() - began
    said = journal()
    ok(
        "a hung worker: the watchdog restarts it, and it detects",
        "Watchdog timeout" in said and detects(4),
        f"after {results['restart after a hang']:.0f} s",
    )


def upgrade() -> None:
    """The next version: the same configuration and state, the running agent replaced."""
    CONFIG.write_text(CONFIG.read_text() + "# the operator's own line\n")
    pid, models = show("MainPID"), run("vedette", "model", "list")
    (package,) = (SHARED / "second").glob("*.deb")
    said = run("apt-get", "install", "--yes", "--quiet", package)
    ok("an upgrade asks and preaches nothing", "vedette is installed" not in said and "conffile" not in said, last(said))
    until("the new version runs", lambda: status("is-active") == "active" and show("MainPID") not in {pid, "0"})
    kept = CONFIG.read_text().endswith("# the operator's own line\n") and run("vedette", "model", "list") == models
    ok("an upgrade keeps configuration and state, and restarts what ran", kept and detects(5), models.strip())
    wrong = run("stat", "-c", "%a %U:%G", CONFIG).strip()
    ok("and whose they are", wrong == "640 root:vedette", wrong)


def purge(before: set[str]) -> None:
    """Removing keeps what the operator made; purging leaves nothing."""
    run("apt-get", "remove", "--yes", "--quiet", "vedette")
    kept = CONFIG.exists() and Path("/var/lib/vedette/models").exists()
    ok(
        "remove stops it and keeps configuration and state",
        kept and status("is-active") == "inactive" and not Path("/opt/vedette").exists(),
    )
    run("apt-get", "purge", "--yes", "--quiet", "vedette")
    run("systemctl", "reset-failed")
    left = sorted(paths() - before - {"/etc/mosquitto/conf.d/test.conf", "/etc/mosquitto/passwords", "/etc/mosquitto/acl"})
    left = [path for path in left if not path.startswith("/etc/mosquitto/certs/")]
    users = [
        line
        for name in ("passwd", "group", "shadow", "gshadow")
        for line in Path("/etc", name).read_text().splitlines()
        if "vedette" in line
    ]
    ok(
        "purge leaves nothing: no file, no user, no unit",
        not left and not users and not status("list-unit-files").count("vedette."),
        str(left + users),
    )


def follow_the_guide() -> None:
    """The operator's guide, typed as it stands, on what is a bare machine again."""
    Path("/etc/mosquitto/conf.d/test.conf").unlink()
    run("systemctl", "restart", "mosquitto")
    folder = Path("/root/guide")
    (folder / "prints").mkdir(parents=True)
    (package,) = (SHARED / "first").glob("*.deb")
    shutil.copy(package, folder)
    blocks = guides.read(SHARED / "operator.md")
    # Root needs no sudo, and a bare Debian has none.
    typed = guides.script(blocks, {"sudo ": ""}, root=True, keep=folder / "prints")
    done = subprocess.run(["bash", "-c", typed], cwd=folder, check=False, timeout=300, stdin=subprocess.DEVNULL)
    reached = (folder / "prints" / "at").read_text().strip()
    printed = (folder / "prints" / f"{reached.partition(':')[2]}.out").read_text(errors="replace")
    ok(f"the operator's guide can be typed to its end, {reached}", done.returncode == 0, printed if done.returncode else "")
    above, shown = "", 0
    for block in blocks:
        if "root" in block.words and block.language == guides.COMMAND:
            above = (folder / "prints" / f"{block.line}.out").read_text(errors="replace")
        elif "root" in block.words:
            line, shown = guides.missing(block.text, above), shown + 1
            ok(f"{block.at} shows what is printed", line is None, f"not {line} in {above}" if line else "")
    ok("the guide shows something", shown > 0)


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    finally:
        (SHARED / "results.json").write_text(json.dumps({"code": code, "results": results}))
        subprocess.run(["systemctl", "--no-block", "poweroff"], check=False)
