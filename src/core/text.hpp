// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace caravan::core {

/// The candidate with the smallest edit distance to `name` (insert, delete, replace, swap of neighbours), or "" when
/// none is nearer than about a third of the name's length.
std::string nearest_match(std::string_view name, const std::vector<std::string>& candidates);

/// "3.52 GB", "18 MB", "412 bytes": powers of ten, three digits.
std::string format_bytes(std::uint64_t bytes);

/// "2 h 05 min", "3 min 12 s", "4.1 s".
std::string format_duration(double seconds);

/// "1, 2, 4 and 8".
std::string join(const std::vector<std::string>& parts, std::string_view last_separator = " and ");

/// Whole numbers in order, "1, 2, 4 or 8": for messages that say what would fit.
std::string join_numbers(const std::vector<std::int64_t>& numbers, std::string_view last_separator = " or ");

/// The positive divisors of n that are at most `most`, in order.
std::vector<std::int64_t> divisors(std::int64_t n, std::int64_t most);

}  // namespace caravan::core
