"""SLF5K: summaries of posts, judged against the post."""

from text2grad.tasks.spec import Label, TaskSpec

SLF5K = TaskSpec(
    name="slf5k",
    prompt_keys=("post", "Post", "original_post", "prompt", "query"),
    response_keys=("generated_summary", "generated_summary_for_feedback", "summary", "response"),
    reference_keys=("ideal_human_summary", "reference", "reference_summary"),
    human_feedback_keys=("feedback", "human_feedback"),
    critique_keys=("textual_feedback", "critique"),
    labels=(
        Label("good", "good_spans", +1.0, "first"),
        Label("poor", "poor_spans", -1.0, "last", aliases=("bad_spans",)),
    ),
    source="JeremyAlain/SLF5K",
    candidate_keys=(
        ("generated_summary_for_feedback", "feedback"),
        ("generated_summary_for_comparison_A", "A"),
        ("generated_summary_for_comparison_B", "B"),
    ),
    judge_criteria=("accuracy", "completeness", "conciseness", "coherence"),
)
