"""The names of exit statuses, as systemd has them in ``SuccessExitStatus=`` and in ``status=203/EXEC``."""

from __future__ import annotations

__all__ = ["EXIT_STATUS", "exit_text"]

_LIBC = ("SUCCESS", "FAILURE")
_LSB = ("INVALIDARGUMENT", "NOTIMPLEMENTED", "NOPERMISSION", "NOTINSTALLED", "NOTCONFIGURED", "NOTRUNNING")
_BSD = (  # noqa: SIM905
    "USAGE DATAERR NOINPUT NOUSER NOHOST UNAVAILABLE SOFTWARE OSERR OSFILE CANTCREAT IOERR TEMPFAIL PROTOCOL "
    "NOPERM CONFIG"
).split()
_SYSTEMD = (  # noqa: SIM905
    "CHDIR NICE FDS EXEC MEMORY LIMITS OOM_ADJUST SIGNAL_MASK STDIN STDOUT CHROOT IOPRIO TIMERSLACK SECUREBITS "
    "SETSCHEDULER CPUAFFINITY GROUP USER CAPABILITIES CGROUP SETSID CONFIRM STDERR - PAM NETWORK NAMESPACE "
    "NO_NEW_PRIVILEGES SECCOMP SELINUX_CONTEXT PERSONALITY APPARMOR ADDRESS_FAMILIES RUNTIME_DIRECTORY - CHOWN "
    "SMACK_PROCESS_LABEL KEYRING STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY CONFIGURATION_DIRECTORY "
    "NUMA_POLICY CREDENTIALS BPF KSM"
).split()

#: Exit statuses by name.
EXIT_STATUS = {
    **{name: number for number, name in enumerate(_LIBC)},
    **{name: number for number, name in enumerate(_LSB, 2)},
    **{name: number for number, name in enumerate(_BSD, 64)},
    **{name: number for number, name in enumerate(_SYSTEMD, 200) if name != "-"},
    "EXCEPTION": 255,
}

_NAMES = {number: name for name, number in EXIT_STATUS.items()}


def exit_text(status: int) -> str:
    """An exit status as ``systemctl status`` writes it: ``203/EXEC``."""
    return f"{status}/{_NAMES[status]}" if status in _NAMES else str(status)
