"""A training in a process of its own, to be killed: python -m tests.training.killable TASK.json

TASK.json: folder (of a study), out, settings, checkpoint_steps, steps. One byte is added to the file `steps` after every
step of the optimizer, so that whoever kills this process knows how far it was.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ptacl.logs import stage_log
from tests.training.study import Study, after_every_step


def main(task: dict[str, Any]) -> None:
    steps = os.open(task["steps"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    study = Study(Path(task["folder"]), np.zeros(0))
    with stage_log(task["log"]), after_every_step(lambda: os.write(steps, b".")):
        study.train(Path(task["out"]), task["settings"], checkpoint_steps=task["checkpoint_steps"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
