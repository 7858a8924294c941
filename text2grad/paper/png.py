"""Figures as PNG, by resvg-py, an optional library: imported only where a flag asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from text2grad.schema import UserError

PACKAGE = "resvg-py==0.5.0"
SCALE = 2  # pixels for each of the SVG
_FAMILY, _FONTS = "DejaVu Sans", ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")


def png_converter(flag: str) -> Callable[[str], bytes]:
    """What makes a PNG of an SVG, at twice its size.

    Texts are in a font that comes with matplotlib, which BERTScore needs anyway: a figure looks the
    same on every machine, also where no font is installed.

    Args:
        flag: the flag that asked for it, with its value, for messages.

    Raises:
        UserError: a library is not installed.
    """
    try:
        import matplotlib
        import resvg_py
    except ImportError as error:
        raise UserError(f"{flag}: {error}; pip install {PACKAGE} matplotlib") from error
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [str(folder / name) for name in _FONTS]

    def convert(svg: str) -> bytes:
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=svg,
                zoom=SCALE,
                skip_system_fonts=True,
                font_files=fonts,
                font_family=_FAMILY,
                sans_serif_family=_FAMILY,
            )
        )

    return convert
