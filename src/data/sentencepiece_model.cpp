// SPDX-License-Identifier: Apache-2.0
#include "data/sentencepiece_model.hpp"

#include <bit>
#include <map>

#include "core/checksum.hpp"
#include "core/error.hpp"

namespace caravan::data {
namespace {

/// A field of a protocol buffer message (https://protobuf.dev/programming-guides/encoding).
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;   // of a number
  std::string_view bytes{};  // of a text or message
};

class Message {
 public:
  Message(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = number();
    field = {key >> 3, 0, {}};
    switch (key & 7) {
      case 0: field.value = number(); break;
      case 1: field.value = fixed(8); break;
      case 2: field.bytes = take(number()); break;
      case 5: field.value = fixed(4); break;
      default: damaged();
    }
    return true;
  }

 private:
  [[noreturn]] void damaged() const { core::bad_input(path_, ": is not a SentencePiece model"); }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) damaged();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::uint64_t fixed(std::size_t size) {
    const std::string_view taken = take(size);
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
    return value;
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view rest_;
  const std::string& path_;
};

SentencePieceModel::Piece read_piece(std::string_view bytes, const std::string& path) {
  SentencePieceModel::Piece piece;
  Message message(bytes, path);
  for (Field field; message.next(field);) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number == 3) piece.type = static_cast<SentencePieceModel::Type>(field.value);
  }
  return piece;
}

/// The fields of a message that decide, with the values that they have where the file is silent.
using Settings = std::map<std::uint64_t, std::uint64_t>;
void read_settings(std::string_view bytes, const std::string& path, Settings& settings) {
  Message message(bytes, path);
  for (Field field; message.next(field);) {
    if (const auto known = settings.find(field.number); known != settings.end()) known->second = field.value;
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& path) {
  SentencePieceModel model;
  // TrainerSpec: model_type (3), treat_whitespace_as_suffix (24), byte_fallback (35).
  Settings algorithm{{3, 1}, {24, 0}, {35, 0}};
  // NormalizerSpec: add_dummy_prefix (3), remove_extra_whitespaces (4), escape_whitespaces (5).
  Settings normalizer{{3, 1}, {4, 1}, {5, 1}}, denormalizer = normalizer;
  std::string character_maps;  // precompiled_charsmap (2) of both
  const auto read_normalizer = [&](std::string_view spec, Settings& settings) {
    read_settings(spec, path, settings);
    Message message(spec, path);
    for (Field field; message.next(field);) {
      if (field.number == 2) character_maps += core::concat(field.bytes.size(), " ") + std::string(field.bytes);
    }
  };
  Message message(bytes, path);
  for (Field field; message.next(field);) {
    if (field.number == 1) model.pieces.push_back(read_piece(field.bytes, path));
    if (field.number == 2) read_settings(field.bytes, path, algorithm);
    if (field.number == 3) read_normalizer(field.bytes, normalizer);
    if (field.number == 5) read_normalizer(field.bytes, denormalizer);
  }
  std::string all;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    all += core::concat(piece.text.size(), " ", piece.text, " ", std::bit_cast<std::uint32_t>(piece.score), " ",
                        static_cast<int>(piece.type), "\n");
  }
  for (const Settings& settings : {algorithm, normalizer, denormalizer}) {
    for (const auto& [number, value] : settings) all += core::concat(number, "=", value, "\n");
  }
  all += character_maps;
  model.checksum = core::checksum(all.data(), all.size());
  return model;
}

}  // namespace caravan::data
