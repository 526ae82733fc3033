"""How much of the machine the processes of a session may use, by setrlimit(2)."""

from __future__ import annotations

import resource
from dataclasses import dataclass

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Bounds of each process of a session; `processes` bounds all that run as the same user.

    Attributes:
        open_files: descriptors of one process.
        processes: processes and threads of its user; the kernel does not hold root to it.
        file_mb: size of a file that is written, in MB.
        memory_mb: address space of one process, in MB; 0 = no bound, for many runtimes reserve far more
            than they use.
    """

    open_files: int = 16_384
    processes: int = 8_192
    file_mb: int = 10_000
    memory_mb: int = 0

    def for_launcher(self) -> str:
        """Return them as the launcher program reads them. No process leaves a core file."""
        bounds = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: self.open_files,
            resource.RLIMIT_NPROC: self.processes,
            resource.RLIMIT_FSIZE: self.file_mb * _MEBIBYTE,
        }
        if self.memory_mb:
            bounds[resource.RLIMIT_AS] = self.memory_mb * _MEBIBYTE
        return ",".join(f"{kind}={bound}" for kind, bound in bounds.items())
