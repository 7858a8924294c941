"""Compare the UltraFeedback policy by AlpacaEval 2.0; alpaca_eval.sh runs this.

In: instructions with reference answers; without a file those of AlpacaEval 2.0 are downloaded. Out:
win rate and length-controlled win rate, printed and as JSON.

    bash alpaca_eval.sh --judge_model my-judge --base_url http://localhost:8000/v1
"""

from dataclasses import dataclass

from text2grad.config import AlpacaEvalConfig, launch


@dataclass(frozen=True)
class Args(AlpacaEvalConfig):
    """Compare a chat model. For your own model edit these defaults, or pass the flags."""

    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"


if __name__ == "__main__":
    launch(Args, "text2grad.alpaca_eval:evaluate_alpaca")
