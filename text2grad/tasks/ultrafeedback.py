"""UltraFeedback: an assistant's answers to what people ask, also after several turns."""

from text2grad.tasks.spec import Label, TaskSpec

ULTRAFEEDBACK = TaskSpec(
    name="ultrafeedback",
    id_keys=("id", "prompt_id"),
    prompt_keys=("prompt", "question", "instruction", "query"),
    # the last one holds prompt and answer as one conversation
    response_keys=("response", "answer", "messages"),
    reference_keys=("reference", "chosen", "response_j"),
    human_feedback_keys=("human_feedback",),
    critique_keys=("textual_feedback", "critique"),
    labels=(
        Label("good", "good_spans", +1.0, "first"),
        Label("poor", "poor_spans", -1.0, "last", aliases=("bad_spans",)),
    ),
    source="HuggingFaceH4/ultrafeedback_binarized",
    split_names=(("train", "train_prefs"), ("validation", "test_prefs")),
    candidate_keys=(("chosen", "chosen"), ("rejected", "rejected")),
    max_quotes=3,
    max_quote_chars=120,
    max_critique_chars=500,
    evidence="answer",
    judge_criteria=("accuracy", "relevance", "clarity", "completeness"),
)
