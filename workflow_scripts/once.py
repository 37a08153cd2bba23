"""Starts Snakemake, one run at a time per working folder on this host.

The kernel drops the lock when the run dies, however it dies: so a Snakemake lock left behind by a killed run is
cleared, and that of a live one is respected. Orphaned jobs don't hold it (Python closes descriptors for children).
"""

import fcntl
import os
import subprocess
import sys

lock = open(".ptacl.lock", "w")  # noqa: SIM115 (held until this process, which becomes Snakemake, ends)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit("another run is active in this folder")
os.set_inheritable(lock.fileno(), True)
subprocess.run(["snakemake", "--unlock", *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.execvp("snakemake", ["snakemake", *sys.argv[1:]])
