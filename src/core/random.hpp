// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

// Randomness that does not know the layout: every value is a pure function of a key (what it is for) and a counter
// (which element it is), never of a rank, a thread or an order of calls. One header for host and device code.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define CARAVAN_FUNCTION __host__ __device__ inline
#else
#define CARAVAN_FUNCTION inline
#endif

namespace caravan::core {

/// SplitMix64's finalizer: a bijection of 64-bit words in which every input bit reaches every output bit.
CARAVAN_FUNCTION std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// What a random number is for. The values are part of the checkpoint's promise (a resumed run draws the same
/// numbers), so they never change and new uses are added at the end.
enum class RandomUse : std::uint32_t { init = 1, data_order = 2, lora_dropout = 3, expert_dropout = 4 };

/// 64-bit key of (seed, use, layer, item): item is an expert, a linear's number or the hash of a name.
CARAVAN_FUNCTION std::uint64_t random_key(std::uint64_t seed, RandomUse use, std::uint64_t layer, std::uint64_t item) {
  std::uint64_t key = mix64(seed);
  key = mix64(key ^ static_cast<std::uint64_t>(use));
  key = mix64(key ^ layer);
  return mix64(key ^ item);
}

/// FNV-1a of a name, for keys.
CARAVAN_FUNCTION std::uint64_t hash_name(const char* text, std::uint64_t length) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (std::uint64_t i = 0; i < length; ++i) {
    hash = (hash ^ static_cast<unsigned char>(text[i])) * 0x100000001b3ULL;
  }
  return hash;
}

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four 32-bit words for a
/// 128-bit counter (low word `counter`, high word 0) under a 64-bit key.
CARAVAN_FUNCTION std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter, std::uint64_t high = 0) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter);
  std::uint32_t c1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(high);
  std::uint32_t c3 = static_cast<std::uint32_t>(high >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {c0, c1, c2, c3};
}

/// Uniform in [0, 1) with 24 bits, for element `index` of an unsharded tensor.
CARAVAN_FUNCTION float uniform(std::uint64_t key, std::uint64_t index) {
  const auto words = philox(key, index >> 2);
  return static_cast<float>(words[index & 3U] >> 8) * (1.0F / 16777216.0F);
}

/// Key of one token under one use: `token` is the token's global identity (see token_identity).
CARAVAN_FUNCTION std::uint64_t dropout_row_key(std::uint64_t key, std::uint64_t token) { return mix64(key ^ token); }

/// Identity of a token that no layout changes: 64-bit ordinal of its sequence (epoch · n + index) and position in it.
CARAVAN_FUNCTION std::uint64_t token_identity(std::uint64_t sequence_ordinal, std::uint32_t position) {
  return mix64(sequence_ordinal * 0x100000000ULL ^ (sequence_ordinal >> 32) ^ position);
}

/// 32 random bits for unit `unit` of a row. Cheaper than Philox by a factor of four in a fused loop; its quality
/// (means, correlations of neighbours) is held by tests/core/random_test.cpp.
CARAVAN_FUNCTION std::uint32_t dropout_bits(std::uint64_t row_key, std::uint32_t unit) {
  std::uint32_t x = static_cast<std::uint32_t>(row_key) + unit * 0x9E3779B9U;
  x ^= x >> 16;
  x *= 0x85EBCA6BU;
  x ^= static_cast<std::uint32_t>(row_key >> 32);
  x ^= x >> 13;
  x *= 0xC2B2AE35U;
  return x ^ (x >> 16);
}

/// The unit is dropped when its bits are below this threshold. probability in [0, 1).
CARAVAN_FUNCTION std::uint32_t dropout_threshold(double probability) {
  return static_cast<std::uint32_t>(probability * 4294967296.0);
}

}  // namespace caravan::core
