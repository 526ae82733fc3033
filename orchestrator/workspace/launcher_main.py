"""The launcher program: holds one process tree and never lets it outlive its holder.

Run as `python -I -S launcher_main.py [OPTIONS] -- ARGV...`; it imports almost nothing, so that it is up in
some 15 ms, and nothing of this package. Its stdio is inherited by the command. It is a child subreaper
(prctl(2)): every orphan of the tree becomes its child, also one that called setsid or forked twice, so
"no child left" (ECHILD of waitpid) is the kernel's proof that the tree is gone. Rule: the record is there
before the command starts, and is removed after that proof only.

    --token N          whose tree this is
    --records DIR      the folder of the record
    --hold FD          end the tree when this descriptor ends; a number read from it before is the grace in s
    --report FD        write `started PID` (the launcher's), `refused WHY` and `ended CODE` here, a line each;
                       with it the launcher is a grandchild of whoever started it, see `step_aside`
    --grace S          from SIGTERM to SIGKILL, in seconds
    --orphan-signal N  what the command gets should the launcher itself be killed
    --limits R=N,...   bounds of the command's processes, by the numbers of setrlimit(2)
    --user UID:GID     as whom the command runs; without it, as whoever runs the launcher
    --monitored yes    the command is the monitor of a sandbox: with it ends all that is inside, so only what
                       is inside is asked to end

The exit code is the command's own, or 128 + N when signal N ended it; 127 when it could not be started and
125 when the record could not be written.
"""

# pathlib and contextlib would cost more than all else that this program imports.
# ruff: noqa: PTH105, PTH108, PTH118, PTH123, PTH208, SIM105

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CANNOT_RECORD = 125
CANNOT_START = 127
KILL_INTERVAL_S = 0.02  # a fork can race a round of SIGKILL, so rounds repeat until no child is left


class Process:
    """One row of /proc. Pid and start time (clock ticks since boot) together name a process for good."""

    __slots__ = ("is_dead", "parent", "pid", "session", "start_time")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The name stands in parentheses and may hold anything: count the fields after the last one, proc(5).
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.is_dead = fields[0] in (b"Z", b"X")
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start_time = int(fields[19])


def read_process(pid: int) -> Process | None:
    """Return the process with this pid, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Process(pid, file.read())
    except OSError:
        return None


def living_processes() -> list[Process]:
    """Return every process that still runs; a zombie is dead."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process and not process.is_dead]


def descendants(roots: set[int], processes: list[Process]) -> list[Process]:
    """Return those `processes` that descend from the pids `roots`, without the roots themselves."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    frontier = list(roots)
    while frontier:
        for child in children.get(frontier.pop(), ()):
            if child.pid not in found and child.pid not in roots:
                found[child.pid] = child
                frontier.append(child.pid)
    return list(found.values())


def send_signal(process: Process, number: int) -> None:
    """Signal exactly this process: a later one that got its pid is left alone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        current = read_process(process.pid)
        if current and current.start_time == process.start_time:
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it ended by itself, or is not ours to signal; the caller looks again
    finally:
        os.close(pidfd)


def boot_id() -> str:
    """Return the id of this boot of the machine: pids of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def given_environment() -> dict[bytes, bytes]:
    """Return the environment as it was given: Python adds LC_CTYPE to its own where LANG is missing."""
    with open("/proc/self/environ", "rb") as file:
        entries = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    return {name: value for name, equals, value in entries if equals}


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def write_record(path: str, *, token: int, child: int) -> None:
    """Write who holds which child, whole or not at all."""
    launcher, command = read_process(os.getpid()), read_process(child)
    assert launcher is not None
    assert command is not None
    text = (
        f'{{"token": {token}, "boot_id": "{boot_id()}", '
        f'"launcher": {{"pid": {launcher.pid}, "start_time": {launcher.start_time}}}, '
        f'"child": {{"pid": {command.pid}, "start_time": {command.start_time}}}}}\n'
    )
    half = f"{path}.half"
    try:
        with open(half, "w") as file:
            file.write(text)
        os.replace(half, path)
    except OSError:
        remove(half)
        raise


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # never made, or whoever found the tree gone has tidied up


def set_limits(limits: str) -> None:
    """Bound what this process and its children may use; a bound that is lower already stays."""
    for kind, _, bound in (limit.partition("=") for limit in limits.split(",") if limit):
        _, hard = resource.getrlimit(int(kind))
        most = int(bound) if hard == resource.RLIM_INFINITY else min(int(bound), hard)
        resource.setrlimit(int(kind), (most, most))


def become_user(user: str) -> None:
    """Give up being root for good."""
    uid, gid = (int(number) for number in user.split(":"))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def places_of(program: str, environment: dict[bytes, bytes]) -> list[bytes]:
    """Return where a program may lie."""
    if "/" in program:
        return [os.fsencode(program)]
    search_path = environment.get(b"PATH", os.fsencode(os.defpath))
    return [os.path.join(folder, os.fsencode(program)) for folder in search_path.split(b":")]


def execute(places: list[bytes], argv: list[str], environment: dict[bytes, bytes]) -> None:
    """Become the first of these programs that can be. Raises OSError: none can, and why."""
    refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in places:
        try:
            os.execve(place, argv, environment)  # noqa: S606 - this is what a launcher is for
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = error
    raise refused


def become_command(argv: list[str], options: dict[str, str], *, go: int, failed: int, launcher: int) -> None:
    """In the forked child: wait for the record, then become the command. Never returns."""
    try:
        os.setsid()
        environment = given_environment()  # not shown any more, nor is Python's library, to another user
        places = places_of(argv[0], environment)
        set_limits(options.get("--limits", ""))
        if "--user" in options:
            become_user(options["--user"])
        orphan_signal = int(options.get("--orphan-signal", signal.SIGKILL))
        prctl(PR_SET_PDEATHSIG, orphan_signal)  # not before: a new user undoes it
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):  # libc keeps 32 and 33 to itself
                signal.signal(number, signal.SIG_DFL)
        if os.read(go, 1) and os.getppid() == launcher:
            execute(places, argv, environment)
    except OSError as error:
        os.write(failed, (error.strerror or str(error)).encode())
    finally:
        os._exit(CANNOT_START)


def step_aside() -> None:
    """Go on in a child, while this process only waits for it.

    A worker of Ray that ends in order, as when its node dies, first sends SIGKILL to its own children. That
    must not hit the launcher: the tree would live on with nobody to end it.
    """
    launcher = os.fork()
    if launcher == 0:
        return
    try:
        _, status = os.waitpid(launcher, 0)
        code = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        code = 0  # SIGCHLD is ignored here, so the kernel keeps no exit code
    os._exit(code if code >= 0 else 128 - code)


class Launcher:
    """The tree of one command, from its start to the proof that it is gone."""

    def __init__(self, argv: list[str], options: dict[str, str]) -> None:
        self.argv = argv
        self.token = int(options["--token"])
        self.record = os.path.join(options["--records"], f"{self.token}.{os.getpid()}.json")
        self.hold = int(options.get("--hold", -1))
        self.report_to = int(options.get("--report", -1))
        self.grace_s = float(options.get("--grace", 5.0))
        self.options = options
        self.child = 0
        self.code: int | None = None
        self.kill_at: float | None = None  # monotonic; set once the tree is being ended
        self.asked: set[tuple[int, int]] = set()  # who has had its SIGTERM

    def run(self) -> int:
        """Start the command, hold its tree to the end, return the exit code for the shell."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        signals = self.catch_signals()
        refusal = self.start()
        if refusal:
            return refusal
        poller = select.poll()
        poller.register(signals, select.POLLIN)
        if self.hold >= 0:
            poller.register(self.hold, select.POLLIN)
        while self.reap():
            self.press()
            for fd, _ in poller.poll(self.patience_ms()):
                if fd == signals:
                    self.forward(os.read(signals, 512))
                elif not self.heed_holder():
                    poller.unregister(self.hold)
        remove(self.record)
        assert self.code is not None
        self.report(f"ended {self.code}")
        return self.code if self.code >= 0 else 128 - self.code

    def catch_signals(self) -> int:
        """Turn signals into bytes of a pipe, whatever dispositions and mask were inherited."""
        readable, writable = os.pipe()
        os.set_blocking(readable, False)
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *FORWARDED):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return readable

    def start(self) -> int:
        """Fork, record, let go. Returns 0, or the exit code with which to give up."""
        launcher = os.getpid()
        go_read, go_write = os.pipe()
        failed_read, failed_write = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(go_write)  # else the child would wait for itself when the launcher dies here
            become_command(self.argv, self.options, go=go_read, failed=failed_write, launcher=launcher)
        os.close(failed_write)
        os.close(go_read)
        try:
            write_record(self.record, token=self.token, child=self.child)
        except OSError as error:
            os.close(go_write)
            os.waitpid(self.child, 0)
            return self.refuse(f"cannot write {self.record}: {error.strerror}", CANNOT_RECORD)
        os.write(go_write, b"g")
        os.close(go_write)
        failure = os.read(failed_read, 4096).decode()  # ends empty when the command's exec closes it
        os.close(failed_read)
        if failure:
            os.waitpid(self.child, 0)
            remove(self.record)
            return self.refuse(f"cannot start {self.argv[0]}: {failure}", CANNOT_START)
        self.report(f"started {launcher}")
        return 0

    def refuse(self, why: str, code: int) -> int:
        self.report(f"refused {why}")
        if self.report_to < 0:
            print(f"launcher: {why}", file=sys.stderr)  # noqa: T201 - a program of its own
        return code

    def reap(self) -> bool:
        """Collect the dead. Returns whether any process of the tree is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                if self.code is not None:
                    self.end()  # the command ended and left something behind
                return True
            if pid == self.child:
                self.code = os.waitstatus_to_exitcode(status)

    def patience_ms(self) -> float | None:
        """How long to wait for news: for ever, to the end of the grace, or to the next round of SIGKILL."""
        if self.kill_at is None:
            return None
        return max(self.kill_at - time.monotonic(), KILL_INTERVAL_S) * 1000

    def forward(self, numbers: bytes) -> None:
        """Pass signals on to the command; the tree of a command that is gone is being ended anyway."""
        for number in numbers:
            command = read_process(self.child) if number in FORWARDED and self.code is None else None
            if command:
                send_signal(command, number)

    def heed_holder(self) -> bool:
        """Read from the holder: a grace, or the end. Returns whether it is still there."""
        try:
            word = os.read(self.hold, 64)
        except ConnectionResetError:
            word = b""
        if word:
            self.grace_s = float(word.split()[-1])
            return True
        self.end()
        return False

    def end(self) -> None:
        """Begin to end the tree, or shorten the grace of an end that has begun."""
        kill_at = time.monotonic() + self.grace_s
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)

    def press(self) -> None:
        """While the tree is being ended: SIGTERM once to each, newcomers too; SIGKILL after the grace."""
        if self.kill_at is None:
            return
        is_over = time.monotonic() >= self.kill_at
        spared = self.child if "--monitored" in self.options else 0
        for process in descendants({os.getpid()}, living_processes()):
            identity = (process.pid, process.start_time)
            if is_over:
                send_signal(process, signal.SIGKILL)
            elif identity not in self.asked and process.pid != spared:
                self.asked.add(identity)
                send_signal(process, signal.SIGTERM)

    def report(self, line: str) -> None:
        if self.report_to < 0:
            return
        try:
            os.write(self.report_to, f"{line}\n".encode())
        except OSError:
            pass  # the holder is gone; the end of the hold descriptor says the same


def main() -> int:
    """Parse the command line and hold the tree."""
    split = sys.argv.index("--")
    words, argv = sys.argv[1:split], sys.argv[split + 1 :]
    options = dict(zip(words[::2], words[1::2], strict=True))
    for name in ("--hold", "--report"):
        if name in options:
            os.set_inheritable(int(options[name]), False)
    if "--report" in options:
        step_aside()
    return Launcher(argv, options).run()


if __name__ == "__main__":
    sys.exit(main())
