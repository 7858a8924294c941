"""The reference annotator: what it finds, what it leaves alone, and how it says so."""

import json
from pathlib import Path

import pytest

from text2grad.annotators.clauses import MAX_QUOTE_WORDS, cut_phrase, split_clauses
from text2grad.annotators.evidence import Evidence
from text2grad.annotators.lexicon import read_words, split_sentences, stem
from text2grad.annotators.reference import ReferenceAnnotator, support_score
from text2grad.annotators.signals import measure
from text2grad.annotators.wording import Remark, Remarks, write_critique
from text2grad.schema import Record
from text2grad.tasks import get_task

SAMPLE = Path(__file__).parent.parent / "RM_Data_Anno/SLF5K/sample"
TASK = get_task("slf5k")
POST = (
    "My neighbour's dog barks every night from 11 until 2. I have asked her four times to keep it "
    "inside. I never called the police. She says dogs bark and offered me earplugs. My exams start "
    "on 3 June. Should I write to the landlord or buy a fan?"
)
REFERENCE = (
    "My neighbour's dog barks at night and she only offers earplugs. With exams close, do I write "
    "to the landlord or buy a fan?"
)


def judge(summary, post=POST, reference=REFERENCE):
    record = Record("r", post, summary, reference)
    (feedback,) = ReferenceAnnotator(TASK).annotate([record])
    for span in feedback.spans:
        assert summary[span.start : span.end] == span.text
    poor = [span.text for span in feedback.spans if span.label == "poor"]
    good = [span.text for span in feedback.spans if span.label == "good"]
    return good, poor, feedback.critique


@pytest.mark.parametrize(
    ("words", "common"),
    [
        ("scrub scrubs scrubbing scrubbed", 1),
        ("mum mother mom mothers", 1),
        ("paid pays paying payment", 1),
        ("invoice bills charged", 1),
        ("cat category", 2),
    ],
)
def test_stems_join_forms_and_everyday_synonyms(words, common):
    assert len({stem(word) for word in words.split()}) == common


def test_numbers_are_read_as_digits():
    words = read_words("forty-four eggs, 5,400 more and twenty one days at 7.5")
    assert [word.stem for word in words if word.kind == "number"] == ["44", "5400", "21", "7.5"]


def test_sentences_survive_abbreviations_and_decimals():
    text = 'Mr. J. Smith paid 3.5 euros. "Really?" said I. It was 2 a.m. Bye'
    assert [text[a:b] for a, b in split_sentences(text)] == [
        "Mr. J. Smith paid 3.5 euros.",
        '"Really?"',
        "said I.",
        "It was 2 a.m.",
        "Bye",
    ]


def test_clauses_keep_every_word_and_quotes_are_short():
    text = (
        "My sister, who moved in last May because of her job, now wants my room and, although I "
        "pay half of the rent of the whole flat every single month without ever being late (30F), "
        "she told our mother. " * 3
    )
    clauses = split_clauses(text)
    assert [word for clause in clauses for word in clause.words] == read_words(text)
    for clause in clauses:
        start, end = cut_phrase(clause)
        assert 1 <= len(read_words(text[start:end])) <= MAX_QUOTE_WORDS


def test_wrong_number_is_quoted_and_the_true_one_named():
    good, poor, critique = judge(
        "My neighbour's dog barks every night. I have asked her nine times to keep it inside."
    )
    assert poor == ["I have asked her nine times to keep it inside"]
    assert "My neighbour's dog barks every night" in good
    assert "four" in critique


def test_a_number_that_counts_something_else_in_the_post_is_doubtful():
    clauses = split_clauses("She has 11 dogs. It barks until 2. My exams start on 3 June.")
    found = [measure(clauses, place, Evidence(POST, REFERENCE)) for place in range(3)]
    assert [len(signals.miscounted) for signals in found] == [0, 0, 0]  # "from 11 until 2"
    clauses = split_clauses("I asked her 3 times.")
    assert len(measure(clauses, 0, Evidence(POST, REFERENCE)).miscounted) == 1  # "3 June"


def test_unsupported_content_is_quoted_and_named():
    _, poor, critique = judge(
        "My neighbour's dog barks every night, and her husband threatened me with a lawsuit."
    )
    assert poor == ["her husband threatened me with a lawsuit"]
    assert "husband" in critique
    assert "threatened" in critique


def test_a_claim_the_post_denies_is_poor():
    _, poor, critique = judge("My neighbour's dog barks at night. I called the police last week.")
    assert poor == ["I called the police last week"]
    assert poor[0] in critique


def test_repetition_is_poor_and_its_first_mention_is_not():
    good, poor, critique = judge(
        "My neighbour's dog barks every night. Each night the neighbour's dog barks. Should I "
        "write to the landlord or buy a fan?"
    )
    assert poor == ["Each night the neighbour's dog barks"]
    assert "My neighbour's dog barks every night" in [*good, critique.split("“")[-1].split("”")[0]]


def test_vague_filler_is_poor():
    _, poor, _ = judge("My neighbour's dog barks at night. There are some issues with things.")
    assert poor == ["There are some issues with things"]


def test_clean_summary_has_no_poor_quote_and_missing_points_are_named():
    good, poor, critique = judge("My neighbour's dog barks every night and she offers earplugs.")
    assert poor == []
    assert good
    assert "landlord" in critique


def test_the_reference_itself_is_praised():
    good, poor, critique = judge(REFERENCE)
    assert len(good) == 2
    assert poor == []
    assert "leaves out" not in critique
    assert support_score(POST, REFERENCE, REFERENCE) > 0.5


def test_support_score_falls_with_faults_and_stays_in_bounds():
    clean = support_score(POST, REFERENCE, "My neighbour's dog barks at night.")
    wrong = support_score(POST, REFERENCE, "Our cousin Vera stole 77 bicycles in Lisbon.")
    assert wrong < 0 < clean <= 1
    assert support_score(POST, REFERENCE, "") == 0
    assert wrong >= -1


@pytest.mark.parametrize("text", ["?!", "…", "日本語の文章です。", "🙂🙂", "a", "\n\n", "( ( ("])
def test_strange_texts_are_judged_without_error(text):
    judge(text)
    judge("My dog barks.", post=text, reference=text)
    assert ReferenceAnnotator(TASK).annotate([Record("r", POST, text, "")])


def test_a_word_in_any_form_is_covered_but_another_number_is_not():
    evidence = Evidence("She apologised for breaking 3 plates.", "")
    for word in read_words("apologises break broke plate 3"):
        assert evidence.all.covers(word), word
    for word in read_words("cups 4 platform"):
        assert not evidence.all.covers(word), word


def test_a_question_claims_nothing():
    clauses = split_clauses("Has anyone else had trouble with unicorns in Lisbon?")
    assert measure(clauses, 0, Evidence(POST, REFERENCE)).doubt < 0


def test_critique_is_the_same_every_time_and_says_every_remark():
    remarks = Remarks(["a b"], [Remark("unsupported", "c d", "“d”")], "e f")
    texts = {write_critique(remarks, "same response") for _ in range(3)}
    assert len(texts) == 1
    assert all(f"“{quote}”" in texts.copy().pop() for quote in ("a b", "c d", "d", "e f"))
    assert len({write_critique(remarks, f"response {n}") for n in range(40)}) > 10


def test_planted_errors_of_the_sample_are_found():
    """Recall of planted quotes (half of their words) and faults seen in clean summaries."""
    found, planted, clean, blamed = 0, 0, 0, 0
    for line in (SAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for key in [key for key in row if key.startswith("generated_summary")]:
            errors = [e for e in row["planted_errors"] if e["summary"] == key]
            quotes = [e["quote"] for e in errors if e["quote"]]
            _, poor, _ = judge(row[key], row["post"], row["ideal_human_summary"])
            for quote in quotes:
                words = quote.split()
                planted += 1
                found += sum(any(w in p.split() for p in poor) for w in words) >= len(words) / 2
            clean += not errors
            blamed += not errors and bool(poor)
    assert found / planted > 0.5
    assert blamed / clean < 0.25
