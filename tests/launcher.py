"""Two CPU processes under `accelerate launch`, with gloo: what runs on several GPUs runs in tests on these."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def launched_twice(*words: object, cwd: Path) -> str:
    """Run a script, or -m and a module, in two processes of one thread each; return what they printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [*launch, "--main_process_port", str(port), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
