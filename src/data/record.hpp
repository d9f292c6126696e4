// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caravan::data {

struct Turn {
  std::string input;
  std::string output;
};

/// One record of the official instruction format; all texts are valid UTF-8.
struct Record {
  std::int64_t index = 0;  // in its file, from 0, damaged records counted
  std::int64_t line = 1;   // on which it begins
  std::string corpus;      // plain text to learn; then there are no turns
  std::string dataset;
  std::string instruction;  // the system text, may be empty
  std::vector<Turn> turns;
};

/// The tokens of one record.
struct Document {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> labelled;  // 1: this token is one that the model learns to predict

  /// Labelled tokens that have a token before them to be predicted from.
  std::int64_t targets() const {
    std::int64_t count = 0;
    for (std::size_t t = 1; t < labelled.size(); ++t) count += labelled[t];
    return count;
  }
};

}  // namespace caravan::data
