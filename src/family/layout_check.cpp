// SPDX-License-Identifier: Apache-2.0
#include "family/layout_check.hpp"

#include <numeric>
#include <vector>

#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::family {
namespace {

using Numbers = std::vector<std::int64_t>;

constexpr std::size_t most_listed = 10;

/// "1, 2 or 4"; a long list by its beginning and its end.
std::string some(Numbers numbers) {
  if (numbers.size() <= most_listed) return core::join_numbers(numbers);
  const std::size_t count = numbers.size();
  const std::int64_t last = numbers.back();
  numbers.resize(most_listed - 2);
  return core::concat(core::join_numbers(numbers, ", "), " … ", last, " (", count, " numbers)");
}

std::string sentences(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string ranks(std::int64_t count) { return core::concat(count, count == 1 ? " rank" : " ranks"); }

/// The multiples of `unit` around `value`, which is none.
Numbers multiples_around(std::int64_t value, std::int64_t unit) {
  const std::int64_t below = value / unit * unit;
  return below > 0 ? Numbers{below, below + unit} : Numbers{unit};
}

class LayoutCheck {
 public:
  LayoutCheck(const ModelSpec& spec, std::int64_t world, const layout::Options& layout,
              const std::optional<BatchSplit>& batch)
      : world_(world),
        tp_(layout.tp),
        ep_(layout.ep),
        batch_(batch),
        dense_(!spec.pesc),
        experts_(spec.pesc ? spec.pesc->experts : 1) {
    add("attention heads", spec.heads);
    add("key-value heads", spec.kv_heads);
    add("feed-forward size", spec.ffn);
  }

  /// Empty when the layout fits.
  std::vector<std::string> complaints() const {
    std::vector<std::string> found, uncut;
    if (world_ % tp_ != 0) uncut.push_back("the " + ranks(world_) + " of this job");
    for (const auto& [what, size] : extents_) {
      if (size % tp_ != 0) uncut.push_back(core::concat(what, " ", size));
    }
    if (!uncut.empty()) found.push_back(core::concat("layout.tp = ", tp_, " does not divide ", core::join(uncut)));

    uncut.clear();
    if (world_ % ep_ != 0) uncut.push_back("the " + ranks(world_) + " of this job");
    if (experts_ % ep_ != 0) uncut.push_back(core::concat(experts_, experts_ == 1 ? " expert" : " experts"));
    if (dense_ && ep_ > 1) {
      found.push_back(core::concat("layout.ep = ", ep_, " is for experts, which this model does not have"));
    } else if (!uncut.empty()) {
      found.push_back(core::concat("layout.ep = ", ep_, " does not divide ", core::join(uncut)));
    }

    if (batch_ && world_ % tp_ == 0 && !splits(world_ / tp_)) {
      found.push_back(core::concat("train.batch = ", batch_->batch, " is no multiple of ", world_ / tp_,
                                   " data-parallel rank", world_ == tp_ ? "" : "s",
                                   " × train.micro_batch = ", batch_->micro_batch));
    }
    return found;
  }

  std::vector<std::string> advice() const {
    std::vector<std::string> lines;
    const bool any = !fitting_tp(world_).empty();
    if (any) {
      lines.push_back(layouts(world_));
    } else {
      lines.push_back(core::concat("no layout fits ", ranks(world_), " with train.batch = ", batch_->batch));
      for (const std::int64_t near : ranks_that_fit_any()) lines.push_back(layouts(near));
    }
    if (fits_model()) {
      std::vector<std::string> changes;
      if (const Numbers counts = ranks_that_fit(); !counts.empty()) {
        changes.push_back(core::join_numbers(counts) + (counts == Numbers{1} ? " rank" : " ranks"));
      }
      if (batch_ && world_ % tp_ == 0 && world_ % ep_ == 0) {
        changes.push_back("train.batch " +
                          core::join_numbers(multiples_around(batch_->batch, world_ / tp_ * batch_->micro_batch)));
      }
      if (!changes.empty()) lines.push_back("this layout fits " + core::join(changes, ", or "));
    } else if (!any) {
      const std::int64_t widest = std::gcd(world_, over_tp_);
      lines.push_back(core::concat(
          "train.batch ", core::join_numbers(multiples_around(batch_->batch, world_ / widest * batch_->micro_batch)),
          " fits ", ranks(world_), " with tp ", widest));
    }
    return lines;
  }

 private:
  struct Extent {
    const char* what;
    std::int64_t size;
  };

  void add(const char* what, std::int64_t size) {
    extents_.push_back({what, size});
    over_tp_ = std::gcd(over_tp_, size);
  }

  bool fits_model() const { return over_tp_ % tp_ == 0 && experts_ % ep_ == 0; }
  bool splits(std::int64_t dp) const {
    return batch_->batch % dp == 0 && batch_->batch / dp % batch_->micro_batch == 0;
  }

  /// In order. Empty only when the batch cannot be split at any tp.
  Numbers fitting_tp(std::int64_t world) const {
    const std::int64_t common = std::gcd(world, over_tp_);
    Numbers fitting;
    for (const std::int64_t tp : core::divisors(common, common)) {
      if (!batch_ || batch_->batch % (world / tp) == 0) fitting.push_back(tp);
    }
    return fitting;
  }

  /// The nearest numbers of ranks, below and above, that some layout fits. 1 does; the search upwards may end in vain.
  Numbers ranks_that_fit_any() const {
    Numbers found;
    for (std::int64_t world = world_ - 1; world > 0 && found.empty(); --world) {
      if (!fitting_tp(world).empty()) found.push_back(world);
    }
    const std::size_t below = found.size();
    for (std::int64_t world = world_ + 1; world <= 2 * world_ && found.size() == below; ++world) {
      if (!fitting_tp(world).empty()) found.push_back(world);
    }
    return found;
  }

  /// The same for the layout as it is, which fits the model.
  Numbers ranks_that_fit() const {
    const std::int64_t unit = std::lcm(tp_, ep_);
    const auto fits = [&](std::int64_t world) { return !batch_ || splits(world / tp_); };
    Numbers found;
    for (std::int64_t world = (world_ - 1) / unit * unit; world > 0 && found.empty(); world -= unit) {
      if (fits(world)) found.push_back(world);
    }
    const std::size_t below = found.size();
    for (std::int64_t world = (world_ / unit + 1) * unit; world <= 2 * world_ + unit && found.size() == below;
         world += unit) {
      if (fits(world)) found.push_back(world);
    }
    return found;
  }

  /// "layouts that fit 16 ranks: tp 1 or 2 with ep 1, 2 or 4 (train.micro_batch a divisor of 8 at tp 1, 16 at tp 2)".
  std::string layouts(std::int64_t world) const {
    const Numbers fitting = fitting_tp(world);
    const std::int64_t common = std::gcd(world, experts_);
    std::string text = core::concat("layouts that fit ", ranks(world), ": tp ", some(fitting), " with ep ",
                                    some(core::divisors(common, common)));
    if (!batch_) return text;
    const auto share = [&](std::int64_t tp) { return batch_->batch / (world / tp); };
    if (fitting.size() == 1) {
      const std::int64_t most = share(fitting.front());
      return text + " (train.micro_batch " + some(core::divisors(most, most)) + ")";
    }
    std::vector<std::string> shares;
    for (std::size_t i = 0; i < fitting.size() && i < most_listed; ++i) {
      shares.push_back(core::concat(share(fitting[i]), " at tp ", fitting[i]));
    }
    const bool all = shares.size() == fitting.size();
    return text + " (train.micro_batch a divisor of " + (all ? core::join(shares) : core::join(shares, ", ") + " …") +
           ")";
  }

  std::int64_t world_, tp_, ep_;
  std::optional<BatchSplit> batch_;
  bool dense_;
  std::int64_t experts_;  // 1 in a dense model, so that ep 1 alone divides them
  std::vector<Extent> extents_;
  std::int64_t over_tp_ = 0;  // the greatest common divisor of the extents
};

}  // namespace

void require_layout(const ModelSpec& spec, int world, const layout::Options& layout,
                    const std::optional<BatchSplit>& batch) {
  CARAVAN_CHECK(world > 0 && layout.tp > 0 && layout.ep > 0);
  CARAVAN_CHECK(!batch || (batch->batch > 0 && batch->micro_batch > 0));
  const LayoutCheck check(spec, world, layout, batch);
  const std::vector<std::string> complaints = check.complaints();
  if (complaints.empty()) return;
  core::bad_input(sentences(complaints), "; ", sentences(check.advice()));
}

}  // namespace caravan::family
