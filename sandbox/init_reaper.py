"""P2 where it stays: the reaper in front of the command (--init), and what holds the namespaces of a pod.  (launch, hot with --init)

Steps of the init, as functions of it; the keeper has loaded them, as the init imports nothing.
"""

import os

from sandbox import linux
from sandbox.init import EVERY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms

    from sandbox.init import Init
else:
    import _signal

_ENDING = (1, 2, 3, 15)
_PR_SET_NAME = 15  # prctl(2)
_KEYBOARD, _SI_KERNEL = (2, 3, 20), 128  # SIGINT, SIGQUIT, SIGTSTP; sigaction(2)


def reaper(_: "Init") -> None:
    """Stay as pid 1: the rest of the steps happen in a child, this process passes signals on and reaps.

    What a terminal sends (Ctrl-C) reaches the child by itself: it is in our process group.
    """
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, EVERY)
    child = os.fork()
    if child == 0:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    # The keeper learns of a failed exec from the child's channel alone.
    linux.close_range(0)
    _wait_for_signals()
    while True:
        signal = _signal.sigwaitinfo(EVERY)
        if signal.si_signo == linux.SIGCHLD:
            _reap(child)
        elif signal.si_signo not in _KEYBOARD or signal.si_code != _SI_KERNEL:
            os.kill(child, signal.si_signo)  # not reaped yet: we would have ended with it


def pause(_: "Init") -> None:
    """Be what holds the namespaces of a pod: reap whoever is left to pid 1, and end when asked to."""
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    _wait_for_signals()
    linux.close_range(0)
    while True:
        number = _signal.sigwaitinfo(EVERY).si_signo
        if number == linux.SIGCHLD:
            _reap(-1)
        elif number in _ENDING:
            os._exit(0)


def _wait_for_signals() -> None:
    """From now on all signals are had by sigwaitinfo(EVERY)."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, EVERY)
    for number in EVERY:
        # Never called.  The keeper looks for it in /proc, where blocked signals that are waited for show as not blocked.
        _signal.signal(number, lambda *_: None)


def _reap(child: int) -> None:
    """Collect whoever has ended; with `child` the process ends."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == child:
            status = os.waitstatus_to_exitcode(code)
            if status < 0:
                # For the keeper, which can not tell it from an exit status: see Vigil.
                linux.syscall("prctl", _PR_SET_NAME, b"signal %d" % -status, 0, 0, 0, subject="name of the reaper")
            os._exit(status if status >= 0 else 128 - status)
        if pid == 0:
            return
