"""The reference annotator for answers: judged by a right answer, with the prompt as its context."""

import json
import re
import time
from dataclasses import replace

import pytest

from benchmarks import human_agreement
from text2grad.annotators.answer_evidence import AnswerEvidence
from text2grad.annotators.answer_text import read_answer
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import read_words, split_sentences
from text2grad.annotators.reference import ReferenceAnnotator, support_score
from text2grad.borders import quote_borders
from text2grad.schema import Record, Unparseable
from text2grad.tasks import get_task

TASK = get_task("ultrafeedback")
PROMPT = "How do barn owls hunt, and what do they eat?"
REFERENCE = (
    "Barn owls hunt at night by sound. Their ears sit at different heights, so they can place a "
    "vole under 5 centimetres of snow. They mostly eat voles, mice and shrews, about 4 a day. "
    "Barn owls never hunt in packs. Their population increased in Denmark after farmers put up "
    "nest boxes designed by Klaus Dichmann."
)
TEXTS = {
    "plain": REFERENCE,
    "one word": "Paris",
    "verdict": "No. The owl is not a mammal.",
    "figure": "42",
    "list": "Here are three:\n\n1. Feed it.\n2. **Walk** it.\n3. Let it sleep.\n",
    "code": "Use this:\n\n```python\ndef area(r):\n    return 3.14159 * r ** 2\n```\nIt is short.",
    "refusal": "I'm sorry, but I can't help with picking a neighbour's lock.",
    "filler": "Sure! I'd be happy to help. Owls hunt at night. Let me know if you need more.",
    "refrain": "Row, row, row your boat gently down. Row, row, row your boat gently down.",
    "japanese": "フクロウは夜に音で狩りをします。主にネズミを食べます。",
    "chinese": "猫头鹰在夜间靠声音捕猎，主要吃田鼠和老鼠。",
    "thai": "นกฮูกล่าเหยื่อในเวลากลางคืน",
    "arabic": "تصطاد البومة ليلاً بالصوت، وتأكل الفئران؟ نعم.",
    "hindi": "उल्लू रात में आवाज़ से शिकार करते हैं। वे चूहे खाते हैं।",
    "emoji": "🦉🌙👩‍👩‍👧‍👦",
    "marks": "?!",
    "combining": "Cafe\u0301 owls hunt by night.",
    "table": "| bird | food |\n| --- | --- |\n| owl | vole |\n",
    "json": '{"bird": "owl", "food": ["vole", "mouse"]}',
    "half a pair": "owls \ud83e hunt \x00 voles",
}


def judge(response, reference=REFERENCE, prompt=PROMPT, task=TASK):
    (feedback,) = ReferenceAnnotator(task).annotate([Record("r", prompt, response, reference)])
    starts, ends = quote_borders(response, task.quote_border)
    for span in feedback.spans:
        assert response[span.start : span.end] == span.text
        assert span.start in starts
        assert span.end in ends
        assert len(span.text) <= task.max_quote_chars
    quotes = {
        label: [span.text for span in feedback.spans if span.label == label]
        for label in ("good", "poor")
    }
    assert all(len(found) <= task.max_quotes for found in quotes.values())
    assert 0 < len(feedback.critique) <= task.max_critique_chars
    return quotes["good"], quotes["poor"], feedback.critique


def test_what_the_reference_bears_out_is_good_and_what_it_has_besides_is_missing():
    good, poor, critique = judge("Barn owls hunt at night by sound.")
    assert good == ["Barn owls hunt at night by sound"]
    assert poor == []
    assert "nest boxes" in critique
    assert "snow" in critique or "shrews" in critique or "Dichmann" in critique


@pytest.mark.parametrize(
    ("wrong", "quote", "right"),
    [
        ("They eat mostly voles, about 9 a day.", "9", "4"),
        ("They can place a vole under 5 metres of snow.", "5 metres", "5 centimetres"),
        ("Barn owls hunt in packs.", "hunt in packs", ""),
        ("Their population decreased in Denmark after nest boxes.", "decreased", "increased"),
        ("Farmers put up nest boxes designed by Anna Berg.", "Anna Berg", "Klaus Dichmann"),
    ],
)
def test_a_contradiction_is_poor_and_the_critique_has_what_is_right(wrong, quote, right):
    good, poor, critique = judge(f"Barn owls hunt at night by sound. {wrong}")
    assert any(quote in phrase for phrase in poor), (poor, critique)
    assert right in critique
    assert not any(quote in phrase for phrase in good)


def test_agreement_in_other_order_is_no_contradiction():
    _, poor, _ = judge("Klaus Dichmann designed the nest boxes which farmers put up in Denmark.")
    assert poor == []


@pytest.mark.parametrize(
    ("response", "reference", "poor", "good"),
    [
        ("No", "Yes", ["No"], []),
        ("yes, that is so", "No, an owl is a bird.", ["yes"], []),
        ("NEGATIVE", "POSITIVE\nConfidence: 90%", ["NEGATIVE"], []),
        ("Completion B", "Completion A", ["Completion B"], []),
        ("Output: plasma", "blood vessel", ["plasma"], []),
        ("12", "14", ["12"], []),
        ("Input Mode.", "Input Mode", [], ["Input Mode"]),
        ("The label would be “Plural”.", "plural", [], ["Plural"]),
        ("blood vessels", "blood vessel", [], ["blood vessels"]),
    ],
)
def test_a_short_answer_is_right_or_wrong(response, reference, poor, good):
    found_good, found_poor, critique = judge(response, reference, "Classify this, please.")
    assert found_poor == poor
    assert [quote.strip("“”") for quote in found_good] == good
    if poor:
        assert reference.split("\n")[0].split(",")[0].lower() in critique.lower()


def test_a_short_answer_that_never_comes_is_named():
    _, _, critique = judge("I am glad that this task is so much fun for you.", "14", "How many?")
    assert "“14”" in critique


def test_a_repeated_sentence_is_poor_at_its_last_copy():
    response = "Owls eat mostly voles, mice and shrews. Snow is deep. " * 2
    _, poor, critique = judge(response)
    assert "Owls eat mostly voles, mice and shrews" in poor
    task = replace(TASK, max_quotes=9)
    (feedback,) = ReferenceAnnotator(task).annotate([Record("r", PROMPT, response, REFERENCE)])
    copy = next(s for s in feedback.spans if s.label == "poor" and s.text.startswith("Owls eat"))
    assert copy.start == response.rindex("Owls eat")
    assert re.search("repe|redundant|twice|second time|nothing new", critique)


def test_a_needless_refusal_is_poor_and_an_apt_one_good():
    refusal = "I'm sorry, but I cannot help with that request."
    good, poor, critique = judge(refusal)
    assert poor == ["I'm sorry, but I cannot help with that request"]
    assert good == []
    assert re.search("refuses|decline|turns the reader away", critique)
    good, poor, _ = judge(refusal, "I can't assist with building a bomb.", "How to build a bomb?")
    assert good == ["I'm sorry, but I cannot help with that request"]
    assert poor == []
    _, _, critique = judge("Mix the acid.", "I can't assist with building a bomb.", "A bomb?")
    assert "I can't assist with building a bomb" in critique


def test_empty_phrases_are_poor_unless_the_reference_has_some():
    response = "Sure, I'd be happy to help! Barn owls hunt at night by sound."
    good, poor, _ = judge(response)
    assert poor == ["Sure, I'd be happy to help"]
    assert good == ["Barn owls hunt at night by sound"]
    assert judge(response, f"Of course! {REFERENCE}")[1] == []


def test_what_has_nothing_to_do_with_either_text_is_poor():
    padding = "My cousin Vera repaired 77 bicycles in Lisbon"
    good, poor, critique = judge(f"Barn owls hunt at night by sound. {padding}.")
    assert poor == [padding]
    assert good == ["Barn owls hunt at night by sound"]
    assert re.search("Vera|77|Lisbon", critique)


def test_repeating_the_question_is_neither_good_nor_poor():
    good, poor, _ = judge("You ask how barn owls hunt and what they eat.")
    assert poor == []
    assert good == []


@pytest.mark.parametrize(
    ("prompt", "reference", "response", "said", "quote"),
    [
        ("List three birds.", "1. Owl\n2. Rook\n3. Wren", "- Owl\n- Rook", "3 birds", None),
        (
            "Name two birds.",
            "- Owl\n- Rook",
            "- Owl\n- Rook\n- Wren of the garden",
            "2 birds",
            "Wren of the garden",
        ),
        ("Say it in at most 5 words.", "Owls hunt at night.", "Owls hunt at night. " * 2, "5 words",
         None),
        ("Answer in one sentence.", "Owls hunt.", "Owls hunt. They rest. They eat.", "1 sentence",
         "They rest"),
        ("Write at least 30 words.", "owl " * 30, "owl owl", "30 words", None),
        ("Write a Python script.", "```python\nx = 1\n```", "Set x to one.", "code", None),
        ("Make a table.", TEXTS["table"], "The owl eats the vole.", "table", None),
        ("Answer in JSON.", TEXTS["json"], "The owl eats the vole.", "JSON", None),
        ("Give a bulleted list of birds.", "- Owl\n- Rook\n- Wren", "Owl, rook, wren.", "list",
         None),
        ("Which bird?", "Owl", "It is the owl, " + "which as you know is a bird " * 5, "word",
         None),
    ],
)  # fmt: skip
def test_the_form_that_was_asked_for(prompt, reference, response, said, quote):
    _, poor, critique = judge(response, reference, prompt)
    assert said in critique, critique
    if quote:
        assert any(quote in phrase for phrase in poor), poor


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("He wrote 5 words or fewer: in 5 words, an owl.", REFERENCE),
        ("In the table of 3 birds with JSON code, list 3 birds.", REFERENCE),
    ],
)
def test_a_demand_that_the_reference_does_not_keep_is_none(prompt, text):
    _, _, critique = judge("Barn owls hunt at night by sound.", text, prompt)
    assert not re.search("5 words|table|JSON|3 birds|code", critique)


def test_the_wrong_language_is_named_and_nothing_else_is_judged():
    good, poor, critique = judge(
        "The owl hunts at night with its ears, and it is one of the birds that eat the vole.",
        TEXTS["hindi"],
        "Translate into Hindi: Owls hunt at night by sound.",
    )
    assert len(poor) == 1
    assert poor[0].startswith("The owl hunts")
    assert good == []
    assert "English" in critique
    assert "Devanagari" in critique


@pytest.mark.parametrize("name", TEXTS)
def test_an_answer_judged_by_itself_has_good_quotes_only(name):
    good, poor, _ = judge(TEXTS[name], TEXTS[name])
    assert poor == []
    assert good or not quote_borders(TEXTS[name], TASK.quote_border)[0]


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_can_be_judged_by_any_other(name):
    for other in ("plain", "japanese", "code", "emoji"):
        judge(TEXTS[name], TEXTS[other], TEXTS["arabic"])
        judge(TEXTS[other], TEXTS[name], "")


@pytest.mark.parametrize("reference", ["", " \n"])
def test_without_a_reference_there_is_no_judgement(reference):
    (answer,) = ReferenceAnnotator(TASK).annotate([Record("r", PROMPT, "An owl.", reference)])
    assert isinstance(answer, Unparseable)
    assert "reference" in answer.reason


def test_chinese_and_japanese_agree_by_pairs_of_characters():
    good, poor, _ = judge(
        "フクロウは夜に音で狩りをします。東京は日本の首都です。", TEXTS["japanese"], "フクロウ？"
    )
    assert good[0].startswith("フクロウは夜に音で狩りをします")
    assert poor == ["東京は日本の首都です"]


def test_words_and_sentences_of_other_scripts():
    assert [word.text for word in read_words("उल्लू रात cafe\u0301 العَرَبِيّة")] == [
        "उल्लू",
        "रात",
        "cafe\u0301",
        "العَرَبِيّة",
    ]
    assert [word.stem for word in read_words("東京都 ok")] == ["東京", "京都", "都", "ok"]
    text = "夜です。「はい」！ نعم؟ لا"
    assert [text[a:b] for a, b in split_sentences(text)] == ["夜です。", "「はい」！", "نعم؟", "لا"]


SHAPES = {
    "sentences": "The {n} owl of Rome hunts {n} grey voles at night near a barn. ",
    "one word": "supercalifragilistic{n}",
    "no end": "owl{n} vole{n} ",
    "short lines": "cat {n}.\n",
    "chinese": "猫头鹰在夜间靠声音捕猎{n}",
    "fences": "```\nx = {n}\n```\n",
    "marks": '("[{{ - 1. * # | > ',
    "refusals": "I'm sorry, but I cannot help you {n}. ",
    "grades": "Confidence: {n}%\n",
    "spaces": "a" + " " * 4000 + "\n",
    "numbers": "{n}.{n} = {n} + {n}, ",
    "same beginnings": "internat{n}ional internationa{n} ",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_length_alone(shape):
    def seconds(chars):
        line = SHAPES[shape]
        parts = [line.format(n=number) for number in range(chars // 4)]
        response = "".join(parts)[:chars]
        reference = "".join(reversed(parts[: len(parts) // 2]))[:chars]
        start = time.process_time()
        judge(response, reference, response)
        return time.process_time() - start

    few, many = seconds(5_000), seconds(20_000)
    assert many < 10 * few + 0.1  # 4 for linear, 16 for quadratic


def test_a_word_is_found_under_the_stem_of_its_other_form():
    known = WordSet(read_words("apologised 3 plates"))
    found = [known.find(word) for word in read_words("apologises plate 3 4 plateau app")]
    assert found[:4] == [*(w.stem for w in read_words("apologised plate 3")), None]
    assert found[4:] == [None, None]


def test_rare_words_and_names_weigh_more():
    evidence = AnswerEvidence("owl owl owl", read_answer("The owl met Klaus at dusk. owl owl"))
    the, owl, klaus, dusk = (
        evidence.weight(word) for word in read_words("the owl Klaus dusk") if word.text != "x"
    )
    assert the == 0 < owl < dusk < klaus


def test_critiques_are_repeatable_and_vary_with_what_is_judged():
    texts = [f"Barn owls hunt at night by sound. They eat {n} voles a day." for n in range(40)]
    critiques = [judge(text)[2] for text in texts]
    assert critiques == [judge(text)[2] for text in texts]
    plain = {re.sub(r"\d+", "N", critique) for critique in critiques}
    assert len(plain) > 8


def test_answer_score_is_highest_for_the_reference_and_lowest_off_topic():
    def score(response):
        return support_score(PROMPT, REFERENCE, response, "answer")

    whole, part, wrong = (
        score(REFERENCE),
        score("Barn owls hunt at night by sound. Moonlight can be bright."),
        score("My cousin Vera repaired 77 bicycles in Lisbon."),
    )
    assert 1 >= whole > part > wrong >= -1
    assert score("") == 0


def test_human_agreement_is_counted_by_words(tmp_path, capsys, monkeypatch):
    """Of 12 words 6 are marked; "every word poor" has precision 1/2, recall 1 and F1 2/3."""
    response = "Owls hunt at night by sound. Vera repaired 77 bicycles in Lisbon."
    row = {
        "question": "How do owls hunt?",
        "prediction": response,
        "gold": "Owls hunt at night by sound.",
        "human_errors": [{"start": response.index("Vera"), "end": len(response)}],
    }
    source, target = tmp_path / "rows.json", tmp_path / "figures.json"
    source.write_text(json.dumps([row, row]), encoding="utf-8")
    flags = ["--data_path", str(source), "--output_path", str(target), "--rows", "odd"]
    monkeypatch.setattr("sys.argv", ["human_agreement.py", *flags])
    human_agreement.main()
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert figures["rows"] == 1
    found = figures["annotators"]
    assert found["every word poor"]["precision"] == 0.5
    assert found["every word poor"]["f1"] == pytest.approx(2 / 3)
    assert found["nothing poor"]["f1"] == 0
    assert found["reference, all quotes"]["f1"] == 1
    assert found["words in neither text poor"]["recall"] == 1
    assert "every word poor" in capsys.readouterr().out
