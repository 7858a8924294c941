"""UltraFeedback's records: hub tables, published shapes, conversations, and input that is bad."""

import json

import pyarrow
import pytest
from annotated import save_base
from chat_server import serve
from policy_runs import FakeCritic, config, rows_of, trainer
from pyarrow import parquet
from tiny import byte_level_tokenizer

from text2grad.annotate import annotate_file
from text2grad.annotators.openai_server import OpenAIAnnotator
from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.config import (
    AnnotateConfig,
    PolicyInferConfig,
    PolicyMetricsConfig,
    PrepareConfig,
    RewardTrainConfig,
)
from text2grad.generate import infer_policy
from text2grad.metrics import evaluate_summaries
from text2grad.prepare import prepare_data
from text2grad.records import read_records
from text2grad.responses import read_responses
from text2grad.reward_model import ExampleMaker
from text2grad.schema import Feedback, FieldNames, Record, Span, Turn, Unparseable, UserError
from text2grad.supervised import Dropped, Example
from text2grad.tasks import get_task

TASK = get_task("ultrafeedback")
MIXED = "مرحبا بالعالم 🐕‍🦺 naïve\r\n日本語です。 <|im_end|> ok"


def message(role, content):
    return {"role": role, "content": content}


def answered(prompt, answer, *before):
    return [*before, message("user", prompt), message("assistant", answer)]


def hub_row(number, *before, **changes):
    """A row of the hub's data set, with the keys of its card."""
    prompt = f"Question {number}?"
    return {
        "prompt": before[0]["content"] if before else prompt,
        "prompt_id": f"{number:064x}",
        "chosen": answered(prompt, f"The answer is {number}.", *before),
        "rejected": answered(prompt, "I do not know.", *before),
        "messages": answered(prompt, f"The answer is {number}.", *before),
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    } | changes


EARLIER = (message("user", "Where is the dog?"), message("assistant", "In the park."))


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def prepare(tmp_path, rows=None, **flags):
    if rows is not None:
        flags = {
            "data_path": str(write(tmp_path / "rows.jsonl", rows)),
            "splits": ("train",),
        } | flags
    flags = {
        "task": "ultrafeedback",
        "candidates": "all",
        "output_dir": str(tmp_path / "o"),
    } | flags
    prepare_data(PrepareConfig(**flags))
    return {f.stem: json.loads(f.read_text("utf-8")) for f in (tmp_path / "o").glob("*.json")}


def read(tmp_path, rows, need=("prompt", "response")):
    return read_records(write(tmp_path / "records.jsonl", rows), TASK, need)


def annotate(tmp_path, rows, **flags):
    data, out = write(tmp_path / "to_annotate.jsonl", rows), tmp_path / "annotated.json"
    paths = {"data_path": str(data), "output_path": str(out)}
    annotate_file(AnnotateConfig(task="ultrafeedback", **paths, **flags))
    return read_records(out, TASK, ("prompt", "response", "feedback"))


# -- the hub's rows


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A copy of the hub's files, and the patterns that were asked for."""
    import huggingface_hub

    asked = []
    splits = {"train_prefs": range(6), "train_sft": [90], "train_gen": [91], "test_prefs": [7, 8]}
    (tmp_path / "hub/data").mkdir(parents=True)
    for split, numbers in splits.items():
        table = pyarrow.Table.from_pylist([hub_row(number) for number in numbers])
        parquet.write_table(table, tmp_path / f"hub/data/{split}-00000-of-00001.parquet")

    def download(source, **flags):
        asked.append((source, flags["allow_patterns"][1]))
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_hub_tables_become_a_record_for_each_answer(tmp_path, hub, capsys):
    out = prepare(tmp_path)
    source = "HuggingFaceH4/ultrafeedback_binarized"
    assert hub == [(source, "*train_prefs*.parquet"), (source, "*test_prefs*.parquet")]
    assert (len(out["train"]), len(out["validation"])) == (12, 4)
    chosen, rejected = out["train"][:2]
    assert chosen == {
        "id": f"{0:064x}-chosen",
        "prompt": "Question 0?",
        "response": "The answer is 0.",
        "reference": "The answer is 0.",
        "candidate": "chosen",
        "prompt_id": f"{0:064x}",
        "score": 8.5,
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    }
    assert (rejected["id"], rejected["response"]) == (f"{0:064x}-rejected", "I do not know.")
    assert (rejected["reference"], rejected["score"]) == ("The answer is 0.", 3.0)
    assert "responses from: chosen (8), rejected (8)" in capsys.readouterr().out


def test_a_folder_of_the_hubs_files_is_read_by_the_same_names(tmp_path, hub):
    out = prepare(tmp_path, data_path=str(tmp_path / "hub/data"))
    assert {row["prompt"] for row in out["validation"]} == {"Question 7?", "Question 8?"}
    assert len(out["train"]) == 12


def test_a_file_of_texts_needs_no_flag(tmp_path):
    rows = [{"prompt": f"Q{n}?", "chosen": f"Yes, {n}.", "rejected": "No."} for n in range(4)]
    out = prepare(tmp_path, rows)["train"]
    assert [row["id"] for row in out[:2]] == ["rows-1-chosen", "rows-1-rejected"]
    assert [row["response"] for row in out[:2]] == ["Yes, 0.", "No."]


def test_prompts_of_validation_leave_training(tmp_path, capsys):
    write(tmp_path / "d/train.jsonl", [hub_row(1), hub_row(2)])
    write(tmp_path / "d/validation.jsonl", [hub_row(2)])
    out = prepare(tmp_path, data_path=str(tmp_path / "d"))
    assert {row["prompt"] for row in out["train"]} == {"Question 1?"}
    said = capsys.readouterr().out
    assert "1 prompts are in both train and validation; 2 records of train left out" in said
    write(tmp_path / "d/train.jsonl", [hub_row(2)])
    with pytest.raises(UserError, match="split train: all its prompts are in validation too"):
        prepare(tmp_path, data_path=str(tmp_path / "d"))


def test_a_prompts_id_may_come_again(tmp_path):
    again = hub_row(1, chosen="Another.", rejected="A fourth.")
    ids = [row["id"] for row in prepare(tmp_path, [hub_row(1), again])["train"]]
    name = f"{1:064x}"
    assert ids == [f"{name}-chosen", f"{name}-rejected", f"{name}-2-chosen", f"{name}-2-rejected"]


def test_published_records_have_both_answers_under_one_id(tmp_path):
    row = hub_row(3)
    shared = {"prompt": row["prompt"], "prompt_id": "p", "critique": ""}
    rows = [
        shared | {"response": row[key], "is_chosen": key == "chosen"}
        for key in ("chosen", "rejected")
    ]
    first, second = read(tmp_path, rows)
    assert (first.id, second.id) == ("p", "p-2")
    assert (first.prompt, first.response, first.feedback) == (
        "Question 3?",
        "The answer is 3.",
        None,
    )
    ppo = {
        "question": "Q?",
        "response": "A.",
        "response_j": "B.",
        "response_k": "C.",
        "critique": "",
    }
    (record,) = read(tmp_path, [ppo])
    assert (record.prompt, record.response, record.reference) == ("Q?", "A.", "B.")


def test_published_annotations_about_a_conversation_are_read(tmp_path):
    row = hub_row(3)
    nested = {"good_spans": ["The answer is 3"], "poor_spans": []}
    annotated = {"prompt": "Question 3?", "response": row["chosen"], "critique": "Right."}
    (record,) = read(tmp_path, [annotated | {"annotations": nested}])
    assert record.feedback == Feedback("Right.", (Span("The answer is 3", "good"),))


# -- conversations


def test_a_conversation_stays_one(tmp_path):
    (chosen, rejected) = prepare(tmp_path, [hub_row(5, *EARLIER)])["train"]
    turns = [*EARLIER, message("user", "Question 5?")]
    assert chosen["prompt"] == rejected["prompt"] == turns
    assert "messages" not in chosen
    first, second = read(tmp_path, [chosen, rejected])
    assert first.turns == tuple(Turn(**turn) for turn in turns)
    assert first.prompt == "User: Where is the dog?\n\nAssistant: In the park.\n\nUser: Question 5?"
    assert (first.response, second.response) == ("The answer is 5.", "I do not know.")


def test_a_record_may_be_one_list_of_messages(tmp_path):
    system = message("system", "Be kind.")
    many = {"messages": answered("Q?", "A.", system)}
    few = {"messages": answered("Q?", "A.")}
    first, second = read(tmp_path, [many, few])
    assert (first.turns, first.response) == ((Turn("system", "Be kind."), Turn("user", "Q?")), "A.")
    assert (second.prompt, second.turns, second.response) == ("Q?", (), "A.")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


def test_policy_evaluation_and_reward_model_are_shown_the_turns(tmp_path, base, monkeypatch):
    """From the records through PPO, infer_val.py and metrics.py."""
    rows = prepare(tmp_path, [hub_row(n, *EARLIER) for n in range(4)])["train"]
    data = str(write(tmp_path / "train.jsonl", rows))
    tokenizer = byte_level_tokenizer()
    seen = []

    class Critic(FakeCritic):
        def annotate(self, records):
            seen.extend(records)
            return super().annotate(records)

    flags = {"task": "ultrafeedback", "steps": 1, "prompt_max_length": 300}
    run = trainer(config(base, data, tmp_path / "run", **flags), Critic())
    prompts, _ = run.collect(run.order.batch(0))
    text = tokenizer.decode(prompts[0])
    assert text.startswith(
        "<|im_start|>user\nWhere is the dog?<|im_end|>\n<|im_start|>assistant\nIn"
    )
    assert text.endswith("?<|im_end|>\n<|im_start|>assistant\n")
    run.train()
    assert all(record.turns[:2] == tuple(Turn(**turn) for turn in EARLIER) for record in seen)
    assert rows_of(tmp_path / "run", "samples.jsonl")[0]["prompt"].startswith("User: Where is the")

    flags = {"task": "ultrafeedback", "dtype": "fp32", "prompt_max_length": 300}
    infer = {"model_path": base, "input_path": data, "output_dir": str(tmp_path)}
    infer_policy(PolicyInferConfig(**flags, **infer, output_name="a.json", max_new_tokens=5))
    responses = read_responses(str(tmp_path / "a.json"), TASK, "--input_file")
    assert len(responses) == 4
    assert all(len(record.turns) == 3 for record in responses.values())
    out = {"input_file": str(tmp_path / "a.json"), "output_file": str(tmp_path / "m.json")}
    contexts = []
    encode = "text2grad.turns.encode_messages"
    from text2grad.chat import encode_messages

    monkeypatch.setattr(encode, lambda *a: contexts.append(a[1]) or encode_messages(*a))
    evaluate_summaries(PolicyMetricsConfig(**flags, **out, ppl_model=base))
    assert [len(messages) for messages in contexts] == [3] * 4
    assert json.loads((tmp_path / "m.json").read_text())["after"]["perplexity"] > 1


def annotated(record, **feedback):
    spans = (Span("park", "good"),)
    return Record(**(vars(record) | {"feedback": Feedback("It says where.", spans)} | feedback))


def test_the_reward_model_reads_the_conversation_as_text(tmp_path):
    row = hub_row(5, *EARLIER, chosen=answered("Question 5?", "In the park.", *EARLIER))
    (record, _) = read(tmp_path, prepare(tmp_path, [row])["train"])
    maker = ExampleMaker(RewardTrainConfig(task="ultrafeedback"), TASK, byte_level_tokenizer())
    example = maker.make(annotated(record))
    text = maker.tokenizer.decode(example.prompt_ids)
    assert f"Conversation:\n{record.prompt}\n\nAnswer:\nIn the park.<|im_end|>" in text
    short = RewardTrainConfig(task="ultrafeedback", prompt_max_length=len(example.prompt_ids) - 1)
    maker = ExampleMaker(short, TASK, byte_level_tokenizer())
    text = maker.tokenizer.decode(maker.make(annotated(record)).prompt_ids)
    assert maker.shortened == 1
    assert "Conversation:\n[...]\n\nQuestion 5?\n\nAnswer:\nIn the park.<|im_end|>" in text


def test_the_annotator_reads_the_conversation_as_text(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    (record, _) = read(tmp_path, prepare(tmp_path, [hub_row(5, *EARLIER)])["train"])
    for cot in (True, False):
        annotator = OpenAIAnnotator(TASK, AnnotateConfig(task="ultrafeedback", cot=cot))
        prompt = annotator.prompt(record)
        assert f"<conversation>\n{record.prompt}\n</conversation>" in prompt
        assert "<answer>\nThe answer is 5.\n</answer>" in prompt
        assert ('"reasoning"' in prompt) == cot
        for word in ("accuracy", "relevance", "clarity", "completeness"):
            assert word in prompt


# -- input that is bad


def test_answers_that_are_equal_are_one_record(tmp_path, capsys):
    rows = [hub_row(1), hub_row(2, rejected=hub_row(2)["chosen"])]
    out = prepare(tmp_path, rows)["train"]
    assert [row["candidate"] for row in out] == ["chosen", "rejected", "chosen"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("train"))
    assert line.split()[1:6] == ["2", "0", "0", "1", "3"]  # rows, left out, empty, repeated


def test_an_empty_answer_is_left_out_and_counted(tmp_path, capsys):
    """Without the chosen answer there is nothing to hold the other one against."""
    rows = [hub_row(1), hub_row(2, rejected=answered("Question 2?", " "))]
    rows.append(hub_row(3, chosen=answered("Question 3?", ""), messages=None))
    out = prepare(tmp_path, rows)["train"]
    assert [(row["prompt"], row["candidate"]) for row in out] == [
        ("Question 1?", "chosen"),
        ("Question 1?", "rejected"),
        ("Question 2?", "chosen"),
    ]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("train"))
    assert line.split()[1:6] == ["3", "0", "3", "0", "3"]  # rows, left out, empty, repeated


def test_a_conversation_that_ends_with_the_user_has_no_answer(tmp_path):
    unanswered = answered("Q?", "A.")[:1]
    rows = [hub_row(1, rejected=[*hub_row(1)["rejected"], message("user", "Why?")])]
    assert [row["candidate"] for row in prepare(tmp_path, rows)["train"]] == ["chosen"]
    with pytest.raises(UserError, match=r"record 1 \(id x\): the response is missing or empty"):
        read(tmp_path, [{"id": "x", "prompt": "Q?", "response": unanswered}])
    (record,) = read(tmp_path, [{"id": "x", "prompt": unanswered, "response": "A."}])
    assert (record.prompt, record.turns) == ("Q?", ())


def test_messages_of_tools_are_turns(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]}
    before = (message("user", "Where is the dog?"), call, message("tool", "park"))
    chosen = [*before, message("assistant", "In the park.")]
    rows = [{"prompt": "Where is the dog?", "chosen": chosen, "rejected": "No."}]
    first, second = read(tmp_path, prepare(tmp_path, rows)["train"])
    assert [turn.role for turn in first.turns] == ["user", "assistant", "tool"]
    assert first.prompt.endswith('Assistant: [{"function": {"name": "look"}}]\n\nTool: park')
    assert (first.turns, first.response) == (second.turns, "In the park.")


FAULTS = {
    "no role": ({"chosen": [{"content": "Q?"}, {"content": "A."}]}, '"chosen" .*1 has no "role"'),
    "no content": (
        {"rejected": [message("user", "Q?"), {"role": "assistant"}]},
        '"rejected" .*message 2 has no text under "content"',
    ),
    "strange role": (
        {"chosen": [message("wizard", "Q?"), message("assistant", "A.")]},
        'unknown role "wizard"',
    ),
    "empty turn before": (
        {"chosen": answered("Q?", "A.", message("user", "")), "messages": None},
        r"message 1 \(user\) is empty",
    ),
    "another conversation": (
        {"rejected": answered("Question 2?", "A.", *EARLIER)},
        '"rejected" continues another conversation',
    ),
    "nobody asks": (
        {"messages": None, "chosen": [message("system", "S"), message("assistant", "A.")]},
        "its messages have none of the user",
    ),
    "nothing is asked": ({"prompt": answered("Q?", "A.")}, "so nothing is asked"),
    "no text": ({"rejected": 7}, '"rejected" must be a string'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_is_no_conversation_is_named_or_left_out(tmp_path, capsys, fault):
    change, reason = FAULTS[fault]
    rows = [hub_row(1), hub_row(2, **change)]
    with pytest.raises(UserError, match=rf"rows\.jsonl, record 2 \(id 0+2\).*{reason}") as error:
        prepare(tmp_path, rows)
    assert "\n" not in str(error.value)
    out = prepare(tmp_path, rows, skip_incomplete=True)["train"]
    assert {row["prompt"] for row in out} == {"Question 1?"}
    assert "1 rows left out that cannot be used, the first: " in capsys.readouterr().out


def test_raw_rows_are_told_how_they_become_records(tmp_path):
    row = {key: value for key, value in hub_row(1).items() if key != "messages"}
    with pytest.raises(UserError, match=r"prepare_data\.py makes records of chosen, rejected"):
        read(tmp_path, [row])


LONG = " ".join(f"word{number} is here." for number in range(1200))


def test_an_answer_of_20000_characters(tmp_path, base):
    """It is annotated whole; what a model cannot be shown is left out, named, and never cut."""
    assert len(LONG) > 20000
    rows = prepare(tmp_path, [hub_row(1, chosen=LONG), hub_row(2)])["train"]
    end = {"start": len(LONG) - 8, "end": len(LONG)}
    marked = [row | {"human_errors": [end] if row["response"] == LONG else []} for row in rows]
    first, *others = annotate(tmp_path, marked, annotator="human")
    assert first.response == LONG
    assert "is here." in [span.text for span in first.feedback.spans if span.label == "poor"]
    maker = ExampleMaker(RewardTrainConfig(task="ultrafeedback"), TASK, byte_level_tokenizer())
    assert "--prompt_max_length is 900" in maker.make(first).reason
    assert isinstance(maker.make(others[-1]), Example)
    judge = RewardModelAnnotator(base, TASK, dtype="fp32", max_new_tokens=120)
    said = judge.annotate([first, others[-1]])
    assert isinstance(said[0], Unparseable)
    assert "even with an empty prompt" in said[0].reason
    assert isinstance(said[1], Feedback)
    with pytest.raises(UserError, match=r"record 1 .*--prompt_max_length is 900; raise it"):
        judge.annotate([first])


def test_right_to_left_text_and_emoji_keep_every_character(tmp_path):
    before = (message("user", MIXED), message("assistant", f"{MIXED} 1"))
    rows = [hub_row(1, *before, chosen=answered("Question 1?", f"{MIXED} 2", *before))]
    rows[0]["rejected"] = answered("Question 1?", f"{MIXED} 3", *before)
    (record, _) = read(tmp_path, prepare(tmp_path, rows)["train"])
    assert (record.turns[0].content, record.response) == (MIXED, f"{MIXED} 2")
    maker = ExampleMaker(RewardTrainConfig(task="ultrafeedback"), TASK, byte_level_tokenizer())
    spans = (Span("مرحبا بالعالم", "good"), Span("日本語", "poor"))
    example = maker.make(annotated(record, feedback=Feedback("ok", spans)))
    assert not isinstance(example, Dropped)
    target = json.loads(maker.tokenizer.decode(example.target_ids[:-1]))
    assert target == {
        "textual_feedback": "ok",
        "good_spans": [spans[0].text],
        "poor_spans": ["日本語"],
    }
    assert example.prompt_ids.count(2) == 1  # the end of the user's turn


# -- people's spans


def test_spans_that_people_marked(tmp_path):
    """The shape of QA-Feedback, by flags."""
    answer = "The song is by Ann. It came out in May."
    rows = [
        {
            "question": "Who sang it?",
            "passages": ["Ann sang it.", "It came out in June."],
            "gold": "Ann, in June.",
            "prediction": answer,
            "human_errors": [{"type": "Wrong-Grounding", "start": 20, "end": len(answer)}],
        }
    ]
    fields = FieldNames(prompt="question+passages", response="prediction", reference="gold")
    prepared = prepare(tmp_path, rows, fields=fields)["train"]
    (record,) = annotate(tmp_path, prepared, annotator="human")
    assert record.prompt == "Who sang it?\n\nAnn sang it.\n\nIt came out in June."
    assert record.fields["poor_spans"] == ["It came out in May."]
    assert record.fields["good_spans"] == ["The song is by Ann."]


def test_a_server_annotates_published_records(tmp_path):
    row = hub_row(4, *EARLIER)
    published = {"prompt": row["prompt"], "prompt_id": "p4", "response": row["rejected"]}
    reply = {
        "reasoning": "It is a refusal.",
        "textual_feedback": "It refuses what could be answered.",
        "good_spans": [],
        "poor_spans": ["do not know"],
    }
    with serve(lambda prompt, body: (200, reply)) as server:
        (record,) = annotate(tmp_path, [published], base_url=server.url)
    assert "role" not in server.bodies[0]["messages"][-1]["content"], "text, no Python repr"
    (span,) = record.feedback.spans
    assert record.response[span.start : span.end] == "do not know"
    assert len(record.turns) == 3


def test_half_an_emoji_in_a_record_and_in_a_reply_stops_nothing(tmp_path):
    """JSON can spell what UTF-8 cannot; a text cut in the middle of an emoji ends so."""
    rows = [{"prompt": "Q?", "prompt_id": f"p{n}", "response": "An answer \ud83d"} for n in (1, 2)]
    reply = {"reasoning": "", "textual_feedback": "Good.", "good_spans": ["An answer"]}

    def answer(prompt, body):
        first = len(body["messages"]) == 1
        return 200, ("no JSON \ud83d" if first else {**reply, "poor_spans": []})

    with serve(answer) as server:
        found = annotate(tmp_path, rows, base_url=server.url)
        asked = len(server.bodies)
        again = annotate(tmp_path, rows, base_url=server.url)
        assert len(server.bodies) == asked
    assert [record.response for record in found] == ["An answer \ufffd"] * 2
    assert [record.feedback.spans[0].text for record in found] == ["An answer"] * 2
    assert [record.feedback for record in again] == [record.feedback for record in found]
