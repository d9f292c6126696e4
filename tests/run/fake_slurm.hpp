// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

#include "core/error.hpp"
#include "tests/io/scratch_folder.hpp"

namespace caravan::test {

/// An environment variable, for a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* former = std::getenv(name)) former_ = former;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { former_.empty() ? ::unsetenv(name_) : ::setenv(name_, former_.c_str(), 1); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::string former_;
};

/// For a scope, the program squeue is a shell script: its arguments are in asked() afterwards, a line for each call.
class FakeSlurm {
 public:
  explicit FakeSlurm(const std::string& script)
      : path_("PATH", core::concat(folder_.path().string(), ":", std::getenv("PATH"))) {
    write_text(folder_ / "squeue",
               core::concat("#!/bin/sh\necho \"$@\" >>'", (folder_ / "asked").string(), "'\n", script, "\n"));
    std::filesystem::permissions(folder_ / "squeue", std::filesystem::perms::owner_all);
  }
  std::string asked() const { return read_text(folder_ / "asked"); }
  std::filesystem::path folder() const { return folder_.path(); }

  /// A site without Slurm, or whose controller does not answer.
  static constexpr const char* no_answer =
      "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1";
  static constexpr const char* not_known = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1";

 private:
  ScratchFolder folder_;
  Variable path_;
};

}  // namespace caravan::test
