// SPDX-License-Identifier: Apache-2.0
// Arithmetic of the kernels in plain C++: no call into a math library, so that every compiler vectorises the loops
// around it and every machine gets the same bits. Accuracies are held by tests/kernels/math_test.cpp.
#pragma once

#include <bit>
#include <cstdint>

#include "core/random.hpp"

/// Before a loop over elements that may be updated in place but never overlap otherwise.
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#define CARAVAN_IVDEP
#elif defined(__clang__)
#define CARAVAN_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define CARAVAN_IVDEP _Pragma("GCC ivdep")
#else
#define CARAVAN_IVDEP
#endif

namespace caravan::kernels::detail {

/// exp(x), relative error below 2e-7; saturates outside [-87.3, 88] instead of reaching 0 or infinity. NaN stays NaN.
CARAVAN_FUNCTION float exponential(float x) {
  x = x < -87.3F ? -87.3F : x;
  x = x > 88.0F ? 88.0F : x;
  // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits of the sum.
  constexpr float rounder = 12582912.0F;
  const float shifted = x * 1.44269504F + rounder;
  const float n = shifted - rounder;
  const std::uint32_t power = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(rounder);
  // ln 2 in two parts, the first exact in n * part. Then Taylor's series on |r| <= ln 2 / 2.
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = (p * r) * r + r + 1.0F;
  return p * std::bit_cast<float>((power + 127U) << 23);
}

CARAVAN_FUNCTION float sigmoid(float x) { return 1.0F / (1.0F + exponential(-x)); }

/// Distribution and density of the standard normal: gelu(x) = x * below, gelu'(x) = below + x * density.
struct Normal {
  float below;
  float density;
};

/// Absolute error below 1e-7. below = erfc(-x / sqrt 2) / 2 through erfc(z) = exp(-z^2) P(v), v = c z / (1 + c z),
/// c = 0.45, z >= 0; P interpolates at the eight Chebyshev nodes of v for z in [0, 5] (relative error 5e-7), beyond
/// which exp(-z^2) < 2e-11. In powers of v, which is exact near z = 0, where an error would count most.
CARAVAN_FUNCTION Normal normal(float x) {
  const float absolute = x < 0.0F ? -x : x;
  const float magnitude = absolute > 20.0F ? 20.0F : absolute;
  const float e = exponential(-0.5F * (magnitude * magnitude));
  const float scaled = (0.45F * 0.707106781F) * magnitude;
  const float v = scaled / (1.0F + scaled);
  float p = -0.096477830969527035F;
  p = p * v + 0.15809826291665159F;
  p = p * v + 0.16247044811851418F;
  p = p * v - 0.26187623036204132F;
  p = p * v - 0.88633546969184324F;
  p = p * v + 2.4307602161968137F;
  p = p * v - 2.5075088593655392F;
  p = p * v + 1.0F;
  const float tail = (0.5F * e) * p;
  return {x < 0.0F ? tail : 1.0F - tail, e * 0.398942280F};
}

struct Rotation {
  float cosine;
  float sine;
};

/// Cosine and sine, absolute error below 1e-7 for |angle| up to 2^31 * pi / 2. The reduction is in fp64: positions
/// reach 10^6 rad.
CARAVAN_FUNCTION Rotation rotation(float angle) {
  constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  const double x = static_cast<double>(angle);
  const double shifted = x * 0.63661977236758134308 + rounder;
  const double n = shifted - rounder;
  const auto quadrant = std::bit_cast<std::uint64_t>(shifted);
  const double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
  const double s = r * r;
  const double sine = r + r * s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880))));
  const double cosine = 1.0 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 - s * (1.0 / 3628800)))));
  const bool odd = (quadrant & 1U) != 0;
  const double c = odd ? sine : cosine;
  const double d = odd ? cosine : sine;
  const double c_signed = ((quadrant + 1U) & 2U) != 0 ? -c : c;
  const double d_signed = (quadrant & 2U) != 0 ? -d : d;
  return {static_cast<float>(c_signed), static_cast<float>(d_signed)};
}

/// Sum of term(0) ... term(count - 1) in an order that depends on count alone and that a vector unit can keep.
template <typename Sum, typename Term>
CARAVAN_FUNCTION Sum fixed_order_sum(int count, const Term& term) {
  constexpr int lanes = 16;
  Sum lane[lanes] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int l = 0; l < lanes; ++l) lane[l] += term(i + l);
  }
  Sum sum = 0;
  for (int l = 0; l < lanes; ++l) sum += lane[l];
  for (; i < count; ++i) sum += term(i);
  return sum;
}

}  // namespace caravan::kernels::detail
