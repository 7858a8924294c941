"""Short texts of one's own invention: many are right, and craft is what counts.

A fourth task without trees of its own: `paper/run.py --table writing` names this file by `--task`.
"""

from text2grad.tasks import Label, TaskSpec

TASK = TaskSpec(
    name="writing",
    prompt_keys=("prompt", "query"),
    response_keys=("text", "response"),
    reference_keys=("reference", "text"),
    human_feedback_keys=("human_feedback",),
    critique_keys=("textual_feedback", "critique"),
    labels=(
        Label("good", "good_spans", +1.0, "first"),
        Label("poor", "poor_spans", -1.0, "last"),
    ),
    evidence="prompt",
    judge_criteria=("originality", "style", "coherence", "fit"),
)
