"""What to do about a file or folder that is not there: which command writes it, or where it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ANNO, _RM, _PPO = "RM_Data_Anno", "NL_Reward_Model", "NL_Gradient_Policy_Optimization"
# (what lies in a task's folder of a tree, by its path), the folder and the command that write it;
# the first that fits counts
_WRITERS = (
    (_ANNO, r"data/\w+_annotated\.", "", "bash annotate_{name}.sh"),
    (_ANNO, r"data/\w+\.json", "", "python prepare_data.py"),
    (_RM, r"ckpt/.+_merge$", "/Evaluation", "python 1_merge_lora.py"),
    (_RM, r"(ckpt|data)/", "", "bash deepspeed_train_{name}.sh"),
    (_RM, r"Evaluation/inference_results", "/Evaluation", "python 2_infer.py"),
    (_PPO, r"ckpt/.+_merge$", "/Evaluation", "python merge_lora.py"),
    (_PPO, r"ckpt/sft/", "", "python train_sft.py"),
    (_PPO, r"ckpt/", "", "bash train_{name}.sh"),
    (_PPO, r"Evaluation/result/\w+_samples\.", "/Evaluation", "python infer_val.py"),
)


def written_by(path: str | Path) -> str:
    """The command whose default output `path` is, "" for a file of the user's own.

    Example: "cd NL_Reward_Model/SLF5K/Evaluation && python 1_merge_lora.py"
    """
    place = Path(path).resolve().as_posix()
    for tree, inside, folder, command in _WRITERS:
        found = re.search(rf"/{tree}/(\w+)/{inside}", place)
        if found:
            task = found[1]
            return f"cd {tree}/{task}{folder} && {command.format(name=task.lower())}"
    return ""


def advice(path: str | Path) -> str:
    """The rest of a message about a missing `path`: where it was looked for, and what to do."""
    looked = f" (looked in {Path.cwd()})"
    script = Path(sys.argv[0]).resolve().parent
    if script != Path.cwd() and (script / path).exists():
        return f"{looked}; it is in {script}: run the script there"
    command = written_by(path) or written_by(script / path)
    return f"{looked}; it is written by: {command}" if command else looked
