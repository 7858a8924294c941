"""What one process of several does with the others; they are stood in for here."""

import os
from types import SimpleNamespace

import pytest
from policy_runs import config

from text2grad import devices
from text2grad.annotators import execution_annotator
from text2grad.chat import PromptTooLong
from text2grad.config.testing import FaultSearchConfig
from text2grad.devices import all_or_none, rows_of_all
from text2grad.schema import Record, Unparseable, UserError
from text2grad.scoring import ask_critic
from text2grad.tasks import get_task

RECORDS = [Record("a", "p", "r"), Record("b", "p", "r")]


def others_fail_with(monkeypatch, *faults):
    """Two processes beside this one, with their faults."""
    monkeypatch.setattr(devices, "gather_object", lambda own: [*own, *faults])


def refused():
    raise UserError("--reward_base_url http://a: a refused key")


def test_what_works_in_all_processes_gives_this_ones_result(monkeypatch):
    others_fail_with(monkeypatch, "", "")
    assert all_or_none(lambda: [1, 2]) == [1, 2]


def test_a_fault_in_one_process_is_raised_in_all(monkeypatch):
    others_fail_with(monkeypatch, "", "--reward_base_url http://b: away")
    with pytest.raises(UserError, match=r"^process 2: --reward_base_url http://b: away$"):
        all_or_none(lambda: [1, 2])
    with pytest.raises(UserError, match=r"^--reward_base_url http://a: a refused key$"):
        all_or_none(refused)


def test_an_own_fault_is_told_to_the_others_first(monkeypatch):
    told = []
    monkeypatch.setattr(devices, "gather_object", lambda own: told.extend(own) or own)
    with pytest.raises(UserError):
        all_or_none(refused)
    assert told == ["--reward_base_url http://a: a refused key"]


def test_rows_come_in_the_order_in_which_prompts_were_dealt(monkeypatch):
    """Of three processes, that have prompts 0 and 3, 1 and 4, 2 and 5 of the batch."""

    def gather(own, parts):
        parts[:] = [own, [{"n": 1}, {"n": 4}], [{"n": 2}, {"n": 5}]]

    monkeypatch.setattr(devices.torch.distributed, "gather_object", gather)
    main = SimpleNamespace(num_processes=3, is_main_process=True)
    assert [row["n"] for row in rows_of_all(main, [{"n": 0}, {"n": 3}])] == [0, 1, 2, 3, 4, 5]


def test_the_main_process_alone_has_the_rows(monkeypatch):
    sent = []
    monkeypatch.setattr(
        devices.torch.distributed, "gather_object", lambda own, parts: sent.append((own, parts))
    )
    other = SimpleNamespace(num_processes=2, is_main_process=False)
    assert rows_of_all(other, [{"n": 1}]) == []
    assert sent == [([{"n": 1}], None)]
    assert rows_of_all(SimpleNamespace(num_processes=1), [{"n": 1}]) == [{"n": 1}]


class NoRoom:
    def annotate(self, records):
        raise PromptTooLong("900 tokens even with an empty prompt")


def test_a_share_that_fits_no_prompt_stops_a_process_only_where_it_is_alone():
    with pytest.raises(PromptTooLong):
        ask_critic(NoRoom(), RECORDS, alone=True)
    said = ask_critic(NoRoom(), RECORDS, alone=False)
    assert said == [Unparseable("900 tokens even with an empty prompt")] * 2


def test_processes_wait_longer_for_each_other_than_one_for_its_server(policy_files, tmp_path):
    server = {"reward_base_url": "http://127.0.0.1:9/v1", "reward_patience_seconds": 600.0}
    with pytest.raises(UserError, match=r"^--ddp_timeout 600 must be more than --reward_patience"):
        config(*policy_files, tmp_path, ddp_timeout=600, **server)
    config(*policy_files, tmp_path, ddp_timeout=601, **server)
    config(*policy_files, tmp_path, ddp_timeout=600)


@pytest.mark.parametrize(("processes", "workers"), [("1", 8), ("3", 2), ("99", 1)])
def test_processes_of_a_job_share_the_cores_for_running_tests(monkeypatch, processes, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setattr("text2grad.sandbox.find_sandbox", lambda unsafe: None)
    made = execution_annotator(get_task("kodcode"), FaultSearchConfig())
    assert made._settings.workers == workers
    given = execution_annotator(get_task("kodcode"), FaultSearchConfig(workers=5))
    assert given._settings.workers == 5
