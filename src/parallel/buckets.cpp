// SPDX-License-Identifier: Apache-2.0
#include "parallel/buckets.hpp"

#include <map>
#include <numeric>

#include "core/error.hpp"

namespace caravan::parallel {
namespace {

/// Which group holds the same slice, for a parameter split like this.
comm::Communicator* replica_group(const layout::ParameterSpec& spec, comm::Groups& groups) {
  if (!spec.split) return groups.world.get();
  return spec.split->axis == layout::Axis::tp ? groups.dp.get() : groups.edp.get();
}

void fill_bucket(Bucket& bucket, const Context& context) {
  std::int64_t size = 0;
  for (const Trainable* member : bucket.members) size += member->slice.count();
  bucket.values = at::zeros({size}, at::TensorOptions(context.compute).device(context.device));
  bucket.gradients = at::zeros({size}, at::TensorOptions(at::kFloat).device(context.device));
  std::vector<std::int64_t> rows, widths;
  std::int64_t begin = 0;
  for (Trainable* member : bucket.members) {
    const std::int64_t count = member->slice.count();
    member->value = bucket.values.narrow(0, begin, count).view(member->slice.extent);
    member->gradient = bucket.gradients.narrow(0, begin, count).view(member->slice.extent);
    begin += count;
    const layout::Matrix matrix = layout::as_matrix(member->slice);
    rows.push_back(matrix.rows);
    widths.push_back(matrix.width);
  }
  bucket.rows = layout::share_rows(rows, widths, bucket.replicas->size());
  for (const auto& shares : bucket.rows) {
    std::int64_t owned = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) owned += shares[i].count() * widths[i];
    bucket.counts.push_back(owned);
  }
  const auto me = static_cast<std::ptrdiff_t>(bucket.replicas->rank());
  bucket.owned_begin = std::accumulate(bucket.counts.begin(), bucket.counts.begin() + me, std::int64_t{0});
  bucket.owned_count = bucket.counts[static_cast<std::size_t>(me)];
}

}  // namespace

const std::vector<layout::Rows>& Bucket::owned_rows() const { return rows[static_cast<std::size_t>(replicas->rank())]; }

std::vector<Bucket> make_buckets(const std::vector<Trainable*>& trainables, const Context& context,
                                 std::int64_t most_elements) {
  struct Open {
    Bucket bucket;
    std::int64_t elements = 0;
  };
  // The bucket of each group that still takes members.
  std::map<comm::Communicator*, Open> open;
  std::map<std::size_t, Bucket> closed;  // by the place in backward of the member that comes last
  std::map<comm::Communicator*, std::size_t> last;
  for (std::size_t place = 0; place < trainables.size(); ++place) {
    Trainable* trainable = trainables[trainables.size() - 1 - place];
    comm::Communicator* group = replica_group(trainable->spec, context.groups);
    CARAVAN_CHECK(layout::replicas_of(trainable->spec, context.grid).size() == static_cast<std::size_t>(group->size()),
                  trainable->spec.name);
    Open& filling = open[group];
    if (!filling.bucket.members.empty() && filling.elements + trainable->slice.count() > most_elements) {
      closed.emplace(last[group], std::exchange(filling, {}).bucket);
    }
    filling.bucket.replicas = group;
    filling.bucket.members.push_back(trainable);
    filling.elements += trainable->slice.count();
    last[group] = place;
  }
  for (auto& [group, filling] : open) closed.emplace(last[group], std::move(filling.bucket));
  std::vector<Bucket> buckets;
  for (auto& [place, bucket] : closed) {
    fill_bucket(bucket, context);
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

}  // namespace caravan::parallel
