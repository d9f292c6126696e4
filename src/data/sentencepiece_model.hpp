// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace caravan::data {

/// What the file of a SentencePiece model says that the library's interface does not: a ModelProto
/// (sentencepiece_model.proto of the library), read as far as it decides which pieces a text becomes.
struct SentencePieceModel {
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text{};
    float score = 0;
    Type type = Type::normal;
  };
  std::vector<Piece> pieces{};  // by id
  /// XXH3-64 of pieces, scores, types, the algorithm and the normalisation of texts: not of how the model was trained.
  std::string checksum{};
};

/// `bytes` is a model that the library has loaded, so that it is whole. Throws (exit 2), with `path`, what is not.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& path);

}  // namespace caravan::data
