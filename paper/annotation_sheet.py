"""Write a page on which a person marks responses: no server, no network, one file.

In: records with responses. Out: the page; what a person marks on it is saved as a file, and
import_sheet.py makes annotated records of that.

    python paper/annotation_sheet.py --task slf5k --max_samples 100 \
        --data_path RM_Data_Anno/SLF5K/data/validation.json
"""

from dataclasses import dataclass

from text2grad.config import SheetConfig, launch


@dataclass(frozen=True)
class Args(SheetConfig):
    """Write a page on which a person marks responses; it needs neither server nor network."""


if __name__ == "__main__":
    launch(Args, "text2grad.annotation_sheet:write_sheet")
