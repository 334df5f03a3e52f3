"""One export of the shipped model in both formats; tracing and converting take a minute."""

from pathlib import Path

import pytest
from torch.export import ExportedProgram

import frozenseg
from frozenseg.builders import export
from frozenseg.inference.segmenter import Segmenter


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """The shipped model, which computes what its graphs are compared with."""
    return frozenseg.load("shapes", device="cpu")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``image`` and ``text`` in both formats, and ``model.json``."""
    folder = tmp_path_factory.mktemp("exported")
    cfg = frozenseg.model_config("shapes", device="cpu")
    programs: list[ExportedProgram] = []
    trace = export.trace_image_part

    def trace_once(part: export.ImagePart) -> ExportedProgram:
        if not programs:
            programs.append(trace(part))
        return programs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "trace_image_part", trace_once)
        export.export_model(cfg, folder, "onnx")
        export.export_model(cfg, folder, "torch-export")
    return folder
