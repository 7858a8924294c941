"""Make annotated records of what a person saved from an annotation sheet.

In: the saved file, and the records that the sheet was made of. Out: the records that are done,
with the person's spans and critiques.

    python paper/import_sheet.py --task slf5k --marks_path annotation_sheet.marks.json \
        --data_path RM_Data_Anno/SLF5K/data/validation.json
"""

from dataclasses import dataclass

from text2grad.config import SheetImportConfig, launch


@dataclass(frozen=True)
class Args(SheetImportConfig):
    """Turn what a person saved from a sheet into annotated records."""


if __name__ == "__main__":
    launch(Args, "text2grad.annotation_sheet:import_sheet")
