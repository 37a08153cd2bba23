"""One of the processes that torchrun starts for a training on several GPUs: python -m ptacl.training.worker TASK.json"""

import json
import sys
from pathlib import Path
from typing import Any

from ptacl.errors import PtaclError
from ptacl.training import finetune, options, stage

STAGES: dict[str, tuple[Any, Any]] = {
    "pretrain": (stage.pretrain, stage.Inputs),
    "finetune": (finetune.finetune, finetune.Inputs),
}


def main(path: Path) -> int:
    """Runs this process's part of the task; a PtaclError is one line and exit code 1."""
    task = json.loads(path.read_text())
    run, inputs = STAGES[task["stage"]]
    paths = {k: None if v is None else Path(v) for k, v in task["inputs"].items()}
    try:
        run(task["method"], task["seed"], task["settings"], inputs(**paths), options.How(**task["how"]))
    except PtaclError as e:
        print(f"ERROR {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
