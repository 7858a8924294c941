"""System calls that sandboxed code has no use for, refused by a filter in the kernel (seccomp)."""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

CLONE_NEWUSER = 0x10000000
# Calls of the x32 interface have this bit, and numbers that the list would not match.
X32_BIT = 0x40000000

# Classic BPF: load a word, jump if equal, at least, or a bit is set, return.
LOAD, EQUAL, AT_LEAST, BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Places of a call's number, interface and first argument (its low half) in what a filter sees.
NUMBER, INTERFACE, ARGUMENT = 0, 4, 16
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


@dataclass(frozen=True)
class Calls:
    """Numbers of one machine's calls.

    Attributes:
        interface: the kernel's name for the machine (AUDIT_ARCH).
        clone, unshare: refused where they would make a user namespace, with all rights in it.
        clone3: said not to exist, since its flags cannot be read; libraries then use `clone`.
        refused: other processes' memory, kernel keys, and calls known for faults of the kernel:
            ptrace, process_vm_readv and _writev, add_key, request_key, keyctl, bpf,
            perf_event_open, userfaultfd, io_uring_setup, setns.
    """

    interface: int
    clone: int
    unshare: int
    clone3: int
    refused: tuple[int, ...]


MACHINES = {
    "x86_64": Calls(
        *(0xC000003E, 56, 272, 435), (101, 310, 311, 248, 249, 250, 321, 298, 323, 425, 308)
    ),
    "aarch64": Calls(
        *(0xC00000B7, 220, 97, 435), (117, 270, 271, 217, 218, 219, 280, 241, 282, 425, 268)
    ),
}


def call_filter(machine: str = "") -> bytes:
    """The filter for a machine, by default this one, as the kernel reads it; b"" for others."""
    calls = MACHINES.get(machine or platform.machine())
    if calls is None:
        return b""
    no_call, no_right = REFUSE | errno.ENOSYS, REFUSE | errno.EPERM
    steps = [(LOAD, 0, 0, INTERFACE), (EQUAL, 1, 0, calls.interface), (RETURN, 0, 0, no_call)]
    steps += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, no_call)]
    steps += [(EQUAL, 0, 1, calls.clone3), (RETURN, 0, 0, no_call)]
    for number in calls.refused:
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, no_right)]
    for number in (calls.clone, calls.unshare):
        steps += [(EQUAL, 0, 4, number), (LOAD, 0, 0, ARGUMENT), (BIT, 0, 1, CLONE_NEWUSER)]
        steps += [(RETURN, 0, 0, no_right), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)
