"""Runs inside the sandbox: one solution, judged by EvalPlus' own evaluator.

The job is read from standard input before anything else, and the outcome is written to file
descriptor 3 in lines that are led by the job's secret. EvalPlus runs the solution in a fork, which
can do neither: there the descriptor is closed and the secret forgotten. Nothing else than the
standard library and EvalPlus is there.
"""

import contextlib
import ctypes
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from types import ModuleType

REPORT = 3
PR_SET_DUMPABLE = 4
# EvalPlus imports these only to fetch data; the first takes longer than all the rest.
FETCHING = ("datasets", "wget", "tempdir")
PASS = "pass"


def load_evalplus():
    """EvalPlus' evaluator, without what it needs to fetch data."""
    for name in FETCHING:
        stand_in = ModuleType(name)
        stand_in.load_dataset = None
        sys.modules[name] = stand_in
    import evalplus.evaluate

    return evalplus.evaluate


def main() -> None:
    """Judge the job's solution, and its problem's reference solution where that is asked for."""
    job = json.loads(sys.stdin.buffer.read())
    secret = [job.pop("secret")]

    def forget() -> None:
        secret.clear()
        os.close(REPORT)

    # The solution runs as the same user: it may not read this memory or open these descriptors.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.register_at_fork(after_in_child=forget)
    multiprocessing.set_start_method("fork")
    for found in judge(job):
        line = f"{secret[0]} {json.dumps(found)}\n".encode()
        while line:
            line = line[os.write(REPORT, line) :]


def judge(job: dict) -> Iterator[dict]:
    """What EvalPlus says of the job's solution.

    Yields:
        First, before any of the solution is looked at, "reference", the reference solution's two
        statuses where the job asks for them, or "problem_error", why the problem cannot be used;
        then "solution", the code that ran, "base" and "plus", EvalPlus' statuses, and "forged",
        whether it also passed a test that cannot be passed.
    """
    dataset = job["dataset"]
    with open("problem.jsonl", "w", encoding="utf-8") as out:
        out.write(json.dumps(job["problem"]))
    # EvalPlus looks for these while it is imported.
    variables = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}
    os.environ[variables[dataset]] = os.path.abspath("problem.jsonl")
    os.environ["EVALPLUS_MAX_MEMORY_BYTES"] = str(job["memory_mb"] << 20)
    evaluator = load_evalplus()
    read = {"humaneval": evaluator.get_human_eval_plus, "mbpp": evaluator.get_mbpp_plus}
    not_none = {"humaneval": [], "mbpp": evaluator.MBPP_OUTPUT_NOT_NONE_TASKS}
    try:
        [problem] = read[dataset]().values()
        [expected] = evaluator.get_groundtruth({"": problem}, "one", not_none[dataset]).values()
    except Exception as error:  # whatever the data's own code raises
        yield {"problem_error": f"{type(error).__name__}: {error}"}
        return

    def statuses(solution: str) -> dict[str, str]:
        limits = {name: job[name] for name in ("min_time_limit", "gt_time_limit_factor")}
        checked = evaluator.check_correctness(
            dataset, 0, problem, solution, expected, fast_check=True, **limits
        )
        return {tests: checked[tests][0] for tests in ("base", "plus")}

    reference = problem["prompt"] + problem["canonical_solution"]
    yield {"reference": statuses(reference) if job["with_reference"] else None}
    solution = solution_of(job, problem)
    found = statuses(solution)
    is_forged = PASS in found.values() and passes_the_impossible(solution, problem, job, evaluator)
    yield {"solution": solution, **found, "forged": is_forged}


def solution_of(job: dict, problem: dict) -> str:
    """The code to run: a response's as EvalPlus cuts it out, else what is given."""
    if not job["is_response"]:
        return job["text"]
    from evalplus.sanitize import sanitize

    with contextlib.suppress(ValueError, RecursionError):  # no text that Python could parse
        return sanitize(job["text"], problem["entry_point"])
    return job["text"]


def passes_the_impossible(solution: str, problem: dict, job: dict, evaluator: ModuleType) -> bool:
    """Whether a solution passes a test whose expected value nothing can know.

    It does so if it writes EvalPlus' verdict itself, or returns what equals everything. The
    function goes by another name, since EvalPlus takes any value for right for some names.
    """
    name = f"function_{os.urandom(8).hex()}"
    status, _ = evaluator.untrusted_check(
        job["dataset"],
        f"{solution}\n\n\n{name} = {problem['entry_point']}\n",
        problem["base_input"][:1],
        name,
        expected=[os.urandom(16).hex()],
        atol=0,
        ref_time=[0.0],
        fast_check=True,
        min_time_limit=job["min_time_limit"],
        gt_time_limit_factor=job["gt_time_limit_factor"],
    )
    return status == PASS


if __name__ == "__main__":
    main()
