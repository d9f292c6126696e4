// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <string>

namespace caravan::family {

/// A model folder of the golden fixtures: of $CARAVAN_FIXTURES, else of those in the tree.
inline std::string fixture(const std::string& model) {
  const char* folder = std::getenv("CARAVAN_FIXTURES");
  return std::string(folder != nullptr ? folder : CARAVAN_TEST_DATA "/fixtures") + "/" + model;
}

}  // namespace caravan::family
