# SPDX-License-Identifier: Apache-2.0
from spack_repo.builtin.build_systems.cmake import CMakePackage
from spack_repo.builtin.build_systems.cuda import CudaPackage

from spack.package import *

# A placeholder: the published address goes here. Inside the environment of spack.yaml nothing
# asks for it, because that one builds from the checkout.
ADDRESS = "https://example.org/caravan"


class Caravan(CMakePackage, CudaPackage):
    """Turns a dense language model into a PESC mixture of experts and trains it over MPI, with
    tensor, data and expert parallelism."""

    homepage = ADDRESS
    git = ADDRESS + ".git"

    license("Apache-2.0")

    version("main", branch="main")

    variant("tests", default=False, description="Build the tests")
    variant(
        "cuda",
        default=False,
        description="Kokkos, PyTorch and NCCL for CUDA: compiles only; commands that compute end with "
        "exit code 2 until the program has its GPU backend",
    )
    # One architecture, because Kokkos takes only one.
    variant(
        "cuda_arch",
        default="none",
        values=("none",) + CudaPackage.cuda_arch_values,
        multi=False,
        sticky=True,
        when="+cuda",
        description="CUDA architecture",
    )
    conflicts("cuda_arch=none", when="+cuda", msg="choose an architecture: cuda_arch=90")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("catch2@2.13:", type=("build", "test"), when="+tests")

    depends_on("mpi@3:")
    depends_on("hdf5@1.10.7:1")
    depends_on("boost@1.74:+program_options")
    depends_on("nlohmann-json@3.10:")
    depends_on("sentencepiece@0.1.91:")
    depends_on("xxhash@0.8:")

    # LibTorch comes with PyTorch's package; there is none of its own. A Kokkos built for CUDA
    # does not start without a device, so that one for CPUs must be another.
    with when("~cuda"):
        depends_on("kokkos@3.4:~cuda~rocm")
        depends_on("py-torch@2.10:2.12~cuda~rocm")

    with when("+cuda"):
        depends_on("cmake@3.25.2:", type="build")  # C++20 in CUDA sources
        # As a language of CMake, so that nvcc compiles the kernels and nothing else.
        depends_on("kokkos@4.7.01:+cuda+cmake_lang")
        depends_on("py-torch@2.10:2.12+cuda+nccl")
        depends_on("nccl@2.28.9:")  # PyTorch's own; releases 2.28.3 to 2.28.8 leak memory
        for arch in CudaPackage.cuda_arch_values:
            with when(f"cuda_arch={arch}"):
                depends_on(f"kokkos cuda_arch={arch}")
                depends_on(f"py-torch cuda_arch={arch}")
                depends_on(f"nccl cuda_arch={arch}")

    def cmake_args(self):
        # LibTorch and Kokkos are found through CMAKE_PREFIX_PATH.
        args = [self.define_from_variant("CARAVAN_BUILD_TESTS", "tests")]
        if self.spec.satisfies("+cuda"):
            args.append(self.define_from_variant("CMAKE_CUDA_ARCHITECTURES", "cuda_arch"))
            args.append(self.define("CMAKE_CUDA_COMPILER", self.spec["cuda"].prefix.bin.nvcc))
        return args
