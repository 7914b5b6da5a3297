"""Every Python of an emulated root loads this: it may write files, also where the agent's proving allows none.

qemu answers what a program reads of /proc/cpuinfo by way of a file that it writes itself, under the program's own limits; with none allowed
both runtimes crash on emulated 64-bit ARM. A board has no such file to write.
"""

import resource

_setrlimit = resource.setrlimit


def setrlimit(limit: int, limits: tuple[int, int]) -> None:
    """As the system's, but for the size of files."""
    if limit != resource.RLIMIT_FSIZE:
        _setrlimit(limit, limits)


resource.setrlimit = setrlimit
