"""What is said to a far ``sh``: POSIX, and nothing that busybox lacks. Pure.

A script goes through stdin and is handed on by ``printf``, which is the shell's own: what is secret
stands in no command line and in no file.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence

from halotui.hosts.hands import MARK

ABSENT, NO_PLACE, NO_LOG, UNSAFE = "@absent", "@cwd", "@log", "@printf"  # what ``err`` begins with

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A shell sets these itself, or will not have them set: they go through ``env``. None of them is a secret.
_SHELLS_OWN = ("_", "PWD", "OLDPWD", "SHLVL")
_UNSETTABLE = ("OPTIND", "LINENO", "UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO")

# The start of a process that lives, in ticks since boot: field 22, after a name that may be anything.
_STARTED = """\
P={proc}
started() {{
s=$(cat "$P/$1/stat" 2>/dev/null) || return 1
s=${{s##*) }}
case $s in Z*|X*|"") return 1;; esac
set -f; set -- $s; set +f
echo "${{20}}"
}}
boot() {{ cat "$P/sys/kernel/random/boot_id"; }}
"""

# Where logind ends what a login leaves behind, what is to stay needs a scope of the user's own systemd.
_SCOPE = """\
scope=
case $(cat "$P/self/cgroup" 2>/dev/null) in */session-*)
case $(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \\
org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null </dev/null) in
"b true") scope="systemd-run --user --scope --quiet --collect";;
esac;;
esac
"""
_OWN_PRINTF = f"case $(command -v printf) in */*) echo {UNSAFE} >&2; exit 127;; esac\n"
# What is started in the background ignores these, unless env can have it otherwise.
_ENV = """\
set -- "$session" "$(command -v env)"
"$2" --default-signal=INT true 2>/dev/null && set -- "$@" --default-signal=INT,QUIT\
"""
_SESSION = "session=$(command -v setsid || command -v nohup || command -v env)\n"


def sayable(name: str) -> bool:
    """Whether a variable of that name can be given to a process by a shell."""
    return _NAME.fullmatch(name) is not None


def prelude(procfs: str) -> str:
    """``started PID``, ``boot`` and ``$P``."""
    return _STARTED.format(proc=shlex.quote(procfs))


def identified(pid: int) -> str:
    """Prints pid, start and boot of one that lives."""
    return f"t=$(started {pid}) && echo {pid} $t $(boot)\n"


def same(pid: int, ticks: int, boot: str) -> str:
    """A condition: that very process lives."""
    return f'[ "$(boot)" = {shlex.quote(boot)} ] && [ "$(started {pid})" = {ticks} ]'


def marked(*marks: str) -> str:
    """Prints the pids of our own whose environment holds one of ``marks``; a corpse has none left."""
    pairs = [shlex.quote(f"{MARK}={mark}") for mark in marks]
    exact = " ".join(f"-e {pair}" for pair in pairs)
    return (
        f'for f in $(grep -lsF {exact} "$P"/[0-9]*/environ); do\n'
        f'[ -O "$f" ] && tr "\\000" "\\n" <"$f" 2>/dev/null | grep -qxF {exact} || continue\n'
        'f=${f%/environ}; echo "${f##*/}"\n'
        "done\n"
    )


def ran(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, seconds: float) -> str:
    """Runs a command to its end, its session killed when its time is up; the code is the command's."""
    inner = (
        f"{_SESSION}{_at(cwd)}{_there(argv, env)}"
        f"( exec </dev/null\n{_exec(argv, env)}) &\npid=$!\n"
        f'( trap "kill \\$! 2>/dev/null; exit" TERM; sleep {math.ceil(seconds)} & wait $!; kill -9 -$pid'
        ") >/dev/null 2>&1 </dev/null &\ndog=$!\n"
        "wait $pid; code=$?\nkill $dog 2>/dev/null\nexit $code\n"
    )
    return inner if env is None else f"{_OWN_PRINTF}{_handed(inner)}exit\n"


def launched(argv: Sequence[str], env: Mapping[str, str], cwd: str, log: str, procfs: str) -> str:
    """Starts a program detached and prints who it is. The shell that is given this has a bare environment."""
    place = shlex.quote(log.rpartition("/")[0] or "/")
    file = shlex.quote(log)
    return (
        f"{prelude(procfs)}{_SESSION}mask=$(umask)\numask 077\n"
        f"mkdir -p -- {place} && [ ! -d {file} ] && ( : >>{file} ) || {{ echo {NO_LOG} >&2; exit 127; }}\n"
        f"umask $mask\n{_at(cwd)}{_there(argv, env)}"
        f"( exec </dev/null >>{file} 2>&1\n{_exec(argv, env)}) &\n"
        "pid=$!\nt=$(started $pid) || t=0\necho $pid $t $(boot)\n"
    )


def detached(inner: str, procfs: str) -> str:
    """Has a bare shell do ``inner``, where nothing ends it with this login."""
    return f"{_OWN_PRINTF}{prelude(procfs)}{_SCOPE}{_handed(inner, '$scope ')}exit\n"


def resident(inner: str, mark: str, procfs: str) -> str:
    """Starts a shell that does ``inner`` and stays behind, and prints who it is. Nobody sees its script."""
    pair = shlex.quote(f"{MARK}={mark}")
    return (
        f"{_OWN_PRINTF}{prelude(procfs)}{_SCOPE}{_SESSION}inner={shlex.quote(inner)}\n"
        f'printf %s "$inner" | $scope env {pair} "$session" sh >/dev/null 2>&1 &\n'
        "pid=$!\nt=$(started $pid) || t=0\necho $pid $t $(boot)\n"
    )


def _handed(inner: str, before: str = "") -> str:
    return f'inner={shlex.quote(inner)}\nprintf %s "$inner" | {before}env -i PATH="$PATH" sh\n'


def _at(cwd: str | None) -> str:
    if cwd is None:
        return ""
    return f"cd -- {shlex.quote(cwd)} 2>/dev/null || {{ echo {NO_PLACE} >&2; exit 127; }}\n"


def _there(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    """By the PATH that it will have itself."""
    name = shlex.quote(argv[0])
    test = f"[ -f {name} ] && [ -x {name} ]" if "/" in argv[0] else f"command -v {name}"
    path = f"PATH={shlex.quote(env['PATH'])}; " if env and "PATH" in env else ""
    return f"( {path}{test} ) >/dev/null 2>&1 || {{ echo {ABSENT} >&2; exit 127; }}\n"


def _exec(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    """In a session of its own, with exactly ``env``; None: with ours."""
    command = " ".join(map(shlex.quote, argv))
    if env is None:
        return f'exec "$session" {command}\n'
    odd = (*_SHELLS_OWN, *_UNSETTABLE)
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in env.items()
        if sayable(name) and name not in odd
    ]
    unset = [f"-u {name}" for name in (*_SHELLS_OWN, "PATH") if name not in env]
    said = [shlex.quote(f"{name}={env[name]}") for name in odd if name in env]
    words = " ".join((*unset, *said, command))
    return "\n".join((_ENV, *exports, f'exec "$@" {words}\n'))
