"""Build steps that pyproject.toml cannot express: deformable-attention kernels, configs/ in wheels.

The kernels are optional. Without PyTorch or a compiler the package installs with a one-line warning
and uses the plain PyTorch operator. The CUDA kernel is built only on machines with a GPU, because
it takes longer than the rest of the installation; FROZENSEG_BUILD_CUDA=1 builds it wherever nvcc is
available and makes a failed build an error, FROZENSEG_BUILD_CUDA=0 disables it.
TORCH_CUDA_ARCH_LIST selects the architectures.

    pip install --no-build-isolation -e .
"""

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

try:
    import torch
    from torch.utils import cpp_extension
except ImportError:
    torch = None

OP = Path("frozenseg/ops/ms_deform_attn")
CUDA_ARCHITECTURES = "8.0;8.6;8.9;9.0+PTX"


class BuildPackage(build_py):
    """Copies configs/ into wheels as frozenseg/configs; editable installs read the repository."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "frozenseg" / "configs"
            shutil.copytree("configs", target, dirs_exist_ok=True)


def warn(message: str) -> None:
    print(f"warning: {message}; deformable attention falls back to plain PyTorch", file=sys.stderr)


def kernels() -> list:
    if torch is None:
        warn("PyTorch cannot be imported at build time (install with --no-build-isolation)")
        return []
    return [cpu_kernel(), cuda_kernel()] if wants_cuda() else [cpu_kernel()]


def wants_cuda() -> bool:
    choice = os.environ.get("FROZENSEG_BUILD_CUDA", "")
    if choice not in ("", "0", "1"):
        sys.exit(f"FROZENSEG_BUILD_CUDA must be 0, 1 or unset, not {choice!r}")
    if choice:
        return choice == "1"
    return torch.cuda.is_available() and cpp_extension.CUDA_HOME is not None


def cpu_kernel():
    openmp = ["-fopenmp"] if sys.platform == "linux" else []
    return cpp_extension.CppExtension(
        "frozenseg.ops.ms_deform_attn._cpu",
        [str(OP / "csrc/cpu/ms_deform_attn.cpp")],
        extra_compile_args=["-O3", "-g0", "-std=c++20", *openmp],
        extra_link_args=openmp,
        optional=True,
    )


def cuda_kernel():
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
    return cpp_extension.CUDAExtension(
        "frozenseg.ops.ms_deform_attn._cuda",
        [str(OP / "csrc/cuda/ms_deform_attn.cu")],
        include_dirs=pip_cuda_headers(),
        library_dirs=toolkit_libraries(),
        extra_compile_args={"cxx": ["-O3", "-g0"], "nvcc": ["-O3"]},
        optional=os.environ.get("FROZENSEG_BUILD_CUDA") != "1",
    )


def pip_cuda_headers() -> list[str]:
    """Headers of the CUDA libraries that pip installs with torch; slim toolkits lack them."""
    folders = [Path(folder) / "nvidia" for folder in site.getsitepackages()]
    return [str(path) for folder in folders for path in sorted(folder.glob("cu*/include"))]


def toolkit_libraries() -> list[str]:
    """Library folders of the real nvcc: the nvcc on PATH may be a wrapper script."""
    nvcc = Path(cpp_extension.CUDA_HOME or "") / "bin" / "nvcc"
    if not nvcc.exists():
        return []
    trace = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True
    )
    folders = re.findall(r"^#\$ _HERE_=(.+)$", trace.stderr, flags=re.MULTILINE)
    return [str(Path(folder).parent / "lib64") for folder in folders]


def command_classes() -> dict:
    if torch is None:
        return {"build_py": BuildPackage}

    class BuildKernels(cpp_extension.BuildExtension):
        """Continues if the build of an optional kernel fails; the CPU kernel is built first."""

        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                if not all(extension.optional for extension in self.extensions):
                    raise
                warn(f"a kernel was not built ({error})")

    return {
        "build_py": BuildPackage,
        "build_ext": BuildKernels.with_options(no_python_abi_suffix=True),
    }


setup(ext_modules=kernels(), cmdclass=command_classes())
