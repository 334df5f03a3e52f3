"""torch.compile of a model's parts, for many images of a few sizes."""

import os
import shutil

from torch import nn

from frozenseg.errors import UserError

CPP_COMPILERS = ("g++", "clang++", "c++")


def compile_parts(module: nn.Module, *, backend: str = "inductor") -> None:
    """Lets each child of a module be compiled when it is first called; names of weights stay.

    Sizes are dynamic: a new one rarely compiles again.

    Args:
        module: its children are whole stages of the pipeline.
        backend: of ``torch.compile``; "eager" traces and compiles nothing.

    Raises:
        UserError: the machine has no C++ compiler, which the backend needs.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else CPP_COMPILERS
    if backend == "inductor" and not any(map(shutil.which, names)):
        raise UserError(
            f"MODEL.COMPILE needs a C++ compiler and found none of {', '.join(names)}: install "
            "one, name it in the environment variable CXX, or leave the key False"
        )
    for part in module.children():
        part.compile(dynamic=True, fullgraph=True, backend=backend)
