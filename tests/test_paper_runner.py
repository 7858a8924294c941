"""Stages run once, go on where they were, and hold nothing else up when they fail."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from text2grad.config import PaperRunConfig
from text2grad.paper import runner
from text2grad.paper.runner import Runner, environment, read_progress, run_command, settings_of
from text2grad.paper.stages import Command, Stage, Stages
from text2grad.schema import UserError


def shell(text):
    return Command(("sh", "-c", text))


def stages_of(*stages):
    made = Stages()
    for stage in stages:
        made.add(stage)
    return made


@pytest.fixture
def ran(tmp_path):
    """Runs stages in a folder and says what each command wrote to the diary."""
    diary = tmp_path / "diary"

    def run(*stages):
        diary.write_text("")
        failed = Runner(tmp_path, tmp_path).run(stages_of(*stages))
        return diary.read_text().split(), failed

    return run


def test_a_stage_is_run_once_and_after_what_it_needs(ran, tmp_path, capsys):
    first = Stage("first", (shell("echo 1 >> diary"), shell("echo 2 >> diary")))
    second = Stage("runs/second", (shell("echo 3 >> diary"),), ("first",), {"method": "x"})
    assert ran(first, second) == (["1", "2", "3"], [])
    assert ran(first, second) == ([], [])
    assert capsys.readouterr().out.count("done before") == 2
    assert read_progress(tmp_path / "runs" / "second").done
    facts = (tmp_path / "runs" / "second" / "run.json").read_text()
    assert '"method": "x"' in facts
    assert "CPU cores" in facts
    assert "echo 3" in (tmp_path / "runs" / "second" / "log.txt").read_text()
    with pytest.raises(ValueError, match="comes before first"):
        stages_of(second)


def test_a_failure_holds_up_only_what_needs_it_and_is_tried_again(ran, tmp_path, capsys):
    breaks = Stage("breaks", (shell("echo a >> diary"), shell("echo no luck; test -f mended")))
    needs = Stage("needs", (shell("echo b >> diary"),), ("breaks",))
    after = Stage("after", (shell("echo c >> diary"),), ("needs",))
    other = Stage("other", (shell("echo d >> diary"),))
    assert ran(breaks, needs, after, other) == (["a", "d"], ["breaks"])
    said = capsys.readouterr().out
    assert "breaks: failed: no luck (status 1)" in said
    assert said.count("left out") == 2
    assert read_progress(tmp_path / "breaks").error == "no luck (status 1)"
    (tmp_path / "mended").touch()
    assert ran(breaks, needs, after, other) == (["b", "c"], [])
    assert read_progress(tmp_path / "breaks").error == ""


def test_other_commands_inputs_or_needs_set_a_folder_aside(ran, tmp_path, capsys):
    def pair(word="1", inputs=""):
        first = Stage("first", (shell(f"echo {word} >> diary; touch first/made"),), inputs=inputs)
        return first, Stage("second", (shell("echo s >> diary"),), ("first",))

    ran(*pair())
    assert ran(*pair("2")) == (["2", "s"], [])
    assert (tmp_path / "first.aside-1" / "made").exists()
    assert (tmp_path / "second.aside-1").exists()
    assert ran(*pair("2", "changed")) == (["2", "s"], [])
    assert (tmp_path / "first.aside-2").exists()
    assert capsys.readouterr().out.count("made with other settings, set aside as") == 4
    (tmp_path / "first" / "stage.json").write_text("{")
    assert ran(*pair("2", "changed")) == (["2"], [])


def test_a_stage_that_was_stopped_goes_on_with_the_command_it_was_at(ran, tmp_path):
    """A kill in the second command: the first is not run again."""
    stop = shell("echo 2 >> diary; test -f go || kill -KILL $$")
    stage = Stage("stage", (shell("echo 1 >> diary"), stop, shell("echo 3 >> diary")))
    assert ran(stage) == (["1", "2"], ["stage"])
    (tmp_path / "go").touch()
    assert ran(stage) == (["2", "3"], [])


def test_what_is_not_kept_goes_when_the_stage_is_done(ran, tmp_path):
    merged = tmp_path / "stage" / "merged"
    make = shell("mkdir stage/merged")
    failing = Stage("stage", (make, shell("false")), passing=(merged,))
    ran(failing)
    assert merged.exists()
    ran(Stage("stage", (make, shell("true")), passing=(merged,)))
    assert not merged.exists()


def test_no_child_outlives_a_termination(tmp_path):
    """SIGTERM to the runner ends the grandchild too, which does not listen."""
    pid = tmp_path / "pid"
    command = shell("trap '' TERM; sleep 60 & echo $! > pid; wait")

    def terminate():
        while not pid.exists() or not pid.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_GRACE_SECONDS", 0.2)
        with pytest.raises(KeyboardInterrupt):
            run_command(command, tmp_path / "log.txt", tmp_path)
    thread.join()
    assert time.monotonic() - began < 30
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_child_that_saves_when_it_is_asked_to_stop_has_the_time(tmp_path):
    """Its shell is gone at once, the child itself half a second later."""
    saves = "trap 'sleep 0.5; echo saved > state; exit 143' TERM; touch ready; sleep 60 & wait"
    command = shell(f'sh -c "{saves}"; true')

    def terminate():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_command(command, tmp_path / "log.txt", tmp_path)
    thread.join()
    assert (tmp_path / "state").read_text() == "saved\n"


def test_a_shell_takes_its_settings_from_us_alone(tmp_path, monkeypatch):
    """A variable of the user's that the shell reads must not change what is run."""
    script = tmp_path / "train.sh"
    script.write_text("STEPS=${STEPS:-6}\nGPUS=${GPUS:-0}\nprintf '%s ' $STEPS $GPUS $HOME_MADE\n")
    assert settings_of(script.read_text()) == {"STEPS", "GPUS"}
    for name in ("STEPS", "GPUS", "HOME_MADE"):
        monkeypatch.setenv(name, "9")
    assert run_command(Command(("bash", str(script))), tmp_path / "log", tmp_path) == ""
    assert (tmp_path / "log").read_text().endswith("6 9 9 ")
    given = environment(Command(("bash", str(script)), {"STEPS": "2"}))
    assert given["STEPS"] == "2"


def test_one_runner_at_a_time(tmp_path):
    flags = PaperRunConfig(methods=("sft",), output_dir=str(tmp_path))
    with runner._locked(tmp_path), pytest.raises(UserError, match="another run works in it"):
        runner.run_paper(flags)


def test_failures_end_the_run_with_one_line(tmp_path, monkeypatch):
    broken = stages_of(Stage("broken", (shell("exit 3"),)))
    monkeypatch.setattr(runner, "plan", lambda *_: broken)
    flags = PaperRunConfig(output_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"1 stages failed: broken \(see .*log\.txt\)"):
        runner.run_paper(flags)
