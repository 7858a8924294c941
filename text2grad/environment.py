"""`bash env.sh --check`: what is installed and what it will run on."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from text2grad.sandbox import INSTALL, working_sandboxes

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "datasets", "openai")


def device_line() -> str:
    """The accelerator, or the processor and its fast precision."""
    import torch

    from text2grad.models import resolve_dtype

    dtype = str(resolve_dtype("auto")).removeprefix("torch.")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return f"{torch.cuda.device_count()} x {', '.join(sorted(names))}, {dtype}"
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {dtype}"


def deepspeed_line() -> str:
    """Whether DeepSpeed imports, and for which accelerator."""
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    try:
        from deepspeed.accelerator import get_accelerator

        return f"imports, accelerator {get_accelerator().device_name()}"
    except (ImportError, RuntimeError) as error:
        return f"does not import: {error}"


def sandbox_line() -> str:
    """The strongest isolation for running generated code that works here, and how to get it."""
    found, reasons = working_sandboxes()
    if found and found[0].tier == "bubblewrap":
        return "bubblewrap"
    tier = found[0].tier if found else "none"
    return f"{tier} ({'; '.join(reasons)}); for code tasks {INSTALL}"


def main() -> None:
    """Print one line per fact."""
    print(f"python      {platform.python_version()}")
    for name in PACKAGES:
        print(f"{name:<11} {importlib.metadata.version(name)}")
    print(f"device      {device_line()}")
    print(f"deepspeed   {deepspeed_line()}")
    print(f"sandbox     {sandbox_line()}")


if __name__ == "__main__":
    main()
