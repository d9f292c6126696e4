# SPDX-License-Identifier: Apache-2.0
from spack_repo.builtin.build_systems.cmake import CMakePackage

from spack.package import *


class Caravan(CMakePackage):
    """Turns a dense language model into a PESC mixture of experts and trains it over MPI, with tensor, data and
    expert parallelism."""

    homepage = "https://example.org/caravan"
    git = "https://example.org/caravan.git"  # spack.yaml builds from the checkout instead

    license("Apache-2.0")

    version("main", branch="main")

    variant("tests", default=False, description="Build the tests")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("catch2@3:", type=("build", "test"), when="+tests")

    depends_on("mpi@3:")
    depends_on("hdf5@1.10.7:")
    depends_on("boost+program_options")
    depends_on("nlohmann-json@3.10:")
    depends_on("sentencepiece@0.1.91:")
    depends_on("xxhash@0.8:")
    depends_on("kokkos@3.4:")
    # LibTorch comes with PyTorch's package; there is none of its own. Only its CPU part is linked.
    depends_on("py-torch@2.10:2.12~cuda~rocm")

    def cmake_args(self):
        # LibTorch is found through CMAKE_PREFIX_PATH, see cmake/FindTorchCpu.cmake.
        return [self.define_from_variant("CARAVAN_BUILD_TESTS", "tests")]
