"""Run the solutions of KodCode against their tests, in a sandbox.

In: `KodCode/KodCode-V1-SFT-R1` from the Hugging Face hub (splits train and incorrect), or
--data_path: a folder of files named after the splits, or a file of records with `question`,
`solution` and `test`. Out: the same records with `log`: `passed`, `error_type`, `stdout`,
`stderr`, `return_code`, `missing_modules`, and under `checks` what every assertion said.

    python test_case.py --data_path data/train.json
"""

from dataclasses import dataclass

from text2grad.config import TestCaseConfig, launch


@dataclass(frozen=True)
class Args(TestCaseConfig):
    """Test KodCode. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    source: str = "KodCode/KodCode-V1-SFT-R1"
    output_file: str = "data/train_tested.json"
    train_samples: int = 2000
    target_total_size: int = 10000
    easy_samples: int = 500
    medium_samples: int = 20000
    hard_samples: int = 20000


if __name__ == "__main__":
    launch(Args, "text2grad.test_cases:run_test_cases")
