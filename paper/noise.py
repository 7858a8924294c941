"""Copy an annotated file with errors in its annotations, to see what they do to a reward model.

In: annotated records. Out: the same records, of which some quotes are flipped, dropped, shifted or
replaced, or whole critiques irrelevant; `NAME.noise.json` counts what was changed.

    python paper/noise.py --task slf5k --noise flip:0.2 \
        --data_path train_annotated.json --output_path train_flipped.json
"""

from dataclasses import dataclass

from text2grad.config import NoiseConfig, launch


@dataclass(frozen=True)
class Args(NoiseConfig):
    """Copy an annotated file with errors in its annotations."""


if __name__ == "__main__":
    launch(Args, "text2grad.noisy_feedback:write_noisy_copy")
