"""KodCode: solutions of programming problems, judged by their tests."""

from text2grad.tasks.spec import Label, TaskSpec

KODCODE = TaskSpec(
    name="kodcode",
    id_keys=("id", "question_id", "conversation_id", "task_id"),
    prompt_keys=("question", "prompt", "query"),
    response_keys=("solution", "response", "completion"),
    reference_keys=("reference_solution", "canonical_solution", "solution"),
    human_feedback_keys=("human_feedback",),
    test_keys=("test", "test_code"),
    critique_keys=("code_feedback", "critique"),
    labels=(
        Label("wrong_code", "wrong_code", -1.0, "first"),
        Label("improvement_code", "improvement_code", 0.0, "first"),
    ),
    source="KodCode/KodCode-V1-SFT-R1",
    source_splits=(
        ("KodCode/KodCode-V1-SFT-R1", ("train", "incorrect")),
        ("KodCode/KodCode-V1-SFT-4o", ("train", "incorrect")),
        ("KodCode/KodCode-Light-RL-10K", ("train",)),
    ),
    candidate_keys=(("solution", ""), ("r1_solution", "r1"), ("4o_solution", "4o")),
    scope="code",
    unmarked_score=1.0,
    quote_border="token",
    max_quotes=4,
    max_quote_chars=200,
    max_critique_chars=600,
)
