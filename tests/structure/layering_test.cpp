// SPDX-License-Identifier: Apache-2.0
#include "tests/structure/layering.hpp"

#include <algorithm>
#include <fstream>
#include <random>

#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using caravan::structure::broken_layers;

namespace {

/// A small tree of rooms that keeps to its layers; each test breaks it in one place. Gone at the end.
class SampleTree {
 public:
  SampleTree() : root_(fs::temp_directory_path() / ("caravan-layers-" + std::to_string(std::random_device{}()))) {
    write("src/core/CMakeLists.txt", "caravan_add_room(core SOURCES error.cpp LINKS Threads::Threads)");
    write("src/core/error.hpp", "#include <string>");
    write("kernels/CMakeLists.txt", "caravan_add_room(kernels\n  LINKS caravan_core caravan_kokkos)  # caravan_data");
    write("kernels/router.hpp", "#include \"core/error.hpp\"");
    write("kernels/router.cpp", "#include \"kernels/router.hpp\"\n#include <Kokkos_Core.hpp>");
    write("src/comm/CMakeLists.txt", "caravan_add_room(comm LINKS caravan_core caravan_mpi)");
    write("src/comm/communicator.hpp", "#include <memory>");
    write("src/comm/mpi_communicator.cpp", "#include <mpi.h>\n#include \"comm/communicator.hpp\"");
    write("src/data/CMakeLists.txt", "caravan_add_room(data LINKS caravan_core)");
    write("src/data/batch.hpp", "#include \"core/error.hpp\"");
    write("src/parallel/CMakeLists.txt", "caravan_add_room(parallel TORCH LINKS caravan_kernels caravan_comm)");
    write("src/parallel/linear.hpp", "#include <ATen/core/Tensor.h>\n#include \"core/error.hpp\"");
    write("src/commands/CMakeLists.txt",
          "add_executable(caravan main.cpp)\ntarget_link_libraries(caravan PRIVATE caravan_parallel)");
    write("src/commands/main.cpp", "  # include \"parallel/linear.hpp\"\n#include \"kernels/router.hpp\"");
  }
  ~SampleTree() { fs::remove_all(root_); }
  SampleTree(const SampleTree&) = delete;
  SampleTree& operator=(const SampleTree&) = delete;

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text << "\n";
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

void require_one_problem(const SampleTree& tree, const std::string& where, const std::string& what) {
  const std::vector<std::string> problems = broken_layers(tree.root());
  REQUIRE(problems.size() == 1);
  INFO(problems.front());
  CHECK(problems.front().starts_with(where));
  CHECK(problems.front().find(what) != std::string::npos);
}

}  // namespace

TEST_CASE("this tree keeps to its layers") {
  for (const std::string& problem : broken_layers(CARAVAN_SOURCE_TREE)) FAIL_CHECK(problem);
}

TEST_CASE("the sample tree is sound, and a folder without rooms is no tree") {
  const SampleTree tree;
  CHECK(broken_layers(tree.root()).empty());
  CHECK_THROWS_AS(broken_layers(tree.root() / "src"), std::runtime_error);
}

TEST_CASE("an include from a room that is not linked is found") {
  const SampleTree tree;
  tree.write("src/core/error.cpp", "#include \"core/error.hpp\"\n#include \"data/batch.hpp\"");
  require_one_problem(tree, "core/error.cpp: line 2", "room core does not link room data");
}

TEST_CASE("a room named only in a comment of CMake is not linked") {
  const SampleTree tree;
  tree.write("kernels/router.hpp", "#include \"data/batch.hpp\"");
  require_one_problem(tree, "kernels/router.hpp: line 1", "room kernels does not link room data");
}

TEST_CASE("an include that is not written from the room is found") {
  const SampleTree tree;
  tree.write("src/data/batch.hpp", "#include \"../core/error.hpp\"");
  require_one_problem(tree, "data/batch.hpp: line 1", "written from the room");
}

TEST_CASE("a library from outside in the wrong room is found") {
  const SampleTree tree;
  SECTION("MPI outside comm") {
    tree.write("src/data/batch.hpp", "#include <mpi.h>");
    require_one_problem(tree, "data/batch.hpp: line 1", "room data may not see MPI");
  }
  SECTION("MPI in a header of comm") {
    tree.write("src/comm/communicator.hpp", "#include <mpi.h>");
    require_one_problem(tree, "comm/communicator.hpp: line 1", "MPI belongs in a .cpp file");
  }
  SECTION("torch in the kernels") {
    tree.write("kernels/router.hpp", "#include <c10/core/Device.h>");
    const std::vector<std::string> problems = broken_layers(tree.root());
    CHECK(problems.size() == 2);  // and router.cpp, which includes it, sees Kokkos too
  }
  SECTION("Kokkos in a room of tensors") {
    tree.write("src/parallel/kernels_of.cpp", "#include <Kokkos_Core.hpp>");
    require_one_problem(tree, "parallel/kernels_of.cpp: line 1", "may not see Kokkos");
  }
}

TEST_CASE("torch and Kokkos that meet through headers are found") {
  const SampleTree tree;
  tree.write("kernels/views.hpp", "#include <Kokkos_Core.hpp>");
  tree.write("src/parallel/linear.cpp", "#include \"parallel/linear.hpp\"\n#include \"kernels/views.hpp\"");
  require_one_problem(tree, "parallel/linear.cpp", "sees both torch and Kokkos");
}

TEST_CASE("rooms that link each other are found") {
  const SampleTree tree;
  tree.write("src/core/CMakeLists.txt", "caravan_add_room(core SOURCES error.cpp LINKS caravan_data)");
  const std::vector<std::string> problems = broken_layers(tree.root());
  CHECK(std::any_of(problems.begin(), problems.end(),
                    [](const std::string& text) { return text.find("links it back") != std::string::npos; }));
}
